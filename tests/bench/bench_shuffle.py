#!/usr/bin/env python3
"""Time shuffle-split against the usual ways to shuffle: alternating, medians of several rounds on one input.

The input is TEXT cut into sentences (xz or plain). Peers: `sort -R -u`, which does the same job (keyed by random
numbers, so every run differs); `shuf` and terashuf (if on the PATH), which keep duplicates; and the usual
external shuffle of the shell (decorate with random numbers | sort | cut), which keeps them, too. shuffle-split
runs in memory, and with a tenth of the input as --memory, with 1 and 2 processes.

Example:
  tests/bench/bench_shuffle.py ../shared/data/cc100/ja.txt.xz --json data/bench/shuffle.json
"""

import argparse
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

BIN = Path(__file__).resolve().parents[2] / "bin"
AIM = 2.0  # times faster than sort -R -u


def commands(megabytes):
    ours = f"{BIN}/shuffle-split --valid-lines 10k"
    little = f"--memory {max(1, megabytes / 10):.0f}M"
    decorate = "awk 'BEGIN { srand(1) } { printf \"%.9f\\t%s\\n\", rand(), $0 }'"
    peers = {
        "shuffle-split": f"{ours} out < in",
        "shuffle-split, a tenth in memory": f"{ours} {little} out < in",
        "shuffle-split, a tenth in memory, --jobs 2": f"{ours} {little} --jobs 2 out < in",
        "sort -R -u": "sort -R -u in > out.txt",
        "shuf (keeps duplicates)": "shuf in > out.txt",
        "awk | sort | cut (keeps duplicates)": f"{decorate} < in | sort -n -k 1,1 | cut -f 2- > out.txt",
    }
    if shutil.which("terashuf"):
        peers["terashuf (keeps duplicates)"] = "terashuf < in > out.txt"
    return peers


def measure(command, folder):
    """(wall seconds, CPU seconds) of a shell command that writes out/ or out.txt."""
    for path in folder.glob("out*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    env = {**os.environ, "LC_ALL": "C"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=folder, env=env, check=True, stderr=subprocess.PIPE)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("text", metavar="TEXT")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE, too")
    args = p.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        folder = Path(folder)
        with open(folder / "in", "wb") as f:
            text = subprocess.Popen([BIN / "cat-text", args.text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            subprocess.run(
                [BIN / "split-sentences"], stdin=text.stdout, stdout=f, stderr=subprocess.DEVNULL, check=True
            )
            if text.wait():
                sys.exit(f"bench_shuffle.py: {args.text}: cannot be read")
        megabytes = (folder / "in").stat().st_size / 1e6
        runs = {name: [] for name in commands(megabytes)}
        for _ in range(args.rounds):
            for name, command in commands(megabytes).items():
                runs[name].append(measure(command, folder))
    figures = {
        name: {"seconds": statistics.median(s for s, _ in run), "cpu_seconds": statistics.median(c for _, c in run)}
        for name, run in runs.items()
    }
    print(f"{megabytes:.0f} MB, medians of {args.rounds}")
    print(f"{'':45} {'wall s':>7} {'CPU s':>7} {'MB/s':>6} {'sort -R -u is':>14}")
    for name, figure in figures.items():
        figure["ratio"] = figures["sort -R -u"]["seconds"] / figure["seconds"]
        rate = megabytes / figure["seconds"]
        print(f"{name:45} {figure['seconds']:7.2f} {figure['cpu_seconds']:7.2f} {rate:6.0f} {figure['ratio']:13.1f}×")
    met = figures["shuffle-split"]["ratio"] >= AIM
    print(f"aim: {AIM}× faster than sort -R -u: {'met' if met else 'not met'}")
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        result = {"megabytes": megabytes, "rounds": args.rounds, "aim": AIM, "met": met, "figures": figures}
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
