"""The folder of a run: OUTPUT.part during training; OUTPUT, an ordinary Hugging Face model, at the end."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from transformers import AutoConfig, PreTrainedModel

from suzuri.errors import DataError
from suzuri.files import named, read_json, replacing, sha256, unlink_quietly
from suzuri.folders import NewFolder, refuse_others_folder
from suzuri.manifest import MANIFEST, read_manifest, recorded_sha256, write_manifest
from suzuri.progress import note
from suzuri.shards.checksums import check_sums
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
from suzuri.tokenizer.untrusted import weights_files
from suzuri.training import checkpoint
from suzuri.training.metrics import EVENTS, FILE, SNAPSHOTS
from suzuri.training.recipe import DEFAULTS

CHECKPOINTS = "checkpoints"
SETTINGS = "run.json"  # beside the checkpoints: the settings that they were made with
SUMS = "shards.json"  # beside it: the sums of the shards, as check_sums() gives them

# Settings that --from may change in the course of a run: they do not decide which tokens a step sees, nor which numbers
# belong to a weight.
CHANGEABLE = {
    "learning_rate", "lr_scheduler_type", "warmup_steps", "warmup_ratio", "decay_ratio", "weight_decay", "adam_beta1",
    "adam_beta2", "adam_epsilon", "max_grad_norm", "precision", "mlm_probability", "mlm_probability_tail",
    "mlm_tail_ratio", "whole_word_masking", "dropout",
}  # fmt: skip


def weights_sha256(folder: str) -> str:
    """The sha256 of a model folder's weights (of their sums, if they are in several files), or a Hub model's name."""
    sums = [sha256(path) for path in weights_files(folder)]
    if len(sums) > 1:
        return hashlib.sha256("".join(sums).encode()).hexdigest()
    return sums[0] if sums else folder


def value_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def trained_with(folder: str) -> str | None:
    """The sha256 of the tokenizer that train-mlm trained a model, or a snapshot, with; None if another program did."""
    if os.path.exists(os.path.join(folder, MANIFEST)):
        return read_manifest(folder)["settings"].get("tokenizer")
    snapshots, run = os.path.split(os.path.realpath(folder))[0], os.path.join(folder, "..", "..")
    if os.path.basename(snapshots) != SNAPSHOTS:
        return None
    settings = os.path.join(run, CHECKPOINTS, SETTINGS)  # there before the run is finished, too
    return read_json(settings).get("tokenizer") if os.path.exists(settings) else trained_with(run)


def write_model(model: PreTrainedModel, tokenizer: str, folder: str) -> None:
    """Write the files of the tokenizer in the folder `tokenizer`, and the model, into `folder`."""
    for name in TokenizerFolder(tokenizer).files():
        shutil.copyfile(os.path.join(tokenizer, name), os.path.join(folder, name))
    with checkpoint.safetensors_errors(folder), named(folder):
        model.save_pretrained(folder)


class OutputFolder:
    """`settings` are TrainingInputs.settings(); `steps` is the number of steps wanted; OUTPUT must not hold `inputs`;
    `start_from` is the checkpoint from which settings of CHANGEABLE may differ.

    Training with a changed setting never overwrites a model: it is refused, and the error names the setting.
    """

    def __init__(
        self,
        output: str,
        settings: dict[str, Any],
        steps: int,
        inputs: Iterable[str] = (),
        start_from: str | None = None,
    ):
        self.inputs = list(inputs)
        self.known: dict[str, str] = {}  # their sums when the run began: a recipe may be edited while it runs
        self.new = NewFolder(output, self.inputs)
        self.output, self.part = self.new.path, self.new.part
        self.start_from = start_from
        self.finished_steps = 0  # of OUTPUT
        self.changes: list[dict] = []  # of settings: [{"after step": …, "changed": {setting: [before, now]}}, …]
        self.settings, self.steps = json.loads(json.dumps(settings)), steps
        self.checkpoints = os.path.join(self.part, CHECKPOINTS)

    def is_finished(self) -> bool:
        """Whether OUTPUT already has all the steps; raises DataError if it was made with other settings."""
        self.new.recover()
        manifest = read_manifest(self.output) if os.path.exists(os.path.join(self.output, MANIFEST)) else {}
        if manifest.get("tool") != self.new.tool:
            refuse_others_folder(self.output)
            return False
        if self.start_from and self.differences(manifest["settings"]):
            return False
        self.refuse_other_checkpoint(os.path.join(self.output, CHECKPOINTS), manifest["settings"].get("changes", []))
        self.refuse_changes(manifest["settings"], self.output)
        self.finished_steps = manifest["counts"]["steps"]
        return self.finished_steps >= self.steps

    def touch(self) -> None:
        """Make OUTPUT newer than its inputs, so that make has nothing left to do."""
        os.utime(os.path.join(self.output, MANIFEST))

    def begin(self, shards: list[str]) -> None:
        """Check the shards, and make OUTPUT.part or take over an existing one, locked.

        A finished run that is too short is copied there.
        """
        path = os.path.join(self.checkpoints, SETTINGS)
        if self.start_from and not any(map(os.path.exists, (path, os.path.join(self.output, MANIFEST)))):
            raise DataError(self.start_from, f"--from: not a checkpoint in {self.checkpoints}")
        if os.path.exists(path):
            open(os.path.join(self.part, self.new.marker), "a").close()  # it is ours, without a marker or with one
        self.new.begin(keep=True)
        sums = self.checked_sums(shards)
        if not os.path.exists(path):  # written last
            self.new.clear()
            before = self.fresh_settings()
            if os.path.exists(os.path.join(self.output, MANIFEST)):
                finished = os.path.join(self.output, CHECKPOINTS)
                if checkpoint.newest(finished, None)[0] is None:
                    raise DataError(
                        self.output, "is finished and has no sound checkpoint to extend; continue it with --init"
                    )
                leave_out = shutil.ignore_patterns(MANIFEST, SETTINGS)
                shutil.copytree(self.output, self.part, dirs_exist_ok=True, ignore=leave_out)
                before = self.read_settings(finished)
            os.makedirs(self.checkpoints, exist_ok=True)
            self.write_json(SETTINGS, before)
        self.write_json(SUMS, sums)
        for path in self.inputs:
            real = os.path.realpath(path)
            self.known[path] = sums[real][2] if real in sums else recorded_sha256(path)
        before = self.read_settings(self.checkpoints)
        self.changes = before.get("changes", [])
        if self.start_from and (changed := self.differences(before)):
            self.change(changed, before)
        else:
            self.refuse_other_checkpoint(self.checkpoints, self.changes)
        self.refuse_changes(before, self.part)

    def fresh_settings(self) -> dict[str, Any]:
        """What run.json holds when a run begins."""
        return self.settings | {"run": value_sha256(self.settings)[:16]}

    def read_settings(self, checkpoints: str) -> dict[str, Any]:
        """The run.json of a folder of checkpoints. A damaged one is made again if these say that they were begun with
        the settings that are wanted now.
        """
        path = os.path.join(checkpoints, SETTINGS)
        with suppress(DataError, FileNotFoundError):
            before = read_json(path)
            if isinstance(before, dict) and isinstance(before.get("changes", []), list):
                return before
        before, state = self.fresh_settings(), checkpoint.newest(checkpoints, None)[1] or {}
        if state.get("run") != before["run"]:
            raise DataError(path, f"damaged, and the settings may not be those of this run; {self.start_again}")
        note(f"{path}: damaged; made again")
        self.write_json(SETTINGS, before)
        return before

    @property
    def run(self) -> str:
        """What all checkpoints of this run have in their state."""
        return read_json(os.path.join(self.checkpoints, SETTINGS)).get("run", "")

    @property
    def start_again(self) -> str:
        return f"start again: make clean-model-{os.path.basename(self.output)}"

    def write_json(self, name: str, value: Any) -> None:
        """Write a file beside the checkpoints."""
        with replacing(os.path.join(self.checkpoints, name), "w", encoding="utf-8") as f:
            json.dump(value, f, ensure_ascii=False, indent=2)

    def change(self, changed: dict[str, list], before: dict[str, Any]) -> None:
        """Go back to the checkpoint `start_from`, and record what changes from there on in `before` and run.json."""
        if changed.keys() - CHANGEABLE:
            return  # refuse_changes() names one
        path = os.path.join(self.checkpoints, os.path.basename(self.start_from))
        if path not in checkpoint.checkpoints(self.checkpoints):
            raise DataError(self.start_from, f"--from: not a checkpoint in {self.checkpoints}")
        step = checkpoint.step_of(path)
        if checkpoint.newest(self.checkpoints, self.run, step)[0] != path:
            raise DataError(self.start_from, "--from: damaged; take another one")
        checkpoint.remove_newer(self.checkpoints, path)
        self.changes.append({"after step": step, "changed": changed})
        before |= {key: now for key, (_, now) in changed.items()} | {"changes": self.changes}
        self.write_json(SETTINGS, before)

    def refuse_other_checkpoint(self, folder: str, changes: list[dict]) -> None:
        """Raise DataError if start_from, with which nothing changes (any more), is not one of the run's checkpoints."""
        if self.start_from:
            path = os.path.join(folder, os.path.basename(self.start_from))
            known = path in checkpoint.checkpoints(folder) or changes  # its file may be gone since it was used
            if not known:
                raise DataError(self.start_from, f"--from: not a checkpoint in {folder}")

    def differences(self, before: dict[str, Any]) -> dict[str, list]:
        """{setting: [before, now]} of those that differ from the run's. One that suzuri or transformers did not have at
        that time had its default then.
        """
        found = {}
        for key, now in self.settings.items():
            old = before.get(key, DEFAULTS.get(key, now))
            if key == "model" and isinstance(old, dict):
                defaults = json.loads(json.dumps(AutoConfig.for_model(now["model_type"]).to_dict()))
                old = {k: old.get(k, defaults.get(k)) for k in now}
                keys = [k for k in now if now[k] != old[k]]
                old, now = ({k: values[k] for k in keys} for values in (old, now))
            if old != now:
                found[key] = [old, now]
        return found

    def refuse_changes(self, before: dict[str, Any], folder: str) -> None:
        """Raise DataError naming the first setting that differs from those of the run in `folder`."""
        for key, (old, now) in self.differences(before).items():
            what = key
            if isinstance(now, dict):
                what = f"{key} ({', '.join(now)})"
            elif not isinstance(now, list) and len(str(now)) < 20:
                what = f"{key} ({old!r}, now {now!r})"
            way = "go back to a checkpoint with --from, " if key in CHANGEABLE else ""
            raise DataError(folder, f"was begun with another {what}; set it back, {way}or {self.start_again}")

    def checked_sums(self, shards: list[str]) -> dict[str, Any]:
        """check_sums() of the shards; the sums are kept, so that a file is only read again when it has changed.

        A run whose shards are damaged has not begun: run.json would hold what it found in them.
        """
        path = os.path.join(self.checkpoints, SUMS)
        known = read_json(path) if os.path.exists(path) else {}
        try:
            return check_sums(shards, known if isinstance(known, dict) else {})
        except DataError:
            if not os.path.exists(os.path.join(self.checkpoints, SETTINGS)):
                self.new.discard()
            raise

    def snapshot(self, model: PreTrainedModel, tokenizer: str, tokens: int) -> None:
        """Write the model after `tokens` tokens into OUTPUT.part/snapshots/TOKENS."""
        folder = os.path.join(self.part, SNAPSHOTS, f"{tokens:012}")
        os.makedirs(folder + ".part", exist_ok=True)
        write_model(model, tokenizer, folder + ".part")
        os.rename(folder + ".part", folder)

    def missed_snapshots(self, tokens: int, recipe: dict[str, Any]) -> list[int]:
        """Those of snapshot_tokens up to `tokens` of which there is no snapshot."""
        folders = [os.path.join(folder, SNAPSHOTS) for folder in (self.part, self.output)]
        kept = [
            int(name) for folder in folders if os.path.isdir(folder) for name in os.listdir(folder) if name.isdecimal()
        ]
        step = recipe["batch_tokens"]
        amounts = [amount for amount in recipe["snapshot_tokens"] if amount <= tokens]
        return [amount for amount in amounts if not any(amount <= n < amount + step for n in kept)]

    def forget_snapshots(self, tokens: int) -> None:
        """Remove the snapshots after more than `tokens` tokens, which the run makes again, and what is unfinished."""
        snapshots = os.path.join(self.part, SNAPSHOTS)
        for name in os.listdir(snapshots) if os.path.isdir(snapshots) else ():
            made = re.fullmatch(r"(\d{12})(\.part)?", name)
            if made and (made[2] or int(made[1]) > tokens):
                shutil.rmtree(os.path.join(snapshots, name))

    def finish(
        self,
        model: PreTrainedModel,
        tokenizer: str,
        card: str,
        counts: dict[str, Any],
        last: str,
        spare: int | None,
    ) -> None:
        """Write the model, the files of the folder `tokenizer`, the card and the manifest into OUTPUT.part; rename it
        to OUTPUT. `counts` are the manifest's. Of the checkpoints, `last` and that of step `spare` stay.
        """
        for path in checkpoint.checkpoints(self.checkpoints):
            if path != last and checkpoint.step_of(path) != spare:
                os.remove(path)
        unlink_quietly(os.path.join(self.checkpoints, SUMS))
        write_model(model, tokenizer, self.part)
        with replacing(os.path.join(self.part, "README.md"), "w", encoding="utf-8") as f:
            f.write(card)
        write_manifest(
            self.part,
            inputs=self.inputs,
            known=self.known,
            counts=counts,
            settings=self.settings | ({"changes": self.changes} if self.changes else {}),
            name=self.new.given,
            unlisted=(CHECKPOINTS, EVENTS, FILE),  # they hold times, or are needed only to resume
        )
        self.new.finish()
