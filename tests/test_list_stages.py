"""list-stages: models, recipes, datasets and predecessors from recipes; and make, which asks it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ["cc100-ja", "jawiki"]


@pytest.fixture
def folder(tmp_path):
    """A folder of recipes: write(name, model_config_file=…) gives the path."""
    (tmp_path / "model.json").write_text('{"model_type": "bert"}')

    def write(name, **keys):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"model_config_file": "model.json"} | keys))
        return path

    return tmp_path, write


@pytest.fixture
def stages(run_tool):
    """stages(arguments…) -> [(list, model, {variable: value}), …] of what list-stages prints."""

    def run(*args):
        found = []
        for line in run_tool("list-stages", *args).stdout.decode().splitlines():
            first, *rest = line.split(" ")
            models, model = first.split("+=")
            assert all(f".{model}:=" in assignment for assignment in rest)
            found.append((models, model, dict(assignment.split(f".{model}:=") for assignment in rest)))
        return found

    return run


def refusal(run_tool, *args):
    """The one line on stderr with which list-stages fails."""
    done = run_tool("list-stages", *args, status=1)
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    return line


def test_a_model_that_begins_with_a_folder(stages, folder):
    """The folder is relative to the recipe; what the training begins with is what make compares."""
    tmp_path, write = folder
    keys = {"model_config_file": None, "model_name_or_path": "base"}
    first, second = write("train-a-jawiki.json", **keys), write("train-b-jawiki.json", **keys)
    assert [values["BASE"] for *_, values in stages(f"{first}:{second}", *SOURCES)] == ["", ""]
    (tmp_path / "base").mkdir()
    assert [values["BASE"] for *_, values in stages(f"{first}:{second}", *SOURCES)] == [f"{tmp_path}/base", ""]


def test_each_model_continues_the_one_before(stages, folder):
    _, write = folder
    first, second, third = write("train-a-jawiki.json"), write("train-b-cc100-ja.json"), write("train-c-jawiki.json")
    found = stages(f"{first}:{second}:{third}", *SOURCES)
    assert [(models, model) for models, model, _ in found] == [
        ("MODELS", "a-jawiki"),
        ("MODELS", "b-cc100-ja"),
        ("MODELS", "c-jawiki"),
    ]
    assert [v["INIT"] for _, _, v in found] == ["", "a-jawiki", "b-cc100-ja"]
    assert [v["DATASET"] for _, _, v in found] == ["jawiki", "cc100-ja", "jawiki"]
    assert [v["RECIPE"] for _, _, v in found] == [str(first), str(second), str(third)]


@pytest.mark.parametrize(
    "name, dataset, model",
    [
        ("train-bert-jawiki.json", "", "bert-jawiki"),
        ("bert-jawiki.json", "", "bert-jawiki"),
        ("train-bert-own.json", "poems", "bert-poems"),
        ("train-bert-jawiki.json", "poems", "bert-jawiki-poems"),
        ("large.v2.json", "jawiki", "large.v2-jawiki"),
    ],
)
def test_names(stages, folder, name, dataset, model):
    path = folder[1](name)
    item = f"{path}@{dataset}" if dataset else path
    ((_, found, values),) = stages("--own", "poems", item, *SOURCES)
    assert (found, values["DATASET"], values["RECIPE"]) == (model, dataset or "jawiki", str(path))


def test_the_longest_dataset_wins(stages, folder):
    """…-cc100-ja.json is not for a corpus named ja."""
    ((_, _, values),) = stages("--own", "ja", folder[1]("train-x-cc100-ja.json"), *SOURCES)
    assert values["DATASET"] == "cc100-ja"


def test_a_corpus_does_not_take_the_place_of_a_source(run_tool, folder):
    """A corpus of your own whose name ends in -jawiki."""
    args = ["--own", "old-jawiki", folder[1]("train-x-old-jawiki.json"), *SOURCES]
    error = run_tool("list-stages", *args, status=1).stderr.decode()
    assert "is for jawiki and for the corpus old-jawiki: rename the corpus" in error


def test_a_dataset_may_be_named_twice(stages, folder):
    """FILE-DATASET.json@DATASET is the model FILE-DATASET."""
    path = folder[1]("train-x-old-jawiki.json")
    ((_, model, values),) = stages("--own", "old-jawiki", f"{path}@old-jawiki", *SOURCES)
    assert (model, values["DATASET"]) == ("x-old-jawiki", "old-jawiki")


def test_settings_that_leave_a_finished_model_as_it_is(stages, folder):
    """The checksum changes with the recipe, its overrides and its model, but not with how often it is saved."""
    root, write = folder
    path = write("train-x-jawiki.json")
    sums = {}
    for override in ("seed=0", "save_steps=7", "eval_steps=7", "seed=1", "max_steps=7", "model.hidden_size=7"):
        ((_, _, values),) = stages("--set", override, path, *SOURCES)
        sums[override] = values["RECIPE_SUM"]
    assert sums["seed=0"] == sums["save_steps=7"] == sums["eval_steps=7"]
    assert len(set(sums.values())) == 4
    (root / "model.json").write_text('{"hidden_size": 64}')
    ((_, _, values),) = stages(path, *SOURCES)
    assert values["RECIPE_SUM"] not in sums.values()


def test_an_at_sign_in_a_folder(stages, folder):
    ((_, model, values),) = stages(
        folder[1]("me@home/train-x-jawiki.json", model_config_file="../model.json"), *SOURCES
    )
    assert (model, values["DATASET"]) == ("x-jawiki", "jawiki")


def test_where_the_model_is(stages, folder):
    """A blank before the colon, a path from the recipe's folder or from the current one, a path from elsewhere."""
    root, write = folder
    recipe = root / "deep/er/train-x-jawiki.json"
    recipe.parent.mkdir(parents=True)
    for written in ("../../model.json", "./../../model.json", str(root / "model.json")):
        recipe.write_text(f'{{\n "num_train_epochs": 2, "model_config_file"\n : "{written}"}}')
        ((_, _, values),) = stages(recipe, *SOURCES)
        assert os.path.samefile(values["CONFIG"], root / "model.json")
    ((_, _, values),) = stages(write("train-y-jawiki.json", model_config_file="configs/model-demo.json"), *SOURCES)
    assert values["CONFIG"] == "configs/model-demo.json", "seen from the current directory"
    recipe.write_text('{"model_name_or_path": "/models/model_config_file"}')
    ((_, _, values),) = stages(recipe, *SOURCES)
    assert values["CONFIG"] == ""


