"""The recipes in configs/, and the keys of tiny-plm."""

import json
import re

import pytest
from conftest import ROOT
from suzuri.errors import DataError
from suzuri.training.recipe import DEFAULTS, ELSEWHERE, check_keys, read_recipe, without_effect

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


def refusal(tmp_path, text, overrides=()):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError) as error:
        read_recipe(str(tmp_path / "r.json"), overrides)
    return str(error.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ('{"seed": 1, "seed": 2}', (), 'r.json: "seed" is in it twice; remove one of them'),
        (
            '{"torch_compile": 1}',
            (),
            'r.json: torch_compile is 1, but must be true, false, "auto" or "reduce-overhead"',
        ),
        ('{"seed": true}', (), "r.json: seed is true, but must be a whole number"),
        ('{"warmup_steps": false}', (), "r.json: warmup_steps is false, but must be a whole number"),
        ('{"weight_decay": 1' + "0" * 400 + "}", (), "r.json: weight_decay is 1"),
        ("{}", ["learning_rate=NaN"], "--set: learning_rate is NaN, but must be a number above 0"),
        ("{}", ["learning_rat=1"], "--set: unknown key 'learning_rat'; did you mean 'learning_rate'?"),
        (
            '{"batch_tokens": 512, "chunk_tokens": 128}',
            ["chunk_tokens=100"],
            "--set: batch_tokens is 512, but",
        ),
        ('{"batch_tokens": 512, "chunk_tokens": 100}', ["seed=1"], "r.json: batch_tokens is 512, but must be a"),
        ('{"mlm_probability": 1e-5}', (), "larger: it predicts no token of chunk_tokens (8192)"),
        ("[" * 100_000, (), "r.json: not JSON"),
        ("[]", (), "r.json: not a JSON object of settings"),
    ],
)
def test_refused(tmp_path, text, overrides, said):
    assert refusal(tmp_path, text, overrides).startswith(said) or said in refusal(tmp_path, text, overrides)


def test_a_file_without_an_end():
    with pytest.raises(DataError, match="/dev/zero: has more than 64 MB"):
        read_recipe("/dev/zero")


@pytest.mark.parametrize(
    ("given", "overrides", "told"),
    [
        (
            {"max_steps": 5, "num_train_epochs": 3},
            (),
            ["num_train_epochs has no effect: max_steps is set"],
        ),
        (
            {"num_train_epochs": 3},
            ["max_steps=5"],
            ["num_train_epochs has no effect: max_steps is set"],
        ),
        ({"max_steps": 5, "num_train_epochs": 3}, ["max_steps=null"], []),
        ({"max_steps": 5}, (), []),
        ({"decay_ratio": 0.2}, (), ["decay_ratio has no effect: lr_scheduler_type is linear, not wsd"]),
        ({"decay_ratio": 0.2, "lr_scheduler_type": "wsd"}, (), []),
        (
            {"warmup_steps": 9, "warmup_ratio": 0.1},
            (),
            ["warmup_ratio has no effect: warmup_steps is set"],
        ),
        ({"mlm_tail_ratio": 0.1}, (), ["mlm_tail_ratio has no effect: mlm_probability_tail is not set"]),
    ],
)
def test_settings_without_effect(tmp_path, given, overrides, told):
    (tmp_path / "r.json").write_text(json.dumps(given))
    found = without_effect(str(tmp_path / "r.json"), overrides)
    assert [remark.removesuffix(" (null unsets it)") for remark in found] == told


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_our_recipes_have_no_settings_without_effect(path):
    assert without_effect(path) == []
