"""The path of a GPU, rehearsed on the CPU: torch's own varlen_attn with its kernels replaced (kernels_on_cpu.py), the
real compiler's front end, loss scaling, memory running out, several ranks, no compiler.
"""

import copy
import gc
import math
import multiprocessing
import os
import shutil
import socket
import subprocess
import threading
import weakref
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace

import kernels_on_cpu
import pytest
import torch
import torch.distributed as dist
from conftest import SLOW
from functorch.compile import make_boxed_func
from small_runs import in_process, make_inputs, run
from suzuri.errors import DataError
from suzuri.training.attention import GROUPED, NESTED, VARLEN, choose_attention
from suzuri.training.batches import Batches
from suzuri.training.compilation import CompiledModel, in_pieces, why_not_compiled
from suzuri.training.device import known_peak, unused_gpu
from suzuri.training.gradient_sum import GradientSum
from suzuri.training.model import FlatModel
from suzuri.training.optimizer import StackedMuon
from suzuri.training.ranks import RankLost, Ranks
from suzuri.training.step import StopRequested
from torch.utils._python_dispatch import TorchDispatchMode

# Heads of 8 values, the least that the kernel takes.
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
ARCHITECTURES = {
    "bert": SIZES,
    "roberta": SIZES | {"max_position_embeddings": 38},
    "electra": SIZES | {"embedding_size": 24},
    "nomic_bert": SIZES,
    "modernbert": SIZES | {"local_attention": 10, "global_attn_every_n_layers": 2},
    "distilbert": {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40},
}
TOLERANCE = {"fp32": 1e-4, "bf16": 5e-3}


@pytest.fixture
def make_runner(tmp_path):
    """make(*settings, model={}, attention=VARLEN) -> a StepRunner like a GPU's, not compiled yet."""
    torch._dynamo.reset()

    def make(*settings, model=None, attention=VARLEN, recipe=None):
        if not any("16" in setting for setting in settings):
            kernels_on_cpu.allowed.add(torch.float32)  # only the dtype is not as FlashAttention wants it
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        runner = in_process(make_inputs(folder, recipe, model or SIZES), settings)
        runner.flat = runner.step_model = FlatModel(runner.model, attention)
        at_once, runner.workers = runner.batches.chunks_at_once, None
        runner.batches = Batches(runner.inputs, runner.ranks, attention)
        runner.batches.chunks_at_once = at_once
        return runner

    yield make
    torch._dynamo.reset()
    kernels_on_cpu.allowed = {*kernels_on_cpu.HALF}


def steps(runner, n, first=0):
    return [runner.train_step(s, runner.batches.of_step(s))[0].item() for s in range(first, first + n)]


def weights(runner):
    return [p.detach().clone() for p in runner.parameters]


@pytest.mark.parametrize("optim", ["adamw", "muon"])
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_each_attention_gives_the_losses_of_grouped_attention(kind, precision, optim, make_runner):
    """Varlen attention; nested attention without a sliding window. AdamW shows the latter as well as Muon."""
    before = dict(kernels_on_cpu.calls)
    nested = [NESTED] if kind != "modernbert" and optim == "adamw" else []
    settings = f"precision={precision}", f"optim={optim}"
    # The shards of make_inputs() hold sequences of up to 37 tokens.
    model = dict.fromkeys(SIZES) if kind == "distilbert" else {}
    model = {"model_type": kind, "max_position_embeddings": 37} | model | ARCHITECTURES[kind]
    model = {key: value for key, value in model.items() if value is not None}
    expected, *found = (
        steps(make_runner(*settings, model=model, attention=attention), 3) for attention in (GROUPED, VARLEN, *nested)
    )
    for losses in found:
        assert losses == pytest.approx(expected, abs=TOLERANCE[precision])
    assert all(kernels_on_cpu.calls[what] > before[what] for what in before if nested or "efficient" not in what)


