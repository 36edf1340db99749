#!/usr/bin/env python3
"""What only a GPU shows, in five stages of at most ten minutes each; every table is printed while it grows.

  1  environment: versions, the card, the compiler, test_train_cuda.py, attention beside fp32 attention
  2  tiny and base: eager, compiled, CUDA graphs; the loss inside or outside of the compiled graph; optimizers
  3  phases of a step, empty slots and max_length of varlen attention, memory capped to 8, 12 and 24 GB
  4  Hugging Face's Trainer beside it; 300 steps with a stop and a resumption
  5  two and eight GPUs

The shards are packed before, on a machine with MeCab (--prepare); here torch, transformers and safetensors are enough.
With --rehearse all of it runs on a CPU, on small shapes, with the attention kernels of tests/kernels_on_cpu.py: the
figures mean nothing then.

Example:
  python tests/bench/first_gpu.py --prepare --data /tmp/shards       # where SUZURI_DATA is
  python tests/bench/first_gpu.py --data /tmp/shards --out /tmp/gpu --stage 1
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import warnings
from functools import cached_property
from types import SimpleNamespace

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bench_train
import torch
import torch.nn.functional as F
import transformers
from bench_train import ROOT, apart, first_step, profile, run_ours, synchronize
from suzuri.training.attention import (
    GROUPED,
    NESTED,
    VARLEN,
    grouped_attention,
    nested_attention,
    varlen_attention,
)
from suzuri.training.batches import Batches, on_device
from suzuri.training.compilation import CompiledModel, why_not_compiled
from suzuri.training.device import device_name, peak_flops
from suzuri.training.masking import IGNORED
from suzuri.training.model import FlatModel, sequence_arguments

STAGE_SECONDS = 540  # after these no new case is begun
SMALL = [
    "batch_tokens=1024", "chunk_tokens=512", "micro_batch_tokens=512", "model.num_hidden_layers=1",
    "model.hidden_size=32", "model.num_attention_heads=4", "model.intermediate_size=32", "precision=bf16",
]  # fmt: skip


class Bench:
    """The data, the output, and whether it is a rehearsal."""

    def __init__(self, args):
        self.data, self.out, self.rehearsal = args.data, args.out, args.rehearse
        self.device = torch.device("cpu" if self.rehearsal else "cuda")
        self.begun = time.monotonic()
        os.makedirs(self.out, exist_ok=True)

    def begin(self, stage):
        self.begun, self.file = time.monotonic(), os.path.join(self.out, f"stage-{stage}.md")
        open(self.file, "w").close()
        self.say(f"\n## Stage {stage}: {STAGES[stage].__doc__.splitlines()[0]}")

    def say(self, line):
        print(line, flush=True)
        with open(self.file, "a", encoding="utf-8") as f:
            f.write(line + "\n")

    def head(self, *columns):
        self.say("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))

    def row(self, *cells):
        self.say("| " + " | ".join(f"{c:,.3g}" if isinstance(c, float) else str(c) for c in cells) + " |")

    def late(self, case):
        """Whether the time of the stage is over; the case is then left out, and said to be."""
        over = time.monotonic() - self.begun > STAGE_SECONDS
        if over:
            self.say(f"left out for lack of time: {case}")
        return over

    def runner(self, config, *settings, how="eager"):
        """A StepRunner as train-mlm makes it; `how`: eager, compiled, or CUDA graphs."""
        compiled = {"eager": "false", "compiled": "true", "CUDA graphs": '"reduce-overhead"'}[how]
        settings = [*settings, f"torch_compile={'false' if self.rehearsal else compiled}"]
        runner = bench_train.make_runner(self.data, config, (SMALL if self.rehearsal else []) + settings)
        if self.rehearsal:  # what StepRunner does on a GPU
            runner.flat = runner.step_model = FlatModel(runner.model, VARLEN)
            runner.batches, runner.workers = Batches(runner.inputs, runner.ranks, VARLEN), None
            if how != "eager":
                torch._dynamo.reset()
                runner.step_model = CompiledModel(runner.flat, fallback=False, backend="aot_eager")
        return runner

    def milliseconds(self, function, times=10):
        """The median time of a call, after one that is not measured."""
        taken = []
        for _ in range(1 + (2 if self.rehearsal else times)):
            synchronize()
            start = time.perf_counter()
            function()
            synchronize()
            taken.append(1000 * (time.perf_counter() - start))
        return statistics.median(taken[1:])

    @cached_property
    def peak_flops(self):
        """FLOP/s of the device in bf16."""
        return peak_flops(self.device, torch.bfloat16)

    def peak_memory(self):
        return "-" if self.rehearsal else torch.cuda.max_memory_allocated() / 1e9


# --- 1 ----------------------------------------------------------------------------------------------------------------


def environment(bench):
    """The environment, test_train_cuda.py, and the attention kernels."""
    bench.head("what", "found")
    bench.row(
        "Python, torch, transformers", f"{sys.version.split()[0]}, {torch.__version__}, {transformers.__version__}"
    )
    bench.row("device", device_name(bench.device))
    if not bench.rehearsal:
        properties = torch.cuda.get_device_properties(0)
        bench.row(
            "capability, memory", f"{properties.major}.{properties.minor}, {properties.total_memory / 1e9:.0f} GB"
        )
        bench.row("CUDA, GPUs", f"{torch.version.cuda}, {torch.cuda.device_count()}")
    bench.row("torch.compile", why_not_compiled() or "a C compiler and Python.h are here")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{ROOT}/tests/test_train_cuda.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=STAGE_SECONDS)
    with open(os.path.join(bench.out, "test_train_cuda.log"), "w", encoding="utf-8") as f:
        f.write(done.stdout + done.stderr)
    bench.row("test_train_cuda.py", (done.stdout + done.stderr).strip().splitlines()[-1])
    kernels(bench)


def kernels(bench):
    """Each attention beside fp32 attention on the same sequences: errors relative to its norm, and times."""
    runner = bench.runner("bert-tiny")
    batch, _ = next(runner.batches.over(range(1 if bench.rehearsal else 16), runner.inputs.masker(0), 16))
    ends = batch["cu_seqlens"].numpy()
    lengths = (ends[1:] - ends[:-1])[ends[1:] > ends[:-1]]
    lengths.sort()
    config, longest = runner.model.config, int(lengths.max())
    shape = 1, config.num_attention_heads, int(lengths.sum()), config.hidden_size // config.num_attention_heads
    random = torch.Generator().manual_seed(0)
    exact = [torch.randn(shape, generator=random).to(bench.device) for _ in range(4)]
    functions = {VARLEN: varlen_attention, NESTED: nested_attention, GROUPED: grouped_attention}

    def run(attention, dtype):
        where = on_device(sequence_arguments(lengths, attention, longest), bench.device)
        q, k, v = (x.to(dtype).requires_grad_() for x in exact[:3])
        out, _ = functions[attention](None, q, k, v, None, **where)
        return out, torch.autograd.grad(out, (q, k, v), exact[3].to(dtype).transpose(1, 2))

    expected = run(GROUPED, torch.float32)
    bench.head("attention", "dtype", "error, output", "error, gradients", "ms, forward and backward")
    half = torch.bfloat16
    for attention, dtype in ((VARLEN, half), (NESTED, half), (NESTED, torch.float32), (GROUPED, half)):
        out, gradients = run(attention, dtype)
        errors = [
            ((found.float() - there).norm() / there.norm()).item()
            for found, there in zip([out, *gradients], [expected[0], *expected[1]], strict=True)
        ]
        taken = bench.milliseconds(lambda attention=attention, dtype=dtype: run(attention, dtype), 5)
        bench.row(attention.removeprefix("suzuri_"), str(dtype)[6:], errors[0], max(errors[1:]), taken)


# --- 2 ----------------------------------------------------------------------------------------------------------------


class LossOutside:
    """A model for StepRunner whose loss is made of its logits, outside of the compiled graph."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, labels, **tensors):
        return F.cross_entropy(self.logits(**tensors).float(), labels, ignore_index=IGNORED, reduction="sum")


