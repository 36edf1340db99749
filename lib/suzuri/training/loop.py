"""The loop over the steps of a run, from its first step or its last checkpoint to the finished folder."""

import math
import os
import signal
import time
from contextlib import suppress
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
from suzuri.training.ranks import RankLost
from suzuri.training.schedule import decay_start, learning_rate
from suzuri.training.step import StepRunner, StopRequested
from suzuri.training.throughput import Throughput, duration
from suzuri.training.validation import Score, evaluate, masked_batches

# They save and end a run: kill and Ctrl-C, a closed terminal, and what Slurm can send before it kills.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
SAVE_SECONDS = 600  # a checkpoint is made at least this often, whatever save_steps says: steps on a CPU are slow


class TrainingLoop:
    """Runs the steps of `runner` in OUTPUT.part, from its last checkpoint on, then turns it into OUTPUT."""

    def __init__(self, runner: StepRunner, output: str, start_from: str | None = None, license: str | None = None):
        self.runner, self.inputs, self.recipe, self.ranks = runner, runner.inputs, runner.recipe, runner.ranks
        self.license = license  # for the card
        self.folder = OutputFolder(output, self.inputs.settings(), self.inputs.steps, self.inputs.paths(), start_from)
        # wsd: the last step before the decay, from whose checkpoint a run can be extended
        wsd = self.recipe["lr_scheduler_type"] == "wsd"
        self.undecayed = decay_start(self.recipe, self.inputs.steps) if wsd else None
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
        """Train to the end; returns the exit status, 0. After one of SIGNALS it is 128 + the signal's number."""
        if self.ranks.of_first(self.ranks.is_first and self.folder.is_finished()):
            if self.ranks.is_first:
                done, wanted = self.folder.finished_steps, self.inputs.steps
                more = f", of {done:,}" if done > wanted else ""
                note(f"{self.folder.output}: all {wanted:,} steps are done{more}; raise max_steps to extend it")
                self.note_missed_snapshots(done)
                if self.license:
                    note("--license has no effect on a finished model; its card is README.md")
                self.folder.touch()
            self.ranks.close()
            return 0
        if self.ranks.is_first:
            self.folder.begin(self.inputs.shard_files)
        self.ranks.wait()
        self.resume()
        if self.ranks.is_first:
            note(self.runner.machine)
        for signum in SIGNALS:
            if signal.getsignal(signum) != signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(signum, self.on_signal)
        try:
            self.train()
            if self.ranks.is_first:
                self.finish()
        except (StopRequested, RankLost) as e:
            if isinstance(e, RankLost):
                self.ranks.abandon()
            self.save()
            if not self.runner.stop_signal:
                raise
            if isinstance(e, RankLost):  # a rank that got the signal earlier looks like one that died
                note(str(e))
            if self.ranks.is_first:
                note(
                    f"stopped after step {self.step:,} of {self.inputs.steps:,}; the same command continues from there"
                )
            os._exit(128 + self.runner.stop_signal)  # at once: other ranks may be waiting for this one
        except BaseException:
            with suppress(DataError):
                self.ranks.exchange(failed=True)  # the others stop, and the first one saves
            raise
        self.ranks.wait()
        self.ranks.close()  # only here: after an error it could wait for a rank that is gone
        return 0

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.runner.stop_signal = signum

    def resume(self) -> None:
        """Start from the newest sound checkpoint, or from step 0."""
        folder = self.folder.checkpoints
        path, state = checkpoint.newest(folder, self.folder.run)
        planned = state.get("steps", self.inputs.steps) if path else self.inputs.steps
        if self.undecayed is not None and planned < self.inputs.steps:  # the run is extended
            before = decay_start(self.recipe, planned)
            if state["step"] > before and (earlier := checkpoint.newest(folder, self.folder.run, before))[0]:
                path, state = earlier
        self.ranks.wait()
        if self.ranks.is_first:
            checkpoint.remove_newer(folder, path)
            self.folder.forget_snapshots(self.inputs.tokens(state["step"] if path else 0))
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
                self.note_jump(planned)
                self.note_missed_snapshots(self.step)
        self.saved_step, self.last_checkpoint, self.saved_at = self.step, path, time.monotonic()
        self.metrics = Metrics(self.folder.part, self.step) if self.ranks.is_first else None
        self.evaluated = self.ranks.of_first(self.metrics and self.metrics.has_evaluation(self.step))

    def note_jump(self, planned: int) -> None:
        """Say so if the learning rate goes on elsewhere than it would have in a run of `planned` steps."""
        rate = learning_rate(min(self.step, planned - 1), self.recipe, planned)
        now = learning_rate(min(self.step, self.inputs.steps - 1), self.recipe, self.inputs.steps)
        if abs(now - rate) > 0.1 * max(now, rate):
            note(
                f"the learning rate jumps from {rate:.2e} to {now:.2e}, because the run now has {self.inputs.steps:,} "
                f"steps instead of {planned:,}"
                + ("" if self.undecayed else "; a run with lr_scheduler_type wsd can be extended without a jump")
            )

    def save(self) -> None:
        """Write a checkpoint of the last whole step, unless it already has one."""
        self.read_losses()
        start = time.monotonic()
        if self.ranks.is_first and self.saved_step != self.step:
            self.metrics.sync()
            state = {"step": self.step, "losses": self.losses, "scaler": self.runner.scaler.state_dict()}
            state |= {"steps": self.inputs.steps, "run": self.folder.run}
            self.last_checkpoint = checkpoint.save(
                self.folder.checkpoints,
                state,
                self.runner.model,
                self.runner.optimizers,
                self.recipe["save_total_limit"],
                self.undecayed,
            )
        self.saved_step, self.saved_at = self.step, time.monotonic()
        if self.throughput:
            self.throughput.pause(self.saved_at - start)

    def train(self) -> None:
        """Run the remaining steps, with their evaluations, checkpoints and lines of metrics."""
        recipe, steps, tokens = self.recipe, self.inputs.steps, self.inputs.tokens
        batches = ahead(map(self.runner.batches.of_step, range(self.step, steps)))
        skipped = False
        with Progress(total=tokens(steps), unit="tok") as bar:
            bar.skip(tokens(self.step))
            if self.step < steps:
                self.runner.compile()
            self.throughput = Throughput(self.runner)
            while True:
                if not self.evaluated and (self.step % recipe["eval_steps"] == 0 or self.step == steps):
                    self.evaluate(bar)
                if self.step == steps:
                    break
                due = self.step % recipe["save_steps"] == 0 or time.monotonic() > self.saved_at + SAVE_SECONDS
                if self.step and (due or self.step == self.undecayed):
                    self.save()
                micro_batches = next(batches)
                if found := self.runner.train_step(self.step, micro_batches):
                    self.waiting.append((self.step, *found))
                elif self.ranks.is_first and not skipped:
                    skipped = True
                    bar.say(f"step {self.step + 1:,}: no token of it can be predicted; such steps are left out")
                self.throughput.add(self.step, sum(squares for _, squares in micro_batches))
                self.step, self.evaluated = self.step + 1, False
                self.snapshot()
                log = self.step % recipe["logging_steps"] == 0 or self.step == steps
                # Reading a number waits for the GPU, so there it is done rarely.
                if log or self.ranks.device.type == "cpu" or len(self.waiting) >= 20:
                    self.read_losses()
                    if self.losses:
                        bar.describe(f"{TOOL}: loss {self.losses[-1]:.3f}, {self.throughput.mfu_in_words}")
                bar.update(tokens(self.step) - tokens(self.step - 1))
                if log and self.losses:
                    self.log(bar)
        self.save()

    def note_missed_snapshots(self, step: int) -> None:
        if missed := self.folder.missed_snapshots(self.inputs.tokens(step), self.recipe):
            amounts = ", ".join(f"{n:,}" for n in missed)
            note(f"snapshot_tokens: there is no snapshot at {amounts}, which the run has passed")

    def snapshot(self) -> None:
        """Keep the model if this step has reached one of snapshot_tokens."""
        before, now = self.inputs.tokens(self.step - 1), self.inputs.tokens(self.step)
        if self.ranks.is_first and any(before < amount <= now for amount in self.recipe["snapshot_tokens"]):
            start = time.monotonic()
            self.folder.snapshot(self.runner.model, self.inputs.tokenizer.path, now)
            self.throughput.pause(time.monotonic() - start)

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
                    f"the loss is {loss}, the gradient's norm {norm}; {self.way_out()}; the batch was {places}",
                )
            self.losses.append(loss)
        self.norm = norm
        self.waiting = []

    def way_out(self) -> str:
        """What to do after a NaN, for the error message."""
        lower = f"--set learning_rate={self.recipe['learning_rate'] / 2:g}"
        if not self.last_checkpoint:
            return f"last good checkpoint: none; {self.folder.start_again} with {lower} or bf16"
        return f"try the same command with {lower} --from {self.last_checkpoint} (the last good checkpoint), or bf16"

    def log(self, bar: Progress) -> None:
        """Write a line to metrics.jsonl, and to stderr if there is no progress bar."""
        step, throughput = self.step, self.throughput
        line = {
            "step": step,
            "epoch": round(self.inputs.epochs(step), 4),
            "tokens": self.inputs.tokens(step),
            "loss": sum(self.losses) / len(self.losses),
            "mlm_probability": self.inputs.masker(step - 1).probability,
            "learning_rate": learning_rate(step - 1, self.recipe, self.inputs.steps),
            "grad_norm": self.norm if math.isfinite(self.norm) else None,
            "tokens_per_second": round(throughput.tokens_per_second, 1),
            "mfu": None if throughput.mfu is None else round(throughput.mfu, 4),
        }
        self.losses = []
        if self.ranks.is_first:
            self.metrics.write(line)
            left = (self.inputs.tokens(self.inputs.steps) - line["tokens"]) / throughput.tokens_per_second
            if bar.bar is None:
                note(
                    f"step {step:,} of {self.inputs.steps:,}, loss {line['loss']:.4f}, "
                    f"lr {line['learning_rate']:.2e}, {throughput.tokens_per_second:,.0f} tokens/s, "
                    f"{throughput.mfu_in_words}, {duration(left)} left"
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
        score = Score()
        with self.runner.all_threads(), suppress(StopRequested):
            check = self.runner.check_signal
            score = evaluate(self.runner.flat, own, self.ranks.device, autocast, lambda _: check())
        loss, correct, predictions, tokens = self.runner.agreed_sums(*astuple(score))
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
        after = evaluations[-1]
        before = next(line for line in evaluations if line["eval_tokens"] == after["eval_tokens"])  # on the same text
        tokens = self.inputs.tokens(self.step)
        counts = {
            "steps": self.step,
            "tokens seen": tokens,
            "epochs": round(self.inputs.epochs(self.step), 2),
            "parameters": parameter_counts(self.runner.model)[0],
        }
        card = model_card(
            os.path.basename(self.folder.output), self.inputs, counts, before, after, self.folder.changes, self.license
        )
        self.folder.finish(
            self.runner.model,
            self.inputs.tokenizer.path,
            card,
            counts,
            self.last_checkpoint,
            self.undecayed,
        )
        note(
            f"{self.step:,} steps, {tokens:,} tokens, validation loss {before['eval_loss']:.4f} -> "
            f"{after['eval_loss']:.4f}, accuracy {before['eval_accuracy']:.4f} -> {after['eval_accuracy']:.4f}: "
            f"{self.folder.output}"
        )