@pytest.mark.parametrize(
    "capability, dtype, model, chosen",
    [
        ((9, 0), torch.bfloat16, {}, VARLEN),
        ((7, 5), torch.float16, {}, NESTED),
        ((9, 0), torch.float32, {}, NESTED),
        ((9, 0), torch.bfloat16, {"attention_probs_dropout_prob": 0.1}, NESTED),
        ((7, 5), torch.float16, ARCHITECTURES["modernbert"] | {"model_type": "modernbert"}, GROUPED),
        ((9, 0), torch.bfloat16, {"num_attention_heads": 6}, GROUPED),
    ],
)
def test_which_attention_a_gpu_gets(capability, dtype, model, chosen, make_runner, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    runner = make_runner("dropout=null", model=SIZES | {"attention_probs_dropout_prob": 0.0} | model)
    name, why_not_varlen = choose_attention(runner.model, torch.device("cuda"), dtype)
    assert name == chosen and (why_not_varlen is None) == (chosen == VARLEN)


@SLOW
def test_one_compilation_for_thirty_batches(make_runner):
    """With the loss inside, the graph is captured once for batches of other lengths, a short chunk included."""
    from torch._dynamo.utils import counters

    counters.clear()
    runner, eager = make_runner("precision=bf16"), make_runner("precision=bf16")
    runner.step_model = CompiledModel(runner.flat, fallback=False, backend="aot_eager", fullgraph=True)
    batches = [inputs for s in range(10) for inputs, _ in runner.batches.of_step(s)]
    ends = [tuple(inputs["cu_seqlens"].tolist()) for inputs in batches]
    assert len(batches) >= 30 and len(set(ends)) > 20 and len({len(e) for e in ends}) == 1
    assert any((inputs["input_ids"] == 0).any() for inputs in batches), "the short chunk should be among them"
    assert steps(runner, 10) == pytest.approx(steps(eager, 10), abs=5e-3)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


@SLOW
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile on a CPU needs g++")
@pytest.mark.parametrize("pieces", [None, 10_000])
def test_the_real_compiler_keeps_no_fp32_logits(make_runner, pieces):
    """Through Inductor: the losses of the eager model, and no buffer [predictions, vocabulary] in fp32."""
    from torch._inductor import utils

    runner, eager = make_runner("precision=bf16"), make_runner("precision=bf16")
    runner.step_model = CompiledModel(runner.flat, fallback=False, pieces=pieces)
    losses = []
    code = utils.run_and_get_code(lambda: losses.extend(steps(runner, 3)))[1]
    assert losses == pytest.approx(steps(eager, 3), abs=5e-3)
    predictions, vocabulary = len(runner.batches.of_step(0)[0][0]["rows"]), runner.model.config.vocab_size
    buffers = [line for text in code for line in text.splitlines() if f"({predictions}, {vocabulary})" in line]
    assert buffers and not [line for line in buffers if "empty_strided" in line and "float32" in line]


@pytest.mark.parametrize("optim", ["adamw", "muon"])
def test_fp16_skips_a_step_for_all_parameters_or_none(optim, make_runner):
    """With a scale that doubles every four steps there are overflows all the time: no NaN, no half a step."""
    recipe = {"max_steps": 200, "learning_rate": 1e-3, "batch_tokens": 128}
    model = SIZES | {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    runner = make_runner("precision=fp16", f"optim={optim}", recipe=recipe, model=model, attention=GROUPED)
    runner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**23, growth_interval=4)
    kept, skipped = weights(runner), 0
    for s in range(200):
        loss, _ = runner.train_step(s, runner.batches.of_step(s))
        now = weights(runner)
        changed = [not torch.equal(a, b) for a, b in zip(kept, now, strict=True)]
        assert math.isfinite(loss.item()) and all(torch.isfinite(p).all() for p in now)
        assert all(changed) or not any(changed), f"half of step {s}"
        kept, skipped = now, skipped + (not any(changed))
    assert 5 < skipped < 100


def test_stacked_muon_is_torchs_muon(monkeypatch):
    """To the bit, with the same arithmetic; close, where a CPU without bf16 multiplies in fp32."""
    shapes = [(24, 24)] * 8 + [(40, 24), (24, 40)] * 2
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate(shapes)]
    options = {"lr": 1e-2, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}

    def trained(kind):
        parameters = [torch.nn.Parameter(p.clone()) for p in start]
        optimizer, noise = kind(parameters, **options), torch.Generator().manual_seed(99)
        for _ in range(4):
            for p in parameters:
                p.grad = torch.randn(p.shape, generator=noise)
            optimizer.step()
        return parameters

    expected = trained(torch.optim.Muon)
    for native in (True, False):
        monkeypatch.setattr("suzuri.training.optimizer.multiplies", lambda dtype, native=native: native)
        for a, b in zip(trained(StackedMuon), expected, strict=True):
            assert torch.equal(a, b) if native else torch.allclose(a, b, atol=1e-3)


