"""A corpus of many files: map-text, reduce-text and shuffle-split make the same bytes as the single pipe."""

import bz2
import gzip
import itertools
import json
import lzma
import os
import shutil
import signal
import subprocess
from fractions import Fraction

import pytest
from conftest import ROOT, wait_for
from suzuri.text import many_files, record_file

SAMPLE = [path.read_text() for path in sorted((ROOT / "data/sample/cc100").glob("*.txt"))]
DOCUMENTS = [text for page in SAMPLE for text in page.split("\n\n")]


def json_lines(texts):
    return "".join(
        json.dumps({"id": i, "text": text}, ensure_ascii=False) + "\n" for i, text in enumerate(texts)
    ).encode()


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """raw/own/ with files of all kinds, in which many sentences and documents come several times."""
    folder = tmp_path_factory.mktemp("raw") / "own"
    folder.mkdir()
    files = {
        "-a.txt": SAMPLE[0].rstrip("\n").encode(),
        "b.txt": b"",
        "c.txt.xz": lzma.compress(SAMPLE[1].replace("\n", "\r\n").encode()),
        "d.txt.gz": gzip.compress(("\n\n\n" + SAMPLE[2] + "\n\n" + SAMPLE[0]).encode()),
        "e.txt.bz2": bz2.compress(SAMPLE[3].encode()),
        "f.jsonl": json_lines(["\n \n".join(DOCUMENTS[:30]), None, "", *DOCUMENTS[10:]]),
        "詩.jsonl.gz": gzip.compress(b"\xef\xbb\xbf" + json_lines(DOCUMENTS[::-3])),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    if shutil.which("zstd"):
        subprocess.run(["zstd", "-q", "-o", folder / "g.txt.zst"], input=SAMPLE[3].encode(), check=True)
    return folder


def pipe(raw, out, *amounts, unit="line", seed=0):
    """The single pipe over the same files; returns what is in its folder."""
    command = (
        f"cat-text --text-field text {raw} | split-sentences --stats s | filter-sentences --stats f | shuffle-split "
        f"--unit {unit} --seed {seed} --source {raw} --counts s --counts f {' '.join(map(str, amounts))} {out}"
    )
    env = {**os.environ, "PATH": f"{ROOT}/bin:{os.environ['PATH']}"}
    shell = ["bash", "-o", "pipefail", "-c", command]
    subprocess.run(shell, check=True, env=env, cwd=out.parent, stderr=subprocess.DEVNULL)
    return contents(out)


def contents(folder):
    """{name: bytes} of a text folder, and of its manifest what does not depend on how it was made."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(found.pop("manifest.json"))
    manifest["counts"].get("split-sentences", {}).pop("lines_in", None)  # cat-text puts blank lines between files
    return found | {"manifest": manifest}


def map_all(raw, maps, unit="line", memory=10**9, jobs=1):
    maps.mkdir()
    settings = {"field": "text", "unit": unit, "seed": 0, "min_chars": 10, "max_chars": 1000}
    for path in raw.iterdir():
        with open(maps / f"{path.name}.records", "wb") as f:
            many_files.map_file(str(path), f, memory=memory, jobs=jobs, **settings)
    return maps


@pytest.mark.parametrize("unit", ["line", "document"])
def test_the_same_bytes_for_any_ranges(run_tool, raw, tmp_path, unit):
    wanted = pipe(raw, tmp_path / "pipe", "--valid-fraction 0.1 --shards 3", unit=unit)
    maps = map_all(raw, tmp_path / "maps", unit)
    for n in (1, 3, 16):
        (tmp_path / f"{n}").mkdir()
        for i in range(n):
            with open(tmp_path / f"{n}/{i}.records", "wb") as f:
                many_files.reduce_range(str(maps), f, i, n, shards=3, valid_fraction=Fraction("0.1"), memory=10**6)
        args = ["--valid-fraction", "0.1", "--shards", 3, "--jobs", 1 + n % 2, "--source", raw, tmp_path / "out"]
        run_tool("shuffle-split", "--unit", unit, "--maps", maps, "--ranges", tmp_path / f"{n}", *args)
        assert contents(tmp_path / "out") == wanted


@pytest.mark.parametrize("unit", ["line", "document"])
def test_more_than_the_memory(run_tool, tmp_path, unit):
    """Files of several sorted runs, and ranges that are reduced in several parts, with --jobs."""
    raw = tmp_path / "own"
    raw.mkdir()
    for i in range(2):
        texts = (
            f"{n}番目の文は{n * n}です。{'長' * (n % 50)}\n" + "\n" * (n % 7 == 0) for n in range(i * 9000, 20_000)
        )
        (raw / f"{i}.txt").write_text("".join(texts))
    wanted = pipe(raw, tmp_path / "pipe", "--valid-fraction 1/3 --shards 4", unit=unit)
    maps = map_all(raw, tmp_path / "maps", unit, memory=10**6, jobs=2)
    assert all(len(file.cuts) > 1 for file in record_file.record_files(str(maps)))
    (tmp_path / "ranges").mkdir()
    for i in range(2):
        with open(tmp_path / f"ranges/{i}.records", "wb") as f:
            many_files.reduce_range(str(maps), f, i, 2, shards=4, valid_fraction=Fraction("1/3"), memory=10**6)
    assert all(len(file.cuts) > 1 for file in record_file.record_files(str(tmp_path / "ranges")))
    args = ["--valid-fraction", "1/3", "--shards", 4, "--source", raw, tmp_path / "out"]
    run_tool("shuffle-split", "--unit", unit, "--maps", maps, "--ranges", tmp_path / "ranges", *args)
    assert contents(tmp_path / "out") == wanted


# --- through make -----------------------------------------------------------------------------------------------------

# Like srun: other input and output, and a log. As long as there is a file `hold`, it stops at the second range, after
# it has written a part of it, as a machine does that is lost.
LAUNCHER = """#!/bin/bash
cd "$(dirname "$0")"
echo "$*" >>log
if [[ -e hold && "$*" == *"--range 2/"* ]]; then echo half >"${@: -1}"; echo $$ >pid; mv pid holding; exec sleep 600; fi
exec "$@" </dev/null >/dev/null
"""


def environment():
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "SUZURI_LOCK", "PROFILE", "DATA")
    return {k: v for k, v in os.environ.items() if k not in inherited}


def make(*args, status=0):
    command = ["make", "-C", str(ROOT), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == status, done.stdout + done.stderr
    return done


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.records")}


def test_killed_then_files_come_and_go(raw, tmp_path):
    """Only what is missing is made again; what a lost machine has written does no harm and does not stay."""
    data, own = tmp_path / "data", tmp_path / "data/raw/own"
    own.mkdir(parents=True)
    for name in ("-a.txt", "b.txt", "c.txt.xz", "f.jsonl"):
        shutil.copy(raw / name, own)
    (tmp_path / "launch").write_text(LAUNCHER)
    (tmp_path / "launch").chmod(0o755)
    (tmp_path / "hold").touch()
    launch = f"LAUNCH={tmp_path}/launch"
    goal = ["build-dataset-own", f"DATA={data}", "NUM_FILES=2", "VALIDATION_FRACTION=0.1", "RANGES=3"]
    run = subprocess.Popen(
        ["make", "-C", ROOT, "-j4", *goal, launch],
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: run.poll() is not None or (tmp_path / "holding").exists())
    assert run.poll() is None
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    os.kill(int((tmp_path / "holding").read_text()), signal.SIGKILL)  # srun, which ends with make; not what it started
    (tmp_path / "hold").unlink()
    maps, text, numbers = data / "pieces/maps/own", data / "text/own", itertools.count()

    def check(*amounts):
        wanted = pipe(own, data / f"text/{next(numbers)}", *(amounts or ["--shards 2 --valid-fraction 0.1"]))
        assert contents(text) == wanted
        assert not [path for path in data.rglob("*") if ".part" in path.name or path.parent.name == "ranges"]

    before = times(maps)
    assert before.keys() == {f"{name}.records" for name in os.listdir(own)}
    (half,) = (data / "pieces/ranges/own").glob("*.part")
    assert half.read_text() == "half\n"
    log = (tmp_path / "log").read_text()
    make("-j4", *goal, launch)
    check()
    assert times(maps) == before
    launched = (tmp_path / "log").read_text().removeprefix(log).splitlines()
    assert {line.split()[0] for line in launched} == {f"{ROOT}/bin/reduce-text"} and 1 <= len(launched) <= 3
    make("-q", *goal, launch)

    shutil.copy(raw / "d.txt.gz", own)
    make("-j1", *goal)
    check()
    assert times(maps).items() > before.items() and len(times(maps)) == len(before) + 1

    (own / "-a.txt").unlink()
    make("-q", *goal, status=1)
    make(*goal)
    check()
    assert times(maps).keys() == {f"{name}.records" for name in os.listdir(own)}
    make("verify", goal[1])

    before = times(maps)
    make(*goal, "RANGES=1", "NUM_FILES=3")
    check("--shards 3 --valid-fraction 0.1")
    make(*goal, "MAX_SENTENCE_NUM=300")
    check("--shards 2 --valid-fraction 0.1 --max-lines 300")
    assert times(maps) == before
    make("clean-text", goal[1])
    assert not (data / "pieces").exists() and not list((data / ".stamps").glob("*s*"))
