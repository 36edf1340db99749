"""The inputs of a run, checked before training begins: recipe, shards, vocabulary and initial model fit together."""

import glob
import os
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from suzuri.errors import DataError
from suzuri.files import read_settings
from suzuri.manifest import recorded_paths
from suzuri.shards.checksums import refuse_missing
from suzuri.shards.shard_file import Shard
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder, planned_tokenizer
from suzuri.tokenizer.wordpiece import continues_word
from suzuri.training.masking import IGNORED, Masker
from suzuri.training.model import check_isolation, load_model, max_length, new_model, set_dropout, unknown_keys
from suzuri.training.output_folder import weights_sha256
from suzuri.training.recipe import RESUMABLE, find_file, find_model, read_recipe, total_steps
from suzuri.training.schedule import mlm_probability, warmup_steps
from suzuri.training.token_axis import TokenAxis
from suzuri.training.validation import masked_batches

FEW = 100  # predictions: with fewer, the accuracy may be 10 percentage points off by chance (two standard errors)


class TrainingInputs:
    """What train-mlm is given: `recipe` and `model_overrides` are read_recipe()'s, read from `recipe_path`; `train`
    are shards or folders of them, `valid` is a shard, `tokenizer` a folder, `init` a model to continue.

    Raises DataError, which says what to do, for example for shards of another tokenizer, sequences too long for the
    model, or an architecture that does not work.
    """

    def __init__(
        self,
        recipe_path: str,
        recipe: dict[str, Any],
        model_overrides: dict[str, Any],
        *,
        train: Sequence[str],
        valid: str,
        tokenizer: str,
        init: str | None = None,
    ):
        self.recipe_path, self.recipe = recipe_path, recipe
        self.tokenizer = TokenizerFolder(tokenizer)
        self.train_shards = [Shard(path) for path in shard_paths(train)]
        self.valid_shard = Shard(valid)
        shards = (*self.train_shards, self.valid_shard)
        same = {key: self.train_shards[0].metadata[key] for key in ("unit", "max_seq_length")}
        for shard in shards:
            shard.check(tokenizer_sha256=self.tokenizer.sha256, vocab_size=len(self.tokenizer.pieces), **same)
            if not len(shard):
                raise DataError(shard.path, "has no sequences: too few sentences, or all of them in validation")
        self.valid_shard.check_body()
        self.remarks: list[str] = []  # for the user, before training
        seen = {}
        for shard in shards:
            other = seen.setdefault(tuple(identity(shard)), shard)
            if other is not shard:
                so = "validation is on training text" if shard is self.valid_shard else "this is trained on twice"
                self.remarks.append(f"{shard.path}: has the text of {other.path}, so {so}")
        self.longest = same["max_seq_length"]
        self.axis = TokenAxis(self.train_shards, recipe["chunk_tokens"])
        self.chunks_per_step = recipe["batch_tokens"] // recipe["chunk_tokens"]
        self.steps = total_steps(recipe, self.axis.num_chunks)
        check_lengths(recipe_path, recipe, self.longest, self.tokenizer.pieces)
        self.maskers = {
            rate: Masker(
                self.tokenizer.pieces,
                self.tokenizer.special_ids.values(),
                self.tokenizer.special_ids["mask_token"],
                rate,
                recipe["whole_word_masking"],
            )
            for rate in {recipe["mlm_probability"], recipe["mlm_probability_tail"]} - {None}
        }
        self.check_predictions()
        late = [amount for amount in recipe["snapshot_tokens"] if amount > self.tokens(self.steps)]
        if late:
            seen = f"the run ends after {self.tokens(self.steps):,} tokens"
            self.remarks.append(f"snapshot_tokens: no snapshot at {', '.join(f'{n:,}' for n in late)}: {seen}")
        if (warmup := warmup_steps(recipe, self.steps)) >= self.steps:
            steps = f"the warm-up has {warmup:,} steps, the run {self.steps:,}"
            self.remarks.append(f"learning_rate is never reached: {steps}")
        self.model, self.origin = initial_model(
            recipe_path, recipe, model_overrides, self.tokenizer, init, self.remarks
        )
        self.remarks += unused_model_keys(recipe_path, recipe, model_overrides, self.model, self.origin)
        check_positions(recipe_path, self.model, self.longest)

    def check_predictions(self) -> None:
        """Raise DataError if the train shards or the validation shard have nothing to predict; add a remark if there is
        little in the latter.
        """
        ordinary = self.largest_masker.barred == 0
        if not any(ordinary.take(self.axis.chunk(c).tokens).any() for c in range(self.axis.num_chunks)):
            raise DataError(self.train_shards[0].path, "all tokens of the train shards are [UNK] or special")
        predictions, shard = 0, self.valid_shard
        for batch, _ in masked_batches(shard.tokens, shard.offsets, self.tokenizer, self.recipe["eval_tokens"]):
            predictions += int((batch["labels"] != IGNORED).sum())
            if predictions >= FEW:
                return
        if not predictions:
            raise DataError(shard.path, "too short to validate with: none of its tokens is masked; set more text aside")
        self.remarks.append(f"{shard.path}: only {predictions} of its tokens are masked, so its loss says little")

    def masker(self, step: int) -> Masker:
        """The Masker of a step."""
        return self.maskers[mlm_probability(step, self.recipe, self.steps)]

    @property
    def largest_masker(self) -> Masker:
        """The Masker that predicts the most, and so takes the most memory."""
        return self.maskers[max(self.maskers)]

    def tokens(self, steps: int) -> int:
        """The number of tokens in `steps` steps, without [PAD]s."""
        return self.axis.tokens_before(steps * self.chunks_per_step, self.recipe["seed"])

    def epochs(self, steps: int) -> float:
        """The number of epochs in `steps` steps."""
        return steps * self.chunks_per_step / self.axis.num_chunks

    def settings(self) -> dict[str, Any]:
        """{name: value} of all that batches and weights depend on; a difference is reported by its name."""
        config = self.model.config.to_dict()
        for volatile in ("transformers_version", "_name_or_path", "dtype", "torch_dtype"):
            config.pop(volatile, None)
        fixed = {key: self.recipe[key] for key in self.recipe if key not in RESUMABLE and not key.startswith("model_")}
        return fixed | {
            "model": config,
            "initial weights": weights_sha256(self.origin) if self.origin else None,
            "tokenizer": self.tokenizer.sha256,
            "train shards": [identity(shard) for shard in self.train_shards],
            "validation shard": identity(self.valid_shard),
        }

    @property
    def shard_files(self) -> list[str]:
        return [self.valid_shard.path, *(shard.path for shard in self.train_shards)]

    def paths(self) -> list[str]:
        """The files and folders that the manifest records."""
        origin = [self.origin] if self.origin and os.path.isdir(self.origin) else []
        return recorded_paths([self.recipe_path, *self.shard_files, *origin])