class Operations(TorchDispatchMode):
    """Counts the operations that are dispatched, views excepted."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not any(schema.alias_info and not schema.alias_info.is_write for schema in function._schema.returns):
            self.counts[function._schema.name.removeprefix("aten::")] += 1
        return function(*args, **(kwargs or {}))


def test_operations_of_a_step(make_runner, monkeypatch):
    """A step reads nothing back from the device, and Muon's part of it does not grow with the number of matrices."""
    monkeypatch.setattr("suzuri.training.optimizer.multiplies", lambda dtype: True)  # as on a GPU
    found = {}
    for layers in (2, 6):
        runner = make_runner("precision=bf16", "optim=muon", model=SIZES | {"num_hidden_layers": layers})
        steps(runner, 1)  # the moments are made
        batch = runner.batches.of_step(1)
        with Operations() as whole:
            runner.train_step(1, batch)
        assert not whole.counts.keys() & {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal"}
        for p in runner.parameters:
            p.grad = torch.ones_like(p)
        with Operations() as muon:
            runner.optimizers[1].step()
        found[layers] = sum(muon.counts.values())
        print(f"{layers} layers: {sum(whole.counts.values())} operations a step, {found[layers]} of them Muon's")
    assert found[2] == found[6] <= 100


def test_no_gradient_of_an_earlier_micro_batch_is_alive(make_runner, monkeypatch):
    runner, made = make_runner(), []
    original = runner.gradients

    def gradients(*args, **kwargs):
        gc.collect()
        assert not [ref for ref in made if ref() is not None], "still alive while the next one is computed"
        found, loss = original(*args, **kwargs)
        made.extend(weakref.ref(g) for g in found if g is not None)
        return found, loss

    monkeypatch.setattr(runner, "gradients", gradients)
    steps(runner, 1)
    assert len(made) > 4 * 20


def test_out_of_memory_once(make_runner, monkeypatch, capsys):
    """Micro-batches are halved until they fit, those made ahead too, and the losses stay."""
    expected = steps(make_runner(), 3)
    runner = make_runner("micro_batch_tokens=512")
    assert runner.batches.chunks_at_once == 4
    original = runner.gradients

    def gradients(tensors, **kwargs):
        if len(tensors["input_ids"]) > 128:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(tensors, **kwargs)

    monkeypatch.setattr(runner, "gradients", gradients)
    ahead = [runner.batches.of_step(s) for s in range(3)]
    found = [runner.train_step(s, batch)[0].item() for s, batch in enumerate(ahead)]
    assert found == pytest.approx(expected, abs=1e-4) and runner.batches.chunks_at_once == 1
    assert capsys.readouterr().err.count("out of GPU memory") == 2
    monkeypatch.setattr(runner, "gradients", lambda *_, **__: gradients({"input_ids": range(999)}))
    with pytest.raises(DataError, match="lower chunk_tokens"):
        steps(runner, 1)


@pytest.mark.parametrize("world", range(1, 9))
def test_one_shape_for_any_number_of_ranks(world, make_runner):
    runner = make_runner("batch_tokens=2048")
    own = -(-16 // world)
    for at_once in range(1, own + 1):
        shapes, seen = set(), 0
        for rank in range(world):
            ranks = SimpleNamespace(rank=rank, world=world, device=torch.device("cpu"))
            batches = Batches(runner.inputs, ranks, VARLEN)
            batches.chunks_at_once = at_once
            for tensors, _ in batches.of_step(0):
                shapes.add(tuple(tuple(t.shape) for t in tensors.values() if torch.is_tensor(t)))
                seen += int((tensors["labels"] != -100).sum())
        assert len(shapes) == 1 and seen == runner.predictions(0)


def test_a_filled_up_micro_batch_changes_nothing(make_runner):
    """Four chunks, three at a time: the second micro-batch is one chunk and two of [PAD]s."""
    whole, filled = make_runner(), make_runner("micro_batch_tokens=384")
    assert [len(t["input_ids"]) for t, _ in filled.batches.of_step(0)] == [384, 384]
    assert steps(filled, 3) == pytest.approx(steps(whole, 3), abs=1e-4)


class Threads:
    """`world` ranks as threads: exchanges happen, sums return at once and are only recorded, like those of NCCL."""

    def __init__(self, world):
        self.world, self.barrier, self.sent = world, threading.Barrier(world), [None] * world
        self.sums = [[] for _ in range(world)]

    def started(self, rank, tensor):
        self.sums[rank].append((tensor.dtype, tensor.numel()))
        return SimpleNamespace(wait=lambda: None)

    def rank(self, rank):
        ranks = object.__new__(Ranks)
        ranks.__dict__ |= {"world": self.world, "rank": rank, "device": torch.device("cpu"), "hosts": None}
        ranks.start_sum = ranks.sum = lambda tensor: self.started(rank, tensor)

        def collective(operation, found=None, own=None, group=None):
            if not found:
                return operation()
            self.sent[rank] = own.clone()
            self.barrier.wait(60)
            for tensor, sent in zip(found, list(self.sent), strict=True):
                tensor.copy_(sent)
            self.barrier.wait(60)

        ranks.collective = collective
        return ranks


@pytest.mark.parametrize("how", ["signal", "error"])
def test_ranks_stop_together_wherever_one_of_them_stops(how, make_runner, monkeypatch):
    """Before each micro-batch of the third step, and in the middle of its last backward pass: all have entered the same
    sums, so none waits for ever."""
    monkeypatch.setattr("suzuri.training.gradient_sum.BUCKET", 10_000)
    template = make_runner("batch_tokens=1536")  # 12 chunks: 4 for each of 3 ranks
    template.optimizers.clear()
    for position in range(5):
        threads, ends = Threads(3), {}

        def train(rank, threads=threads, ends=ends, position=position):
            runner = copy.copy(template)
            runner.ranks = threads.rank(rank)
            runner.batches = copy.copy(template.batches)
            runner.batches.ranks, runner.stop_signal, seen = runner.ranks, None, [0]
            runner.parameters = [torch.nn.Parameter(torch.zeros(40, 40)) for _ in range(8)]
            runner.gradient_sum = GradientSum(runner.parameters, runner.ranks, torch.bfloat16)
            runner.model = None

            def gradients(tensors, planned):
                at, seen[0] = seen[0], seen[0] + 1
                stop = rank == 1 and at == 2 * 4 + min(position, 3)
                x = torch.zeros(40)
                for i, p in enumerate(runner.parameters):
                    x = p @ x
                    if stop and position == 4 and i == 3:  # when half of the buckets have been sent
                        x.register_hook(lambda _: stops())
                if stop and position < 4:
                    stops()
                return torch.autograd.grad(x.sum(), runner.parameters), torch.zeros(())

            def stops():
                if how == "error":
                    raise DataError("shard", "input/output error")
                runner.stop_signal = 15

            runner.gradients = gradients
            try:
                for s in range(4):
                    runner.train_step(s, runner.batches.of_step(s))
            except (StopRequested, RankLost) as e:
                ends[rank] = s, type(e).__name__
            except DataError:
                ends[rank] = s, "DataError"
                runner.ranks.exchange(failed=True)  # as TrainingLoop.run does

        running = [threading.Thread(target=train, args=(rank,)) for rank in range(3)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(60)
        kinds = ("RankLost", "DataError", "RankLost") if how == "error" else ("StopRequested",) * 3
        assert [ends.get(rank) for rank in range(3)] == [(2, kind) for kind in kinds]
        assert threads.sums[0] == threads.sums[1] == threads.sums[2] and len(threads.sums[0]) == 3 * 8 + 2


def one_rank(rank, world, port):
    os.environ |= {"WORLD_SIZE": str(world), "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return Ranks()


def as_processes(world, function, *args):
    """Run function(rank, world, port, *args) in a process for each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    running = [context.Process(target=function, args=(rank, world, port, *args)) for rank in range(world)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert not any(process.exitcode for process in running)


def sum_on_a_rank(rank, world, port, folder):
    """Sums gradients over real processes, in bf16 and fp32, and writes (the sums, what was sent and when)."""
    ranks, events, all_reduce = one_rank(rank, world, port), [], dist.all_reduce
    dist.all_reduce = lambda tensor, **options: (
        events.append((tensor.dtype, len(tensor))) or all_reduce(tensor, **options)
    )
    found = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        layers = [torch.nn.Parameter(torch.ones(n, 10)) for n in (20, 1, 300, 20)]
        layers.insert(2, torch.nn.Parameter(torch.ones(7)))  # has no gradient
        total = GradientSum(layers, ranks, dtype)

        def backward(scale, full_at=None, layers=layers):
            def arrived(layer):
                if layer == full_at:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                events.append(layer)

            loss = torch.ones(())
            for i, p in enumerate(layers):
                if i != 2:
                    loss = loss + (p * scale * (1 + rank / 3 + i)).sum()
                    loss.register_hook(lambda _, i=i: arrived(i))
            return torch.autograd.grad(loss, layers, allow_unused=True)

        for step in range(3):
            events.append(f"step {step}")
            if step == 2 and rank == 0:  # out of memory when a bucket has been sent: once more, in other parts
                total.restart()
                with suppress(torch.OutOfMemoryError), total.sending():
                    backward(1, full_at=3)
            total.restart()
            total.add(backward(0.25))
            if total.sends_early:
                with total.sending():
                    backward(0.75)
            else:
                total.add(backward(0.75))
            events.append("agree")
            total.send_all()
            used, sums = total.received()
            assert [p is q for p, q in zip(used, (layers[i] for i in (0, 1, 3, 4)), strict=True)] == [True] * 4
            found.append(torch.cat(sums))
    torch.save((found, events), folder / str(rank))
    ranks.close()


@pytest.mark.parametrize("world", [2, 3])
def test_gradients_are_summed_in_buckets_and_in_bf16_during_the_backward_pass(world, tmp_path, monkeypatch):
    monkeypatch.setattr("suzuri.training.gradient_sum.BUCKET", 10_000)
    as_processes(world, sum_on_a_rank, tmp_path)
    (found, events), *others = (torch.load(tmp_path / str(r)) for r in range(world))
    assert all(torch.equal(a, b) for other, _ in others for a, b in zip(found, other, strict=True))
    expected = torch.cat([
        torch.full((n, 10), sum(1 + r / 3 + i for r in range(world)))
        for i, n in ((0, 20), (1, 1), (3, 300), (4, 20))
    ])  # fmt: skip
    for k, dtype in enumerate((torch.float32, torch.bfloat16, torch.float32)):
        for sums in found[3 * k : 3 * k + 3]:
            assert torch.allclose(sums, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6)
        one, two, three = [(dtype, 10 * n) for n in (20, 300, 21)]
        each = [4, 3, 1, 0]
        assert events[40 * k : 40 * k + 40] == [
            *("step 0", *each, *each, "agree", one, two, three),  # which layers have gradients is not known yet
            *("step 1", *each, 4, one, 3, two, 1, 0, three, "agree"),
            *("step 2", 4, one, *each, 4, 3, two, 1, 0, three, "agree"),
        ]


@SLOW
def test_a_model_in_pieces_gives_its_gradients_one_piece_after_the_other(make_runner):
    """One graph, the losses of the eager model, and a layer's gradients before the backward pass of those before it."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._dynamo.utils import counters

    events = []

    def backward(graph, inputs):
        def run(*args):
            events.append("backward pass")
            return graph(*args)

        return make_boxed_func(run)

    backend = aot_autograd(fw_compiler=lambda graph, inputs: make_boxed_func(graph), bw_compiler=backward)
    counters.clear()
    runner, eager = (make_runner("precision=bf16", model=SIZES | {"num_hidden_layers": 3}) for _ in range(2))
    runner.step_model = CompiledModel(runner.flat, fallback=False, backend=in_pieces(20_000, backend))
    assert steps(runner, 2) == pytest.approx(steps(eager, 2), abs=5e-3)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    events.clear()
    for number, layer in enumerate(runner.model.bert.encoder.layer):
        layer.output.dense.weight.register_hook(lambda _, number=number: events.append(number))
    runner.gradients(runner.batches.of_step(10)[0][0])
    assert [e for e in events if e != "backward pass"] == [2, 1, 0]
    assert all("backward pass" in events[events.index(n) : events.index(n - 1)] for n in (2, 1))


def test_no_compiler_or_no_headers_is_a_reason_not_a_failure(tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no C compiler" in why_not_compiled()
    fake = tmp_path / "gcc"
    for said, reason in (
        ("<stdin>:2:10: fatal error: Python.h: No such file or directory", "does not find Python.h"),
        ("<stdin>:1:10: fatal error: stdint.h: No such file or directory", "does not find stdint.h"),
        ("cc1: error: out of registers", "out of registers"),
    ):
        fake.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
        fake.chmod(0o755)
        assert reason in why_not_compiled()
    fake.write_text("#!/bin/sh\nexit 0\n")
    assert why_not_compiled() is None
    monkeypatch.setenv("CC", str(tmp_path / "missing"))
    assert "does not start" in why_not_compiled()


def test_a_failing_compiler_falls_back_with_one_line(make_runner, monkeypatch, capsys):
    def broken(graph, inputs):
        raise subprocess.CalledProcessError(1, "gcc")

    expected = steps(make_runner("precision=bf16"), 2)
    runner = make_runner("precision=bf16")
    runner.step_model = CompiledModel(runner.flat, fallback=True, backend=broken)
    assert steps(runner, 2) == expected
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "torch.compile fails" in err and "training goes on without it" in err
    monkeypatch.setattr("suzuri.training.compilation.in_pieces", lambda size: broken)
    runner = make_runner("precision=bf16")
    runner.step_model = CompiledModel(runner.flat, fallback=True, pieces=1, backend="eager")
    assert steps(runner, 2) == expected
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "in pieces fails" in err and "goes on with the model as one piece" in err
    asked_for = make_runner("precision=bf16")
    asked_for.step_model = CompiledModel(asked_for.flat, fallback=False, backend=broken)
    with pytest.raises(DataError, match="set torch_compile to false"):
        steps(asked_for, 1)


def test_a_card_that_torch_cannot_use_is_reported(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/proc/driver/nvidia/version")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "a build without CUDA" in unused_gpu(cpu)[0]
    monkeypatch.setattr(torch.version, "cuda", "13.0")

    def too_old():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update")

    monkeypatch.setattr(torch.cuda, "init", too_old)
    assert unused_gpu(cpu)[0].endswith("is too old (found version 11040).); training on the CPU")
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    assert not unused_gpu(cpu)


@pytest.mark.parametrize(
    "name, peak",
    [
        ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312), ("Tesla T4", 65),
        ("NVIDIA GeForce RTX 4090", 165), ("NVIDIA RTX A1000", None), ("NVIDIA A10G", 70), ("NVIDIA A10", 125),
        ("NVIDIA T400 4GB", None), ("NVIDIA L40S", 362), ("Tesla V100-SXM2-16GB", 125),
    ],
)  # fmt: skip
def test_peaks_are_found_by_whole_words(name, peak):
    assert known_peak(name) == (peak and peak * 1e12)


def test_a_run_with_deterministic_algorithms_only(tmp_path):
    """All operations of a run have one; on a CPU it changes nothing."""
    found = []
    for name, settings in (("plain", ()), ("deterministic", ("--set", "deterministic=true"))):
        run(*make_inputs(tmp_path / name), "--set", "max_steps=3", *settings)
        found.append((tmp_path / name / "out/model.safetensors").read_bytes())
    assert found[0] == found[1]
