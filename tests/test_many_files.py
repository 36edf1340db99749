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
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import ROOT, SLOW, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from suzuri.errors import DataError
from suzuri.text import inputs, mapping, record_file, reducing, shuffle

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
        "e.txt.bz2": bz2.compress(SAMPLE[3].encode() + b"\xe7\xa1"),
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


def map_all(raw, maps, unit="line", memory=10**9, jobs=1, min_chars=10):
    maps.mkdir()
    settings = {"field": "text", "unit": unit, "seed": 0, "min_chars": min_chars, "max_chars": 1000}
    for path in raw.iterdir():
        with open(maps / f"{path.name}.records", "wb") as f:
            mapping.map_file(str(path), f, memory=memory, jobs=jobs, **settings)
    return maps


def reduce_and_join(raw, maps, folder, n, unit, part, shards, **amounts):
    """FOLDER, a name that ends with the number of ranges, made from maps; returns its bytes, and the counts."""
    ranges = folder / "ranges"
    ranges.mkdir(parents=True)
    for i in range(n):
        with open(ranges / f"{i}.records", "wb") as f:
            settings = {"shards": shards, "valid_fraction": Fraction(part or 0)}
            reducing.reduce_range(str(maps), f, i, n, memory=10**6, **settings)
    settings = {"shards": shards, "valid_fraction": part and Fraction(part)}
    settings |= {"unit": unit, "seed": 0, "jobs": 1 + n % 2, "report": print} | amounts
    counts, _, _ = reducing.join(str(maps), str(ranges), str(folder), sorted(map(str, raw.iterdir())), **settings)
    return {path.name: path.read_bytes() for path in folder.glob("*.txt")}, counts


@pytest.mark.parametrize("unit", ["line", "document"])
def test_the_same_bytes_for_any_ranges(run_tool, raw, tmp_path, unit):
    wanted = pipe(raw, tmp_path / "pipe", "--valid-fraction 0.1 --shards 3", unit=unit)
    maps = map_all(raw, tmp_path / "maps", unit)
    for n in (1, 3, 16):
        made, _ = reduce_and_join(raw, maps, tmp_path / f"{n}", n, unit, "0.1", 3)
        assert made == {name: wanted[name] for name in made} and len(made) == 4
    args = ["--valid-fraction", "0.1", "--shards", 3, "--unit", unit, "--source", raw, tmp_path / "out"]
    run_tool("shuffle-split", "--maps", maps, "--ranges", tmp_path / "16/ranges", *args)
    assert contents(tmp_path / "out") == wanted


@pytest.mark.parametrize("unit", ["line", "document"])
def test_more_than_the_memory(tmp_path, unit):
    """Files of several sorted runs, and ranges that are reduced in several parts, with --jobs."""
    raw = tmp_path / "own"
    raw.mkdir()
    for i in range(2):
        texts = (f"{n}番目の文は{'長' * (n % 50)}い。\n" + "\n" * (n % 7 == 0) for n in range(i * 9000, 20_000))
        (raw / f"{i}.txt").write_text("".join(texts))
    wanted = pipe(raw, tmp_path / "pipe", "--valid-fraction 1/3 --shards 4", unit=unit)
    maps = map_all(raw, tmp_path / "maps", unit, memory=10**6, jobs=2)
    assert all(len(file.cuts) > 1 for file in record_file.record_files(str(maps)))
    made, _ = reduce_and_join(raw, maps, tmp_path / "out", 2, unit, "1/3", 4)
    assert all(len(file.cuts) > 1 for file in record_file.record_files(str(tmp_path / "out/ranges")))
    assert made == {name: wanted[name] for name in made} and len(made) == 5
    amounts = {"valid_lines": 11_111, "train_lines": 8888}  # each ends within a row
    wanted = pipe(raw, tmp_path / "pipe", "--valid-lines 11111 --train-lines 8888 --shards 4", unit=unit)
    made, _ = reduce_and_join(raw, maps, tmp_path / "amounts", 2, unit, None, 4, **amounts)
    assert made == {name: wanted[name] for name in made} and len(made) == 5


texts = st.lists(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), max_size=6), min_size=1, max_size=4)