CASES = [  # (how, where the loss is made, optimizer)
    ("eager", "inside", "adamw"),
    ("compiled", "inside", "adamw"),
    ("compiled", "outside", "adamw"),
    ("compiled", "inside", "muon"),
    ("CUDA graphs", "inside", "muon"),
]


def steps(bench):
    """A step of each model, and what each part of the way contributes to its speed."""
    bench.head(
        "model", "how", "loss", "optimizer", "chunks at once", "compile s", "ms a step", "tokens/s", "MFU", "peak GB",
        "busy", "synchronizations",
    )  # fmt: skip
    for config in ("bert-tiny", "bert-base"):
        for how, loss, optim in CASES:
            if not bench.late(f"{config}, {how}, {loss}, {optim}"):
                measure(bench, config, how, loss, optim)


def measure(bench, config, how, loss, optim):
    if not bench.rehearsal:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    runner = bench.runner(config, f"optim={optim}", how=how)
    if loss == "outside":
        runner.step_model = LossOutside(runner.step_model)
    first = first_step(runner)
    batches = [runner.batches.of_step(s) for s in range(1, 4 if bench.rehearsal else 21)]
    turns = iter(enumerate(batches * 2, 1))
    each = bench.milliseconds(lambda: runner.train_step(*next(turns)), len(batches) - 1)
    rate, work = run_ours(runner, 2 if bench.rehearsal else 10, 50)
    waits = synchronizations(bench, runner)
    _, busy, _ = profile(runner, 100, 3)
    bench.row(
        config, how, loss, optim, runner.batches.chunks_at_once, first - each / 1000, each, rate,
        f"{work / bench.peak_flops:.1%}", bench.peak_memory(), "-" if bench.rehearsal else f"{busy:.0%}", waits,
    )  # fmt: skip


