#!/usr/bin/env python3
"""Time the pipe from xz to shuffled text, and its parts, against others; check that the bytes are always the same.

The two sides alternate; figures are medians of several rounds:

  pipe       `xzcat TEXT | split-sentences | filter-sentences | shuffle-split` against `xzcat TEXT`: wall time, and
             the time at which each tool of the pipe ended. After filter-sentences has ended come the sort and the
             write. On four cores or more split-sentences runs with --jobs 2.
  split      split-sentences alone: CPU seconds for the unpacked text; wall time with --jobs 2 against --jobs 1, and
             against two separate processes, each with its own text: the most that two cores can do here.
  wiki       extract-wiki against a worker with tiny-plm's rules, both on the unpacked WIKI dump, repeated, because
             a real one is long: CPU seconds, start-up included.
  memory     peak resident memory of shuffle-split with an eighth of its input as --memory.
  identical  shuffle-split's files for the same sentences again, in reversed order, and with little memory and 2
             processes; split-sentences' output with 1 and 2 processes. A difference is an error.

TEXT is compressed with xz. WIKI is a Cirrus dump, compressed in any way.

Example:
  D=../shared/data; tests/bench/bench_pipe.py $D/cc100/ja.txt.xz $D/jawiki/*.json.gz --json data/bench/pipe.json
"""

import argparse
import filecmp
import hashlib
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import unicodedata
from multiprocessing.pool import ThreadPool
from pathlib import Path

BIN = Path(__file__).resolve().parents[2] / "bin"
AIMS = {"pipe_of_xzcat": 2.5, "split_mb_a_second": 40.0, "jobs_speedup": 1.8, "wiki": 5.0, "memory_over_mb": 200}


def worker():
    """The peer of extract-wiki, in a process of its own: what tiny-plm does with each page, in our code."""
    rules = [
        (re.compile(r"\[\d+\]"), ""),  # [1]
        (re.compile(r"\[(?:注|注釈|脚注|note) ?\d+\]"), ""),  # [注 1]
        (re.compile(r"\[(?:要|独自|いつ|誰|どこ|信頼性|出典)[^\[\]]*\]"), ""),  # [要出典]
        (re.compile(r" \^ .*"), ""),  # the notes themselves, to the end
        (re.compile(r"\s+"), " "),
    ]
    with open(1, "w", encoding="utf-8", errors="replace", closefd=False) as out:
        for line in sys.stdin.buffer:
            if line.isspace():
                continue
            text = json.loads(line).get("text")
            if not text:
                continue
            text = unicodedata.normalize("NFKC", text)
            for pattern, instead in rules:
                text = pattern.sub(instead, text)
            out.write("".join(c for c in text if c.isprintable()) + "\n")


def run(*commands, stdin=os.devnull, stdout=os.devnull):
    """Run commands as a pipe -> for each {"end": seconds after the start, "cpu": seconds, "memory": peak in MB}."""
    figures, running = [], []
    with open(stdin, "rb") as source, open(stdout, "wb") as target, tempfile.TemporaryFile() as said:
        start = time.monotonic()
        for i, command in enumerate(commands):
            last = i == len(commands) - 1
            process = subprocess.Popen(command, stdin=source, stdout=target if last else subprocess.PIPE, stderr=said)
            source.close()  # as in a shell, only its reader keeps a pipe open
            source = process.stdout
            running.append(process)
        for process in running:  # they end in this order: a reader outlives its writer
            _, status, usage = os.wait4(process.pid, 0)
            end = time.monotonic() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            figures.append({"end": end, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1024})
        if any(process.returncode for process in running):
            said.seek(0)
            pipe = " | ".join(shlex.join(map(str, command)) for command in commands)
            sys.exit(f"{pipe} failed:\n{said.read().decode(errors='replace')}")
    return figures


def tool(name, *args):
    return [BIN / name, *map(str, args)]


