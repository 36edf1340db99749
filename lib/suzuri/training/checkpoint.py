"""Checkpoints: one safetensors file each, with its step and CRC-32 in its name, renamed to it when it is complete.

step-00001000-8f3a90c2.safetensors   model.*, the optimizers' moments (exp_avg.* …), and "state" (JSON) as metadata
"""

import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from suzuri.errors import DataError
from suzuri.files import named, share, unlink_quietly
from suzuri.progress import note

NAME = re.compile(r"step-(\d{8})-([0-9a-f]{8})\.safetensors")
MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")  # AdamW's two and Muon's one, each shaped like its parameter


def crc32(path: str) -> str:
    crc = 0
    with open(path, "rb") as f:
        while block := f.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return f"{crc:08x}"


def checkpoints(folder: str) -> list[str]:
    """Paths of the checkpoints in `folder`, newest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    paths = [os.path.join(folder, name) for name in sorted(names, reverse=True) if NAME.fullmatch(name)]
    return [path for path in paths if os.path.isfile(path)]


def step_of(path: str) -> int:
    """The number of steps that were done when a checkpoint was written."""
    return int(NAME.fullmatch(os.path.basename(path))[1])


@contextmanager
def safetensors_errors(path: str) -> Iterator[None]:
    """Report a failure of safetensors to write as a DataError: its own error is not an OSError."""
    try:
        yield
    except SafetensorError as e:
        raise DataError(
            path, f"{e}; free some disk; the same command then continues from the last checkpoint"
        ) from None


def save(
    folder: str,
    state: dict[str, Any],
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    keep: int,
    spare: int | None = None,
) -> str:
    """Write a checkpoint, remove all but the newest `keep` and the one of step `spare`, return its path. `state` is a
    dict for JSON with "step".

    To resume exactly, a run needs only the state, the weights and the moments: rates, batches and masks are functions
    of the step.
    """
    os.makedirs(folder, exist_ok=True)
    tensors, state = {}, state | {"adam_step": 0}
    moments = {parameter: kept for optimizer in optimizers for parameter, kept in optimizer.state.items()}
    for name, parameter in model.named_parameters():  # tied weights are one parameter, written once
        tensors[f"model.{name}"] = parameter.detach()
        for what, value in moments.get(parameter, {}).items():
            if what in MOMENTS:
                tensors[f"{what}.{name}"] = value
            elif what == "step":
                state["adam_step"] = int(value)  # less than the run's step if fp16 skipped some
    tensors = {name: t.contiguous().cpu() for name, t in tensors.items()}
    part = os.path.join(folder, "checkpoint.part")
    with safetensors_errors(part), named(part):
        save_file(tensors, part, metadata={"state": json.dumps(state)})
        share(part)
        with open(part, "rb") as f:
            os.fsync(f.fileno())
    path = os.path.join(folder, f"step-{state['step']:08d}-{crc32(part)}.safetensors")
    os.replace(part, path)
    sync_folder(folder)
    for old in checkpoints(folder)[keep:]:
        if step_of(old) != spare:
            unlink_quietly(old)
    return path


def remove_newer(folder: str, path: str | None) -> None:
    """Remove the checkpoints that were passed over for `path`; all, if it is None."""
    for newer in takewhile(lambda other: other != path, checkpoints(folder)):
        unlink_quietly(newer)


def sync_folder(folder: str) -> None:
    """Flush a rename to disk: after a power cut the old file or the new one is there."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with named(folder):
            os.fsync(fd)
    finally:
        os.close(fd)


def newest(folder: str, run: str | None, most: int | None = None) -> tuple[str, dict[str, Any]] | tuple[None, None]:
    """(path, state) of the newest sound checkpoint of at most `most` steps, or (None, None); damaged ones are passed
    over with a warning. Raises DataError for a checkpoint of another run than `run`, which is in its state
    (None: any).
    """
    for path in checkpoints(folder):
        if most is not None and step_of(path) > most:
            continue
        if crc32(path) != NAME.fullmatch(os.path.basename(path))[2]:
            note(f"{path}: damaged (its CRC-32 is not the one in its name); passed over")
            continue
        try:
            with safe_open(path, "pt") as f:
                state = json.loads(f.metadata()["state"])
            whole = isinstance(state["losses"], list) and isinstance(state["scaler"], dict)
            if state["step"] != step_of(path) or not isinstance(state["adam_step"], int) or not whole:
                raise ValueError("its state is not one")
        except (SafetensorError, KeyError, TypeError, ValueError) as e:
            note(f"{path}: damaged ({' '.join(str(e).split())[:200]}); passed over")
            continue
        if run is not None and state.get("run", run) != run:
            raise DataError(path, "is a checkpoint of another run; move it away")
        return path, state
    return None, None


def load(path: str, state: dict[str, Any], model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Put a checkpoint's weights and moments into `model` and `optimizers`."""
    try:
        _load(path, state, model, optimizers)
    except (SafetensorError, KeyError, RuntimeError) as e:
        raise DataError(path, f"does not fit this model ({' '.join(str(e).split())[:200]}); move it away") from None


def _load(path, state, model, optimizers):
    owner = {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    with safe_open(path, "pt") as f:
        names, step = set(f.keys()), state["adam_step"]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(f.get_tensor(f"model.{name}"))
                moments = {
                    m: f.get_tensor(f"{m}.{name}").to(parameter.device) for m in MOMENTS if f"{m}.{name}" in names
                }
                if "exp_avg" in moments:
                    moments["step"] = torch.tensor(float(step), device=parameter.device)
                if moments:
                    owner[parameter].state[parameter] = moments
