"""torch's attention kernels for a GPU on a CPU, to rehearse its path: varlen_attn's and the memory-efficient ones.

The public functions, their fakes and their autograd formulas are torch's own; only the kernels are replaced, by plain
attention, and what they demand of their arguments is asserted.
"""

from itertools import pairwise

import torch
from torch.nested._internal import sdpa as nested_sdpa
from torch.nn.attention import SDPBackend, varlen

HALF = torch.bfloat16, torch.float16
allowed = {*HALF}  # dtypes; a test may add fp32 to compare without rounding
calls = {"forward": 0, "backward": 0, "efficient forward": 0, "efficient backward": 0}
# A CPU has no kernel for nested tensors; which one a GPU takes is a question of its architecture.
nested_sdpa._select_sdp_backend = lambda *_: SDPBackend.EFFICIENT_ATTENTION


def check(q, k, v, ends_q, ends_k, max_q, max_k):
    for x in (q, k, v):
        size = x.shape[-1]
        assert x.shape == q.shape and x.dtype == q.dtype and x.dtype in allowed
        assert x.stride(-1) == 1 and size % 8 == 0 and size <= 256
        assert x.data_ptr() % 16 == 0 and x.stride(0) % 8 == 0 and x.stride(1) % 8 == 0
    for ends in (ends_q, ends_k):
        assert ends.dtype == torch.int32 and ends.is_contiguous() and ends.device == q.device
        assert ends[0] == 0 and ends[-1] == len(q) and (ends.diff() >= 0).all()
    assert max_q == max_k >= int(ends_q.diff().max())


def sequences(q, k, v, ends, scale, window):
    """Yield (a, b, probabilities [heads, b - a, b - a], scores) of each sequence that is not empty, in fp32."""
    left, right = window or (-1, -1)
    for a, b in pairwise(ends.tolist()):
        if a == b:
            continue
        scores = torch.einsum("qhd,khd->hqk", q[a:b].float(), k[a:b].float()) * scale
        away = torch.arange(b - a)[:, None] - torch.arange(b - a)
        if left >= 0:
            scores = scores.masked_fill(away > left, -torch.inf)
        if right >= 0:
            scores = scores.masked_fill(-away > right, -torch.inf)
        yield a, b, scores.softmax(-1), scores


@varlen._varlen_attn.register_kernel("cpu")
def forward(
    q, k, v, ends_q, ends_k, max_q, max_k, is_causal=False, scale=None, window_size=None, enable_gqa=False,
    seqused_k=None, block_table=None, num_splits=None,
):  # fmt: skip
    calls["forward"] += 1
    check(q, k, v, ends_q, ends_k, max_q, max_k)
    assert not is_causal and not enable_gqa and seqused_k is None and block_table is None
    out = torch.empty_like(q)
    lse = torch.zeros(q.shape[1], q.shape[0])
    for a, b, p, scores in sequences(q, k, v, ends_q, scale or q.shape[-1] ** -0.5, window_size):
        out[a:b] = torch.einsum("hqk,khd->qhd", p, v[a:b].float()).to(q.dtype)
        lse[:, a:b] = scores.logsumexp(-1)
    return out, lse, torch.zeros(2, dtype=torch.uint64)


def gradients(grad, q, k, v, ends, scale, window=None):
    """Those of q, k and v [t, heads, size], given that of the output."""
    dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
    for a, b, p, _ in sequences(q, k, v, ends, scale, window):
        g = grad[a:b].float()
        dp = torch.einsum("qhd,khd->hqk", g, v[a:b].float())
        ds = p * (dp - (dp * p).sum(-1, keepdim=True)) * scale
        dv[a:b] = torch.einsum("hqk,qhd->khd", p, g).to(v.dtype)
        dq[a:b] = torch.einsum("hqk,khd->qhd", ds, k[a:b].float()).to(q.dtype)
        dk[a:b] = torch.einsum("hqk,qhd->khd", ds, q[a:b].float()).to(k.dtype)
    return dq, dk, dv


@varlen._varlen_attn_backward.register_kernel("cpu")
def backward(grad, q, k, v, out, lse, ends_q, ends_k, max_q, max_k, is_causal, rng_state, scale=None, window_size=None):
    calls["backward"] += 1
    check(q, k, v, ends_q, ends_k, max_q, max_k)
    assert grad.shape == out.shape == q.shape and grad.dtype == q.dtype and grad.stride(-1) == 1
    return gradients(grad, q, k, v, ends_q, scale or q.shape[-1] ** -0.5, window_size)


def check_efficient(q, k, v, bias, ends_q, ends_k, max_q, max_k, dropout, mask_type):
    """The memory-efficient kernels take fp32 too, and a leading dimension of 1, but no empty sequence."""
    allowed.add(torch.float32)
    check(q[0], k[0], v[0], ends_q, ends_k, max_q, max_k)
    assert len(q) == 1 and bias is None and dropout == 0 and mask_type == 0 and (ends_q.diff() > 0).all()


@torch.library.impl("aten::_efficient_attention_forward", "CPU")
def efficient_forward(
    q, k, v, bias, ends_q, ends_k, max_q, max_k, dropout, mask_type, want_lse=False, *, scale=None, seqlen_k=None,
    window_size=None,
):  # fmt: skip
    calls["efficient forward"] += 1
    check_efficient(q, k, v, bias, ends_q, ends_k, max_q, max_k, dropout, mask_type)
    out = torch.empty_like(q)
    lse = torch.zeros(len(ends_q) - 1, q.shape[2], -(-max_q // 32) * 32)
    for i, (a, b, p, scores) in enumerate(sequences(q[0], k[0], v[0], ends_q, scale or q.shape[-1] ** -0.5, None)):
        out[0, a:b] = torch.einsum("hqk,khd->qhd", p, v[0, a:b].float()).to(q.dtype)
        lse[i, :, : b - a] = scores.logsumexp(-1)
    seed = torch.zeros((), dtype=torch.int64)
    return out, lse, seed, seed.clone(), max_q, max_k


@torch.library.impl("aten::_efficient_attention_backward", "CPU")
def efficient_backward(
    grad, q, k, v, bias, out, ends_q, ends_k, max_q, max_k, lse, dropout, seed, offset, mask_type, bias_requires_grad,
    *, scale=None, num_splits_key=None, window_size=None, shared_storage_dqdkdv=False,
):  # fmt: skip
    calls["efficient backward"] += 1
    check_efficient(q, k, v, bias, ends_q, ends_k, max_q, max_k, dropout, mask_type)
    found = gradients(grad[0], q[0], k[0], v[0], ends_q, scale or q.shape[-1] ** -0.5)
    return *(g[None] for g in found), torch.empty(0)