def shuffle(out, *args):
    return tool("shuffle-split", "--valid-lines", "10k", "--shards", 4, *args, out)


def digests(folder):
    """{file name: sha256} of the texts in a folder that shuffle-split made."""
    found = {}
    for path in sorted(folder.glob("*.txt")):
        with open(path, "rb") as f:
            found[path.name] = hashlib.file_digest(f, "sha256").hexdigest()
    return found


def measure_pipe(text, folder, rounds):
    names = ["xzcat", "split-sentences", "filter-sentences", "shuffle-split"]
    alone, ends = [], []
    for _ in range(rounds):
        alone.append(run(["xzcat", text])[0]["end"])
        split = tool("split-sentences", "--jobs", 2 if len(os.sched_getaffinity(0)) >= 4 else 1)
        figures = run(["xzcat", text], split, tool("filter-sentences"), shuffle(folder / "piped"))
        ends.append([f["end"] for f in figures])
    median = {name: statistics.median(e[i] for e in ends) for i, name in enumerate(names)}
    xzcat, pipe = statistics.median(alone), median["shuffle-split"]
    return {
        "seconds": {"xzcat": xzcat, "pipe": pipe},
        "ratio": pipe / xzcat,
        "ends_in_the_pipe": median,
        "after_xz": statistics.median(e[-1] - e[0] for e in ends),
        "sort_and_write": statistics.median(e[-1] - e[-2] for e in ends),
    }


def measure_split(plain, folder, rounds):
    one, two, apart = [], [], []
    plain, once = folder / "long", plain
    run(["cat", *[once] * 4], stdout=plain)  # so that the start counts as little as on real texts
    split = tool("split-sentences")
    for _ in range(rounds):
        one += run(split, stdin=plain)
        two += run([*split, "--jobs", "2"], stdin=plain)
        with ThreadPool(2) as pool:  # they share nothing: the most that two cores can do here
            apart.append(max(r["end"] for [r] in pool.map(lambda _: run(split, stdin=plain), range(2))))
    wall = {n: statistics.median(r["end"] for r in runs) for n, runs in (("1", one), ("2", two))}
    cpu = statistics.median(r["cpu"] for r in one)
    run(split, stdin=plain, stdout=folder / "one-job")
    run([*split, "--jobs", "2"], stdin=plain, stdout=folder / "two-jobs")
    return {
        "seconds": wall | {"2 apart": statistics.median(apart)},
        "cpu_seconds": cpu,
        "mb_a_second": plain.stat().st_size / 1e6 / cpu,
        "jobs_speedup": wall["1"] / wall["2"],
        "ceiling": 2 * wall["1"] / statistics.median(apart),
        "identical": filecmp.cmp(folder / "one-job", folder / "two-jobs", shallow=False),
    }


def measure_wiki(dump, rounds):
    ours, theirs = [], []
    for _ in range(rounds):
        ours += run(tool("extract-wiki"), stdin=dump)
        theirs += run([sys.executable, __file__, "--worker"], stdin=dump)
    cpu = {n: statistics.median(r["cpu"] for r in runs) for n, runs in (("ours", ours), ("theirs", theirs))}
    return {"megabytes": dump.stat().st_size / 1e6, "cpu_seconds": cpu, "ratio": cpu["theirs"] / cpu["ours"]}


