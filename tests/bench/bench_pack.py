#!/usr/bin/env python3
"""Time pack-tokens against datasets.map with BertJapaneseTokenizer, and against bare MeCab: alternating, medians.

  2 processes each: two pack-tokens, half the lines each, against datasets.map(batched, num_proc=2) with the same
                    tokenizer; sentences per second, start-up included. The peer gets as many lines, or the first
                    --peer-lines of them, and is left out if it is not installed.
  1 process each:   pack-tokens against `fugashi -Owakati`, which only finds the words; CPU
                    seconds.

TEXT holds one sentence per line. The tokenizer is trained on its first 100,000 lines.

Example:
  xzcat ../shared/data/cc100/ja.txt.xz | bin/split-sentences > /tmp/ja.txt
  tests/bench/bench_pack.py /tmp/ja.txt --json data/bench/pack.json
"""

import argparse
import importlib.util
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AIMS = {"datasets": 6.0, "mecab": 0.8, "memory_mb": 600}


def map_peer(text, tokenizer):
    """The other side, in a process of its own."""
    import datasets
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(tokenizer)
    data = datasets.load_dataset("text", data_files=text, split="train", cache_dir=f"{text}.cache")
    data.map(
        lambda batch: auto(batch["text"], return_special_tokens_mask=True, truncation=False),
        batched=True,
        num_proc=2,
        remove_columns=["text"],
    )


def timed(*commands):
    """{wall, cpu in seconds; memory in MB of the largest} of commands [(argv, stdin, stdout)] run side by side."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    running, memory = [], 0
    for argv, stdin, stdout in commands:
        with open(stdin, "rb") as source, open(stdout, "wb") as target:
            running.append(subprocess.Popen(argv, stdin=source, stdout=target, stderr=subprocess.DEVNULL, env=env))
    for process in running:
        _, status, usage = os.wait4(process.pid, 0)
        memory = max(memory, usage.ru_maxrss / 1024)
        if status:
            sys.exit(f"{process.args[0]} failed; run it by hand to see why: {' '.join(map(str, process.args))}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": time.monotonic() - start, "cpu": cpu, "memory": memory}


def write_lines(path, lines):
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return path


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("text", metavar="TEXT")
    p.add_argument("--lines", type=int, default=300_000)
    p.add_argument("--peer-lines", type=int, help="default: as many")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE, too")
    p.add_argument("--peer", metavar="TOKENIZER", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.peer:
        return map_peer(args.text, args.peer)
    import unidic_lite

    mecab = [sys.executable, "-c", "from fugashi.cli import main; main()", "-Owakati"]
    mecab += ["-d", unidic_lite.DICDIR, "-r", f"{unidic_lite.DICDIR}/mecabrc"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with open(args.text, encoding="utf-8", newline="\n") as f:
            lines = list(itertools.islice((line for line in f if not line.isspace()), args.lines))
        half = len(lines) // 2
        peer_lines = min(args.peer_lines or len(lines), len(lines))
        whole, one, two, few, many = (
            write_lines(folder / name, part)
            for name, part in (
                ("whole", lines),
                ("one", lines[:half]),
                ("two", lines[half:]),
                ("few", lines[:peer_lines]),
                ("many", lines[:100_000]),
            )
        )
        tokenizer, null = folder / "tokenizer", os.devnull
        timed(([ROOT / "bin/train-tokenizer", tokenizer], many, null))

        def pack(text):
            return [ROOT / "bin/pack-tokens", "--tokenizer", tokenizer, f"{text}.safetensors"], text, null

        peer = importlib.util.find_spec("datasets")
        runs = {name: [] for name in ("pack x 2", *(["datasets x 2"] if peer else []), "pack", "mecab")}
        for _ in range(args.rounds):
            runs["pack x 2"].append(timed(pack(one), pack(two)))
            if peer:
                shutil.rmtree(f"{few}.cache", ignore_errors=True)
                runs["datasets x 2"].append(timed(([sys.executable, __file__, few, "--peer", tokenizer], null, null)))
            runs["pack"].append(timed(pack(whole)))
            runs["mecab"].append(timed((mecab, whole, folder / "words")))
    median = {name: {k: statistics.median(r[k] for r in rs) for k in rs[0]} for name, rs in runs.items()}
    rate, cpu_rate = (
        {"ours": len(lines) / median["pack x 2"][kind]}
        | ({"theirs": peer_lines / median["datasets x 2"][kind]} if peer else {})
        for kind in ("wall", "cpu")
    )
    figures = {
        "sentences": len(lines),
        "peer_sentences": peer_lines,
        "sentences_a_second": rate,
        "ratio": rate["ours"] / rate["theirs"] if peer else None,
        "cpu_ratio": cpu_rate["ours"] / cpu_rate["theirs"] if peer else None,
        "cpu_seconds": {"pack-tokens": median["pack"]["cpu"], "fugashi -Owakati": median["mecab"]["cpu"]},
        "of_mecab": median["mecab"]["cpu"] / median["pack"]["cpu"],
        "peak_memory_mb": median["pack"]["memory"],
        "aims": AIMS,
    }
    print(f"pack-tokens, 2 processes       {rate['ours']:9,.0f} sentences/s")
    if peer:
        print(f"datasets.map, 2 processes      {rate['theirs']:9,.0f} sentences/s", end="")
        print(f"   ratio {figures['ratio']:.1f}, by CPU {figures['cpu_ratio']:.1f} (aim {AIMS['datasets']:.0f})")
    else:
        print("datasets.map                   not installed")
    print(f"pack-tokens, 1 process         {median['pack']['cpu']:9.1f} s CPU, {figures['peak_memory_mb']:.0f} MB")
    print(f"fugashi -Owakati, 1 process    {median['mecab']['cpu']:9.1f} s CPU", end="")
    print(f"   {figures['of_mecab']:.2f} of its speed (aim {AIMS['mecab']})")
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
