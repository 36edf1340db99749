#!/usr/bin/env python3
"""Measure the laws by which the cost of a corpus of many files grows, and print them as tables in Markdown.

CPU seconds and peak memory of map-text, reduce-text and the join of shuffle-split by amount of text, number of files
and number of ranges; what a start costs; make's own time by the number of files; xz with one block and with several.
TEXT (plain or packed) is cut into files in a folder under --work, which is removed. CPU seconds are of all processes
and hardly depend on other work on the machine; wall seconds do.

Example:
  tests/bench/scale.py ../shared/data/cc100/ja.txt.xz --json data/bench/scale.json
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / "bin"
SHARDS = 32


def run(*command, **kwargs):
    """{cpu, wall (seconds), memory (MB, of the largest process)} of a command."""
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "SUZURI_LOCK", "PROFILE", "DATA")
    env = {name: value for name, value in os.environ.items() if name not in inherited}
    start = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(list(map(str, command)), env=env, **(quiet | kwargs))
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"scale.py: {' '.join(map(str, command))}: status {os.waitstatus_to_exitcode(status)}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"cpu": cpu, "wall": time.monotonic() - start, "memory": usage.ru_maxrss / 1000}


def total(runs):
    return {
        "cpu": sum(r["cpu"] for r in runs),
        "memory": max(r["memory"] for r in runs),
        "wall": sum(r["wall"] for r in runs),
    }


def cut(text, n, folder):
    """A file in n files of whole lines."""
    folder.mkdir(parents=True)
    split = ["split", "-n", f"l/{n}", "-d", "-a", "5", "--additional-suffix=.txt"]
    subprocess.run([*split, text, f"{folder}/"], check=True)
    return sorted(folder.iterdir())


def map_all(files, maps, *options):
    maps.mkdir(parents=True)
    return total([run(BIN / "map-text", *options, path, maps / f"{path.name}.records") for path in files])


def kinds(text, megabytes, work):
    """Maps of the beginning of a text in files of each kind."""
    work.mkdir()
    with open(work / "a.txt", "wb") as f:
        subprocess.run(["head", "-c", f"{megabytes}M", text], stdout=f, check=True)
    for command, name in (["xz", "-1"], "a.txt.xz"), (["gzip", "-1"], "a.txt.gz"), (["bzip2"], "a.txt.bz2"):
        with open(work / name, "wb") as f:
            subprocess.run([*command, "-c", work / "a.txt"], stdout=f, check=True)
    if not (pid := os.fork()):  # a process of its own: what this one has in memory counts in that of its children
        records(work)
        os._exit(0)
    os.waitpid(pid, 0)
    return {path.name: run(BIN / "map-text", path, work / "out.records") for path in sorted(work.glob("a.*"))}


def records(work):
    """a.jsonl, and if pyarrow is installed a.parquet, from a.txt."""
    documents = [d for d in (work / "a.txt").read_text(errors="replace").split("\n\n") if d.strip()]
    with open(work / "a.jsonl", "w") as f:
        f.writelines(json.dumps({"text": d}, ensure_ascii=False) + "\n" for d in documents)
    with suppress(ModuleNotFoundError):
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"text": documents}), work / "a.parquet")


def reduce_some(maps, ranges, n, *options, sample=4):
    """`sample` of n ranges, evenly spread."""
    ranges.mkdir(parents=True, exist_ok=True)
    which = sorted({1 + n * i // sample for i in range(sample)} if n > sample else range(1, n + 1))
    shape = ["--shards", SHARDS, "--valid-fraction", "0.01", *options]
    runs = [run(BIN / "reduce-text", "--range", f"{i}/{n}", *shape, maps, ranges / f"{i}.records") for i in which]
    return {"ranges": len(which)} | total(runs)


def make_time(files, work):
    """make's own time for a folder of so many files: nothing made yet (-n), and nothing to do."""
    data = work / "data"
    (data / "raw/web").mkdir(parents=True)
    for i in range(files):
        (data / f"raw/web/part-{i:05}.txt").write_text("硯で墨をする。\n")
    make = ["make", "-C", ROOT, f"DATA={data}"]
    dry = run(*make, "-n", "build-dataset-web")
    run(*make, f"{data}/.stamps/maps", f"{data}/.stamps/text-web")
    (data / "pieces/maps/web").mkdir(parents=True)
    for i in range(files):
        (data / f"pieces/maps/web/part-{i:05}.txt.records").touch()
    (data / "pieces/maps/web/complete").touch()
    (data / "text/web").mkdir(parents=True)
    (data / "text/web/manifest.json").write_text('{\n  "unlisted": []\n}\n')
    again = run(*make, "build-dataset-web")
    shutil.rmtree(data)
    return dry, again