@settings(max_examples=50)
@given(
    texts,
    st.sampled_from(["line", "document"]),
    st.integers(1, 4),
    st.sampled_from([None, "0", "1/3", "1"]),
    st.integers(0, 12),
    st.one_of(st.none(), st.integers(0, 12)),
    st.integers(1, 5),
)
def test_any_files_and_ranges(files, unit, shards, part, valid_lines, train_lines, n):
    """Documents of few different sentences, empty files, ranges without a record: as shuffle_split does it."""
    pages = ["\n\n".join("\n".join(f"文{i}" for i in document) for document in file) for file in files]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "own").mkdir()
        (folder / "one").mkdir()
        for i, page in enumerate(pages):
            (folder / f"own/{i}.txt").write_text(page)
        maps = map_all(folder / "own", folder / "maps", unit, min_chars=1)
        if not any(pages):
            with pytest.raises(DataError, match=r"own(/0.txt)?: no text in it"):
                reduce_and_join(folder / "own", maps, folder / "many", n, unit, part, shards)
            return
        text = "\n\n".join(filter(None, pages)).encode()
        amounts = {"valid_lines": valid_lines, "train_lines": train_lines}
        settings = {"valid_fraction": part and Fraction(part), "shards": shards} | amounts
        counts = shuffle.shuffle_split(iter([text]), str(folder / "one"), unit=unit, memory=10**6, **settings)
        made = reduce_and_join(folder / "own", maps, folder / "many", n, unit, part, shards, **amounts)
        assert made == ({path.name: path.read_bytes() for path in (folder / "one").iterdir()}, counts)


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


@SLOW
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
    first_make = half.name.split(".")[-2]  # is in the names of all that it has launched, some of it in its last moment
    make("-j4", *goal, launch)
    check()
    assert times(maps) == before
    launched = [line for line in (tmp_path / "log").read_text().splitlines() if first_make not in line]
    assert {line.split()[0] for line in launched} == {f"{ROOT}/bin/reduce-text"} and 1 <= len(launched) <= 3
    make("-q", *goal, launch)

    shutil.copy(raw / "d.txt.gz", own)
    (own / "-a.txt").unlink()
    make("-j1", *goal, "RANGES=1")
    check()
    del before["-a.txt.records"]
    assert times(maps).items() > before.items() and times(maps).keys() - before.keys() == {"d.txt.gz.records"}

    (own / "b.txt").unlink()
    make("-q", *goal, status=1)
    make(*goal, "MAX_SENTENCE_NUM=300")
    check("--shards 2 --valid-fraction 0.1 --max-lines 300")
    make("clean-text", goal[1])
    assert not (data / "pieces").exists() and not {"maps", "text-own"} & set(os.listdir(data / ".stamps"))


def in_three(dump, folder):
    """A dump of Wikipedia in three shards: the second has no article, and one line of the last is broken."""
    (shard,) = dump.glob("cirrus_search_index/*/index_name=*/*.bz2")
    lines = bz2.decompress(shard.read_bytes()).splitlines(keepends=True)
    other = b'{"index": {}}\n{"title": "x", "redirect": [], "namespace": 4, "text": "' + "硯".encode() + b'"}\n'
    folder.mkdir()
    for i, data in enumerate((lines[:300], [other], [*lines[300:], b"{broken\n"])):
        (folder / f"jawiki_content-20260101-0000{i}.json.gz").write_bytes(gzip.compress(b"".join(data)))