def synchronizations(bench, runner):
    """How often a step waits for the device."""
    if bench.rehearsal:
        return "-"
    batches = runner.batches.of_step(99)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        runner.train_step(99, batches)
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in found)


# --- 3 ----------------------------------------------------------------------------------------------------------------


def parts(bench):
    """The phases of a step, the slots and lengths of varlen attention, and little memory."""
    bench.head("model", "phase", "ms", "how often a step")
    for config in ("bert-tiny", "bert-base"):
        runner = bench.runner(config, how="compiled")
        first_step(runner)
        phases(bench, config, runner)
        table, _, _ = profile(runner, 100, 3)
        with open(os.path.join(bench.out, f"profile-{config}.txt"), "w", encoding="utf-8") as f:
            f.write(table)
    slots(bench)
    capped(bench)


def phases(bench, config, runner):
    batches = runner.batches.of_step(1)
    tensors = on_device(batches[0][0], bench.device)

    def forward():
        with torch.autocast(bench.device.type, dtype=runner.dtype):
            return runner.step_model(**tensors)

    for p in runner.parameters:
        p.grad = torch.full_like(p, 1e-4)
    grads = [p.grad for p in runner.parameters]
    rows = {
        "make the batches (in the background)": (lambda: runner.batches.of_step(1), 1),
        "copy a micro-batch to the device": (lambda: on_device(batches[0][0], bench.device), len(batches)),
        "forward": (forward, len(batches)),
        "forward and backward": (lambda: runner.gradients(tensors), len(batches)),
        "sum of gradients": (lambda: torch._foreach_add_(grads, grads, alpha=0.0), len(batches) - 1),
        "clipping": (lambda: torch.nn.utils.clip_grad_norm_(runner.parameters, 1.0), 1),
        "update": (runner.optimizers.step, 1),
        "the whole step": (lambda: runner.train_step(1, batches), 1),
    }
    for name, (function, count) in rows.items():
        bench.row(config, name, bench.milliseconds(function), count)


