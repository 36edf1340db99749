"""A device: its name, its peak arithmetic, and whether a better one is there."""

import os
import re
import time

import torch

# Dense tensor-core peaks without sparsity, in TFLOP/s (bf16/fp16 with fp32 accumulation, from NVIDIA's data sheets).
# All words of a name must be among those of the device's name; the longest name counts.
PEAKS = {
    "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "GH200": 989, "B200": 2250,
    "A100": 312, "A800": 312, "A40": 150, "A30": 165, "A10G": 70, "A10": 125, "L40S": 362, "L40": 181, "L4": 121,
    "RTX 4090": 165, "RTX 4080": 97, "RTX 3090": 71, "RTX 3080": 60, "V100": 125, "T4": 65,
}  # fmt: skip


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of `device`: from its data sheet, or measured with a large matrix product (a CPU, an unknown GPU).

    A CPU without instructions for bf16 or fp16 is faster in fp32, which then is its peak.
    """
    if device.type == "cuda" and dtype != torch.float32 and (known := known_peak(torch.cuda.get_device_name(device))):
        return known
    return measured_flops(device, dtype if device.type == "cuda" or multiplies(dtype) else torch.float32)


def known_peak(name: str) -> float | None:
    """The FLOP/s of a GPU that is in PEAKS, by the name that CUDA gives it.

    >>> known_peak("NVIDIA A100-SXM4-80GB"), known_peak("NVIDIA RTX A1000"), known_peak("NVIDIA H100 PCIe")
    (312000000000000.0, None, 756000000000000.0)
    """
    words = set(re.split(r"[ -]", name))
    found = [known for known in PEAKS if words >= set(known.split())]
    return PEAKS[max(found, key=len)] * 1e12 if found else None


def multiplies(dtype: torch.dtype) -> bool:
    """Whether the CPU has instructions for matrices of `dtype`; without, bf16 takes fifty times as long as fp32."""
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype == torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return True


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


def unused_gpu(device: torch.device) -> list[str]:
    """A warning, if there is an NVIDIA card that torch cannot use."""
    if device.type == "cuda" or not os.path.exists("/proc/driver/nvidia/version"):
        return []
    if not torch.version.cuda:
        why = "it is a build without CUDA"
    else:
        try:
            torch.cuda.init()
            hidden = "CUDA_VISIBLE_DEVICES" in os.environ
            why = "CUDA_VISIBLE_DEVICES hides it" if hidden else "no CUDA device is found"
        except (RuntimeError, AssertionError) as e:
            why = str(e).splitlines()[0][:200]
    return [f"an NVIDIA GPU is here, but torch {torch.__version__} cannot use it ({why}); training on the CPU"]
