"""One step of training, on whatever machine this is: device, precision, attention, optimizers.

A run is a function of (recipe, shards, tokenizer, initial weights): step s takes the chunks that tokens.py
gives it, masked as masking.py says, at the rates that schedule.py says. What must be saved to go on exactly
is the weights, the optimizers' moments and the number of the step (see run.py).
"""

from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F

from suzuri.environment import keep_memory
from suzuri.errors import DataError
from suzuri.progress import note
from suzuri.training.attention import attention_dropout, why_not_varlen
from suzuri.training.batches import Batches, on_device
from suzuri.training.cpu_threads import Cores, available_memory
from suzuri.training.hardware import largest_fitting
from suzuri.training.masking import IGNORED, mix64
from suzuri.training.model import FlatModel, activation_bytes
from suzuri.training.optimizer import make_optimizers
from suzuri.training.ranks import Ranks
from suzuri.training.schedule import learning_rate

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Stopped(Exception):
    """SIGTERM or SIGINT came; the weights are those of the last whole step."""


class Trainer:
    """A Task on this machine."""

    def __init__(self, task):
        self.task, self.recipe, self.ranks = task, task.recipe, Ranks()
        recipe, device, model = self.recipe, self.ranks.device, task.model
        if task.chunks_per_step < self.ranks.world:
            raise DataError(
                task.args.recipe,
                f"batch_tokens has {task.chunks_per_step} chunks for {self.ranks.world} processes; raise it",
            )
        keep_memory()
        self.dtype = DTYPES[self.precision()]
        self.model = model.to(device).train()
        no_varlen = why_not_varlen(model, device, self.dtype)
        if device.type == "cuda" and no_varlen and self.ranks.is_first:
            note(f"without varlen attention: {no_varlen}")
        self.flat = FlatModel(model, varlen=no_varlen is None)
        compiled = recipe["torch_compile"] is True or (recipe["torch_compile"] == "auto" and self.flat.varlen)
        self.step_model = torch.compile(self.flat, dynamic=False) if compiled else self.flat
        if compiled and not self.flat.varlen and self.ranks.is_first:
            note(
                "torch_compile without varlen attention: shapes differ, so it compiles for every batch; false is faster"
            )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.ranks.same(self.parameters)
        self.optimizers = make_optimizers(model, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.has_dropout = attention_dropout(model) > 0 or any(
            m.p > 0 for m in model.modules() if isinstance(m, torch.nn.Dropout)
        )
        self.batches = Batches(task, self.ranks, self.flat.varlen)
        self.stop_signal = None
        self.batches.at_once = self.find_micro_batch()
        self.cores = Cores(self.find_workers(compiled)) if device.type == "cpu" else None

    def precision(self):
        if self.recipe["precision"] != "auto":
            return self.recipe["precision"]
        if self.ranks.device.type == "cpu":
            return "fp32"
        return "bf16" if torch.cuda.get_device_capability(self.ranks.device) >= (8, 0) else "fp16"

    def find_micro_batch(self):
        """How many chunks go through the model at once: on a CPU one (memory, caches), on a GPU what fits."""
        recipe, device, mine = self.recipe, self.ranks.device, len(self.batches.mine(0))
        if recipe["micro_batch_tokens"] != "auto":
            return min(mine, recipe["micro_batch_tokens"] // recipe["chunk_tokens"])
        if device.type == "cpu":
            return 1

        def attempt(n):
            inputs, _ = next(self.batches.over(range(n), self.task.largest_masker, n))
            torch.cuda.reset_peak_memory_stats(device)
            try:
                self.gradients(inputs, model=self.flat)  # not compiled: each size would be compiled anew
                return torch.cuda.max_memory_allocated(device)
            except torch.cuda.OutOfMemoryError:
                return None

        moments = 8 * sum(p.numel() for p in self.parameters)
        free, _ = torch.cuda.mem_get_info(device)
        budget = int(0.85 * (free + torch.cuda.memory_reserved(device))) - moments
        most = max(1, 131072 // recipe["chunk_tokens"])  # beyond, a GPU gains nothing
        most = max(n for n in range(1, min(mine, most) + 1) if mine % n == 0)
        found = self.ranks.min(largest_fitting(attempt, most, budget))
        torch.cuda.empty_cache()
        return found

    def find_workers(self, compiled):
        """How many micro-batches a CPU works on at once: one a core, if there are as many and memory has room."""
        if self.has_dropout or compiled:  # one generator of random numbers, one compiler
            return 1
        recipe = self.recipe
        tokens = self.batches.at_once * recipe["chunk_tokens"]
        predictions = self.batches.at_once * self.task.largest_masker.count(recipe["chunk_tokens"])
        each = 1.5 * activation_bytes(self.model, tokens, predictions, self.dtype)
        each += 4 * sum(p.numel() for p in self.parameters)
        room = available_memory() or float("inf")
        micro_batches = -(-len(self.batches.mine(0)) // self.batches.at_once)
        return max(1, int(min(torch.get_num_threads(), micro_batches, room / 2 / each)))

    def predictions(self, step):
        """How many positions a full step predicts, over all ranks."""
        return self.task.masker(step).count(self.recipe["chunk_tokens"]) * self.task.chunks_per_step

    def loss_sum(self, inputs, model=None):
        """Cross-entropy summed over the predicted positions of a micro-batch."""
        inputs = on_device(inputs, self.ranks.device)
        labels = inputs.pop("labels")
        with torch.autocast(self.ranks.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            logits = (model or self.step_model)(**inputs)
        return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")

    def gradients(self, inputs, planned=1, model=None):
        """Of a micro-batch: (gradients, loss sum, predictions); nothing of the model changes."""
        count = int((inputs["labels"] != IGNORED).sum())
        loss = self.loss_sum(inputs, model)
        scaled = self.scaler.scale(loss / planned)
        return torch.autograd.grad(scaled, self.parameters, allow_unused=True), loss.detach(), count

    def together(self):
        """All threads for what this thread does, not for its workers; nothing to do on a GPU."""
        return self.cores.together() if self.cores else nullcontext()

    def in_turn(self, function, items):
        """function(item) of each item, in order: on a CPU several at a time."""
        if self.cores:
            yield from self.cores.map(function, items, self.check_signal)
        else:
            for item in items:
                self.check_signal()
                yield function(item)

    def train_step(self, step, batches):
        """Forward, backward and update; (loss, gradient norm) as tensors. Weights change only at the very end."""
        if self.has_dropout:
            torch.manual_seed(mix64(self.recipe["seed"], step, self.ranks.rank))
        total, count, planned, gradients = 0.0, 0, self.predictions(step), None
        for found, loss, n in self.in_turn(partial(self.gradients, planned=planned), [inputs for inputs, _ in batches]):
            if gradients is None:  # copies: of what autograd gives, one tensor may serve two parameters
                used = [p for p, g in zip(self.parameters, found, strict=True) if g is not None]
                gradients = [g.clone(memory_format=torch.contiguous_format) for g in found if g is not None]
            else:
                torch._foreach_add_(gradients, [g for g in found if g is not None])
            total, count = total + loss, count + n
        sums = torch.stack([total.double(), torch.tensor(float(count), device=total.device, dtype=torch.float64)])
        self.ranks.sum(gradients)
        self.ranks.sum([sums])
        for parameter, gradient in zip(used, gradients, strict=True):
            parameter.grad = gradient
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        # The mean over the positions really predicted: fewer than planned when a short chunk is among them.
        torch._foreach_mul_(gradients, (planned / sums[1]).float())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe["max_grad_norm"])
        self.check_signal()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, self.recipe, self.task.steps)
            self.scaler.step(optimizer)
        self.scaler.update()
        self.zero_grad()
        return sums[0] / sums[1], norm

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def check_signal(self):
        if self.stop_signal:
            raise Stopped