def slots(bench):
    """Empty sequences and a large max_length cost attention blocks and memory that nobody needs."""
    bench.head("sequences", "slots", "longest", "max_length", "ms, forward and backward, eager", "peak GB")
    runner = bench.runner("bert-tiny")
    n = 1 if bench.rehearsal else runner.batches.chunks_at_once
    tensors, _ = next(runner.batches.over(range(n), runner.inputs.masker(0), n))
    ends = tensors["cu_seqlens"].numpy()
    lengths = (ends[1:] - ends[:-1])[ends[1:] > ends[:-1]]
    longest, most = int(lengths.max()), runner.inputs.longest
    for room in (len(lengths), len(ends) - 1, round(1.25 * len(lengths)), 2 * len(lengths)):
        for max_length in sorted({longest, most}):
            changed = tensors | sequence_arguments(lengths, VARLEN, max_length, room)
            if not bench.rehearsal:
                torch.cuda.reset_peak_memory_stats()
            taken = bench.milliseconds(lambda changed=changed: runner.gradients(changed))
            bench.row(len(lengths), len(changed["cu_seqlens"]) - 1, longest, max_length, taken, bench.peak_memory())


def capped(bench):
    """Micro-batches that fit into little memory."""
    bench.head("model", "memory", "chunks at once", "peak GB", "tokens/s")
    for gigabytes in (8, 12, 24):
        for config in ("bert-tiny", "bert-base"):
            if not bench.late(f"{config} in {gigabytes} GB"):
                found = apart(in_memory, bench.data, config, gigabytes, bench.rehearsal)
                bench.row(config, f"{gigabytes} GB", *found)


def in_memory(data, config, gigabytes, rehearsal):
    bench = Bench(SimpleNamespace(data=data, out=data, rehearse=rehearsal))
    if rehearsal:
        import_kernels()
    else:
        torch.cuda.set_per_process_memory_fraction(gigabytes * 1e9 / torch.cuda.get_device_properties(0).total_memory)
        free = torch.cuda.mem_get_info
        torch.cuda.mem_get_info = lambda device=None: (int(min(free(device)[0], gigabytes * 1e9)), free(device)[1])
    runner = bench.runner(config)
    first_step(runner)
    rate, _ = run_ours(runner, 1 if rehearsal else 3)
    return runner.batches.chunks_at_once, bench.peak_memory(), rate


# --- 4 ----------------------------------------------------------------------------------------------------------------


def trainer(bench):
    """Hugging Face's Trainer beside it, and 300 steps with a stop and a resumption."""
    stopped(bench)
    if bench.rehearsal:
        return  # bench_train.py --quick rehearses the rest
    args = SimpleNamespace(rounds=2, quick=False, profile=False, out=bench.out)
    for config in ("bert-tiny", "bert-base"):
        if not bench.late(f"{config} beside Trainer"):
            bench.say(f"\n{config}: {json.dumps(apart(bench_train.compare, bench.data, config, 'bf16', True, args))}")


def train_mlm(bench, output, *settings, processes=1):
    """Starts bin/train-mlm on the tiny model."""
    run = [sys.executable]
    if processes > 1:
        run += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*run, f"{ROOT}/bin/train-mlm", f"{ROOT}/configs/train-bert-tiny-cc100-ja.json", "--train", bench.data]
    command += ["--valid", f"{bench.data}/valid.safetensors", "--tokenizer", f"{bench.data}/tokenizer"]
    settings = [*(SMALL if bench.rehearsal else []), "eval_tokens=2000", "logging_steps=1", *settings]
    if bench.rehearsal:
        settings.append("precision=fp32")
    command += ["--output", os.path.join(bench.out, output), *(x for s in settings for x in ("--set", s))]
    environment = os.environ | {"SUZURI_PYTHON": sys.executable}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def curve(bench, output):
    """{step: line} of metrics.jsonl."""
    for folder in (f"{bench.out}/{output}", f"{bench.out}/{output}.part"):
        if os.path.exists(f"{folder}/metrics.jsonl"):
            with open(f"{folder}/metrics.jsonl", encoding="utf-8") as f:
                lines = [json.loads(line) for line in f]
            return {line["step"]: line for line in lines if "loss" in line}
    return {}