DISK = 500  # MB/s: the join reads and writes all text once, on one machine
# MB and files: cc100-ja cut into 64 files, with the 220 bytes that a line of its part in SUZURI_DATA has.
CORPORA = {"cc100-ja, 392M lines": (392 * 220, 64), "1 TB of text": (10**6, 5000)}
MACHINES = {"1 × 16": 16, "8 × 64": 512}  # cores


def plan(found, size):
    """What the text stages of larger corpora would take by these laws, as a table."""
    start, each = found["map start"]["cpu"], found["reduce start"]["cpu"]
    mapped = (found["map in 1 pieces"]["cpu"] - start) / size
    reduced = (found["reduce with 1G"]["cpu"] - each) / size
    by_file = {int(name.split()[2]): r["cpu"] for name, r in found.items() if name.startswith("reduce of")}
    few, most = min(by_file), max(by_file)
    opened = (by_file[most] - by_file[few]) / (most - few)
    print(f"""
CPU seconds of all maps: files × {start:.2f} + MB × {mapped:.3f}
CPU seconds of all reduces: ranges × ({each:.2f} + files × {opened:.5f}) + MB × {reduced:.3f}
join: 2 × MB / {DISK}; disk: the input and 3 × MB (maps, ranges, result); memory: per core 60 MB and SORT_MEMORY

| corpus | files | machines × cores | ranges | map, h | reduce, h | join, h | disk, TB | memory per core, GB |
|---|---:|---:|---:|---:|---:|---:|---:|---:|""")
    for corpus, (megabytes, files) in CORPORA.items():
        for machines, cores in MACHINES.items():
            ranges = max(16, cores)
            hours = (files * start + megabytes * mapped) / cores / 3600
            more = (ranges * (each + files * opened) + megabytes * reduced) / cores / 3600
            row = [corpus, files, machines, ranges, f"{hours:.2f}", f"{more:.2f}", f"{2 * megabytes / DISK / 3600:.2f}"]
            print("| " + " | ".join(map(str, [*row, f"{3 * megabytes / 1e6:.2f}", "1.1"])) + " |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("text", metavar="TEXT")
    p.add_argument("--megabytes", type=int, default=120, help="of TEXT (default 120)")
    p.add_argument("--pieces", type=int, nargs="+", default=[1, 4, 16, 64])
    p.add_argument("--ranges", type=int, nargs="+", default=[4, 16, 64, 256])
    p.add_argument("--files", type=int, nargs="+", default=[10, 100, 1000, 5000, 10000])
    p.add_argument("--work", default=".", metavar="DIR", help="where the scratch folder goes (default .)")
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE, too")
    args = p.parse_args()
    found = {"load before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        work = Path(folder)
        text = work / "text"
        with open(text, "wb") as f:
            subprocess.run([BIN / "cat-text", args.text], stdout=f, stderr=subprocess.DEVNULL, check=True)
        os.truncate(text, min(text.stat().st_size, args.megabytes * 10**6))
        size = text.stat().st_size / 1e6

        print(f"load {found['load before']:.1f}, {size:.0f} MB of text\n")
        print(f"| map-text of {min(16, args.megabytes)} MiB | CPU s | peak MB |\n|---|---:|---:|")
        for name, r in kinds(text, min(16, args.megabytes), work / "kinds").items():
            found[f"map {name}"] = r
            print(f"| `{name}` | {r['cpu']:.2f} | {r['memory']:.0f} |")
        (work / "line").write_text("硯で墨をすると心が静まる。\n")
        r = found["map start"] = map_all(cut(work / "line", 1, work / "one"), work / "one-map")
        print(f"| a file of one line | {r['cpu']:.2f} | {r['memory']:.0f} |\n", flush=True)

        print("| pieces | map-text, CPU s | MB/s per core | peak MB of one | maps, MB |\n|---:|---:|---:|---:|---:|")
        for n in args.pieces:
            files = cut(text, n, work / f"raw-{n}")
            r = found[f"map in {n} pieces"] = map_all(files, work / f"maps-{n}")
            disk = sum(path.stat().st_size for path in (work / f"maps-{n}").iterdir()) / 1e6
            print(f"| {n} | {r['cpu']:.1f} | {size / r['cpu']:.1f} | {r['memory']:.0f} | {disk:.0f} |", flush=True)
        maps = work / f"maps-{args.pieces[-1]}"

        print("\n| ranges | reduce-text, CPU s a range | CPU s, all ranges | peak MB |\n|---:|---:|---:|---:|")
        for n in args.ranges:
            r = found[f"reduce in {n} ranges"] = reduce_some(maps, work / "some", n)
            each = r["cpu"] / r["ranges"]
            print(f"| {n} | {each:.2f} | {each * n:.1f} | {r['memory']:.0f} |", flush=True)
        (work / "none").mkdir()
        os.link(next((work / "one-map").iterdir()), work / "none/0.records")
        found["reduce start"] = reduce_some(work / "none", work / "some", 1)
        print("\n| `--memory` of one range of all | CPU s | peak MB |\n|---:|---:|---:|")
        for memory in ("10M", "50M", "1G"):
            r = found[f"reduce with {memory}"] = reduce_some(maps, work / f"all-{memory}", 1, "--memory", memory)
            print(f"| {memory} | {r['cpu']:.1f} | {r['memory']:.0f} |", flush=True)

        shape = ["--shards", SHARDS, "--valid-fraction", "0.01", "--source", work / f"raw-{args.pieces[-1]}"]
        r = run(BIN / "shuffle-split", "--maps", maps, "--ranges", work / "all-10M", *shape, work / "out")
        found["join"] = r
        out = sum(path.stat().st_size for path in (work / "out").iterdir()) / 1e6
        print(f"\njoin: {out:.0f} MB in {r['cpu']:.1f} CPU s, {out / r['cpu']:.0f} MB/s, {r['memory']:.0f} MB\n")

        print("| files | reduce-text, CPU s | make -n, CPU s (wall) | nothing to do, CPU s (wall) |")
        print("|---:|---:|---:|---:|")
        (piece,) = (work / "one-map").iterdir()
        for n in args.files:
            many = work / f"many-{n}"
            many.mkdir()
            for i in range(n):
                os.link(piece, many / f"{i}.records")
            r = found[f"reduce of {n} files"] = reduce_some(many, work / "some", 16, sample=1)
            shutil.rmtree(many)
            dry, again = found[f"make of {n} files"] = make_time(n, work)
            times = " | ".join(f"{t['cpu']:.2f} ({t['wall']:.2f})" for t in (dry, again))
            print(f"| {n} | {r['cpu']:.2f} | {times} |", flush=True)

        print("\n| xz -dc | -T1, wall s (CPU) | -T2, wall s (CPU) |\n|---|---:|---:|")
        for name, options in ("one block", ["-T1"]), ("blocks of 8 MB", ["-T2", "--block-size=8MiB"]):
            with open(work / "x.xz", "wb") as f:
                subprocess.run(["xz", "-1", *options, "-c", text], stdout=f, check=True)
            times = found[f"xz {name}"] = [run("xz", "-dc", f"-T{n}", work / "x.xz") for n in (1, 2)]
            print(f"| {name} | " + " | ".join(f"{t['wall']:.2f} ({t['cpu']:.2f})" for t in times) + " |")
        plan(found, size)
    found["cores"] = os.cpu_count()
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
