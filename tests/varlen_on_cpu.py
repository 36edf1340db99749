"""torch's varlen_attn on a CPU, to rehearse the path of a GPU.

The public function, its fakes and its autograd formula are torch's own; only the two kernels are replaced, by plain
attention, and what FlashAttention demands of their arguments is asserted.
"""

from itertools import pairwise

import torch
from torch.nn.attention import varlen

HALF = torch.bfloat16, torch.float16
allowed = {*HALF}  # dtypes; a test may add fp32 to compare without rounding
calls = {"forward": 0, "backward": 0}


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


@varlen._varlen_attn_backward.register_kernel("cpu")
def backward(grad, q, k, v, out, lse, ends_q, ends_k, max_q, max_k, is_causal, rng_state, scale=None, window_size=None):
    calls["backward"] += 1
    check(q, k, v, ends_q, ends_k, max_q, max_k)
    assert grad.shape == out.shape == q.shape and grad.dtype == q.dtype and grad.stride(-1) == 1
    dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
    scale = scale or q.shape[-1] ** -0.5
    for a, b, p, _ in sequences(q, k, v, ends_q, scale, window_size):
        g = grad[a:b].float()
        dp = torch.einsum("qhd,khd->hqk", g, v[a:b].float())
        ds = p * (dp - (dp * p).sum(-1, keepdim=True)) * scale
        dv[a:b] = torch.einsum("hqk,qhd->khd", p, g).to(v.dtype)
        dq[a:b] = torch.einsum("hqk,khd->qhd", ds, k[a:b].float()).to(q.dtype)
        dk[a:b] = torch.einsum("hqk,qhd->khd", ds, q[a:b].float()).to(k.dtype)
    return dq, dk, dv
