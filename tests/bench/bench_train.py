#!/usr/bin/env python3
"""Training speed compared with Hugging Face's Trainer in one run: the same sequences, model and precision.

Real tokens per second: padding does not count. The peer is Trainer + DataCollatorForLanguageModeling on the batches
that train_sampling_strategy="group_by_length" makes of the whole set, with fused AdamW: at the best of several batch
sizes, and on a CPU also with tiny-plm's step, 256 sentences in one batch. Dropout is 0 on both sides. On a machine
with a GPU the same command measures the tiny and the base model there, with MFU (model.flops over the data sheet's
peak) and a profile.

Example:
  python tests/bench/bench_train.py --out /tmp/bench
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "lib"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from suzuri.environment import keep_memory  # noqa: E402
from suzuri.shards.shard_file import Shard  # noqa: E402
from suzuri.tokenizer import tokenizer_folder  # noqa: E402
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder  # noqa: E402
from suzuri.training.batches import ahead  # noqa: E402
from suzuri.training.device import peak_flops  # noqa: E402
from suzuri.training.inputs import TrainingInputs  # noqa: E402
from suzuri.training.masking import Masker  # noqa: E402
from suzuri.training.model import flops  # noqa: E402
from suzuri.training.recipe import read_recipe  # noqa: E402
from suzuri.training.step import StepRunner  # noqa: E402
from suzuri.training.token_axis import TokenAxis, micro_batches  # noqa: E402
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling, TrainerCallback, TrainingArguments  # noqa: E402
from transformers import Trainer as PeerTrainer  # noqa: E402
from transformers.trainer_pt_utils import get_length_grouped_indices  # noqa: E402

BATCHES = {True: (64, 128, 256, 512, 1024), False: (16, 32, 64)}  # of the peer, with and without a GPU; the best counts
TINY_PLM_BATCH = 256  # sentences per step


def prepare(data, out, quick):
    """Tokenizer and shard of the real text, made by the project's own tools: the folder that holds them.

    All of the text is used: fewer sentences would not give a vocabulary of 32,768 pieces.
    """
    text, lines = ("ja-mini.txt.xz", 20_000) if quick else ("ja.txt.xz", 200_000)
    if not os.path.exists(os.path.join(out, "train-000.safetensors")):
        os.makedirs(out, exist_ok=True)
        b = os.path.join(ROOT, "bin")
        for command in (
            f"{b}/cat-text {data}/cc100/{text} | {b}/split-sentences | {b}/filter-sentences"
            f" | head -n {lines} > {out}/text.txt",
            f"{b}/shuffle-split --valid-lines 1000 {out}/split < {out}/text.txt",
            f"cat {out}/split/train-*.txt | {b}/train-tokenizer --vocab-size 32768 {out}/tokenizer",
            f"{b}/pack-tokens --tokenizer {out}/tokenizer {out}/valid.safetensors < {out}/split/valid.txt",
            f"cat {out}/split/train-*.txt | {b}/pack-tokens --tokenizer {out}/tokenizer {out}/train-000.safetensors",
        ):
            subprocess.run(["bash", "-c", f"set -o pipefail; {command} || [ $? = 141 ]"], check=True)
    return out


def make_runner(folder, config, settings):
    """A StepRunner over the shard."""
    recipe = f"{ROOT}/configs/train-{config}-cc100-ja.json"
    return StepRunner(
        TrainingInputs(
            recipe,
            *read_recipe(recipe, settings),
            train=[folder],
            valid=f"{folder}/valid.safetensors",
            tokenizer=f"{folder}/tokenizer",
        )
    )


def first_step(runner):
    """The seconds that it takes, compilation included."""
    batches, start = runner.batches.of_step(0), time.perf_counter()
    runner.train_step(0, batches)
    synchronize()
    return time.perf_counter() - start


def run_ours(runner, steps, first=1):
    """(real tokens per second, FLOP/s)."""
    prepared = ahead(map(runner.batches.of_step, range(first, first + steps)))  # as TrainingLoop has it
    done, work, start = 0, 0, time.perf_counter()
    for step in range(first, first + steps):
        batches = next(prepared)
        runner.train_step(step, batches)
        done += runner.recipe["batch_tokens"]
        squares = sum(squares for _, squares in batches)
        work += flops(runner.model, runner.recipe["batch_tokens"], runner.predictions(step), squares)
    synchronize()
    seconds = time.perf_counter() - start
    return done / seconds, work / seconds


class Clock(TrainerCallback):
    """Times the steps after the first; `count` is the collator's number of real tokens so far."""

    def __init__(self, count):
        self.count, self.marks = count, []

    def on_step_end(self, args, state, control, **kwargs):
        synchronize()
        self.marks.append((time.perf_counter(), self.count[0]))