def test_an_override_names_another_model(stages, folder):
    root, write = folder
    (root / "other.json").write_text("{}")
    ((_, _, values),) = stages("--set", "model_config_file=other.json", write("train-x-jawiki.json"), *SOURCES)
    assert values["CONFIG"] == str(root / "other.json")


def test_corpora_of_your_own(stages, folder):
    """Each uses its own recipe or …-own.json, from scratch; a corpus in the chain gets no second model."""
    root, write = folder
    own = ["--own", "letters", "--own", "notes", "--own", "poems", "--own-recipe", root / "train-x"]
    chain = f"{write('train-x-jawiki.json')}:{write('train-x-own.json')}@notes"
    special = write("train-x-letters.json")
    found = stages(*own, chain, *SOURCES)
    assert [(models, model, v["INIT"]) for models, model, v in found] == [
        ("MODELS", "x-jawiki", ""),
        ("MODELS", "x-notes", "x-jawiki"),
        ("OWN_MODELS", "x-letters", ""),
        ("OWN_MODELS", "x-poems", ""),
    ]
    assert found[2][2]["RECIPE"] == str(special)
    (root / "train-x-own.json").unlink()
    special.unlink()
    found = stages(*own, root / "train-x-jawiki.json", *SOURCES)
    assert [model for _, model, _ in found] == ["x-jawiki"], "without a recipe there is no model"


def test_errors(run_tool, folder):
    root, write = folder
    good = write("train-x-jawiki.json")
    line = refusal(run_tool, write("train-x-news.json"), *SOURCES)
    assert "no dataset in its name" in line and "cc100-ja jawiki" in line
    assert "unknown dataset news" in refusal(run_tool, f"{good}@news", *SOURCES)
    assert f"{root}/none-jawiki.json: No such file" in refusal(run_tool, root / "none-jawiki.json", *SOURCES)
    assert "x-jawiki; give it another name" in refusal(run_tool, f"{good}:{good}", *SOURCES)
    assert "'gone.json'" in refusal(run_tool, write("train-y-jawiki.json", model_config_file="gone.json"), *SOURCES)
    assert "must be a path" in refusal(run_tool, write("train-y-jawiki.json", model_config_file=3), *SOURCES)
    assert "learning_rate" in refusal(run_tool, write("train-y-jawiki.json", learning_rat=1), *SOURCES)
    (root / "train-z-jawiki.json").write_text('{"model_config_file": ')
    assert "train-z-jawiki.json: not JSON" in refusal(run_tool, root / "train-z-jawiki.json", *SOURCES)
    assert "may not have '='" in refusal(run_tool, write("train-a=b-jawiki.json"), *SOURCES)
    assert "may not have ','" in refusal(run_tool, write("train-a,b-jawiki.json"), *SOURCES)
    path = write("a$b/train-x-jawiki.json", model_config_file="../model.json")
    assert "make cannot work with" in refusal(run_tool, path, *SOURCES)


def make(*args, status=0):
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "SUZURI_LOCK", "PROFILE", "DATA")
    env = {k: v for k, v in os.environ.items() if k not in inherited}
    command = ["make", "-C", str(ROOT), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_make_sees_that_a_model_changed(folder):
    """The model's JSON behind a recipe decides whether a model is up to date; its date does not."""
    root, _ = folder
    (root / "train-x-jawiki.json").write_text('{"model_config_file" : "model.json"}')
    stamp = root / "data/.stamps/model-x-jawiki"
    command = [stamp, f"DATA={root}/data", f"TRAIN_PARAM_JSONS={root}/train-x-jawiki.json"]
    make(*command)
    make("-q", *command)
    os.utime(root / "model.json", (0, 0))
    make("-q", *command)
    (root / "model.json").write_text('{"model_type": "roberta"}')
    make("-q", *command, status=1)
    make(*command)
    make("-q", *command)


def test_a_bad_recipe_stops_only_what_needs_models(folder):
    root, write = folder
    recipes = f"TRAIN_PARAM_JSONS={write('train-x-jawiki.json', model_config_file='gone.json')}"
    data = f"DATA={root}/data"
    for goal in ("all", "shards", "eval", "train-model-jawiki", root / "data/models/x-jawiki/manifest.json"):
        done = make("-n", goal, data, recipes, status=2)
        (line,) = done.stderr.splitlines()
        assert "'gone.json' is neither" in line and str(root) in line
    for goal in ("help", "clean", "clean-model-y", "build-dataset-jawiki", "tokenizer", "shards-jawiki", "verify"):
        make("-n", goal, data, recipes)
