#!/usr/bin/env python3
"""Run the benchmarks of the text stages one after another and write a table: ours, theirs, ratio, aim.

Sentences, the pipe, the shuffle, the tokenizer and the packer are each compared with what people use today, by
score_sentences.py and bench_*.py in this folder, each in a process of its own with this Python. The peers are in
configs/requirements-bench.txt; the table says which are not installed. The texts are in $SUZURI_DATA (by default
../shared/data beside the checkout). Writes all figures to bench-text.json, the tables to bench-text.md.

An aim that is not met is shown, and is not an error. If a benchmark fails, the exit status is 1 after the last one.
Nothing else should run on the machine; the load before the start is recorded.

Example:
  tests/bench/bench_text.py --out data/bench
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from score_sentences import SPLITTERS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = Path(os.environ.get("SUZURI_DATA", ROOT.parent / "shared/data")).resolve()

# The packages that a benchmark needs; those whose rows it just skips are not listed.
NEEDS = {"tokenizer": ["fugashi", "tokenizers", "unidic_lite"], "pack": ["fugashi", "transformers", "unidic_lite"]}
NOT_INSTALLED = "not installed"


def commands(folder, quick):
    """{name: arguments of Python} of all benchmarks, on texts that are made in `folder`."""
    text = DATA / "cc100" / ("ja-mini.txt.xz" if quick else "ja.txt.xz")
    sentences = folder / "sentences.txt"
    with open(sentences, "wb") as out:
        unpacked = subprocess.Popen(["xzcat", text], stdout=subprocess.PIPE)
        split = [ROOT / "bin/split-sentences", "--jobs", "2"]
        subprocess.run(split, stdin=unpacked.stdout, stdout=out, stderr=subprocess.DEVNULL, check=True)
    if unpacked.wait():
        sys.exit(f"bench_text.py: {text}: cannot be read; SUZURI_DATA must name the folder of the texts")
    passages = [HERE / "passages-held-out.jsonl", HERE / "passages-tune.jsonl"]
    passages += [DATA / "sentences/gold.jsonl", DATA / "sentences/hard.jsonl"]
    dump = DATA / "jawiki/jawiki-20240701-cirrussearch-content.json.gz"
    rounds = ["--rounds", "1"] if quick else ["--rounds", "3"]
    lines = ["--lines", "3000"] if quick else []
    return {
        "sentences": [HERE / "score_sentences.py", *passages],
        "pipe": [HERE / "bench_pipe.py", text, dump, *rounds, "--dump-copies", "1" if quick else "15"],
        "shuffle": [HERE / "bench_shuffle.py", text, *rounds],
        "tokenizer": [HERE / "bench_tokenizer.py", sentences, *rounds, *lines],
        "pack": [HERE / "bench_pack.py", sentences, *rounds, *lines],
    }


def run(name, command, folder):
    """-> (the figures of one benchmark, NOT_INSTALLED, or None if it wrote none; did it fail?)"""
    if any(importlib.util.find_spec(module) is None for module in NEEDS.get(name, [])):
        return NOT_INSTALLED, False
    figures = folder / f"{name}.json"
    command = [sys.executable, *map(str, command), "--json", str(figures)]
    # Our tools start with `env python3`, theirs with sys.executable: let both be the same program.
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    print(f"== {name}: {Path(command[1]).name}", file=sys.stderr, flush=True)
    # Its own table goes to the terminal; it may write to the folder in which it is started.
    status = subprocess.run(command, stdout=sys.stderr, cwd=folder, env=env).returncode
    if status:
        print(f"bench_text.py: {name} failed with exit status {status}", file=sys.stderr)
    return json.loads(figures.read_text()) if figures.exists() else None, status != 0


def row(what, unit, ours, theirs=None, peer="", ratio=None, least=None, most=None):
    """A row of the table. The aim, `least` or `most`, is for the ratio, or for `ours` if there is no ratio.

    Without its peer a row neither meets nor misses its aim.
    """
    measured = ours if ratio is None else ratio
    if least is not None:
        aim, met = f"≥ {least:g}", measured >= least
    elif most is not None:
        aim, met = f"≤ {most:g}", measured <= most
    else:
        aim, met = "", None
    if theirs == NOT_INSTALLED:
        met = None
    return {
        "what": what,
        "unit": unit,
        "ours": ours,
        "theirs": theirs,
        "peer": peer,
        "ratio": ratio,
        "aim": aim,
        "met": met,
    }


def sentence_rows(scores):
    def line(what, unit, kind, name, least):
        ours = scores["suzuri"][name][kind]
        peers = [(scores[peer][name][kind], f"best: {peer}") for peer in scores if peer != "suzuri"]
        theirs, best = max(peers, default=(None, ""))
        return row(what, unit, ours, theirs, best, least=least)

    passages = scores["suzuri"]["hard"]["passages"]
    return [
        line("sentences, gold.jsonl: F1", "%", "f1", "gold", 99.8),
        line(f"sentences, hard.jsonl: whole, of {passages}", "", "whole", "hard", passages),
        line("sentences, our held-out passages: F1", "%", "f1", "passages-held-out", 95),
    ]


def pipe_rows(f):
    pipe, split, wiki, memory, aims = f["pipe"], f["split"], f["wiki"], f["memory"], f["aims"]
    seconds, ends = pipe["seconds"], pipe["ends_in_the_pipe"]
    cpu = wiki["cpu_seconds"]
    same = f["identical"]
    return [
        row(
            "xz → sentences → filter → shuffled files",
            "s",
            seconds["pipe"],
            seconds["xzcat"],
            "xzcat alone",
            pipe["ratio"],
            most=aims["pipe_of_xzcat"],
        ),
        row(
            "… the end of the stream",
            "s",
            ends["filter-sentences"],
            seconds["xzcat"],
            "xzcat alone",
            ends["filter-sentences"] / seconds["xzcat"],
        ),
        row("… the sort and the write after it", "s", pipe["sort_and_write"]),
        row("split-sentences, per core", "MB/s", split["mb_a_second"], least=aims["split_mb_a_second"]),
        row(
            "split-sentences --jobs 2",
            "s",
            split["seconds"]["2"],
            split["seconds"]["1"],
            "--jobs 1",
            split["jobs_speedup"],
            least=aims["jobs_speedup"],
        ),
        row(
            "… two separate ones, each with its own text: what two cores can do here",
            "s",
            split["seconds"]["2 apart"],
            2 * split["seconds"]["1"],
            "--jobs 1 on both texts",
            split["ceiling"],
        ),
        row(
            "extract-wiki, CPU", "s", cpu["ours"], cpu["theirs"], "tiny-plm's rules", wiki["ratio"], least=aims["wiki"]
        ),
        row(
            f"shuffle-split --memory {memory['memory_mb']:.0f}M of {memory['input_mb']:.0f} MB: memory beyond that",
            "MB",
            memory["over_mb"],
            most=aims["memory_over_mb"],
        ),
        row(f"the same bytes, of {len(same)} variants", "", sum(same.values()), least=len(same)),
    ]


def shuffle_rows(f):
    ours, peer = f["figures"]["shuffle-split"], f["figures"]["sort -R -u"]
    rows = []
    for name, figure in f["figures"].items():
        if name.startswith("shuffle-split"):
            least = f["aim"] if name == "shuffle-split" else None
            rows.append(row(name, "s", figure["seconds"], peer["seconds"], "sort -R -u", figure["ratio"], least=least))
    for name, figure in f["figures"].items():
        if not name.startswith(("shuffle-split", "sort -R")):
            ratio = figure["seconds"] / ours["seconds"]
            rows.append(row("shuffle-split", "s", ours["seconds"], figure["seconds"], name, ratio))
    if not any("terashuf" in name for name in f["figures"]):
        rows.append(row("shuffle-split", "s", ours["seconds"], NOT_INSTALLED, "terashuf (keeps duplicates)"))
    return rows


def tokenizer_rows(f):
    seconds, cpu, aims = f["seconds"], f["cpu_seconds"], f["aims"]
    peer = "tokenizers + MeCab"
    overlap, of_two = 100 * f["overlap"], 100 * f["overlap_of_two_peers"]
    return [
        row(
            f"train-tokenizer, {f['sentences']:,} sentences",
            "s",
            seconds["ours"],
            seconds["theirs"],
            peer,
            f["ratio"],
            least=aims["speed"],
        ),
        row("… its CPU", "s", cpu["ours"], cpu["theirs"], peer, f["cpu_ratio"]),
        row(
            "… overlap of its vocabulary with theirs",
            "%",
            overlap,
            of_two,
            "two of their runs",
            least=100 * aims["overlap"],
        ),
        row("… its peak memory", "MB", f["peak_memory_mb"]),
    ]


def pack_rows(f):
    rate, cpu, aims = f["sentences_a_second"], f["cpu_seconds"], f["aims"]
    return [
        row(
            f"pack-tokens, 2 processes, {f['sentences']:,} sentences",
            "/s",
            rate["ours"],
            rate.get("theirs", NOT_INSTALLED),
            "datasets.map",
            f["ratio"],
            least=aims["datasets"],
        ),
        row(
            "pack-tokens, per core: CPU",
            "s",
            cpu["pack-tokens"],
            cpu["fugashi -Owakati"],
            "fugashi -Owakati",
            f["of_mecab"],
            least=aims["mecab"],
        ),
        row("… its peak memory", "MB", f["peak_memory_mb"], most=aims["memory_mb"]),
    ]


ROWS = {
    "sentences": sentence_rows,
    "pipe": pipe_rows,
    "shuffle": shuffle_rows,
    "tokenizer": tokenizer_rows,
    "pack": pack_rows,
}


def collect(results):
    """{benchmark: its figures, None or "not installed"} -> the rows of the table."""
    rows = []
    for name, figures in results.items():
        if figures is None or figures == NOT_INSTALLED:
            rows.append(row(name, "", None, figures or "failed"))
        else:
            rows += ROWS[name](figures)
    return rows


def number(x, unit=""):
    if x is None or isinstance(x, str):
        return x or ""
    digits = 0 if x == int(x) or abs(x) >= 100 else 2
    if unit == "%":
        digits = 2
    return f"{x:,.{digits}f} {unit}".rstrip()


def main_cells(rows):
    yield ["what", "ours", "theirs", "ratio", "aim", "met"]
    for r in rows:
        theirs = number(r["theirs"], r["unit"]) + (f" ({r['peer']})" if r["peer"] else "")
        met = "" if r["met"] is None else "yes" if r["met"] else "no"
        yield [r["what"], number(r["ours"], r["unit"]), theirs, number(r["ratio"]), r["aim"], met]


def f1_cells(scores):
    """F1 and passages without a mistake of each splitter, and its seconds for gold.jsonl."""
    stems = list(scores["suzuri"])
    yield ["splitter", *(f"{stem}: F1, whole" for stem in stems), "seconds for gold"]
    for name in SPLITTERS:
        if name not in scores:
            yield [name, *[NOT_INSTALLED] * len(stems), ""]
            continue
        found = [scores[name][stem] for stem in stems]
        seconds = scores[name]["gold"]["seconds"]
        yield [name, *(f"{s['f1']:.2f}, {s['whole']}/{s['passages']}" for s in found), f"{seconds:.3f}"]


def markdown(cells):
    header, *lines = cells
    table = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in table)


def plain(cells):
    cells = list(cells)
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = (
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in cells
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)


def machine():
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*: (.*)", info, re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": [round(x, 2) for x in os.getloadavg()],
        "kernel": platform.release(),
    }


def versions():
    """The versions of Python, xz, sort and each package in the requirements (None: not installed)."""
    found = {"python": platform.python_version()}
    for tool in ("xz", "sort"):
        said = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout
        found[tool] = said.split("\n")[0].split(" ")[-1]
    for path in (ROOT / "configs/requirements.txt", ROOT / "configs/requirements-bench.txt"):
        for name in re.findall(r"^([\w-]+)==", path.read_text(), re.MULTILINE):
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = None
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=ROOT / "data/bench", metavar="DIR", help="default: data/bench")
    p.add_argument("--quick", action="store_true", help="few lines, one round: only to see that everything works")
    args = p.parse_args()
    start = time.monotonic()
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": args.quick,
        "machine": machine(),
        "versions": versions(),
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        ran = {name: run(name, command, folder) for name, command in commands(folder, args.quick).items()}
    results = {name: figures for name, (figures, _) in ran.items()}
    failed = [name for name, (_, failed) in ran.items() if failed]
    rows = collect(results)
    report |= {"seconds": round(time.monotonic() - start), "failed": failed, "rows": rows, "figures": results}

    at, of = report["machine"], report["versions"]
    load = f"load before {at['load_before'][0]:g}"
    where = f"{report['date']}, {at['cpu']}, {at['cores']} cores, {at['memory_gb']:g} GB, {load}"
    with_what = ", ".join(f"{name} {version or '(not installed)'}" for name, version in of.items())
    titles = ["Text, beside others'", "Sentence splitters"]
    if args.quick:
        titles[0] += " (--quick: the figures mean nothing)"
    tables = [list(main_cells(rows))] + ([list(f1_cells(results["sentences"]))] if results["sentences"] else [])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bench-text.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    parts = [f"## {title}\n\n{markdown(cells)}\n" for title, cells in zip(titles, tables, strict=False)]
    text = "".join(parts) + f"{where}.\n\n{with_what}.\n"
    (args.out / "bench-text.md").write_text(text, encoding="utf-8")
    for title, cells in zip(titles, tables, strict=False):
        print(f"{title}\n\n{plain(cells)}")
    print(f"{where}\n{with_what}\n\n{args.out}/bench-text.json, bench-text.md; {report['seconds']} s")
    if failed:
        sys.exit(f"bench_text.py: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
