"""How fast a run is, and times in words."""

import time

import torch

from suzuri.training.hardware import peak_flops
from suzuri.training.model import flops


class Meter:
    """Tokens a second and MFU (see model.flops) since the last line, evaluations and checkpoints left out."""

    def __init__(self, trainer):
        self.trainer = trainer
        with trainer.together():
            self.peak = peak_flops(trainer.ranks.device, trainer.dtype) * trainer.ranks.world
        self.restart()

    def restart(self):
        self.start, self.paused, self.tokens, self.flops = time.monotonic(), 0.0, 0, 0

    def add(self, step, squares):
        """A step is done, with `squares` = the sum of length² over this rank's sequences."""
        trainer, batch_tokens = self.trainer, self.trainer.recipe["batch_tokens"]
        self.tokens += batch_tokens
        self.flops += flops(trainer.model, batch_tokens, trainer.predictions(step), squares * trainer.ranks.world)

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


def duration(seconds):
    """3725 -> '1:02:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def device_name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({torch.get_num_threads()} threads)"
