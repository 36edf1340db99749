"""What the machine could do: peak arithmetic for MFU, and how much goes in at once."""

import time

import torch

# Dense tensor-core peaks without sparsity, in TFLOP/s (bf16/fp16 with fp32 accumulation, as NVIDIA's data sheets
# state them); the longest name that fits counts.
PEAKS = {
    "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "GH200": 989, "B200": 2250,
    "A100": 312, "A800": 312, "A40": 150, "A30": 165, "A10G": 70, "A10": 125, "L40S": 362, "L40": 181, "L4": 121,
    "RTX 4090": 165, "RTX 4080": 97, "RTX 3090": 71, "RTX 3080": 60, "V100": 125, "T4": 65,
}  # fmt: skip


def peak_flops(device, dtype):
    """FLOP/s of `device`: from its data sheet, else measured with a large matrix product (a CPU, an unknown GPU)."""
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


def largest_fitting(attempt, chunks, budget):
    """How many of `chunks` chunks fit into the GPU at once: the largest divisor of `chunks` (so that all
    micro-batches have one shape) whose memory, seen at 1 and 2 chunks and growing linearly, is within `budget`.

    `attempt(n)` runs n chunks forward and backward and returns the peak bytes, or None when memory ran out.
    """
    one = attempt(1)
    if one is None:
        return 1  # the first real step will say what is missing
    two = attempt(2) if chunks > 1 else None
    if two is None:
        return 1
    each = max(two - one, 1)
    most = max(1, 1 + (budget - one) // each)
    for n in sorted((n for n in range(1, chunks + 1) if chunks % n == 0 and n <= most), reverse=True):
        if n <= 2 or attempt(n) is not None:
            return n
    return 1