def check_lengths(recipe_path: str, recipe: dict[str, Any], longest: int, pieces: Sequence[str]) -> None:
    """Raise DataError if a recipe does not fit sequences of up to `longest` tokens or a vocabulary."""
    if recipe["whole_word_masking"] and not any(map(continues_word, pieces)):
        raise DataError(recipe_path, "whole_word_masking needs a tokenizer with ## pieces (type wordpiece)")
    if longest > recipe["chunk_tokens"]:
        raise DataError(recipe_path, f"chunk_tokens is less than the longest sequence ({longest} tokens)")


def check_positions(recipe_path: str, model: PreTrainedModel, longest: int) -> None:
    """Raise DataError if a model does not take sequences of `longest` tokens."""
    if longest > max_length(model):
        raise DataError(
            recipe_path,
            f"the sequences have up to {longest} tokens, the model takes {max_length(model)}; pack with a smaller "
            "--max-seq-length (MAX_SEQ_LENGTH), or raise max_position_embeddings in the model's JSON",
        )


def check_before_packing(
    recipes: Sequence[str], overrides: Sequence[str], kind: str, vocab_size: int, longest: int
) -> None:
    """Raise the DataError that training would raise, before there are a tokenizer and shards.

    `recipes` are trained in order, each from the model of the one before, by a tokenizer of type `kind` with
    `vocab_size` pieces, on sequences of up to `longest` tokens. A model that is loaded is not checked.
    """
    tokenizer = planned_tokenizer(kind, vocab_size)
    for path in recipes:
        recipe, of_model = read_recipe(path, overrides)
        check_lengths(path, recipe, longest, tokenizer.pieces)
        if path == recipes[0] and not recipe["model_name_or_path"]:
            model, _ = initial_model(path, recipe, of_model, tokenizer, None, [])
            check_isolation(model, recipe["model_config_file"])
            check_positions(path, model, longest)


