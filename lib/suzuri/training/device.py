"""A device: its name, and its peak arithmetic."""

import time

import torch

# Dense tensor-core peaks without sparsity, in TFLOP/s (bf16/fp16 with fp32 accumulation, from NVIDIA's data sheets).
# The longest name that is part of the device's name counts.
PEAKS = {
    "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "GH200": 989, "B200": 2250,
    "A100": 312, "A800": 312, "A40": 150, "A30": 165, "A10G": 70, "A10": 125, "L40S": 362, "L40": 181, "L4": 121,
    "RTX 4090": 165, "RTX 4080": 97, "RTX 3090": 71, "RTX 3080": 60, "V100": 125, "T4": 65,
}  # fmt: skip


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of `device`: from its data sheet, or measured with a large matrix product (a CPU, an unknown GPU).

    A CPU without instructions for bf16 or fp16 is faster in fp32, which then is its peak.
    """
    if device.type == "cpu" and dtype != torch.float32:
        return max(measured_flops(device, dtype), measured_flops(device, torch.float32))
    if device.type == "cuda" and dtype != torch.float32:
        name = torch.cuda.get_device_name(device)
        for known in sorted(PEAKS, key=len, reverse=True):
            if known in name:
                return PEAKS[known] * 1e12
    return measured_flops(device, dtype)


def measured_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a matrix product, the best of four."""
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
