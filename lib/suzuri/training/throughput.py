"""Tokens per second and MFU of a run, and durations in words."""

import time

from suzuri.training.device import peak_flops
from suzuri.training.model import flops, parameter_counts
from suzuri.training.step import StepRunner


class Throughput:
    """Tokens per second and MFU (see model.flops) since the last restart. The time of evaluations and checkpoints does
    not count, nor do the [PAD]s that fill up a short chunk.
    """

    def __init__(self, runner: StepRunner):
        self.runner, self.parameter_counts = runner, parameter_counts(runner.model)
        with runner.all_threads():
            self.peak = peak_flops(runner.ranks.device, runner.dtype) * runner.ranks.world
        self.start, self.paused, self.tokens, self.flops = time.monotonic(), 0.0, 0, 0

    def restart(self) -> None:
        self.start, self.paused, self.tokens, self.flops = time.monotonic(), 0.0, 0, 0

    def add(self, step: int, squares: int) -> None:
        """Count a finished step; `squares` is the sum of length² over this rank's sequences."""
        runner, tokens = self.runner, self.runner.inputs.tokens
        done = tokens(step + 1) - tokens(step)
        self.tokens += done
        squares *= runner.ranks.world
        self.flops += flops(runner.model, done, runner.predictions(step), squares, self.parameter_counts)

    def pause(self, seconds: float) -> None:
        self.paused += seconds

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.start - self.paused, 1e-9)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def mfu(self) -> float | None:
        """None if it were above 1: the device's peak is unknown, and what was measured for it is too low."""
        found = self.flops / self.seconds / self.peak
        return found if found <= 1 else None

    @property
    def mfu_in_words(self) -> str:
        return "MFU unknown" if self.mfu is None else f"MFU {self.mfu:.0%}"


def duration(seconds: float) -> str:
    """3725 -> '1:02:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
