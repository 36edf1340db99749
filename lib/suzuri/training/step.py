"""One step of training, forward, backward and update, and what it needs: device, precision, attention, optimizers.

A run is a function of (recipe, shards, tokenizer, initial weights): step s takes its chunks from token_axis.py, masks
them by masking.py and uses the rates of schedule.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from suzuri.environment import keep_memory
from suzuri.errors import DataError
from suzuri.training.attention import attention_dropout, why_not_varlen
from suzuri.training.batches import Batches, Tensors, largest_fitting, on_device
from suzuri.training.compiler_cache import keep_compiler_cache_private
from suzuri.training.cpu_threads import CpuWorkers, available_memory
from suzuri.training.device import measured_flops
from suzuri.training.inputs import TrainingInputs
from suzuri.training.masking import IGNORED, mix64
from suzuri.training.model import FlatModel, activation_bytes
from suzuri.training.optimizer import make_optimizers
from suzuri.training.ranks import Ranks
from suzuri.training.schedule import learning_rate

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class StopRequested(Exception):
    """SIGTERM or SIGINT has come; the weights are those of the last whole step."""


class StepRunner:
    """Runs the steps of `inputs` on this machine; `remarks` are notes on this for the user."""

    def __init__(self, inputs: TrainingInputs):
        self.inputs, self.recipe, self.ranks = inputs, inputs.recipe, Ranks()
        self.remarks = list(inputs.remarks)
        self.stop_signal: int | None = None  # set by a signal handler; seen by check_signal()
        recipe, device, model = self.recipe, self.ranks.device, inputs.model
        if inputs.chunks_per_step < self.ranks.world:
            raise DataError(
                inputs.recipe_path,
                f"batch_tokens has {inputs.chunks_per_step} chunks for {self.ranks.world} processes; raise it",
            )
        keep_memory()
        self.dtype = DTYPES[self.precision()]
        if device.type == "cpu" and self.dtype != torch.float32:
            slower = measured_flops(device, torch.float32) / measured_flops(device, self.dtype)
            if slower > 1.5:
                self.remarks.append(
                    f"precision {self.precision()} is {slower:.0f} times slower than fp32 on this CPU, which has no "
                    "instructions for it: set precision to fp32"
                )
        self.model = model.to(device).train()
        no_varlen = why_not_varlen(model, device, self.dtype)
        if device.type == "cuda" and no_varlen:
            self.remarks.append(f"without varlen attention: {no_varlen}")
        self.flat = FlatModel(model, varlen=no_varlen is None)
        self.compiled = recipe["torch_compile"] is True or (recipe["torch_compile"] == "auto" and self.flat.varlen)
        if self.compiled:
            keep_compiler_cache_private()
        self.step_model = torch.compile(self.flat, dynamic=False) if self.compiled else self.flat
        if self.compiled and not self.flat.varlen:
            self.remarks.append(
                "torch_compile without varlen attention: shapes differ, so it compiles for every batch; false is faster"
            )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.ranks.copy_from_first(self.parameters)
        self.optimizers = make_optimizers(model, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.has_dropout = attention_dropout(model) > 0 or any(
            m.p > 0 for m in model.modules() if isinstance(m, torch.nn.Dropout)
        )
        self.batches = Batches(inputs, self.ranks, self.flat.varlen)
        self.batches.chunks_at_once = self.find_chunks_at_once()
        self.workers = CpuWorkers(self.find_worker_count()) if device.type == "cpu" else None

    def precision(self) -> str:
        """A key of DTYPES."""
        if self.recipe["precision"] != "auto":
            return self.recipe["precision"]
        if self.ranks.device.type == "cpu":
            return "fp32"
        return "bf16" if torch.cuda.get_device_capability(self.ranks.device) >= (8, 0) else "fp16"

    def find_chunks_at_once(self) -> int:
        """How many chunks go through the model together: on a CPU one (memory, caches), on a GPU as many as fit."""
        recipe, device, own = self.recipe, self.ranks.device, len(self.batches.own_visits(0))
        if recipe["micro_batch_tokens"] != "auto":
            return min(own, recipe["micro_batch_tokens"] // recipe["chunk_tokens"])
        if device.type == "cpu":
            return 1

        def attempt(n):
            tensors, _ = next(self.batches.over(range(n), self.inputs.largest_masker, n))
            torch.cuda.reset_peak_memory_stats(device)
            try:
                self.gradients(tensors, model=self.flat)  # not compiled: each size would be compiled again
                return torch.cuda.max_memory_allocated(device)
            except torch.cuda.OutOfMemoryError:
                return None

        moments = 8 * sum(p.numel() for p in self.parameters)
        free, _ = torch.cuda.mem_get_info(device)
        budget = int(0.85 * (free + torch.cuda.memory_reserved(device))) - moments
        most = max(1, 131072 // recipe["chunk_tokens"])  # a GPU gains nothing from more
        most = max(n for n in range(1, min(own, most) + 1) if own % n == 0)
        found = self.ranks.min(largest_fitting(attempt, most, budget))
        torch.cuda.empty_cache()
        return found

    def find_worker_count(self) -> int:
        """How many micro-batches a CPU works on at once: one per core, if there are enough of them and enough memory.

        With dropout or torch.compile it is one, by all threads: they share one random generator and one compiler.
        """
        if self.has_dropout or self.compiled:
            return 1
        recipe = self.recipe
        tokens = self.batches.chunks_at_once * recipe["chunk_tokens"]
        predictions = self.batches.chunks_at_once * self.inputs.largest_masker.count(recipe["chunk_tokens"])
        each = 1.5 * activation_bytes(self.model, tokens, predictions, self.dtype)
        each += 4 * sum(p.numel() for p in self.parameters)
        room = available_memory() or float("inf")
        micro_batches = -(-len(self.batches.own_visits(0)) // self.batches.chunks_at_once)
        return max(1, int(min(torch.get_num_threads(), micro_batches, room / 2 / each)))

    def predictions(self, step: int) -> int:
        """How many positions a step of full chunks predicts, over all ranks."""
        return self.inputs.masker(step).count(self.recipe["chunk_tokens"]) * self.inputs.chunks_per_step

    def loss_sum(self, tensors: Tensors, model: FlatModel | None = None) -> torch.Tensor:
        """Cross-entropy summed over the predicted positions of a micro-batch."""
        tensors = on_device(tensors, self.ranks.device)
        labels = tensors.pop("labels")
        with torch.autocast(self.ranks.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            logits = (model or self.step_model)(**tensors)
        return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")

    def gradients(
        self, tensors: Tensors, planned: int = 1, model: FlatModel | None = None
    ) -> tuple[tuple[torch.Tensor | None, ...], torch.Tensor, int]:
        """(gradients of loss / planned, loss sum, predictions) of a micro-batch; the model does not change."""
        count = int((tensors["labels"] != IGNORED).sum())
        loss = self.loss_sum(tensors, model)
        scaled = self.scaler.scale(loss / planned)
        return torch.autograd.grad(scaled, self.parameters, allow_unused=True), loss.detach(), count

    def all_threads(self) -> AbstractContextManager[None]:
        """Inside this context the calling thread has all of torch's threads; on a GPU it always has."""
        return self.workers.all_threads() if self.workers else nullcontext()

    def in_turn(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """function(item) for each item, in order; on a CPU several at a time."""
        if self.workers:
            yield from self.workers.map(function, items, self.check_signal)
        else:
            for item in items:
                self.check_signal()
                yield function(item)

    def compile(self) -> None:
        """Compile now what torch.compile would compile in the first steps, so that their time is that of training."""
        if self.compiled:
            n = self.batches.chunks_at_once
            for masker in self.inputs.maskers.values():
                self.gradients(next(self.batches.over(self.batches.own_visits(0)[:n], masker, n))[0])

    def train_step(
        self, step: int, micro_batches: Sequence[tuple[Tensors, int]]
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Forward, backward and update over Batches.of_step(step): (loss, gradient norm), still on the device.

        The weights change only at the very end, after the last check for a signal. None, and the weights stay, if no
        position of the step is predicted: its chunks are too short, or hold only special tokens.
        """
        if self.has_dropout:
            torch.manual_seed(mix64(self.recipe["seed"], step, self.ranks.rank))
        total, count, planned, gradients = 0.0, 0, self.predictions(step), None
        for found, loss, n in self.in_turn(partial(self.gradients, planned=planned), [t for t, _ in micro_batches]):
            if gradients is None:  # copies: autograd may return one tensor for two parameters
                used = [p for p, g in zip(self.parameters, found, strict=True) if g is not None]
                gradients = [g.clone(memory_format=torch.contiguous_format) for g in found if g is not None]
            else:
                torch._foreach_add_(gradients, [g for g in found if g is not None])
            total, count = total + loss, count + n
        sums = torch.stack([total.double(), torch.tensor(float(count), device=total.device, dtype=torch.float64)])
        self.ranks.sum(gradients)
        self.ranks.sum([sums])
        if not count and not sums[1]:  # in this order: reading a number of a GPU waits for it
            return None
        for parameter, gradient in zip(used, gradients, strict=True):
            parameter.grad = gradient
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        # The mean over the positions that were predicted: fewer than planned if a chunk is short.
        torch._foreach_mul_(gradients, (planned / sums[1]).float())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe["max_grad_norm"])
        self.check_signal()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, self.recipe, self.inputs.steps)
            self.scaler.step(optimizer)
        self.scaler.update()
        self.zero_grad()
        return sums[0] / sums[1], norm

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def check_signal(self) -> None:
        if self.stop_signal:
            raise StopRequested