@SLOW
@pytest.mark.parametrize("unit", ["line", "document"])
def test_the_sources_piece_by_piece(tmp_path, unit):
    """With LAUNCH, cc100-ja, jawiki and the tokenizer are made of pieces: the same files and manifests as by the pipes,
    and nothing to do for these then."""
    (tmp_path / "launch").write_text(LAUNCHER)
    (tmp_path / "launch").chmod(0o755)
    subprocess.run([ROOT / "bin/pack-sample", ROOT / "data/sample", tmp_path / "sample"], check=True)
    in_three(tmp_path / "sample", tmp_path / "dump")
    amounts = ["CC100_NUM_FILES=2", "JAWIKI_NUM_FILES=2", "JAWIKI_MAX_TRAIN_SENTENCE_NUM=1500", "VOCAB_SIZE=1900"]
    amounts += ["CC100_MAX_SENTENCE_NUM=900", "CC100_MAX_TRAIN_SENTENCE_NUM=2000", "TOKENIZER_INPUT_SENTENCES=0"]
    goals = ["build-dataset-cc100-ja", "tokenizer", f"UNIT={unit}", "PROFILE=demo", "RANGES=2"]
    goals += [f"JAWIKI_URL={tmp_path}/dump", *amounts]
    data, launch = tmp_path / "data", f"LAUNCH={tmp_path}/launch"

    def made():
        rooms = [data / room for room in ("text/cc100-ja", "text/jawiki", "tokenizer")]
        found = {path: path.read_bytes() for room in rooms for path in room.iterdir()}
        assert len(found) == 4 + 4 + 3
        return found

    done = make(*goals, f"DATA={data}", launch)
    found = made()
    make("clean-text", "clean-tokenizer", f"DATA={data}")
    make(*goals, f"DATA={data}")
    assert made() == found
    assert "fewer than asked for" in done.stderr
    log = (tmp_path / "log").read_text()
    tools = [Path(line.split()[0]).name for line in log.splitlines()]
    assert {tool: tools.count(tool) for tool in tools} == {"map-text": 3, "reduce-text": 4, "count-words": 2}
    assert log.count("--wiki") == 3
    for more in ((launch,), ()):
        make(*goals, f"DATA={data}", "-q", *more)
    for name in ("cc100-ja", "jawiki"):  # text that came from a mirror does not need its source
        (data / ".stamps/pushed/text").mkdir(parents=True, exist_ok=True)
        (data / f".stamps/pushed/text/{name}").touch()
    (data / "raw").rename(data / "away")
    make(*goals, f"DATA={data}", launch, "-q")
    done = make("build-dataset-jawiki", *goals[2:], f"DATA={data}", launch, "JAWIKI_MAX_DOCUMENTS=7", "-n")
    assert "extract-wiki --max-documents 7" in done.stdout and "map-text" not in done.stdout


BAD_NAMES = [
    "my text.txt",
    "n\nl.txt",
    "a'b.txt",
    '"a".jsonl',
    "$(touch PWN).txt",
    "a%b.txt",
    "a:b.txt.gz",
    "a,b.txt",
    "a@b.txt",
]


def test_what_is_no_corpus_is_refused_at_once(tmp_path):
    """One line for each folder, which stops no other dataset; a goal that would use it ends at once."""
    raw = tmp_path / "raw"
    names = [f"bad{i}/{name}" for i, name in enumerate(BAD_NAMES)]
    names += [
        "my texts/a.txt",
        "mixed/README.md",
        "mixed/a.txt",
        "deep/in/a.txt",
        "deep/a.txt",
        "both/a.txt",
        "both.txt",
    ]
    names += [
        "good/a.txt",
        "good/.b.txt",
        "good/_SUCCESS",
        "good/a.txt.json",
        "sample/a.txt",
        "no/README.md",
        "ja/a.txt",
    ]
    for name in names:
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_text("硯で墨をする。\n")
    for name in ("made/a.txt", "made/manifest.json"):
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).write_text("{}")
    (raw / "broken").mkdir()
    (raw / "broken/a.txt").symlink_to("nowhere")
    done = make("-n", "build-dataset-good", f"DATA={tmp_path}")
    assert "map-text --seed 0" in done.stdout and "README" not in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == len(BAD_NAMES) + 7, lines
    assert (
        sum("not read; rename it with letters, digits and . _ + - only" in line for line in lines) == len(BAD_NAMES) + 1
    )
    for name in ("bad4", "mixed", "both"):
        done = make("-n", f"build-dataset-{name}", f"DATA={tmp_path}", status=2)
        assert done.stdout.count("\n") <= 2 and done.stderr.count("\n") == 1 and f"{raw}/{name}" in done.stderr
    assert "put it at" in make("build-dataset-no", f"DATA={tmp_path}", status=2).stderr
    assert not list(tmp_path.rglob("PWN*"))


# --- files that are not what they should be ---------------------------------------------------------------------------

