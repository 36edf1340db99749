"""The recipe of a training run: one flat JSON object, with the defaults, their reasons and the errors.

Keys have the names of transformers' TrainingArguments if there is one. The shards, the tokenizer and the output
are options of the command, never keys.
"""

import difflib
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from suzuri.errors import DataError
from suzuri.files import read_settings

DEFAULTS = {
    # The model: exactly one of the two, unless --init gives it.
    "model_config_file": None,  # a transformers config in JSON; its path is relative to the recipe or to the cwd
    "model_name_or_path": None,  # a model to continue: a folder, or a name on the Hub
    "dropout": 0.0,  # in pre-training: a token is seen once or a few times, so there is little to overfit, and
    #                  varlen_attn has no dropout. The saved config keeps its own rates; null: the config's rates
    # How long: max_steps if it is set, otherwise num_train_epochs.
    "max_steps": None,
    "num_train_epochs": 1,
    "batch_tokens": 131072,  # per optimizer step, over all GPUs: about 1,024 sequences of 128 tokens
    "chunk_tokens": 8192,  # the unit in which the token axis is visited and masked (see token_axis.py)
    "micro_batch_tokens": "auto",  # how much goes through the model at once; never changes the result
    # The objective.
    "mlm_probability": 0.15,  # BERT's
    "mlm_probability_tail": None,  # another rate for the end of the run, the last mlm_tail_ratio of its steps
    "mlm_tail_ratio": 0.1,
    "whole_word_masking": False,  # masks all pieces of a word together; only for tokenizers with ## pieces
    # The optimizer, with BERT's numbers.
    "optim": "adamw",  # adamw | muon (for the matrices of the layers; AdamW for the rest)
    "learning_rate": 1e-4,
    "lr_scheduler_type": "linear",  # linear | cosine | wsd (warm-up, stable, decay)
    "warmup_steps": None,  # if it is set; otherwise warmup_ratio
    "warmup_ratio": 0.01,
    "decay_ratio": 0.1,  # wsd only: the last part of the steps, in which the rate falls to 0
    "weight_decay": 0.01,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,  # RoBERTa's: recovers from a gradient spike sooner than BERT's 0.999
    "adam_epsilon": 1e-6,
    "max_grad_norm": 1.0,
    # The machine.
    "precision": "auto",  # auto | fp32 | bf16 | fp16; auto: bf16 or fp16 on a GPU, fp32 on a CPU
    "torch_compile": "auto",  # true | false | auto (on a GPU with varlen attention, where no shape changes) |
    #                        reduce-overhead (CUDA graphs: less work for the host, more memory)
    "deterministic": False,  # true: the same bits each time on a GPU too, at some cost; a CPU gives them anyway
    "seed": 0,
    # What is reported and kept. These may change when a run is resumed (see RESUMABLE).
    "logging_steps": 100,
    "eval_steps": 5000,
    "eval_tokens": 1_000_000,  # of the (shuffled) validation shard, at each evaluation
    "save_steps": 1000,
    "save_total_limit": 2,
    "snapshot_tokens": [],  # after so many tokens the model so far is kept as OUTPUT/snapshots/TOKENS, a model folder
}

# These may differ between a run and its resumption: they change neither a batch nor the meaning of a weight.
RESUMABLE = {
    "max_steps", "num_train_epochs", "micro_batch_tokens", "torch_compile", "deterministic",
    "logging_steps", "eval_steps", "eval_tokens", "save_steps", "save_total_limit", "snapshot_tokens",
}  # fmt: skip

# With another value of these a finished model is as finished as before.
IDLE = RESUMABLE - {"max_steps", "num_train_epochs", "snapshot_tokens"}

