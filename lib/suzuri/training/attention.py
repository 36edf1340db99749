"""Attention within each sequence of a flat batch, for unmodified transformers models.

A flat batch [1, t] holds t tokens of many sequences end to end.

Three functions are registered with transformers' AttentionInterface. A model calls them with query, key and
value [1, heads, t, size] and passes on the keyword arguments of its own call, which say where the sequences
are. transformers makes no mask for a registered name, and none is needed.

    suzuri_varlen   CUDA, bf16 or fp16: torch.nn.attention.varlen.varlen_attn, static shapes, no dropout
    suzuri_nested   other cases of CUDA: scaled_dot_product_attention of jagged nested tensors, one kernel for all
                    sequences (FlashAttention or the memory-efficient one), no sliding window
    suzuri_grouped  any device and dtype: scaled_dot_product_attention on each group of equally long sequences;
                    by_length() has sorted them, so a group is a view: no padding, no gather

In a layer with a `sliding_window` w, a token sees tokens less than w places away, as in ModernBERT.
"""

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

VARLEN, NESTED, GROUPED = "suzuri_varlen", "suzuri_nested", "suzuri_grouped"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    groups: Sequence[tuple[int, int]],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_,
) -> tuple[Tensor, None]:
    """`groups`: [(n, length), …], the sequences in their order. Returns ([1, t, heads, size], None)."""
    heads, size, dtype = query.shape[1], query.shape[3], value.dtype
    sizes = [n * length for n, length in groups]
    outputs = []
    # On a CPU, bf16 is widened to fp32 here: the kernel's backward pass takes up to five times as long in bf16 (torch
    # 2.13, AVX-512 BF16), a third of a step. With fp32 a chunk of 8,192 tokens takes 2.2 s instead of 4.1.
    widened = query.device.type == "cpu" and dtype == torch.bfloat16
    if widened:
        query, key, value = query.float(), key.float(), value.float()
    # split, not slices: a split's gradient is one concatenation, while each slice's gradient is as large as the whole
    for (n, length), *parts in zip(
        groups, *(x.squeeze(0).transpose(0, 1).split(sizes) for x in (query, key, value)), strict=True
    ):
        q, k, v = (part.view(n, length, heads, size).transpose(1, 2) for part in parts)
        mask = None
        if sliding_window is not None and sliding_window < length:
            at = torch.arange(length, device=query.device)
            mask = (at[:, None] - at).abs() < sliding_window
        with torch.autocast(q.device.type, enabled=False) if widened else nullcontext():
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling)
        outputs.append(out.transpose(1, 2).reshape(n * length, heads, size))
    return torch.cat(outputs)[None].to(dtype), None


def varlen_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    cu_seqlens: Tensor,
    max_length: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_,
) -> tuple[Tensor, None]:
    """`cu_seqlens` int32 [m + 1]: sequence i is tokens cu_seqlens[i] … cu_seqlens[i + 1] - 1, perhaps none."""
    from torch.nn.attention.varlen import varlen_attn

    window = (-1, -1) if sliding_window is None else (sliding_window - 1, sliding_window - 1)
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    # Rotary embeddings leave query and key in fp32 under autocast; the kernel takes half precision only.
    q, k = q.to(v.dtype), k.to(v.dtype)
    out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, max_length, max_length, scale=scaling, window_size=window)
    return out[None], None


def nested_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    cu_seqlens: Tensor,
    max_length: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_,
) -> tuple[Tensor, None]:
    """`cu_seqlens` as for varlen attention, but no sequence is empty."""
    # With both lengths given, nothing is read back from the device.
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(
            x.squeeze(0).transpose(0, 1).to(value.dtype).contiguous(), cu_seqlens, min_seqlen=1, max_seqlen=max_length
        ).transpose(1, 2)
        for x in (query, key, value)
    )
    out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
    return out.transpose(1, 2).values()[None], None


for name, function in ((VARLEN, varlen_attention), (NESTED, nested_attention), (GROUPED, grouped_attention)):
    AttentionInterface.register(name, function)


def groups_of(lengths: np.ndarray) -> list[tuple[int, int]]:
    """Ascending lengths, int64 -> [(how many, length), …].

    >>> import numpy as np; groups_of(np.array([3, 3, 7]))
    [(2, 3), (1, 7)]
    """
    edges = [0, *((lengths[1:] != lengths[:-1]).nonzero()[0] + 1).tolist(), len(lengths)]
    return [(b - a, int(lengths[a])) for a, b in pairwise(edges)]


def choose_attention(model: nn.Module, device: torch.device, dtype: torch.dtype) -> tuple[str, str | None]:
    """(the name of the fastest attention that can be used, None or in words why it is not varlen attention)."""
    why = why_not_varlen(model, device, dtype)
    if not why:
        return VARLEN, None
    if device.type != "cuda" or head_size(model) % 8 or getattr(model.config, "sliding_window", None):
        return GROUPED, why
    return NESTED, why


def head_size(model: nn.Module) -> int:
    config = model.config
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def why_not_varlen(model: nn.Module, device: torch.device, dtype: torch.dtype) -> str | None:
    """None if varlen attention can be used, otherwise the reason in words."""
    if device.type != "cuda":
        return "no CUDA device"
    if dtype == torch.float32:
        return "it needs bf16 or fp16"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or above"
    try:
        from torch.nn.attention.varlen import varlen_attn

        if "window_size" not in inspect.signature(varlen_attn).parameters:  # 2.10 has neither this nor `scale`
            raise ImportError
    except ImportError:
        return f"torch {torch.__version__} does not have it (2.11 and later do)"
    size = head_size(model)
    if size % 8 or size > 256:
        return f"heads of size {size} (it needs a multiple of 8 up to 256)"
    if attention_dropout(model) > 0:
        return "attention dropout is above 0, which it does not support"
    return None


def attention_dropout(model: nn.Module) -> float:
    """The largest dropout on attention weights in the model; transformers keeps it in several places."""
    rates = [0.0]
    for module in model.modules():
        if "attention" in type(module).__name__.lower() and "output" not in type(module).__name__.lower():
            rates.append(float(getattr(module, "attention_dropout", 0.0) or 0.0))
            inner = getattr(module, "dropout", None)
            rates.append(inner.p if isinstance(inner, nn.Dropout) else 0.0)
    return max(rates)