def stopped(bench):
    total = 12 if bench.rehearsal else 300
    settings = [f"max_steps={total}", "eval_steps=1000", "deterministic=true"]
    start = time.monotonic()
    straight = train_mlm(bench, "straight", *settings)
    while not curve(bench, "straight") and straight.poll() is None:
        time.sleep(0.05)
    first = time.monotonic() - start
    log = straight.communicate()[1]
    assert straight.returncode == 0, log
    process = train_mlm(bench, "stopped", *settings)
    while len(curve(bench, "stopped")) < total // 3 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    log = process.communicate()[1]
    assert process.returncode in (0, 143), log
    at = re.findall(r"stopped after step ([\d,]+)", log)
    done, start = len(curve(bench, "stopped")), time.monotonic()
    process = train_mlm(bench, "stopped", *settings)
    while len(curve(bench, "stopped")) <= done and process.poll() is None:
        time.sleep(0.05)
    resumed = time.monotonic() - start
    log = process.communicate()[1]
    assert process.returncode == 0, log
    a, b = curve(bench, "straight"), curve(bench, "stopped")
    difference = max(abs(a[s]["loss"] - b[s]["loss"]) for s in a)
    bench.head(
        "first step s", "stopped after step", "resumed after s", "losses differ by at most", "tokens/s at the end"
    )
    bench.row(first, *(at or ["-"]), resumed, difference, a[total]["tokens_per_second"])


# --- 5 ----------------------------------------------------------------------------------------------------------------


def several(bench):
    """Several GPUs: the same run on 1, 2 and 8 of them."""
    bench.head("processes", "tokens/s", "beside one", "loss at the end")
    have = 2 if bench.rehearsal else torch.cuda.device_count()
    total, one = 6 if bench.rehearsal else 200, None
    for processes in (1, 2, 8):
        if processes > have:
            bench.say(f"not measured on {processes}: there are {have}")
            continue
        process = train_mlm(
            bench, f"processes-{processes}", f"max_steps={total}", "eval_steps=1000", processes=processes
        )
        log = process.communicate()[1]
        assert process.returncode == 0, log
        lines = curve(bench, f"processes-{processes}")
        rate = statistics.median(line["tokens_per_second"] for step, line in lines.items() if step > total // 2)
        one = one or rate
        bench.row(processes, rate, rate / one, round(lines[total]["loss"], 4))


def import_kernels():
    sys.path.insert(0, f"{ROOT}/tests")
    import kernels_on_cpu

    return kernels_on_cpu


STAGES = {1: environment, 2: steps, 3: parts, 4: trainer, 5: several}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="folder of train-000.safetensors, valid.safetensors and tokenizer/")
    p.add_argument("--out", help="folder for the tables (stage-N.md), profiles and runs")
    p.add_argument("--stage", type=int, nargs="+", choices=STAGES, default=list(STAGES))
    p.add_argument("--prepare", action="store_true", help="make DATA from SUZURI_DATA, and do nothing else")
    p.add_argument("--rehearse", action="store_true", help="on a CPU: small shapes, replaced kernels, no meaning")
    args = p.parse_args()
    if args.prepare:
        bench_train.prepare(os.environ["SUZURI_DATA"], args.data, quick=False)
        return
    if not args.out:
        p.error("--out is needed")
    if args.rehearse:
        import_kernels()
    elif not torch.cuda.is_available():
        p.error("there is no GPU here (see --rehearse)")
    bench = Bench(args)
    for stage in args.stage:
        bench.begin(stage)
        STAGES[stage](bench)
        bench.say(f"\n{time.monotonic() - bench.begun:.0f} s")


if __name__ == "__main__":
    main()
