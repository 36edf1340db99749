"""The training loop.

A run is a function of (recipe, shards, tokenizer, initial weights): step s takes the chunks that tokens.py
gives it, masked as masking.py says, at the rate that schedule.py says. What must be saved to go on exactly
is the weights, AdamW's moments and the number of the step.
"""

import math
import os
import signal
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import astuple

import torch
import torch.nn.functional as F

from suzuri import checkpoint, cli
from suzuri.attention import attention_dropout, why_not_varlen
from suzuri.cli import DataError, note
from suzuri.evaluate import Score, evaluate, masked_batches
from suzuri.masking import IGNORED, mix64
from suzuri.metrics import Metrics
from suzuri.model import FlatModel, flops, parameter_counts, sequence_arguments
from suzuri.model_folder import Folder, locked, say_finished
from suzuri.ranks import Ranks
from suzuri.schedule import learning_rate
from suzuri.speed import keep_memory, largest_fitting, peak_flops
from suzuri.tokens import micro_batches

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SAVE_SECONDS = 600  # a checkpoint at least this often, whatever save_steps says: steps on a CPU are slow


class Stopped(Exception):
    """SIGTERM or SIGINT came; the weights are those of the last whole step."""


class Trainer:
    """A Task on this machine: device, precision, attention, optimizer, and the loop."""

    def __init__(self, task):
        self.task, self.recipe, self.ranks = task, task.recipe, Ranks()
        recipe, device, model = self.recipe, self.ranks.device, task.model
        keep_memory()
        precision = recipe["precision"]
        if precision == "auto":
            precision = "fp32"
            if device.type == "cuda":
                precision = "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
        self.dtype = DTYPES[precision]
        self.model = model.to(device).train()
        no_varlen = why_not_varlen(model, device, self.dtype)
        self.varlen = no_varlen is None
        if device.type == "cuda" and not self.varlen and self.ranks.is_first:
            note(f"without varlen attention: {no_varlen}")
        self.flat = FlatModel(model, self.varlen)
        compiled = recipe["torch_compile"] is True or (recipe["torch_compile"] == "auto" and self.varlen)
        self.step_model = torch.compile(self.flat, dynamic=False) if compiled else self.flat
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.ranks.same(self.parameters)
        self.optimizer = make_optimizer(model, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.has_dropout = attention_dropout(model) > 0 or any(
            m.p > 0 for m in model.modules() if isinstance(m, torch.nn.Dropout)
        )
        if task.chunks_per_step < self.ranks.world:
            raise DataError(
                task.args.recipe,
                f"batch_tokens has {task.chunks_per_step} chunks for {self.ranks.world} processes; raise it",
            )
        self.my_chunks = len(self.my_visits(0))
        self.chunks_at_once = self.find_micro_batch()
        self.predictions = task.masker.count(recipe["chunk_tokens"]) * task.chunks_per_step  # of a full step
        self.stop_signal = None

    # ---- batches -----------------------------------------------------------------------------------------------

    def all_visits(self, step):
        return range(step * self.task.chunks_per_step, (step + 1) * self.task.chunks_per_step)

    def my_visits(self, step):
        """The part of a step that this rank takes; all ranks together take all of it."""
        return self.all_visits(step)[self.ranks.rank :: self.ranks.world]

    def step_batches(self, step):
        """The micro-batches of this rank in a step, ready for the model: [(tensors, sum of length²)]."""
        task = self.task
        pad = task.vocabulary.ids["pad_token"]
        return [
            self.tensors(batch)
            for batch in micro_batches(
                task.axis, task.masker, self.recipe["seed"], self.my_visits(step), self.chunks_at_once, pad
            )
        ]

    def tensors(self, batch):
        pin = self.ranks.device.type == "cuda"
        tensors = {k: torch.from_numpy(batch[k]) for k in ("input_ids", "position_ids", "rows", "labels")}
        tensors |= sequence_arguments(batch["lengths"], self.varlen, self.task.longest)
        squares = int((batch["lengths"] ** 2).sum())
        return {k: v.pin_memory() if pin and torch.is_tensor(v) else v for k, v in tensors.items()}, squares

    def on_device(self, tensors):
        device = self.ranks.device
        return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in tensors.items()}

    def find_micro_batch(self):
        """How many chunks go through the model at once: on a CPU one (memory, caches), on a GPU what fits."""
        task, recipe, device = self.task, self.recipe, self.ranks.device
        if recipe["micro_batch_tokens"] != "auto":
            return min(self.my_chunks, recipe["micro_batch_tokens"] // recipe["chunk_tokens"])
        if device.type == "cpu":
            return 1

        def attempt(n):
            batch = next(micro_batches(task.axis, task.masker, 0, range(n), n, task.vocabulary.ids["pad_token"]))
            torch.cuda.reset_peak_memory_stats(device)
            try:
                inputs, _ = self.tensors(batch)
                self.loss_sum(self.step_model, self.on_device(inputs)).backward()
                return torch.cuda.max_memory_allocated(device)
            except torch.cuda.OutOfMemoryError:
                return None
            finally:
                self.optimizer.zero_grad()

        moments = 8 * sum(p.numel() for p in self.parameters)
        free, _ = torch.cuda.mem_get_info(device)
        budget = int(0.85 * (free + torch.cuda.memory_reserved(device))) - moments
        most = max(1, 131072 // recipe["chunk_tokens"])  # beyond, a GPU gains nothing
        most = max(n for n in range(1, min(self.my_chunks, most) + 1) if self.my_chunks % n == 0)
        found = self.ranks.min(largest_fitting(attempt, most, budget))
        torch.cuda.empty_cache()
        return found

    # ---- a step ------------------------------------------------------------------------------------------------

    def loss_sum(self, model, inputs):
        """Cross-entropy summed over the predicted positions of a micro-batch."""
        labels = inputs["labels"]
        inputs = {k: v for k, v in inputs.items() if k != "labels"}
        with torch.autocast(self.ranks.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            logits = model(**inputs)
        return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")

    def train_step(self, step, batches):
        """Forward, backward and update; (loss, gradient norm) as tensors. Weights change only at the very end."""
        if self.has_dropout:
            torch.manual_seed(mix64(self.recipe["seed"], step, self.ranks.rank))
        total, count = 0.0, 0
        for inputs, _ in batches:
            self.check_signal()
            count += int((inputs["labels"] != IGNORED).sum())
            loss = self.loss_sum(self.step_model, self.on_device(inputs))
            self.scaler.scale(loss / self.predictions).backward()
            total = total + loss.detach()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        sums = torch.stack([total.double(), torch.tensor(float(count), device=total.device, dtype=torch.float64)])
        self.ranks.sum(gradients)
        self.ranks.sum([sums])
        self.scaler.unscale_(self.optimizer)
        # The mean over the positions really predicted: fewer than planned when a short chunk is among them.
        torch._foreach_mul_(gradients, (self.predictions / sums[1]).float())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe["max_grad_norm"])
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.recipe, self.task.steps)
        self.check_signal()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return sums[0] / sums[1], norm

    def plan(self):
        """What the run would be, measured on one micro-batch: a list of (what, value in words)."""
        task, recipe = self.task, self.recipe
        total, body, head = parameter_counts(self.model)
        inputs, _ = self.step_batches(0)[0]
        seconds = min(self.timed(inputs) for _ in range(2))
        micro_tokens = len(inputs["input_ids"])
        left = task.steps * recipe["batch_tokens"] / (micro_tokens / seconds * self.ranks.world)
        if self.ranks.device.type == "cuda":
            activations = torch.cuda.max_memory_allocated(self.ranks.device) - 8 * total
        else:
            activations = activation_bytes(self.model, micro_tokens, len(inputs["rows"]), self.dtype)
        memory = 16 * total + activations  # weights, gradients, two moments, 4 bytes each
        epoch = task.axis.num_tokens
        return [
            (
                "model",
                f"{self.model.config.model_type}, {total:,} parameters ({body:,} in layers, {head:,} in the head)",
            ),
            ("tokens", f"{epoch:,} in {task.axis.num_sequences:,} sequences, {task.axis.num_chunks:,} chunks an epoch"),
            (
                "steps",
                f"{task.steps:,} of {recipe['batch_tokens']:,} tokens, "
                f"{task.steps * task.chunks_per_step / task.axis.num_chunks:.2f} epochs",
            ),
            (
                "machine",
                f"{self.ranks.world} × {device_name(self.ranks.device)}, {str(self.dtype).removeprefix('torch.')}",
            ),
            ("memory", f"about {memory / 1e9:.1f} GB with {micro_tokens:,} tokens at once"),
            ("time", f"about {duration(left)} at {micro_tokens / seconds * self.ranks.world:,.0f} tokens/s, measured"),
        ]

    def timed(self, inputs):
        """Seconds of a micro-batch, forward and backward."""
        start = time.perf_counter()
        self.loss_sum(self.step_model, self.on_device(inputs)).backward()
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize()
        self.optimizer.zero_grad()
        return time.perf_counter() - start

    # ---- the run -----------------------------------------------------------------------------------------------

    def train(self):
        """Train to the end, or until a signal: the exit status (0, 130 or 143)."""
        self.folder = Folder(self.task.args.output, self.task.settings(), self.task.steps)
        with ExitStack() as stack:
            stack.callback(self.ranks.close)
            finished = self.ranks.first_says(self.ranks.is_first and self.folder.is_finished())
            if finished:
                if self.ranks.is_first:
                    say_finished(self.folder)
                return 0
            if self.ranks.is_first:
                self.folder.open()
                stack.enter_context(locked(self.folder.part))
            self.ranks.wait()
            self.resume()
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, self.on_signal)
            try:
                self.loop()
            except (Stopped, DataError) as e:
                if not self.stop_signal:
                    raise
                if isinstance(e, DataError):  # another rank, told to stop before this one, looks like one that died
                    note(str(e))
                self.save()
                if self.ranks.is_first:
                    note(
                        f"stopped after step {self.step:,} of {self.task.steps:,}; the same command goes on from there"
                    )
                os._exit(128 + self.stop_signal)  # at once: other ranks may wait in vain for this one
            if self.ranks.is_first:
                self.finish()
            self.ranks.wait()
            return 0

    def on_signal(self, signum, frame):
        self.stop_signal = signum

    def check_signal(self):
        if self.stop_signal:
            raise Stopped

    def resume(self):
        """Start from the newest sound checkpoint, or from step 0."""
        path, state = checkpoint.newest(self.folder.checkpoints)
        self.step, self.losses = 0, []  # losses: of the steps since the last line of metrics.jsonl
        if path:
            checkpoint.load(path, state, self.model, self.optimizer)
            self.scaler.load_state_dict(state["scaler"])
            self.step, self.losses = state["step"], state["losses"]
            if self.ranks.is_first:
                note(f"going on after step {self.step:,} of {self.task.steps:,} ({os.path.basename(path)})")
        self.saved_step, self.last_checkpoint, self.saved_at = self.step, path, time.monotonic()
        self.metrics = Metrics(self.folder.part, self.step) if self.ranks.is_first else None
        self.evaluated = self.ranks.first_says(self.metrics and self.metrics.has_evaluation(self.step))
        self.waiting = []  # (step, loss, norm) of steps whose numbers are still on the device

    def save(self):
        """Write a checkpoint of the last whole step, unless it has one."""
        self.read_losses()
        if self.ranks.is_first and self.saved_step != self.step:
            self.metrics.sync()
            state = {"step": self.step, "losses": self.losses, "scaler": self.scaler.state_dict()}
            self.last_checkpoint = checkpoint.save(
                self.folder.checkpoints, state, self.model, self.optimizer, self.recipe["save_total_limit"]
            )
        self.saved_step, self.saved_at = self.step, time.monotonic()

    def loop(self):
        recipe, steps, batch_tokens = self.recipe, self.task.steps, self.recipe["batch_tokens"]
        batches = ahead(self.step_batches(step) for step in range(self.step, steps))
        with cli.Progress(total=steps * batch_tokens, unit="tok") as bar:
            bar.skip(self.step * batch_tokens)
            self.meter = Meter(self)
            while True:
                if not self.evaluated and (self.step % recipe["eval_steps"] == 0 or self.step == steps):
                    self.evaluate(bar)
                if self.step == steps:
                    break
                due = self.step % recipe["save_steps"] == 0 or time.monotonic() > self.saved_at + SAVE_SECONDS
                if self.step and due:
                    self.save()
                micro = next(batches)
                self.waiting.append((self.step, *self.train_step(self.step, micro)))
                self.step, self.evaluated = self.step + 1, False
                self.meter.add(sum(squares for _, squares in micro))
                log = self.step % recipe["logging_steps"] == 0 or self.step == steps
                # Reading a number waits for the GPU, so there it is done seldom.
                if log or self.ranks.device.type == "cpu" or len(self.waiting) >= 20:
                    self.read_losses()
                    bar.describe(f"{cli.TOOL}: loss {self.losses[-1]:.3f}, MFU {self.meter.mfu:.0%}")
                bar.update(batch_tokens)
                if log:
                    self.log(bar)
        self.save()

    def read_losses(self):
        """Fetch the numbers of the last steps from the device; a NaN or Inf among them ends the run."""
        if not self.waiting:
            return
        numbers = torch.stack([torch.stack([loss.double(), norm.double()]) for _, loss, norm in self.waiting]).tolist()
        for (step, _, _), (loss, norm) in zip(self.waiting, numbers, strict=True):
            # fp16: an infinite gradient is the loss scaler's business, which skips that step
            if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler.is_enabled()):
                chunks = [self.task.axis.visited(v, self.recipe["seed"]) for v in self.all_visits(step)]
                places = "; ".join(self.task.axis.where(chunk) for chunk in chunks[:64])
                raise DataError(
                    f"step {step + 1:,}",
                    f"the loss is {loss}, the gradient's norm {norm}; last good checkpoint: "
                    f"{self.last_checkpoint or 'none'}; try a lower learning_rate or bf16; the batch was {places}",
                )
            self.losses.append(loss)
        self.norm = norm
        self.waiting = []

    def log(self, bar):
        """One line of metrics.jsonl, and of stderr where there is no progress bar."""
        step, meter = self.step, self.meter
        line = {
            "step": step,
            "epoch": round(step * self.task.chunks_per_step / self.task.axis.num_chunks, 4),
            "tokens": step * self.recipe["batch_tokens"],
            "loss": sum(self.losses) / len(self.losses),
            "learning_rate": learning_rate(step - 1, self.recipe, self.task.steps),
            "grad_norm": self.norm if math.isfinite(self.norm) else None,
            "tokens_per_second": round(meter.tokens_per_second, 1),
            "mfu": round(meter.mfu, 4),
        }
        self.losses = []
        if self.ranks.is_first:
            self.metrics.write(line)
            left = (self.task.steps - step) * self.recipe["batch_tokens"] / meter.tokens_per_second
            if bar.bar is None:
                note(
                    f"step {step:,} of {self.task.steps:,}, loss {line['loss']:.4f}, lr {line['learning_rate']:.2e}, "
                    f"{meter.tokens_per_second:,.0f} tokens/s, MFU {meter.mfu:.0%}, {duration(left)} left"
                )
        meter.restart()

    def evaluate(self, bar):
        """The validation loss at this step, each rank a share of it."""
        self.read_losses()
        start = time.monotonic()
        shard = self.task.valid_shard
        batches = masked_batches(shard.tokens, shard.offsets, self.task.vocabulary, self.recipe["eval_tokens"])
        mine = (batch for k, batch in enumerate(batches) if k % self.ranks.world == self.ranks.rank)
        autocast = self.dtype if self.dtype != torch.float32 else None
        score = evaluate(self.flat, mine, self.ranks.device, autocast, lambda _: self.check_signal())
        sums = torch.tensor(astuple(score), dtype=torch.float64, device=self.ranks.device)
        self.ranks.sum([sums])
        loss, correct, predictions, tokens = sums.tolist()
        score = Score(loss, int(correct), int(predictions), int(tokens))
        self.evaluated = True
        if self.ranks.is_first:
            line = {"eval_loss": score.mean_loss, "eval_accuracy": score.accuracy, "eval_tokens": score.tokens}
            self.metrics.write({"step": self.step, **line})
            bar.say(f"step {self.step:,}: validation loss {score.mean_loss:.4f}, accuracy {score.accuracy:.4f}")
        self.meter.pause(time.monotonic() - start)

    def finish(self):
        """Turn OUTPUT.part into OUTPUT and say what was reached."""
        self.metrics.close()
        evaluations = [line for line in self.metrics.lines if "eval_loss" in line]
        before, after = evaluations[0], evaluations[-1]
        tokens = self.step * self.recipe["batch_tokens"]
        counts = {
            "steps": self.step,
            "tokens seen": tokens,
            "epochs": round(self.step * self.task.chunks_per_step / self.task.axis.num_chunks, 2),
            "parameters": parameter_counts(self.model)[0],
        }
        self.folder.finish(self.task, self.model, counts, before, after)
        note(
            f"{self.step:,} steps, {tokens:,} tokens, validation loss {before['eval_loss']:.4f} -> "
            f"{after['eval_loss']:.4f}, accuracy {before['eval_accuracy']:.4f} -> {after['eval_accuracy']:.4f}: "
            f"{self.folder.output}"
        )


