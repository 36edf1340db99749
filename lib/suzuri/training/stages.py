"""The stages of training: which models there are, each from which recipe, dataset and predecessor."""

import json
import os
import re
import zlib
from typing import NamedTuple

from suzuri.errors import DataError
from suzuri.training.recipe import DEFAULTS, IDLE, find_file, find_model, read_recipe

# What make, or the shell of its recipes, would take for something else (configs/make/names.mk): the blank and all of
# ASCII but letters, digits and + , - . / @ _
UNFIT = re.compile(r"[\x00-*:-?\[-^`{-\x7f]")

SOURCES = {"cc100-ja", "jawiki"}  # the datasets that are not your own


class Stage(NamedTuple):
    model: str  # the name of its folder under models/
    recipe: str  # the recipe's path
    dataset: str  # the name of its folder under shards/
    init: str  # the model that it continues; "": from scratch
    base: str  # the folder of the recipe's model_name_or_path; "": it names none, or one that make cannot follow
    model_config: str  # the path of the recipe's model_config_file; "": the recipe names none
    settings_sum: int  # a checksum of all settings that a finished model depends on


def chain(recipes: list[str], datasets: list[str], overrides: list[str]) -> list[Stage]:
    """The stages that are trained in order, each continuing the model of the one before.

    `recipes` are FILE or FILE@DATASET; `overrides` are KEY=VALUE. Raises DataError for an unknown dataset, for two
    models of the same name, and for a recipe or a model_config_file that cannot be read.
    """
    stages = []
    for item in recipes:
        stage = read_stage(item, datasets, stages[-1].model if stages else "", overrides)
        if stage.model in [s.model for s in stages]:
            raise DataError(item, f"a second recipe for the model {stage.model}; give it another name")
        stages.append(stage)
    return stages


def own_stages(names: list[str], own_recipe: str, overrides: list[str]) -> list[Stage]:
    """A stage from scratch for each corpus of your own, by OWN_RECIPE-NAME.json, else by OWN_RECIPE-own.json.

    Without either file a corpus has no stage.
    """
    stages = []
    for name in names:
        for item in (f"{own_recipe}-{name}.json", f"{own_recipe}-own.json@{name}"):
            if os.path.exists(item.partition("@")[0]):
                stages.append(read_stage(item, [name], "", overrides))
                break
    return stages


def read_stage(item: str, datasets: list[str], init: str, overrides: list[str]) -> Stage:
    """FILE or FILE@DATASET -> its stage.

    configs/train-bert-tiny-jawiki.json        the model bert-tiny-jawiki, trained on jawiki
    configs/train-bert-tiny-own.json@poems     the model bert-tiny-poems, trained on poems
    configs/train-x-old-jawiki.json@old-jawiki the model x-old-jawiki, trained on old-jawiki
    """
    path, at, dataset = item.rpartition("@")
    if not at or "/" in dataset:
        path, dataset = item, ""
    stem = os.path.splitext(os.path.basename(path))[0].removeprefix("train-")
    if dataset:
        model = stem if stem.endswith(f"-{dataset}") else f"{stem.removesuffix('-own')}-{dataset}"
    else:
        model = stem
        found = sorted((name for name in datasets if stem.endswith(f"-{name}")), key=len)
        dataset = found[-1] if found else ""
        if dataset not in SOURCES and (source := SOURCES.intersection(found)):
            what = f"its name is for {source.pop()} and for the corpus {dataset}: rename the corpus"
            raise DataError(f"TRAIN_PARAM_JSONS: {item}", f"{what}, or write {path}@DATASET")
    if dataset not in datasets:
        raise DataError(
            f"TRAIN_PARAM_JSONS: {item}",
            f"{f'unknown dataset {dataset}' if dataset else 'no dataset in its name'}; "
            f"name the recipe …-DATASET.json or write {path}@DATASET, with a DATASET of: {' '.join(datasets)}",
        )
    try:
        recipe, model_overrides = read_recipe(path, overrides)
    except OSError as e:
        raise DataError(f"TRAIN_PARAM_JSONS: {path}", e.strerror) from None
    config = find_file(recipe["model_config_file"], path) if recipe["model_config_file"] else ""
    if unfit := UNFIT.search(model) or re.search("[,/]", model):
        raise DataError(path, f"its name is the model's, which may not have {unfit[0]!r} in it")
    for name in (path, config):
        if unfit := UNFIT.search(name):
            raise DataError(name, f"make cannot work with a path that has {unfit[0]!r} in it")
    base = find_model(recipe["model_name_or_path"], path) if recipe["model_name_or_path"] and not init else ""
    base = "" if UNFIT.search(base) or not os.path.isdir(base) else base
    changed = {key: value for key, value in recipe.items() if key not in IDLE and value != DEFAULTS.get(key)}
    settings = [changed, model_overrides]
    if os.path.isfile(config):
        with open(config, encoding="utf-8", errors="replace") as f:
            settings.append(f.read())
    settings_sum = zlib.crc32(json.dumps(settings, sort_keys=True, default=str).encode())
    return Stage(model, path, dataset, init, base, config, settings_sum)
