"""What is to be trained, checked before anything is: recipe, shards, vocabulary and initial model agree."""

import glob
import os

from suzuri.errors import DataError
from suzuri.shards.shard_file import Shard
from suzuri.training.masking import Masker
from suzuri.training.model import Vocabulary, check_isolation, load_model, max_length, new_model, set_dropout
from suzuri.training.output_folder import weights_sha256
from suzuri.training.recipe import RESUMABLE, find_file, total_steps
from suzuri.training.schedule import mlm_probability
from suzuri.training.token_axis import Axis


class Task:
    """`args` are the options of train-mlm, `recipe` and `overrides` (of the model's config) read_recipe()'s.

    Raises DataError, saying what to do, for shards of another tokenizer, sequences longer than the model
    takes, an architecture that does not work, and the like.
    """

    def __init__(self, args, recipe, overrides):
        self.args, self.recipe = args, recipe
        self.vocabulary = Vocabulary(args.tokenizer)
        self.train_shards = [Shard(path) for path in shard_paths(args.train)]
        self.valid_shard = Shard(args.valid)
        shards = (*self.train_shards, self.valid_shard)
        for shard in shards:
            shard.check(tokenizer_sha256=self.vocabulary.sha256)
            if not len(shard):
                raise DataError(shard.path, "no sequence in it: too few sentences, or all of them in validation")
        self.longest = max(shard.metadata["max_seq_length"] for shard in shards)
        self.axis = Axis(self.train_shards, recipe["chunk_tokens"])
        self.chunks_per_step = recipe["batch_tokens"] // recipe["chunk_tokens"]
        self.steps = total_steps(recipe, self.axis.num_chunks)
        if recipe["whole_word_masking"] and not any(piece.startswith("##") for piece in self.vocabulary.pieces):
            raise DataError(args.recipe, "whole_word_masking needs a tokenizer with ## pieces (type wordpiece)")
        self.maskers = {
            rate: Masker(
                self.vocabulary.pieces,
                self.vocabulary.ids.values(),
                self.vocabulary.ids["mask_token"],
                rate,
                recipe["whole_word_masking"],
            )
            for rate in {recipe["mlm_probability"], recipe["mlm_probability_tail"]} - {None}
        }
        self.model, self.origin = self.make_model(overrides)
        if self.longest > max_length(self.model):
            raise DataError(
                args.recipe,
                f"the shards have sequences of up to {self.longest} tokens, the model takes {max_length(self.model)}; "
                "pack with a smaller --max-seq-length, or raise max_position_embeddings in the model's JSON",
            )
        if self.longest > recipe["chunk_tokens"]:
            raise DataError(args.recipe, f"chunk_tokens is less than the longest sequence ({self.longest} tokens)")

    def masker(self, step):
        """The Masker of a step."""
        return self.maskers[mlm_probability(step, self.recipe, self.steps)]

    @property
    def largest_masker(self):
        """That which predicts the most, and so takes the most memory."""
        return self.maskers[max(self.maskers)]

    def epochs(self, steps):
        """How many epochs so many steps are."""
        return steps * self.chunks_per_step / self.axis.num_chunks

    def make_model(self, overrides):
        """(the model, the path or name that it continues or None)."""
        args, recipe = self.args, self.recipe
        origin = args.init or recipe["model_name_or_path"]
        if not origin and not recipe["model_config_file"]:
            raise DataError(args.recipe, "needs model_config_file (or model_name_or_path, or the option --init)")
        if not args.init and origin and recipe["model_config_file"]:
            raise DataError(args.recipe, "has both model_config_file and model_name_or_path; leave one out")
        if origin and overrides:
            raise DataError("--set", f"model.{next(iter(overrides))} cannot change in a model that is continued")
        if origin:
            if not args.init and not os.path.isabs(origin):
                beside = os.path.join(os.path.dirname(os.path.abspath(args.recipe)), origin)
                origin = beside if os.path.isdir(beside) else origin
            model = load_model(origin, self.vocabulary)
        else:
            path = find_file(recipe["model_config_file"], args.recipe)
            model = new_model(path, overrides, self.vocabulary, recipe["seed"])
        check_isolation(model, origin or recipe["model_config_file"])
        if recipe["dropout"] is not None:
            set_dropout(model, recipe["dropout"])
        return model, origin

    def settings(self):
        """Everything that batches and weights follow from, under the name by which a difference is reported."""
        config = self.model.config.to_dict()
        for volatile in ("transformers_version", "_name_or_path", "dtype", "torch_dtype"):
            config.pop(volatile, None)
        fixed = {key: self.recipe[key] for key in self.recipe if key not in RESUMABLE and not key.startswith("model_")}
        return fixed | {
            "model": config,
            "initial weights": weights_sha256(self.origin) if self.origin else None,
            "tokenizer": self.vocabulary.sha256,
            "train shards": [
                [shard.metadata[key] for key in ("source_sha256", "unit", "max_seq_length", "num_tokens")]
                for shard in self.train_shards
            ],
        }

    def inputs(self):
        """The paths that the manifest records."""
        paths = [self.args.recipe, self.valid_shard.path, *(shard.path for shard in self.train_shards)]
        return [*paths, self.origin] if self.origin and os.path.isdir(self.origin) else paths


def shard_paths(given):
    """The shards named on the command line: files, and folders of train-*.safetensors."""
    paths = []
    for path in given:
        inside = sorted(glob.glob(os.path.join(glob.escape(path), "train-*.safetensors")))
        if os.path.isdir(path) and not inside:
            raise DataError(path, "no train-*.safetensors in it; pack-tokens makes them (make shards)")
        paths += inside or [path]
    return paths
