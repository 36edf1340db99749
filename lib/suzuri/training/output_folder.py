"""The folder of a run: OUTPUT.part while it is at work, OUTPUT, an ordinary Hugging Face model, at the end."""

import fcntl
import json
import os
import shutil
from contextlib import contextmanager

from suzuri import __version__
from suzuri.errors import DataError
from suzuri.files import replacing, sha256
from suzuri.manifest import MANIFEST, read_manifest, write_manifest
from suzuri.progress import note
from suzuri.training import checkpoint
from suzuri.training.metrics import EVENTS, FILE

CHECKPOINTS = "checkpoints"
SETTINGS = "run.json"  # beside the checkpoints, of which it tells what they are the work of


def weights_sha256(folder):
    """sha256 of a model folder's weights; the name itself for a model on the Hub."""
    path = os.path.join(folder, "model.safetensors")
    return sha256(path) if os.path.exists(path) else folder


def trained_with(folder):
    """tokenizer_sha256() of the tokenizer that a model of ours was trained with; None for any other model."""
    if not os.path.exists(os.path.join(folder, MANIFEST)):
        return None
    return read_manifest(folder)["settings"].get("tokenizer")


class Folder:
    """`settings` is Task.settings(); `steps` the number of steps wanted."""

    def __init__(self, output, settings, steps):
        self.output = os.path.normpath(output)
        self.part = f"{self.output}.part"
        self.settings, self.steps = json.loads(json.dumps(settings)), steps
        self.checkpoints = os.path.join(self.part, CHECKPOINTS)

    def is_finished(self):
        """Whether OUTPUT already has all the steps; raises DataError when it is the work of other settings."""
        if not os.path.isdir(self.output) or not os.listdir(self.output):
            return False
        if not os.path.exists(os.path.join(self.output, MANIFEST)):
            raise DataError(self.output, f"holds files but no {MANIFEST}, so it is not ours; give another folder")
        manifest = read_manifest(self.output)
        self.refuse_changes(manifest["settings"], self.output)
        return manifest["counts"]["steps"] >= self.steps

    def open(self):
        """Make OUTPUT.part or take it over; a finished run with fewer steps is copied to it, to be extended."""
        shutil.rmtree(f"{self.output}.old.part", ignore_errors=True)  # left by a kill between the last two renames
        if not os.path.isdir(self.part) and os.path.isdir(self.output) and os.listdir(self.output):
            if checkpoint.newest(os.path.join(self.output, CHECKPOINTS))[0] is None:
                raise DataError(self.output, "finished, and has no sound checkpoint to extend; continue it with --init")
            shutil.rmtree(f"{self.part}.part", ignore_errors=True)
            shutil.copytree(self.output, f"{self.part}.part")
            os.remove(os.path.join(f"{self.part}.part", MANIFEST))
            os.rename(f"{self.part}.part", self.part)
        os.makedirs(self.checkpoints, exist_ok=True)
        path = os.path.join(self.checkpoints, SETTINGS)
        if not os.path.exists(path):
            with replacing(path, "w", encoding="utf-8") as f:
                json.dump(self.settings, f, ensure_ascii=False, indent=2)
        with open(path, encoding="utf-8") as f:
            self.refuse_changes(json.load(f), self.part)

    def refuse_changes(self, before, folder):
        """Raise DataError naming the first setting that differs from those of the run in `folder`."""
        for key, value in self.settings.items():
            if value != before.get(key):
                what = key
                if isinstance(value, dict):
                    what = f"{key} ({', '.join(k for k in value if value[k] != (before.get(key) or {}).get(k))})"
                elif not isinstance(value, list) and len(str(value)) < 20:
                    what = f"{key} ({before.get(key)!r}, now {value!r})"
                anew = f"make clean-model-{os.path.basename(self.output)}"
                raise DataError(folder, f"was begun with another {what}; set it back, or begin anew: {anew}")

    def finish(self, task, model, counts, before, after):
        """Write model, tokenizer, card and manifest into OUTPUT.part; rename it to OUTPUT.

        `before` and `after` are evaluations: lines of metrics.jsonl.
        """
        for path in checkpoint.found(self.checkpoints)[1:]:
            os.remove(path)
        with checkpoint.written(self.part):
            model.save_pretrained(self.part)
        for name in sorted(os.listdir(task.args.tokenizer)):
            path = os.path.join(task.args.tokenizer, name)
            if name != MANIFEST and os.path.isfile(path):
                shutil.copyfile(path, os.path.join(self.part, name))
        with replacing(os.path.join(self.part, "README.md"), "w", encoding="utf-8") as f:
            f.write(model_card(os.path.basename(self.output), task, model, counts, before, after))
        write_manifest(
            self.part,
            inputs=task.inputs(),
            counts=counts,
            settings=self.settings,
            name=self.output,
            unlisted=(CHECKPOINTS, EVENTS, FILE),  # with times in them, or only there to be resumed from
        )
        if os.path.isdir(self.output):
            os.rename(self.output, f"{self.output}.old.part")
        os.rename(self.part, self.output)
        shutil.rmtree(f"{self.output}.old.part", ignore_errors=True)


def model_card(name, task, model, counts, before, after):
    """README.md of the model folder: what it is, how it was made, what was measured. No times in it."""
    recipe, config = task.recipe, model.config
    shown = {k: v for k, v in recipe.items() if v is not None and not k.startswith("model_")}
    origin = f"continued from `{os.path.basename(os.path.normpath(task.origin))}`" if task.origin else "from scratch"
    sources = "\n".join(
        f"| `{os.path.basename(shard.path)}` | {len(shard):,} | {shard.metadata['num_tokens']:,} "
        f"| `{shard.metadata['source_sha256'][:16]}…` |"
        for shard in task.train_shards
    )
    return f"""---
language: ja
library_name: transformers
pipeline_tag: fill-mask
mask_token: "{task.vocabulary.pieces[task.vocabulary.ids["mask_token"]]}"
---

# {name}

A Japanese masked language model ({config.model_type}, {counts["parameters"]:,} parameters, vocabulary of
{len(task.vocabulary):,}), pre-trained {origin} with suzuri {__version__}.

```python
from transformers import pipeline

print(pipeline("fill-mask", model="PATH/TO/{name}")("日本の首都は[MASK]です。"))
```

## Measured

| | before | after |
|---|---|---|
| validation loss | {before["eval_loss"]:.4f} | {after["eval_loss"]:.4f} |
| validation accuracy of masked tokens | {before["eval_accuracy"]:.4f} | {after["eval_accuracy"]:.4f} |

over the first {after["eval_tokens"]:,} tokens of `{os.path.basename(task.valid_shard.path)}`, 15 % of them masked.

## Training text

{counts["steps"]:,} steps of {recipe["batch_tokens"]:,} tokens: {counts["epochs"]} epochs.

| shard | sequences | tokens | sha256 of its text |
|---|---|---|---|
{sources}

## Recipe

```json
{json.dumps(shown, indent=2)}
```
"""


@contextmanager
def locked(folder):
    """Hold FOLDER for this process; another run in it is an error, a killed one leaves no lock behind."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(folder, "another train-mlm is at work here") from None
        yield
    finally:
        os.close(fd)


def say_finished(folder):
    note(f"{folder.output}: all {folder.steps:,} steps are done; raise max_steps to extend it")
    os.utime(os.path.join(folder.output, MANIFEST))  # newer than its inputs: make has nothing to do, either