def grouped_by_length(lengths, batch, accumulate, steps):
    """The indices of some steps' sequences in group_by_length's micro-batches, lengths of all sorts in every step.

    It sorts the sequences of up to 50 steps, long ones first: a run of a few steps would see only long ones.
    """
    size = batch * accumulate
    together = max(steps, min(len(lengths) // (size * 4), 50))
    generator = torch.Generator().manual_seed(0)
    found = get_length_grouped_indices(lengths, size, together, generator)[: size * together]
    found = [found[i : i + batch] for i in range(0, len(found), batch)]
    found = [found[(2 * i + 1) * len(found) // (2 * accumulate * steps)] for i in range(accumulate * steps)]
    return [i for step in range(steps) for one in found[step::steps] for i in one]


def run_peer(folder, model_config, precision, batch, accumulate, steps):
    """Real tokens per second of Hugging Face's Trainer; None if its batch does not fit."""
    shard, words = Shard(f"{folder}/train-000.safetensors"), tokenizer_folder.load(f"{folder}/tokenizer")
    collate, count = DataCollatorForLanguageModeling(words, mlm_probability=0.15), [0]

    def counting(features):
        batch = collate(features)
        count[0] += int(batch["attention_mask"].sum())
        return batch

    rows = []
    for i in grouped_by_length(np.diff(shard.offsets).tolist(), batch, accumulate, steps + 1):
        ids = shard[i].tolist()
        special = [int(i < 5) for i in ids]
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "special_tokens_mask": special})
    clock = Clock(count)
    args = TrainingArguments(
        output_dir=f"{folder}/peer", max_steps=steps + 1, per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate, train_sampling_strategy="sequential", optim="adamw_torch_fused",
        bf16=precision == "bf16", fp16=precision == "fp16", report_to="none", save_strategy="no", logging_strategy="no",
        disable_tqdm=True, dataloader_num_workers=0, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(model_config, attn_implementation="sdpa")
    keep_memory()  # as our side has it
    try:
        PeerTrainer(model, args, train_dataset=rows, data_collator=counting, callbacks=[clock]).train()
    except torch.OutOfMemoryError:
        return None
    (t0, n0), (t1, n1) = clock.marks[0], clock.marks[-1]
    return (n1 - n0) / (t1 - t0)


def apart(function, *args):
    """function(*args) in a process of its own, which shares neither memory nor threads with ours."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # free what our side has kept, so that the peer has the whole GPU, too
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def loader_speed(folder):
    """{"k chunks at once": tokens per second of one thread's CPU time, with masks; "ahead": of wall time}."""
    axis, words = TokenAxis([Shard(f"{folder}/train-000.safetensors")], 8192), TokenizerFolder(f"{folder}/tokenizer")
    masker, found = Masker(words.pieces, words.special_ids.values(), words.special_ids["mask_token"]), {}
    for at_once in (1, 4, 16):
        best = 0.0
        for _ in range(10):
            start = time.thread_time()
            count = sum(len(b["input_ids"]) for b in micro_batches(axis, masker, 0, range(160), at_once, 0))
            best = max(best, count / (time.thread_time() - start))
        found[f"{at_once} at once"] = best
    start = time.perf_counter()
    count = sum(len(b["input_ids"]) for b in ahead(micro_batches(axis, masker, 0, range(1600), 16, 0)))
    return found | {"ahead": count / (time.perf_counter() - start)}


def profile(runner, first, steps):
    """(table of the top operations, share of the time in which the GPU computes, seconds): the rest are launch gaps.

    Of some steps on a GPU. On a CPU of one micro-batch, forward and backward, in this thread: of the threads that
    do the work otherwise the profiler sees nothing.
    """
    cuda = torch.cuda.is_available()
    kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * cuda
    inputs, _ = runner.batches.of_step(first)[0]
    synchronize()
    with torch.profiler.profile(activities=kinds) as found:
        start = time.perf_counter()
        if cuda:
            run_ours(runner, steps, first)
        else:
            runner.gradients(inputs)
        seconds = time.perf_counter() - start
    busy = sum(e.self_device_time_total for e in found.key_averages()) / 1e6 if cuda else float("nan")
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    return found.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=70), busy / seconds, seconds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="scratch folder")
    p.add_argument("--rounds", type=int, default=3, help="times that both sides are measured in turn")
    p.add_argument("--profile", action="store_true", help="also write the top operations of a step to OUT")
    p.add_argument("--precision", choices=("fp32", "bf16"), help="measure only with this precision")
    p.add_argument(
        "--quick", action="store_true", help="one round of one step with a tiny model, only to see that it works"
    )
    args = p.parse_args()
    data = os.environ.get("SUZURI_DATA", os.path.join(ROOT, "../shared/data"))
    folder = prepare(data, os.path.join(args.out, "train-quick" if args.quick else "train"), args.quick)
    results = {"torch": torch.__version__, "loader": loader_speed(folder), "cases": []}
    print("loader, M tokens/s (aim 50): " + ", ".join(f"{k} {v / 1e6:.1f}" for k, v in results["loader"].items()))
    gpu = torch.cuda.is_available()
    cases = [("bert-tiny", "bf16"), ("bert-base", "bf16")] if gpu else [("bert-tiny", "fp32")]
    if not gpu and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        cases.append(("bert-tiny", "bf16"))
    cases = [case for case in cases if args.precision in (None, case[1])]
    print("model\tprecision\tours\tHF Trainer\tratio\tMFU")
    for config, precision in cases[: 1 if args.quick else None]:
        results["cases"].append(apart(compare, folder, config, precision, gpu, args))
        with open(os.path.join(args.out, "bench_train.json"), "w", encoding="utf-8") as f:
            json.dump(results, f, indent=2)


def compare(folder, config, precision, gpu, args):
    """Both sides in turn, on one model: the figures, printed and returned."""
    keep_memory()  # as StepRunner does
    settings = [f"precision={precision}", "optim=adamw"] + ([] if gpu else ["batch_tokens=32768"])
    if args.quick:
        settings += ["model.num_hidden_layers=1", "model.hidden_size=32", "model.intermediate_size=32"]
        settings += ["model.num_attention_heads=4"]
    runner = make_runner(folder, config, settings)
    seconds = first_step(runner)
    model_config = runner.model.config.__class__(**runner.model.config.to_dict())
    model_config.hidden_dropout_prob = model_config.attention_probs_dropout_prob = 0.0
    # As many tokens per step as ours: sequences per step = batch_tokens / their mean length.
    sequences = round(runner.recipe["batch_tokens"] * runner.inputs.axis.num_sequences / runner.inputs.axis.num_tokens)
    best = 32
    if not args.quick:  # the peer's best batch size, found once
        tried = {}
        for size in BATCHES[gpu]:
            accumulate = max(1, sequences // size // (1 if gpu else 4))
            tried[size] = apart(run_peer, folder, model_config, precision, size, accumulate, 3 if gpu else 1) or 0
        print(f"# HF Trainer, real tokens/s by batch size: { {b: round(v) for b, v in tried.items()} }")
        best = max(tried, key=tried.get)
    steps, peer_steps = (1, 1) if args.quick else (20, 10) if gpu else (2, 1)
    # Four such batches per step of the optimizer, as in tiny-plm: that costs the peer less than one each.
    peers = {best: max(1, sequences // best)} | ({} if gpu or args.quick else {TINY_PLM_BATCH: 4})
    mine, work, peer = [], [], {batch: [] for batch in peers}
    for turn in range(1 if args.quick else args.rounds):
        speed, flop_rate = run_ours(runner, steps, 1 + turn * steps)
        mine.append(speed)
        work.append(flop_rate)
        for batch, accumulate in peers.items():
            peer[batch].append(apart(run_peer, folder, model_config, precision, batch, accumulate, peer_steps))
    speed = statistics.median(mine)
    with runner.all_threads():
        mfu = statistics.median(work) / peak_flops(runner.ranks.device, runner.dtype)
    for batch, speeds in peer.items():
        theirs = statistics.median(speeds)
        print(
            f"{config}\t{precision}\t{speed:,.0f}\t{theirs:,.0f} (batch {batch})\t{speed / theirs:.2f}\t{mfu:.1%}",
            flush=True,
        )
    print(f"# first step, compilation included: {seconds:.1f} s; {runner.batches.chunks_at_once} chunks at once")
    found = {"model": config, "precision": precision, "ours": mine, "peer": peer, "mfu": mfu}
    if args.profile:
        table, busy, profiled = profile(runner, 1000, 3)
        path = os.path.join(args.out, f"profile-{config}-{precision}.txt")
        with open(path, "w", encoding="utf-8") as f:
            f.write(table)
        print(f"# profile: {path}" + (f"; the GPU computes {busy:.0%} of {profiled:.2f} s" if gpu else ""))
    return found | {"first_step_seconds": seconds, "chunks_at_once": runner.batches.chunks_at_once}


if __name__ == "__main__":
    main()
