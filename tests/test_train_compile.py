"""torch.compile: the same numbers, and one compilation for all batches.

The varlen kernel needs CUDA; an operator of the same signature replaces it here, opaque to the compiler like the
real one.
"""

import os
import shutil
import time
from itertools import pairwise

import pytest
import torch
from small_runs import in_process, make_inputs
from suzuri.training.model import FlatModel


def probabilities(q, k, scale):
    return (torch.einsum("qhd,khd->hqk", q, k) * scale).softmax(-1)


@torch.library.custom_op("suzuri_test::varlen", mutates_args=())
def varlen(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, ends: torch.Tensor, scale: float) -> torch.Tensor:
    """[t, heads, size] each: plain attention within ends[i] … ends[i + 1] - 1."""
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    for a, b in pairwise(ends.tolist()):
        out[a:b] = torch.einsum("hqk,khd->qhd", probabilities(q[a:b], k[a:b], scale), v[a:b])
    return out


@torch.library.custom_op("suzuri_test::varlen_backward", mutates_args=())
def varlen_backward(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, ends: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    for a, b in pairwise(ends.tolist()):
        p = probabilities(q[a:b], k[a:b], scale)
        dp = torch.einsum("qhd,khd->hqk", grad[a:b], v[a:b])
        ds = p * (dp - (dp * p).sum(-1, keepdim=True)) * scale
        dv[a:b] = torch.einsum("hqk,qhd->khd", p, grad[a:b])
        dq[a:b] = torch.einsum("hqk,khd->qhd", ds, k[a:b])
        dk[a:b] = torch.einsum("hqk,qhd->khd", ds, q[a:b])
    return dq, dk, dv


varlen.register_fake(lambda q, k, v, ends, scale: torch.empty_like(q, memory_format=torch.contiguous_format))
varlen_backward.register_fake(
    lambda grad, q, k, v, ends, scale: tuple(
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v)
    )
)


def keep(ctx, inputs, output):
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


varlen.register_autograd(
    lambda ctx, grad: (*varlen_backward(grad, *ctx.saved_tensors, ctx.scale), None, None), setup_context=keep
)


def stand_in(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
    assert cu_seq_q is cu_seq_k and max_q == max_k and window_size == (-1, -1)
    return varlen(q, k, v, cu_seq_q, scale if scale is not None else q.shape[-1] ** -0.5)


@pytest.fixture
def make_runner(tmp_path, monkeypatch):
    """make() -> a StepRunner on the varlen path, its kernel replaced; not compiled yet."""
    import torch.nn.attention.varlen

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", stand_in)
    torch._dynamo.reset()
    args = make_inputs(tmp_path, model={"num_hidden_layers": 1})

    def make():
        runner = in_process(args)
        runner.flat = runner.step_model = FlatModel(runner.model, varlen=True)
        runner.batches.varlen = True
        return runner

    yield make
    torch._dynamo.reset()


def steps(runner, n):
    losses = [runner.train_step(step, runner.batches.of_step(step))[0].item() for step in range(n)]
    return losses, [p.detach().clone() for p in runner.parameters]


def test_one_compilation_for_all_batches(make_runner):
    """The graph is captured once for batches of other lengths and other numbers of sequences, short chunk included."""
    from torch._dynamo.utils import counters

    counters.clear()
    runner = make_runner()
    runner.step_model = torch.compile(runner.flat, dynamic=False, backend="aot_eager", fullgraph=True)
    epoch = -(-runner.inputs.axis.num_chunks // runner.inputs.chunks_per_step)
    assert epoch >= 5
    batches = [inputs for step in range(epoch) for inputs, _ in runner.batches.of_step(step)]
    ends = [tuple(inputs["cu_seqlens"].tolist()) for inputs in batches]
    assert len(set(ends)) > 5 and len({len(e) for e in ends}) == 1
    assert any((inputs["input_ids"] == 0).any() for inputs in batches), "the short chunk should be among them"
    compiled, _ = steps(runner, epoch)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    eager, _ = steps(make_runner(), epoch)
    assert compiled == pytest.approx(eager, abs=1e-5)


def test_varlen_path_gives_the_losses_of_the_grouped_one(make_runner):
    varlen_losses, varlen_weights = steps(make_runner(), 3)
    runner = make_runner()
    runner.flat = runner.step_model = FlatModel(runner.model, varlen=False)
    runner.batches.varlen = False
    losses, weights = steps(runner, 3)
    assert losses == pytest.approx(varlen_losses, abs=1e-5)
    for a, b in zip(weights, varlen_weights, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.skipif(not os.environ.get("SUZURI_SLOW"), reason="takes long; set SUZURI_SLOW=1")
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile on a CPU needs g++")
def test_compiled_is_eager(make_runner):
    """Loss and weights after three steps, through the real compiler."""
    eager_losses, eager = steps(make_runner(), 3)
    runner = make_runner()
    runner.step_model = torch.compile(runner.flat, dynamic=False)
    begun = time.perf_counter()
    losses, weights = steps(runner, 3)
    print(f"compilation and three steps: {time.perf_counter() - begun:.1f} s")
    assert losses == pytest.approx(eager_losses, abs=1e-5)
    for a, b in zip(eager, weights, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
