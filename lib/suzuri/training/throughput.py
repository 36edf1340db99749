"""Tokens per second and MFU of a run, the device's peak arithmetic, and durations in words."""

import time

import torch

from suzuri.training.model import flops
from suzuri.training.step import StepRunner

# Dense tensor-core peaks without sparsity, in TFLOP/s (bf16/fp16 with fp32 accumulation, from NVIDIA's data sheets).
# The longest name that is part of the device's name counts.
PEAKS = {
    "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "GH200": 989, "B200": 2250,
    "A100": 312, "A800": 312, "A40": 150, "A30": 165, "A10G": 70, "A10": 125, "L40S": 362, "L40": 181, "L4": 121,
    "RTX 4090": 165, "RTX 4080": 97, "RTX 3090": 71, "RTX 3080": 60, "V100": 125, "T4": 65,
}  # fmt: skip


class Throughput:
    """Tokens per second and MFU (see model.flops) since the last restart; evaluations and checkpoints do not count."""

    def __init__(self, runner: StepRunner):
        self.runner = runner
        with runner.all_threads():
            self.peak = peak_flops(runner.ranks.device, runner.dtype) * runner.ranks.world
        self.start, self.paused, self.tokens, self.flops = time.monotonic(), 0.0, 0, 0

    def restart(self) -> None:
        self.start, self.paused, self.tokens, self.flops = time.monotonic(), 0.0, 0, 0

    def add(self, step: int, squares: int) -> None:
        """Count a finished step; `squares` is the sum of length² over this rank's sequences."""
        runner, batch_tokens = self.runner, self.runner.recipe["batch_tokens"]
        self.tokens += batch_tokens
        self.flops += flops(runner.model, batch_tokens, runner.predictions(step), squares * runner.ranks.world)

    def pause(self, seconds: float) -> None:
        self.paused += seconds

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.start - self.paused, 1e-9)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def mfu(self) -> float:
        return self.flops / self.seconds / self.peak


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of `device`: from its data sheet, or measured with a large matrix product (a CPU, an unknown GPU)."""
    if device.type == "cuda" and dtype != torch.float32:
        name = torch.cuda.get_device_name(device)
        for known in sorted(PEAKS, key=len, reverse=True):
            if known in name:
                return PEAKS[known] * 1e12
    n = 4096 if device.type == "cuda" else 1024
    a = torch.randn(n, n, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({torch.get_num_threads()} threads)"


def duration(seconds: float) -> str:
    """3725 -> '1:02:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