def check_shuffle(sentences, folder):
    """-> (peak memory with an eighth of the input as --memory, {variant: are its files those of the first run?})"""
    with open(folder / "reversed", "wb") as f:
        subprocess.run(["tac", sentences], stdout=f, check=True)
    few = max(10**6, sentences.stat().st_size // 8)
    run(shuffle(folder / "first"), stdin=sentences)
    run(shuffle(folder / "again"), stdin=sentences)
    run(shuffle(folder / "backwards"), stdin=folder / "reversed")
    run(shuffle(folder / "two", "--memory", few, "--jobs", 2), stdin=sentences)
    [small] = run(shuffle(folder / "small", "--memory", few), stdin=sentences)
    first = digests(folder / "first")
    variants = {"again": "again", "backwards": "reversed", "small": "little memory", "two": "little memory, 2 jobs"}
    memory = {"input_mb": sentences.stat().st_size / 1e6, "memory_mb": few / 1e6, "peak_mb": small["memory"] * 1.048576}
    memory["over_mb"] = memory["peak_mb"] - memory["memory_mb"]
    return memory, {f"shuffle-split, {what}": digests(folder / name) == first for name, what in variants.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("text", metavar="TEXT", help="paragraphs, compressed with xz")
    p.add_argument("wiki", metavar="WIKI", help="a Cirrus dump")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--dump-copies", type=int, default=15, metavar="N", help="read WIKI N times (default 15)")
    p.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        plain, dump, sentences = folder / "plain", folder / "dump", folder / "sentences"
        run(["xzcat", args.text], stdout=plain)
        run(tool("cat-text", *[args.wiki] * args.dump_copies), stdout=dump)
        run(tool("split-sentences", "--jobs", 2), tool("filter-sentences"), stdin=plain, stdout=sentences)
        pipe = measure_pipe(args.text, folder, args.rounds)
        split = measure_split(plain, folder, args.rounds)
        wiki = measure_wiki(dump, args.rounds)
        memory, identical = check_shuffle(sentences, folder)
        megabytes = plain.stat().st_size / 1e6
    identical["split-sentences, 1 and 2 jobs"] = split.pop("identical")
    figures = {
        "rounds": args.rounds,
        "megabytes": megabytes,
        "pipe": pipe,
        "split": split,
        "wiki": wiki,
        "memory": memory,
        "identical": identical,
        "aims": AIMS,
    }
    print(f"{megabytes:.0f} MB of text, {wiki['megabytes']:.0f} MB of dump, medians of {args.rounds}")
    print(f"xzcat                     {pipe['seconds']['xzcat']:7.2f} s")
    print(f"the pipe                  {pipe['seconds']['pipe']:7.2f} s", end="")
    print(f"   ratio {pipe['ratio']:.2f} (aim at most {AIMS['pipe_of_xzcat']})")
    for name, end in pipe["ends_in_the_pipe"].items():
        print(f"  {name:16} ended at {end:6.2f} s")
    print(f"  after xz {pipe['after_xz']:.2f} s, of which sort and write {pipe['sort_and_write']:.2f} s")
    print(f"split-sentences, 1 core   {split['cpu_seconds']:7.2f} s CPU", end="")
    print(f"   {split['mb_a_second']:.0f} MB/s (aim {AIMS['split_mb_a_second']:.0f})")
    print(f"  2 jobs beside 1         {split['seconds']['2']:7.2f} s beside {split['seconds']['1']:.2f} s", end="")
    print(f"   {split['jobs_speedup']:.2f}× as fast (aim {AIMS['jobs_speedup']}; two apart: {split['ceiling']:.2f}×)")
    print(f"extract-wiki              {wiki['cpu_seconds']['ours']:7.2f} s CPU")
    print(f"a worker, tiny-plm's rules   {wiki['cpu_seconds']['theirs']:4.2f} s CPU", end="")
    print(f"   ratio {wiki['ratio']:.1f} (aim {AIMS['wiki']:.0f})")
    print(f"shuffle-split of {memory['input_mb']:.0f} MB, --memory {memory['memory_mb']:.0f}M", end="")
    print(f"   peak {memory['peak_mb']:.0f} MB, {memory['over_mb']:.0f} over (aim at most {AIMS['memory_over_mb']})")
    for what, same in identical.items():
        print(f"{what}: {'the same bytes' if same else 'OTHER BYTES'}")
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")
    if not all(identical.values()):
        sys.exit("bench_pipe.py: the outputs differ")


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["--worker"] else main()
