"""A run from its first step, or from its last checkpoint, to the finished folder: the loop around Trainer."""

import math
import os
import signal
import time
from contextlib import ExitStack
from dataclasses import astuple

import torch

from suzuri.environment import TOOL
from suzuri.errors import DataError
from suzuri.progress import Progress, note
from suzuri.training import checkpoint
from suzuri.training.batches import ahead
from suzuri.training.metrics import Metrics
from suzuri.training.model import parameter_counts
from suzuri.training.output_folder import Folder, locked, say_finished
from suzuri.training.schedule import learning_rate
from suzuri.training.step import Stopped
from suzuri.training.throughput import Meter, duration
from suzuri.training.validation import Score, evaluate, masked_batches

SAVE_SECONDS = 600  # a checkpoint at least this often, whatever save_steps says: steps on a CPU are slow


class Run:
    """The run of a Trainer in OUTPUT.part."""

    def __init__(self, trainer):
        self.trainer, self.task, self.recipe, self.ranks = trainer, trainer.task, trainer.recipe, trainer.ranks
        self.folder = Folder(self.task.args.output, self.task.settings(), self.task.steps)

    def go(self):
        """Train to the end, or until a signal: the exit status (0, 130 or 143)."""
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
                if not self.trainer.stop_signal:
                    raise
                if isinstance(e, DataError):  # another rank, told to stop before this one, looks like one that died
                    note(str(e))
                self.save()
                if self.ranks.is_first:
                    note(
                        f"stopped after step {self.step:,} of {self.task.steps:,}; the same command goes on from there"
                    )
                os._exit(128 + self.trainer.stop_signal)  # at once: other ranks may wait in vain for this one
            if self.ranks.is_first:
                self.finish()
            self.ranks.wait()
            return 0

    def on_signal(self, signum, frame):
        self.trainer.stop_signal = signum

    def resume(self):
        """Start from the newest sound checkpoint, or from step 0."""
        path, state = checkpoint.newest(self.folder.checkpoints)
        self.step, self.losses = 0, []  # losses: of the steps since the last line of metrics.jsonl
        if path:
            checkpoint.load(path, state, self.trainer.model, self.trainer.optimizers)
            self.trainer.scaler.load_state_dict(state["scaler"])
            self.step, self.losses = state["step"], state["losses"]
            if self.step > self.task.steps:
                raise DataError(
                    self.folder.part,
                    f"has done {self.step:,} steps, and only {self.task.steps:,} are wanted; raise max_steps, or begin "
                    f"anew: make clean-model-{os.path.basename(self.folder.output)}",
                )
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
            state = {"step": self.step, "losses": self.losses, "scaler": self.trainer.scaler.state_dict()}
            self.last_checkpoint = checkpoint.save(
                self.folder.checkpoints,
                state,
                self.trainer.model,
                self.trainer.optimizers,
                self.recipe["save_total_limit"],
            )
        self.saved_step, self.saved_at = self.step, time.monotonic()

    def loop(self):
        recipe, steps, batch_tokens = self.recipe, self.task.steps, self.recipe["batch_tokens"]
        batches = ahead(map(self.trainer.batches.of_step, range(self.step, steps)))
        with Progress(total=steps * batch_tokens, unit="tok") as bar:
            bar.skip(self.step * batch_tokens)
            self.meter = Meter(self.trainer)
            while True:
                if not self.evaluated and (self.step % recipe["eval_steps"] == 0 or self.step == steps):
                    self.evaluate(bar)
                if self.step == steps:
                    break
                due = self.step % recipe["save_steps"] == 0 or time.monotonic() > self.saved_at + SAVE_SECONDS
                if self.step and due:
                    self.save()
                micro = next(batches)
                self.waiting.append((self.step, *self.trainer.train_step(self.step, micro)))
                self.meter.add(self.step, sum(squares for _, squares in micro))
                self.step, self.evaluated = self.step + 1, False
                log = self.step % recipe["logging_steps"] == 0 or self.step == steps
                # Reading a number waits for the GPU, so there it is done seldom.
                if log or self.ranks.device.type == "cpu" or len(self.waiting) >= 20:
                    self.read_losses()
                    bar.describe(f"{TOOL}: loss {self.losses[-1]:.3f}, MFU {self.meter.mfu:.0%}")
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
            if not math.isfinite(loss) or not (math.isfinite(norm) or self.trainer.scaler.is_enabled()):
                chunks = [self.task.axis.visited(v, self.recipe["seed"]) for v in self.trainer.batches.visits(step)]
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
            "epoch": round(self.task.epochs(step), 4),
            "tokens": step * self.recipe["batch_tokens"],
            "loss": sum(self.losses) / len(self.losses),
            "mlm_probability": self.task.masker(step - 1).probability,
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
        autocast = self.trainer.dtype if self.trainer.dtype != torch.float32 else None
        with self.trainer.together():
            check = self.trainer.check_signal
            score = evaluate(self.trainer.flat, mine, self.ranks.device, autocast, lambda _: check())
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
            "epochs": round(self.task.epochs(self.step), 2),
            "parameters": parameter_counts(self.trainer.model)[0],
        }
        self.folder.finish(self.task, self.trainer.model, counts, before, after)
        note(
            f"{self.step:,} steps, {tokens:,} tokens, validation loss {before['eval_loss']:.4f} -> "
            f"{after['eval_loss']:.4f}, accuracy {before['eval_accuracy']:.4f} -> {after['eval_accuracy']:.4f}: "
            f"{self.folder.output}"
        )