CHOICES = {
    "optim": ("adamw", "muon"),
    "lr_scheduler_type": ("linear", "cosine", "wsd"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
}

# Keys of tiny-plm's JSON files and of run_mlm.py, which it calls, and what takes their place here. configs/tiny-plm.md
# has a table of tiny-plm's keys.
ELSEWHERE = {
    "model_type": 'model_config_file, a JSON file with "model_type" in it',
    "config_name": "model_config_file",
    "config_overrides": "--set model.KEY=VALUE",
    "tokenizer_name": "the option --tokenizer DIR",
    "tokenizer_vocab_file": "the option --tokenizer DIR",
    "train_file": "the option --train DIR",
    "train_path": "the option --train DIR",
    "validation_file": "the option --valid FILE",
    "validation_path": "the option --valid FILE",
    "output_dir": "the option --output DIR",
    "final_output_dir": "the option --output DIR",
    "per_device_train_batch_size": "batch_tokens (sequences × tokens per sequence × GPUs × accumulation)",
    "gradient_accumulation_steps": "batch_tokens, for the whole step; micro_batch_tokens is found by itself",
    "per_device_eval_batch_size": "nothing (evaluation needs no batch size)",
    "max_seq_length": "pack-tokens --max-seq-length (it is a property of the shards)",
    "line_by_line": "pack-tokens --unit line",
    "pad_to_max_length": "nothing (sequences are not padded)",
    "group_by_length": "nothing (sequences are not padded)",
    "train_sampling_strategy": "nothing (sequences are not padded)",
    "fp16": '"precision": "fp16"',
    "bf16": '"precision": "bf16"',
    "dataloader_num_workers": "nothing (the shards are memory-mapped)",
    "preprocessing_num_workers": "make -j for pack-tokens",
    "do_train": "nothing (train-mlm always trains)",
    "do_eval": "eval_steps",
    "evaluation_strategy": "eval_steps",
    "eval_strategy": "eval_steps",
    "save_strategy": "save_steps",
    "logging_strategy": "logging_steps",
    "overwrite_output_dir": "nothing (train-mlm resumes; remove the folder to start again)",
    "resume_from_checkpoint": "nothing (train-mlm resumes by itself)",
    "use_fast_tokenizer": "nothing (pack-tokens tokenizes the text beforehand)",
    "report_to": "nothing (metrics.jsonl, and TensorBoard if it is installed)",
    "lr_scheduler_kwargs": "decay_ratio",
}


def read_recipe(path: str, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a recipe and apply `overrides` ("key=value", value in JSON or a bare word): (recipe, model overrides).

    The recipe is complete (with the defaults) and checked; "model.KEY=VALUE" goes to the second dict.
    Raises DataError for an unknown key and for a value of the wrong type or out of range.
    """
    given, changed, model = read_given(path, overrides)
    recipe = DEFAULTS | given | changed
    check_values(recipe, path, changed)
    return recipe, model


def without_effect(path: str, overrides: Sequence[str] = ()) -> list[str]:
    """Remarks on settings that were given to read_recipe() but have no effect."""
    given, changed, _ = read_given(path, overrides)
    given |= changed
    recipe = DEFAULTS | given
    scheduler = recipe["lr_scheduler_type"]
    reasons = {
        "num_train_epochs": recipe["max_steps"] is not None and "max_steps is set (null unsets it)",
        "warmup_ratio": recipe["warmup_steps"] is not None and "warmup_steps is set (null unsets it)",
        "decay_ratio": scheduler != "wsd" and f"lr_scheduler_type is {scheduler}, not wsd",
        "mlm_tail_ratio": recipe["mlm_probability_tail"] is None and "mlm_probability_tail is not set",
    }
    return [f"{key} has no effect: {why}" for key, why in reasons.items() if why and key in given]


def read_given(path: str, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(settings in the file, those that `overrides` change, those of the model that they change); checks the keys."""
    given, changed, model = read_settings(path), {}, {}
    check_keys(given, path)
    for item in overrides:
        key, eq, text = item.partition("=")
        if not eq:
            raise DataError("--set", f"{item!r} is not KEY=VALUE")
        try:
            value = json.loads(text)
        except ValueError:
            value = text  # a bare word: --set precision=bf16
        if key.startswith("model."):
            model[key.removeprefix("model.")] = value
        else:
            check_keys({key: value}, "--set")
            changed[key] = value
    return given, changed, model


def check_keys(given: dict[str, Any], where: str) -> None:
    for key in given:
        if key in DEFAULTS:
            continue
        if key in ELSEWHERE:
            raise DataError(where, f"{key!r} is a key of tiny-plm or run_mlm.py; in its place: {ELSEWHERE[key]}")
        near = difflib.get_close_matches(key, DEFAULTS, 1, 0.5)
        raise DataError(where, f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def check_values(recipe: dict[str, Any], path: str, changed: Iterable[str]) -> None:
    """Raise DataError naming the first value of a wrong type or out of range, and where it is from: the recipe's
    `path`, or --set for the `changed` keys.
    """

    def demand(key, ok, wanted, *also):
        if not ok:
            where = "--set" if {key, *also} & set(changed) else path
            raise DataError(where, f"{key} is {json.dumps(recipe[key])}, but must be {wanted}")

    def is_number(value):
        return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300  # and no NaN

    def is_whole(value, least):
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    def is_count(value):
        return is_whole(value, 1)

    for key in ("model_config_file", "model_name_or_path"):
        demand(key, recipe[key] is None or isinstance(recipe[key], str), "a path or null")
    for key in ("batch_tokens", "chunk_tokens", "logging_steps", "eval_steps", "eval_tokens", "save_steps"):
        demand(key, is_count(recipe[key]), "a whole number above 0")
    demand("save_total_limit", is_count(recipe["save_total_limit"]), "a whole number above 0 (2 survives a bad disk)")
    demand("max_steps", recipe["max_steps"] is None or is_count(recipe["max_steps"]), "a whole number above 0 or null")
    demand("seed", is_whole(recipe["seed"], 0) and recipe["seed"] < 1 << 63, "a whole number of at least 0")
    for key in ("learning_rate", "num_train_epochs", "adam_epsilon", "max_grad_norm"):
        demand(key, is_number(recipe[key]) and recipe[key] > 0, "a number above 0")
    demand("weight_decay", is_number(recipe["weight_decay"]) and recipe["weight_decay"] >= 0, "a number of at least 0")
    for key in ("warmup_ratio", "decay_ratio", "mlm_tail_ratio"):
        demand(key, is_number(recipe[key]) and 0 <= recipe[key] <= 1, "a number from 0 to 1")
    for key in ("mlm_probability", "adam_beta1", "adam_beta2"):
        demand(key, is_number(recipe[key]) and 0 < recipe[key] < 1, "a number between 0 and 1")
    tail = recipe["mlm_probability_tail"]
    demand(
        "mlm_probability_tail", tail is None or (is_number(tail) and 0 < tail < 1), "a number between 0 and 1 or null"
    )
    warmup, dropout = recipe["warmup_steps"], recipe["dropout"]
    demand("warmup_steps", warmup is None or is_whole(warmup, 0), "a whole number or null")
    demand("dropout", dropout is None or (is_number(dropout) and 0 <= dropout < 1), "a number from 0 to 1 or null")
    for key in ("whole_word_masking", "deterministic"):
        demand(key, isinstance(recipe[key], bool), "true or false")
    amounts = recipe["snapshot_tokens"]
    demand("snapshot_tokens", isinstance(amounts, list) and all(map(is_count, amounts)), "a list of numbers of tokens")
    compiled = recipe["torch_compile"]
    known = isinstance(compiled, bool) or compiled in ("auto", "reduce-overhead")
    demand("torch_compile", known, 'true, false, "auto" or "reduce-overhead"')
    for key, choices in CHOICES.items():
        demand(key, recipe[key] in choices, "one of " + ", ".join(choices))
    for key in ("batch_tokens", "micro_batch_tokens"):
        whole = recipe[key] == "auto" or (is_count(recipe[key]) and recipe[key] % recipe["chunk_tokens"] == 0)
        demand(key, whole, f"a multiple of chunk_tokens ({recipe['chunk_tokens']})", "chunk_tokens")
    for key in ("mlm_probability", "mlm_probability_tail"):
        some = recipe[key] is None or round(recipe[key] * recipe["chunk_tokens"]) > 0
        demand(key, some, f"larger: it predicts no token of chunk_tokens ({recipe['chunk_tokens']})", "chunk_tokens")


def find_file(path: str, recipe_path: str) -> str:
    """A path in a recipe: relative to the recipe's folder, or else to the current directory."""
    beside = os.path.join(os.path.dirname(os.path.abspath(recipe_path)), path)
    for candidate in (beside, path):
        if os.path.isfile(candidate):
            return candidate
    raise DataError(recipe_path, f"{path!r} is neither a file beside the recipe nor one in the current directory")


def find_model(name: str, recipe_path: str) -> str:
    """A model_name_or_path: the folder relative to the recipe's, if there is one, or else as it is."""
    beside = os.path.join(os.path.dirname(os.path.abspath(recipe_path)), name)
    return beside if not os.path.isabs(name) and os.path.isdir(beside) else name


def total_steps(recipe: dict[str, Any], num_chunks: int) -> int:
    """Optimizer steps of the whole run; an epoch visits each of the `num_chunks` chunks of the token axis once."""
    if recipe["max_steps"] is not None:
        return recipe["max_steps"]
    chunks_per_step = recipe["batch_tokens"] // recipe["chunk_tokens"]
    return max(1, round(recipe["num_train_epochs"] * num_chunks / chunks_per_step))