def identity(shard: Shard) -> list:
    return [shard.metadata[key] for key in ("source_sha256", "unit", "max_seq_length", "num_tokens")]


def unused_model_keys(
    recipe_path: str, recipe: dict[str, Any], overrides: dict[str, Any], model: PreTrainedModel, origin: str | None
) -> list[str]:
    """Remarks on keys of the model_config_file and of --set model.KEY that have no effect."""
    if not recipe["model_config_file"]:
        return []
    path = find_file(recipe["model_config_file"], recipe_path)
    given = read_settings(path) | overrides
    if not origin:
        unknown = unknown_keys(model.config.model_type, given)
        return [f"{path}: {key} has no effect: a {model.config.model_type} model has no such key" for key in unknown]
    for key, value in given.items():
        if getattr(model.config, key, value) != value:
            have = getattr(model.config, key)
            return [f"{path} has no effect: the model is the one in {origin}, whose {key} is {have}, not {value}"]
    return []


def shard_paths(given: Sequence[str]) -> list[str]:
    """The paths of the shards named on the command line: files, or folders of train-*.safetensors."""
    paths = []
    for path in given:
        inside = sorted(glob.glob(os.path.join(glob.escape(path), "train-*.safetensors")))
        if os.path.isdir(path) and not inside:
            raise DataError(path, "has no train-*.safetensors; make them with pack-tokens (make shards)")
        refuse_missing(path, [os.path.basename(name) for name in inside], "train-*.safetensors")
        paths += inside or [path]
    return paths


def initial_model(
    recipe_path: str,
    recipe: dict[str, Any],
    overrides: dict[str, Any],
    tokenizer: TokenizerFolder,
    init: str | None,
    remarks: list[str],
) -> tuple[PreTrainedModel, str | None]:
    """(the model, the path or name of the model that it continues, or None)."""
    origin = init or recipe["model_name_or_path"]
    if not origin and not recipe["model_config_file"]:
        raise DataError(recipe_path, "needs model_config_file (or model_name_or_path, or the option --init)")
    if not init and origin and recipe["model_config_file"]:
        raise DataError(recipe_path, "has both model_config_file and model_name_or_path; leave one out")
    if init and recipe["model_name_or_path"]:
        remarks.append(f"{recipe_path}: model_name_or_path has no effect: the model is the one in {init}")
    if origin:
        if init and not os.path.isdir(init):
            raise DataError(init, "no such folder; a model on the Hub is the recipe's model_name_or_path")
        origin = init or find_model(origin, recipe_path)
        model = load_model(origin, tokenizer, remarks=remarks)
        for key, value in overrides.items():
            if getattr(model.config, key, None) != value:
                raise DataError("--set", f"model.{key} cannot change in a model that is continued")
    else:
        model = new_model(find_file(recipe["model_config_file"], recipe_path), overrides, tokenizer, recipe["seed"])
    check_isolation(model, origin or recipe["model_config_file"])
    if recipe["dropout"] is not None:
        set_dropout(model, recipe["dropout"])
    return model, origin
