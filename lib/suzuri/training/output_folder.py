"""The folder of a run: OUTPUT.part during training; OUTPUT, an ordinary Hugging Face model, at the end."""

import json
import os
import shutil
from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedModel

from suzuri.errors import DataError
from suzuri.files import named, replacing, sha256
from suzuri.folders import NewFolder, refuse_others_folder
from suzuri.manifest import MANIFEST, read_manifest, write_manifest
from suzuri.training import checkpoint
from suzuri.training.metrics import EVENTS, FILE

CHECKPOINTS = "checkpoints"
SETTINGS = "run.json"  # beside the checkpoints: the settings that they were made with


def weights_sha256(folder: str) -> str:
    """The sha256 of a model folder's weights, or a Hub model's name."""
    path = os.path.join(folder, "model.safetensors")
    return sha256(path) if os.path.exists(path) else folder


def trained_with(folder: str) -> str | None:
    """The sha256 of the tokenizer that train-mlm trained a model with; None if another program made the model."""
    if not os.path.exists(os.path.join(folder, MANIFEST)):
        return None
    return read_manifest(folder)["settings"].get("tokenizer")


class OutputFolder:
    """`settings` are TrainingInputs.settings(); `steps` is the number of steps wanted; OUTPUT must not hold `inputs`.

    Training with a changed setting never overwrites a model: it is refused, and the error names the setting.
    """

    def __init__(self, output: str, settings: dict[str, Any], steps: int, inputs: Iterable[str] = ()):
        self.new = NewFolder(output, inputs)
        self.output, self.part = self.new.path, self.new.part
        self.settings, self.steps = json.loads(json.dumps(settings)), steps
        self.checkpoints = os.path.join(self.part, CHECKPOINTS)

    def is_finished(self) -> bool:
        """Whether OUTPUT already has all the steps; raises DataError if it was made with other settings."""
        self.new.recover()
        manifest = read_manifest(self.output) if os.path.exists(os.path.join(self.output, MANIFEST)) else {}
        if manifest.get("tool") != self.new.tool:
            refuse_others_folder(self.output)
            return False
        self.refuse_changes(manifest["settings"], self.output)
        return manifest["counts"]["steps"] >= self.steps

    def touch(self) -> None:
        """Make OUTPUT newer than its inputs, so that make has nothing left to do."""
        os.utime(os.path.join(self.output, MANIFEST))

    def begin(self) -> None:
        """Make OUTPUT.part or take over an existing one, locked. A finished run that is too short is copied there."""
        path = os.path.join(self.checkpoints, SETTINGS)
        if os.path.exists(path):
            open(os.path.join(self.part, self.new.marker), "a").close()  # it is ours, without a marker or with one
        self.new.begin(keep=True)
        if not os.path.exists(path):  # written last
            self.new.clear()
            if os.path.exists(os.path.join(self.output, MANIFEST)):
                if checkpoint.newest(os.path.join(self.output, CHECKPOINTS))[0] is None:
                    raise DataError(
                        self.output, "is finished and has no sound checkpoint to extend; continue it with --init"
                    )
                leave_out = shutil.ignore_patterns(MANIFEST, SETTINGS)
                shutil.copytree(self.output, self.part, dirs_exist_ok=True, ignore=leave_out)
            os.makedirs(self.checkpoints, exist_ok=True)
            with replacing(path, "w", encoding="utf-8") as f:
                json.dump(self.settings, f, ensure_ascii=False, indent=2)
        with open(path, encoding="utf-8") as f:
            self.refuse_changes(json.load(f), self.part)

    def refuse_changes(self, before: dict[str, Any], folder: str) -> None:
        """Raise DataError naming the first setting that differs from those of the run in `folder`."""
        for key, value in self.settings.items():
            if value != before.get(key):
                what = key
                if isinstance(value, dict):
                    what = f"{key} ({', '.join(k for k in value if value[k] != (before.get(key) or {}).get(k))})"
                elif not isinstance(value, list) and len(str(value)) < 20:
                    what = f"{key} ({before.get(key)!r}, now {value!r})"
                clean = f"make clean-model-{os.path.basename(self.output)}"
                raise DataError(folder, f"was begun with another {what}; set it back, or start again: {clean}")

    def finish(
        self, model: PreTrainedModel, tokenizer: str, card: str, inputs: list[str], counts: dict[str, Any]
    ) -> None:
        """Write the model, the files of the folder `tokenizer`, the card and the manifest into OUTPUT.part; rename it
        to OUTPUT. `inputs` and `counts` are the manifest's.
        """
        for path in checkpoint.checkpoints(self.checkpoints)[1:]:
            os.remove(path)
        with checkpoint.safetensors_errors(self.part), named(self.part):
            model.save_pretrained(self.part)
        for name in sorted(os.listdir(tokenizer)):
            path = os.path.join(tokenizer, name)
            if name != MANIFEST and os.path.isfile(path):
                shutil.copyfile(path, os.path.join(self.part, name))
        with replacing(os.path.join(self.part, "README.md"), "w", encoding="utf-8") as f:
            f.write(card)
        write_manifest(
            self.part,
            inputs=inputs,
            counts=counts,
            settings=self.settings,
            name=self.new.given,
            unlisted=(CHECKPOINTS, EVENTS, FILE),  # they hold times, or are needed only to resume
        )
        self.new.finish()
