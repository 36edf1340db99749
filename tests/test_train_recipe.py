"""The recipes in configs/, and the keys of tiny-plm."""

import json
import re

import pytest
from conftest import ROOT
from suzuri.errors import DataError
from suzuri.training.recipe import DEFAULTS, ELSEWHERE, check_keys, read_recipe

RECIPES = sorted((ROOT / "configs").glob("train-*.json"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_valid_and_names_a_model(path):
    recipe, _ = read_recipe(path)
    assert (path.parent / recipe["model_config_file"]).exists()


@pytest.mark.parametrize("path", [p for p in RECIPES if p.stem.endswith("-own")], ids=lambda path: path.stem)
def test_recipe_for_your_own_corpus_is_the_one_from_scratch(path):
    from_scratch = path.with_name(path.name.replace("-own", "-cc100-ja"))
    continued = path.with_name(path.name.replace("-own", "-jawiki"))
    assert json.loads(path.read_text()) == json.loads(from_scratch.read_text()) != json.loads(continued.read_text())


def test_every_model_has_the_three_recipes():
    models = {path.stem.removesuffix("-own") for path in RECIPES if path.stem.endswith("-own")}
    assert {p.stem for p in RECIPES} == {f"{m}-{d}" for m in models for d in ("cc100-ja", "jawiki", "own")}


def test_page_on_tiny_plm_agrees_with_the_recipe():
    """Each key of its training JSON is ours, where the page says so, or an error that says what takes its place."""
    table = (ROOT / "configs/tiny-plm.md").read_text().split("| key of its training JSON")[1]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) > 10
    for keys, here in rows:
        for key in re.findall("`(.+?)`", keys):
            same = here.startswith("the same") or key == "optim"
            assert (key in DEFAULTS) == same != (key in ELSEWHERE), key
            if not same:
                with pytest.raises(DataError, match=f"'{key}' is a key of tiny-plm"):
                    check_keys({key: None}, "recipe.json")