LONG = "".join(SAMPLE) * 12  # a million bytes
BROKEN = {
    "sjis.txt": (LONG.encode() + LONG.encode("cp932", "replace"), "it is not UTF-8; it looks like CP932"),
    "zip.txt": (b"PK\3\4" + bytes(600), "is a zip archive"),
    "short.txt.gz": (gzip.compress(os.urandom(5000).hex().encode())[:4000], "damaged or cut short"),
    "empty.txt.xz": (b"", "its name says xz, but it is empty"),
    "field.jsonl": (
        b'\n{"body": "a"}',
        "line 2: has no field text; its fields are body: name the right one (TEXT_FIELD",
    ),
    "number.jsonl": (b'{"text": 1}', "line 1: the field text is not text"),
    "array.jsonl": (b'[{"text": "a"}]', "1 of 1 lines are not JSON objects"),
    "half.jsonl": (b'{"text": "a"}\n{"text": "b\n{"text', "2 of 3 lines are not JSON objects"),
    "x.parquet": (b"PAR1" + bytes(50) + b"PAR1", "damaged, or not a Parquet file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(tmp_path, name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="needs pyarrow (configs/requirements-parquet.txt)")
    data, what = BROKEN[name]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / name).write_bytes(data)
    with pytest.raises(DataError) as e:
        map_all(tmp_path / "own", tmp_path / "maps")
    assert str(e.value).startswith(f"{tmp_path}/own/{name}: ") and what in str(e.value)


def test_one_broken_line_of_json_is_skipped(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a\\ud83d"}\n{"text": "b\n{"text": "\xe3"}\n')
    assert b"".join(inputs.text_blocks(str(tmp_path / "a.jsonl"), "text")) == "a\n\n\ufffd\n".encode()
    said = capsys.readouterr().err
    assert "skipped 1 of 3 lines" in said and "a.jsonl: 1 invalid bytes replaced" in said


def test_parquet(tmp_path, monkeypatch):
    path = str(tmp_path / "a.parquet")
    Path(path).touch()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(DataError, match=r"pyarrow is needed to read it .* install -r .*requirements-parquet.txt"):
            list(inputs.text_blocks(path, "text"))
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow (configs/requirements-parquet.txt)")
    from pyarrow import parquet

    table = {"id": range(len(DOCUMENTS)), "本文": [*DOCUMENTS[:-2], None, ""]}
    parquet.write_table(pa.table(table), path, row_group_size=7)
    (tmp_path / "a.jsonl").write_bytes(json_lines(DOCUMENTS[:-2]))
    wanted = b"".join(inputs.text_blocks(str(tmp_path / "a.jsonl"), "text"))
    assert b"".join(inputs.text_blocks(path, "本文")) == wanted
    for field, what in (
        ("text", "has no field text; its fields are id, 本文"),
        ("id", "row 1: the field id is not text"),
    ):
        with pytest.raises(DataError, match=what):
            list(inputs.text_blocks(path, field))


def damage(path, how):
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-100], "empty": b"", "format": data.replace(b"records/1", b"records/2")}[how])


@pytest.mark.parametrize("how", ["cut", "empty", "format"])
def test_a_damaged_piece_is_named(raw, tmp_path, how):
    maps = map_all(raw, tmp_path / "maps")
    damage(maps / "c.txt.xz.records", how)
    with pytest.raises(
        DataError, match=r"c.txt.xz.records.*not a file of records of suzuri .*remove it and run make again"
    ):
        reducing.reduce_range(str(maps), None, 0, 1, shards=1, valid_fraction=0, memory=10**6)


def test_pieces_that_do_not_fit_together(raw, tmp_path):
    maps = map_all(raw, tmp_path / "maps")
    reduce_and_join(raw, maps, tmp_path / "out", 2, "line", "0", 2)

    def join(shards=2, sources=raw):
        settings = {"unit": "line", "seed": 0, "shards": shards, "valid_fraction": Fraction(0)}
        paths = [str(maps), f"{tmp_path}/out/ranges", str(tmp_path), sorted(map(str, sources.iterdir()))]
        reducing.join(*paths, jobs=1, report=print, **settings)

    with pytest.raises(DataError, match="made with shards 2, not 3; remove it"):
        join(shards=3)
    with pytest.raises(DataError, match="was not made from all of the 2 sources, and only these"):
        join(sources=tmp_path)
    aside = (maps / "b.txt.records").rename(tmp_path / "aside")
    with open(tmp_path / "out/ranges/0.records", "wb") as f:
        reducing.reduce_range(str(maps), f, 0, 2, shards=2, valid_fraction=Fraction(0), memory=10**6)
    aside.rename(maps / "b.txt.records")
    with pytest.raises(DataError, match=r"0.records: made with maps (\d+), not (?!\1)\d+; remove it"):
        join()
    with open(tmp_path / "out/ranges/0.records", "wb") as f:
        reducing.reduce_range(str(maps), f, 0, 2, shards=2, valid_fraction=Fraction(0), memory=10**6)
    older = (tmp_path / "out/ranges/0.records").read_bytes().replace(b'"sentences"', b'"something"')
    (tmp_path / "out/ranges/0.records").write_bytes(older)
    with pytest.raises(DataError, match=r"0.records: was made by another version of suzuri; remove it"):
        join()
    (tmp_path / "out/ranges/0.records").unlink()
    with pytest.raises(DataError, match="does not hold each of 2 ranges once"):
        join()
