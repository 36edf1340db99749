"""The loop over the steps of a run, from its first step or its last checkpoint to the finished folder."""

import math
import os
import signal
import time
from contextlib import ExitStack
from dataclasses import astuple
from types import FrameType

import torch

from suzuri.environment import TOOL
from suzuri.errors import DataError
from suzuri.progress import Progress, note
from suzuri.training import checkpoint
from suzuri.training.batches import ahead
from suzuri.training.metrics import Metrics
from suzuri.training.model import parameter_counts
from suzuri.training.model_card import model_card
from suzuri.training.output_folder import OutputFolder
from suzuri.training.schedule import learning_rate
from suzuri.training.step import StepRunner, StopRequested
from suzuri.training.throughput import Throughput, duration
from suzuri.training.validation import Score, evaluate, masked_batches

SAVE_SECONDS = 600  # a checkpoint is made at least this often, whatever save_steps says: steps on a CPU are slow


class TrainingLoop:
    """Runs the steps of `runner` in OUTPUT.part, from its last checkpoint on, then turns it into OUTPUT."""

    def __init__(self, runner: StepRunner, output: str):
        self.runner, self.inputs, self.recipe, self.ranks = runner, runner.inputs, runner.recipe, runner.ranks
        self.folder = OutputFolder(output, self.inputs.settings(), self.inputs.steps, self.inputs.paths())
        self.step = 0  # steps done
        self.waiting: list[tuple] = []  # (step, loss, norm) of steps not read from the device yet
        self.losses: list[float] = []  # of the steps since the last line of metrics.jsonl
        self.norm = 0.0  # of the last step's gradient
        self.evaluated = False  # whether the validation loss at this step is known
        self.saved_step, self.saved_at = 0, time.monotonic()
        self.last_checkpoint: str | None = None  # its path
        self.metrics: Metrics | None = None  # of the first rank
        self.throughput: Throughput | None = None

    def run(self) -> int:
        """Train to the end; returns the exit status, 0. After a signal the process exits with 130 or 143."""
        with ExitStack() as stack:
            stack.callback(self.ranks.close)
            if self.ranks.of_first(self.ranks.is_first and self.folder.is_finished()):
                if self.ranks.is_first:
                    note(
                        f"{self.folder.output}: all {self.inputs.steps:,} steps are done; raise max_steps to extend it"
                    )
                    self.folder.touch()
                return 0
            if self.ranks.is_first:
                self.folder.begin()
            self.ranks.wait()
            self.resume()
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, self.on_signal)
            try:
                self.train()
            except (StopRequested, DataError) as e:
                if not self.runner.stop_signal:
                    raise
                if isinstance(e, DataError):  # a rank that got the signal earlier looks like one that died
                    note(str(e))
                self.save()
                if self.ranks.is_first:
                    note(
                        f"stopped after step {self.step:,} of {self.inputs.steps:,}; "
                        "the same command continues from there"
                    )
                os._exit(128 + self.runner.stop_signal)  # at once: other ranks may be waiting for this one
            if self.ranks.is_first:
                self.finish()
            self.ranks.wait()
            return 0

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.runner.stop_signal = signum

    def resume(self) -> None:
        """Start from the newest sound checkpoint, or from step 0."""
        path, state = checkpoint.newest(self.folder.checkpoints)
        if path:
            checkpoint.load(path, state, self.runner.model, self.runner.optimizers)
            self.runner.scaler.load_state_dict(state["scaler"])
            self.step, self.losses = state["step"], state["losses"]
            if self.step > self.inputs.steps:
                raise DataError(
                    self.folder.part,
                    f"has done {self.step:,} steps, and only {self.inputs.steps:,} are wanted; raise max_steps, or "
                    f"start again: make clean-model-{os.path.basename(self.folder.output)}",
                )
            if self.ranks.is_first:
                note(f"continues after step {self.step:,} of {self.inputs.steps:,} ({os.path.basename(path)})")
        self.saved_step, self.last_checkpoint, self.saved_at = self.step, path, time.monotonic()
        self.metrics = Metrics(self.folder.part, self.step) if self.ranks.is_first else None
        self.evaluated = self.ranks.of_first(self.metrics and self.metrics.has_evaluation(self.step))

    def save(self) -> None:
        """Write a checkpoint of the last whole step, unless it already has one."""
        self.read_losses()
        if self.ranks.is_first and self.saved_step != self.step:
            self.metrics.sync()
            state = {"step": self.step, "losses": self.losses, "scaler": self.runner.scaler.state_dict()}
            self.last_checkpoint = checkpoint.save(
                self.folder.checkpoints,
                state,
                self.runner.model,
                self.runner.optimizers,
                self.recipe["save_total_limit"],
            )
        self.saved_step, self.saved_at = self.step, time.monotonic()

    def train(self) -> None:
        """Run the remaining steps, with their evaluations, checkpoints and lines of metrics."""
        recipe, steps, batch_tokens = self.recipe, self.inputs.steps, self.recipe["batch_tokens"]
        batches = ahead(map(self.runner.batches.of_step, range(self.step, steps)))
        with Progress(total=steps * batch_tokens, unit="tok") as bar:
            bar.skip(self.step * batch_tokens)
            self.throughput = Throughput(self.runner)
            while True:
                if not self.evaluated and (self.step % recipe["eval_steps"] == 0 or self.step == steps):
                    self.evaluate(bar)
                if self.step == steps:
                    break
                due = self.step % recipe["save_steps"] == 0 or time.monotonic() > self.saved_at + SAVE_SECONDS
                if self.step and due:
                    self.save()
                micro_batches = next(batches)
                self.waiting.append((self.step, *self.runner.train_step(self.step, micro_batches)))
                self.throughput.add(self.step, sum(squares for _, squares in micro_batches))
                self.step, self.evaluated = self.step + 1, False
                log = self.step % recipe["logging_steps"] == 0 or self.step == steps
                # Reading a number waits for the GPU, so there it is done rarely.
                if log or self.ranks.device.type == "cpu" or len(self.waiting) >= 20:
                    self.read_losses()
                    bar.describe(f"{TOOL}: loss {self.losses[-1]:.3f}, MFU {self.throughput.mfu:.0%}")
                bar.update(batch_tokens)
                if log:
                    self.log(bar)
        self.save()

    def read_losses(self) -> None:
        """Fetch the numbers of the last steps from the device; a NaN or Inf among them ends the run."""
        if not self.waiting:
            return
        numbers = torch.stack([torch.stack([loss.double(), norm.double()]) for _, loss, norm in self.waiting]).tolist()
        for (step, _, _), (loss, norm) in zip(self.waiting, numbers, strict=True):
            # fp16: with an infinite gradient the loss scaler skips the step
            if not math.isfinite(loss) or not (math.isfinite(norm) or self.runner.scaler.is_enabled()):
                chunks = [self.inputs.axis.visited(v, self.recipe["seed"]) for v in self.runner.batches.visits(step)]
                places = "; ".join(self.inputs.axis.where(chunk) for chunk in chunks[:64])
                raise DataError(
                    f"step {step + 1:,}",
                    f"the loss is {loss}, the gradient's norm {norm}; last good checkpoint: "
                    f"{self.last_checkpoint or 'none'}; try a lower learning_rate or bf16; the batch was {places}",
                )
            self.losses.append(loss)
        self.norm = norm
        self.waiting = []

    def log(self, bar: Progress) -> None:
        """Write a line to metrics.jsonl, and to stderr if there is no progress bar."""
        step, throughput = self.step, self.throughput
        line = {
            "step": step,
            "epoch": round(self.inputs.epochs(step), 4),
            "tokens": step * self.recipe["batch_tokens"],
            "loss": sum(self.losses) / len(self.losses),
            "mlm_probability": self.inputs.masker(step - 1).probability,
            "learning_rate": learning_rate(step - 1, self.recipe, self.inputs.steps),
            "grad_norm": self.norm if math.isfinite(self.norm) else None,
            "tokens_per_second": round(throughput.tokens_per_second, 1),
            "mfu": round(throughput.mfu, 4),
        }
        self.losses = []
        if self.ranks.is_first:
            self.metrics.write(line)
            left = (self.inputs.steps - step) * self.recipe["batch_tokens"] / throughput.tokens_per_second
            if bar.bar is None:
                note(
                    f"step {step:,} of {self.inputs.steps:,}, loss {line['loss']:.4f}, "
                    f"lr {line['learning_rate']:.2e}, {throughput.tokens_per_second:,.0f} tokens/s, "
                    f"MFU {throughput.mfu:.0%}, {duration(left)} left"
                )
        throughput.restart()

    def evaluate(self, bar: Progress) -> None:
        """Measure and record the validation loss at this step; each rank does a share of it."""
        self.read_losses()
        start = time.monotonic()
        shard = self.inputs.valid_shard
        batches = masked_batches(shard.tokens, shard.offsets, self.inputs.tokenizer, self.recipe["eval_tokens"])
        own = (batch for k, batch in enumerate(batches) if k % self.ranks.world == self.ranks.rank)
        autocast = self.runner.dtype if self.runner.dtype != torch.float32 else None
        with self.runner.all_threads():
            check = self.runner.check_signal
            score = evaluate(self.runner.flat, own, self.ranks.device, autocast, lambda _: check())
        sums = torch.tensor(astuple(score), dtype=torch.float64, device=self.ranks.device)
        self.ranks.sum([sums])
        loss, correct, predictions, tokens = sums.tolist()
        score = Score(loss, int(correct), int(predictions), int(tokens))
        self.evaluated = True
        if self.ranks.is_first:
            line = {"eval_loss": score.mean_loss, "eval_accuracy": score.accuracy, "eval_tokens": score.tokens}
            self.metrics.write({"step": self.step, **line})
            bar.say(f"step {self.step:,}: validation loss {score.mean_loss:.4f}, accuracy {score.accuracy:.4f}")
        self.throughput.pause(time.monotonic() - start)

    def finish(self) -> None:
        """Turn OUTPUT.part into OUTPUT and report the result."""
        self.metrics.close()
        evaluations = [line for line in self.metrics.lines if "eval_loss" in line]
        before, after = evaluations[0], evaluations[-1]
        tokens = self.step * self.recipe["batch_tokens"]
        counts = {
            "steps": self.step,
            "tokens seen": tokens,
            "epochs": round(self.inputs.epochs(self.step), 2),
            "parameters": parameter_counts(self.runner.model)[0],
        }
        card = model_card(os.path.basename(self.folder.output), self.inputs, counts, before, after)
        self.folder.finish(self.runner.model, self.inputs.tokenizer.path, card, self.inputs.paths(), counts)
        note(
            f"{self.step:,} steps, {tokens:,} tokens, validation loss {before['eval_loss']:.4f} -> "
            f"{after['eval_loss']:.4f}, accuracy {before['eval_accuracy']:.4f} -> {after['eval_accuracy']:.4f}: "
            f"{self.folder.output}"
        )
