"""One step of training, forward, backward and update, and what it needs: device, precision, attention, optimizers.

A run is a function of (recipe, shards, tokenizer, initial weights): step s takes its chunks from token_axis.py, masks
them by masking.py and uses the rates of schedule.py.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any

import torch

from suzuri.environment import keep_memory
from suzuri.errors import DataError
from suzuri.progress import note
from suzuri.training.attention import VARLEN, attention_dropout, choose_attention
from suzuri.training.batches import Batches, Tensors, largest_fitting, on_device
from suzuri.training.compilation import CompiledModel, why_not_compiled
from suzuri.training.compiler_cache import keep_compiler_cache_private
from suzuri.training.cpu_threads import CpuWorkers, available_memory
from suzuri.training.device import device_name, multiplies, unused_gpu
from suzuri.training.gradient_sum import BUCKET, GradientSum
from suzuri.training.inputs import TrainingInputs
from suzuri.training.masking import IGNORED, mix64
from suzuri.training.model import FlatModel, activation_bytes
from suzuri.training.optimizer import make_optimizers
from suzuri.training.ranks import Ranks
from suzuri.training.schedule import learning_rate

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class StopRequested(Exception):
    """A signal to stop has come, to this rank or another; the weights are those of the last whole step."""


class StepRunner:
    """Runs the steps of `inputs` on this machine; `machine` says how, and `remarks` are notes for the user."""

    def __init__(self, inputs: TrainingInputs):
        self.inputs, self.recipe, self.ranks = inputs, inputs.recipe, Ranks()
        self.remarks = list(inputs.remarks)
        self.stop_signal: int | None = None  # set by a signal handler; seen by check_signal()
        recipe, device, model = self.recipe, self.ranks.device, inputs.model
        if inputs.chunks_per_step < self.ranks.world:
            raise DataError(
                inputs.recipe_path,
                f"batch_tokens has {inputs.chunks_per_step} chunks, too few for {self.ranks.world} processes; raise it",
            )
        keep_memory()
        if recipe["deterministic"]:  # without it, atomic additions come in any order in the backward pass of a GPU
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        self.dtype = DTYPES[self.precision()]
        if device.type == "cpu" and not multiplies(self.dtype):
            self.remarks.append(
                f"precision {self.precision()} is many times slower than fp32 on this CPU, which has no instructions "
                "for it: set precision to fp32"
            )
        self.model = model.to(device).train()
        attention, no_varlen = choose_attention(model, device, self.dtype)
        self.flat = FlatModel(model, attention)
        not_compiled = self.why_not_compiled()
        self.compiled, self.step_model = not not_compiled, self.flat
        if self.compiled:
            keep_compiler_cache_private()
            options = {"mode": "reduce-overhead"} if recipe["torch_compile"] == "reduce-overhead" else {}
            pieces = BUCKET if self.ranks.world > 1 and not options else None
            self.step_model = CompiledModel(self.flat, recipe["torch_compile"] == "auto", pieces, **options)
            if attention != VARLEN:
                self.remarks.append(
                    "torch_compile without varlen attention: each batch has another shape and is compiled; "
                    "torch_compile=false is faster"
                )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.ranks.copy_from_first(self.parameters)
        self.optimizers = make_optimizers(model, recipe, self.ranks)
        self.gradient_sum = GradientSum(self.parameters, self.ranks, self.dtype)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.has_dropout = attention_dropout(model) > 0 or any(
            m.p > 0 for m in model.modules() if isinstance(m, torch.nn.Dropout)
        )
        self.batches = Batches(inputs, self.ranks, attention)
        self.batches.chunks_at_once = self.find_chunks_at_once()
        self.workers = CpuWorkers(self.find_worker_count()) if device.type == "cpu" else None
        self.remarks += unused_gpu(device)
        self.machine = self.in_words(no_varlen, not_compiled)

    def in_words(self, no_varlen: str | None, not_compiled: str | None) -> str:
        """The device, and how the steps run on it."""
        attention = f"{self.flat.attention.removeprefix('suzuri_')} attention"
        attention += f" ({no_varlen})" if no_varlen else ""
        compiled = f"not compiled ({not_compiled})" if not_compiled else "compiled"
        tokens = self.batches.chunks_at_once * self.recipe["chunk_tokens"]
        with self.all_threads():
            machine = f"{self.ranks.world} × {device_name(self.ranks.device)}"
        return f"{machine}, {self.precision()}, {attention}, {compiled}, micro-batches of {tokens:,} tokens"

    def why_not_compiled(self) -> str | None:
        """None if the model is compiled, otherwise the reason in words."""
        asked = self.recipe["torch_compile"]
        if not asked:
            return "torch_compile is false"
        if asked == "auto":
            return why_not_compiled() if self.flat.attention == VARLEN else "it needs varlen attention"
        return None

    def precision(self) -> str:
        """A key of DTYPES."""
        if self.recipe["precision"] != "auto":
            return self.recipe["precision"]
        if self.ranks.device.type == "cpu":
            return "fp32"
        return "bf16" if torch.cuda.get_device_capability(self.ranks.device) >= (8, 0) else "fp16"

    def find_chunks_at_once(self) -> int:
        """How many chunks go through the model together: on a CPU one (memory, caches), on a GPU as many as fit."""
        recipe, device = self.recipe, self.ranks.device
        own = -(-self.inputs.chunks_per_step // self.ranks.world)  # of the rank that has most
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

        # Beside what an attempt takes: AdamW's two moments, the sum of the gradients so far, and what is sent of it.
        sent = self.gradient_sum.dtype.itemsize if self.ranks.world > 1 else 0
        beside = (8 + 4 + sent) * sum(p.numel() for p in self.parameters)
        free, _ = torch.cuda.mem_get_info(device)
        budget = int(0.85 * (free + torch.cuda.memory_reserved(device))) - beside
        most = max(1, 131072 // recipe["chunk_tokens"])  # a GPU gains nothing from more
        found = self.ranks.min(largest_fitting(attempt, own, min(own, most), budget))
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

    def gradients(
        self, tensors: Tensors, planned: int = 1, model: FlatModel | None = None
    ) -> tuple[tuple[torch.Tensor | None, ...], torch.Tensor]:
        """(gradients of loss / planned, sum of the losses) of a micro-batch; the model does not change."""
        tensors = on_device(tensors, self.ranks.device)
        with torch.autocast(self.ranks.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            loss = (model or self.step_model)(**tensors)
        scaled = self.scaler.scale(loss / planned)
        return torch.autograd.grad(scaled, self.parameters, allow_unused=True), loss.detach()

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

        The ranks agree to go on after the backward pass. Before that the weights have not changed, and after it nothing
        waits for another rank's host, and nothing stops: StopRequested or RankLost is raised on all ranks or none.
        Gradients are sent before that, too; so a rank that stops sends its part all the same.
        None, and the weights stay, if no position of the step is predicted: its chunks are too short, or hold only
        special tokens.
        """
        if self.has_dropout:
            torch.manual_seed(mix64(self.recipe["seed"], step, self.ranks.rank))
        count = sum(int((tensors["labels"].numpy() != IGNORED).sum()) for tensors, _ in micro_batches)
        planned = self.predictions(step)
        try:
            with suppress(StopRequested):
                total = self.sum_of_gradients(step, micro_batches, planned)
        except BaseException:
            with suppress(Exception):
                self.gradient_sum.send_early()
            raise
        self.gradient_sum.send_early()
        try:
            (count,) = self.agreed_sums(count)
        except StopRequested:
            self.gradient_sum.settle()
            raise
        self.gradient_sum.send_all()
        used, gradients = self.gradient_sum.received()
        if not count:
            return None
        self.ranks.sum(total)
        for parameter, gradient in zip(used, gradients, strict=True):
            parameter.grad = gradient
        self.scaler.unscale_(self.optimizers)
        # The mean over the positions that were predicted: fewer than planned if a chunk is short.
        torch._foreach_mul_(gradients, planned / count)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe["max_grad_norm"])
        for group in self.optimizers.param_groups:
            group["lr"] = learning_rate(step, self.recipe, self.inputs.steps)
        self.scaler.step(self.optimizers)
        self.scaler.update()
        self.optimizers.zero_grad()
        return total.double() / count, norm

    def sum_of_gradients(self, step: int, micro_batches: Sequence[tuple[Tensors, int]], planned: int) -> torch.Tensor:
        """Fill gradient_sum with this rank's micro-batches; returns the sum of their losses.

        If a GPU has too little memory, the micro-batches of this step and of all later ones are made half as large.
        """
        at_once = self.batches.chunks_at_once
        if len(micro_batches[0][0]["input_ids"]) > at_once * self.recipe["chunk_tokens"]:  # made before it was halved
            micro_batches = self.batches.of_step(step)
        try:
            return self.summed([tensors for tensors, _ in micro_batches], planned)
        except torch.OutOfMemoryError:
            if at_once == 1:
                raise DataError(
                    self.inputs.recipe_path, "one chunk is too much for the GPU's memory; lower chunk_tokens"
                ) from None
        self.batches.chunks_at_once = at_once // 2
        note(f"rank {self.ranks.rank}: out of GPU memory; micro-batches of {at_once // 2} chunks now, not {at_once}")
        if self.ranks.device.type == "cuda":
            torch.cuda.empty_cache()
        return self.sum_of_gradients(step, micro_batches, planned)

    def summed(self, micro_batches: Sequence[Tensors], planned: int) -> torch.Tensor:
        """sum_of_gradients() of micro-batches that fit."""
        total, gradients = 0.0, partial(self.gradients, planned=planned)
        self.gradient_sum.restart()
        # Several workers at once do not have a last micro-batch.
        early = self.gradient_sum.sends_early and (not self.workers or self.workers.count == 1)
        *added, last = micro_batches if early else (*micro_batches, None)
        for found, loss in self.in_turn(gradients, added):
            self.gradient_sum.add(found)
            total = total + loss
            del found, loss  # the next micro-batch needs their memory
        if early:
            self.check_signal()
            with self.gradient_sum.sending():
                total = total + gradients(last)[1]
        return total

    def agreed_sums(self, *numbers: float) -> list[float]:
        """The sums of the ranks' numbers; raises StopRequested on all ranks if a signal has come to one of them."""
        found = self.ranks.exchange(self.stop_signal or 0, *numbers)
        self.stop_signal = int(max(signum for signum, *_ in found)) or None
        self.check_signal()
        return [sum(column) for column in zip(*found, strict=True)][1:]

    def check_signal(self) -> None:
        if self.stop_signal:
            raise StopRequested