class Meter:
    """Tokens a second and MFU (see model.flops) since the last line, evaluations and checkpoints left out."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.peak = peak_flops(trainer.ranks.device, trainer.dtype) * trainer.ranks.world
        self.restart()

    def restart(self):
        self.start, self.paused, self.tokens, self.flops = time.monotonic(), 0.0, 0, 0

    def add(self, squares):
        """A step is done, with `squares` = the sum of length² over this rank's sequences."""
        trainer, batch_tokens = self.trainer, self.trainer.recipe["batch_tokens"]
        self.tokens += batch_tokens
        self.flops += flops(trainer.model, batch_tokens, trainer.predictions, squares * trainer.ranks.world)

    def pause(self, seconds):
        self.paused += seconds

    @property
    def seconds(self):
        return max(time.monotonic() - self.start - self.paused, 1e-9)

    @property
    def tokens_per_second(self):
        return self.tokens / self.seconds

    @property
    def mfu(self):
        return self.flops / self.seconds / self.peak


def make_optimizer(model, recipe):
    """Fused AdamW; biases and normalizations are not decayed."""
    groups = {True: [], False: []}
    for parameter in model.parameters():
        groups[parameter.dim() >= 2].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": recipe["weight_decay"]},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=recipe["learning_rate"],
        betas=(recipe["adam_beta1"], recipe["adam_beta2"]),
        eps=recipe["adam_epsilon"],
        fused=True,
    )


def ahead(items, depth=2):
    """The items of an iterator, made up to `depth` in advance by a thread."""
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item


def activation_bytes(model, tokens, predictions, dtype):
    """A rough guess at what a forward pass keeps for the backward pass, from the widths of a BERT layer."""
    config, size = model.config, 4 if dtype == torch.float32 else 2
    hidden, inner = config.hidden_size, getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", 0)
    layer = 10 * hidden + 2 * inner  # inputs of the projections, normalizations and of the activation function
    return tokens * config.num_hidden_layers * layer * size + predictions * config.vocab_size * (8 + size)


def device_name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({torch.get_num_threads()} threads)"


def duration(seconds):
    """3725 -> '1:02:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
