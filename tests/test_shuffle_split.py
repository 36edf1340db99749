"""shuffle-split: the order depends only on content and seed, duplicates are dropped, amounts exact, memory bounded."""

import json
import lzma
import math
import os
import random
import re
import resource
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from suzuri.text import hashed_records as rec
from suzuri.text import shuffle
from xxhash import xxh3_64_intdigest


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def lines_of(folder, pattern="*.txt"):
    return [line for path in sorted(Path(folder).glob(pattern)) for line in path.read_bytes().split(b"\n")[:-1]]


def expected_order(records, seed=0):
    """The contract in one line of plain Python."""
    return sorted(set(records), key=lambda record: (xxh3_64_intdigest(record, seed), record))


def numbered(n, seed=0):
    """n distinct lines of very different lengths."""
    draw = random.Random(seed)
    return [b"%d " % i + b"x" * min(2000, int(draw.paretovariate(0.7))) for i in range(n)]


@pytest.fixture(scope="module")
def many():
    """6 MB with duplicates: several runs at --memory 1M."""
    lines = numbered(50_000)
    lines += lines[::7] + [b"again and again"] * 20_000
    random.Random(1).shuffle(lines)
    return lines


# --- the same bytes however the text arrives -----------------------------------------------------------------------


def test_line_order_is_that_of_the_hash(run_tool, tmp_path, many):
    run_tool("shuffle-split", "--seed", 5, tmp_path / "out", stdin=b"\n".join(many))
    assert lines_of(tmp_path / "out") == expected_order(many, seed=5)


def test_same_bytes_for_any_arrival_memory_and_jobs(run_tool, tmp_path, many):
    amounts = ["--valid-lines", 999, "--train-lines", 40_001, "--shards", 3]

    def output(lines, *args, text=None):
        run_tool("shuffle-split", *amounts, *args, tmp_path / "out", stdin=text or b"\n".join(lines) + b"\n")
        return files(tmp_path / "out")

    wanted = output(many)
    by_sort = subprocess.run(["sort", "-R"], input=b"\n".join(many), capture_output=True, check=True).stdout
    assert output(many[::-1]) == wanted
    assert output(None, text=by_sort) == wanted
    assert output(many[30_000:] + many[:30_000], "--memory", "1M") == wanted
    assert output(many, "--memory", "2M", "--jobs", 2) == wanted
    assert output(many[::-1], "--memory", "1M", "--jobs", 3) == wanted
    assert output(None, text=b"\n\n\n" + b"\n\n".join(many)) == wanted, "blank lines are not records"


documents = st.lists(
    st.lists(st.binary(min_size=1, max_size=6).map(lambda b: b.replace(b"\n", b"\r")), min_size=1, max_size=4),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(documents, st.integers(0, 2**64 - 1), st.data())
def test_blocks_cut_anywhere(tmp_path_factory, texts, seed, data):
    """Any bytes, any runs of blank lines, any cutting into blocks (down to single bytes), both units."""
    folder = tmp_path_factory.mktemp("blocks")
    gap = data.draw(st.sampled_from([b"\n\n", b"\n\n\n", b"\n\n\n\n\n"]))
    text = data.draw(st.sampled_from([b"", b"\n", b"\n\n"])) + gap.join(b"\n".join(text) for text in texts)
    text += data.draw(st.sampled_from([b"", b"\n", b"\n\n\n"]))
    size = data.draw(st.integers(1, len(text)))

    def blocks():
        yield from (text[i : i + size] for i in range(0, len(text), size))

    shuffle.shuffle_split(blocks(), folder, unit="line", seed=seed)
    assert lines_of(folder) == expected_order([line for text in texts for line in text], seed)
    shuffle.shuffle_split(blocks(), folder, unit="document", seed=seed)
    wanted = expected_order([b"\n".join(text) for text in texts], seed)
    assert (folder / "train-000.txt").read_bytes() == b"\n\n".join(wanted) + b"\n"


def test_text_against_sort(run_tool, sources, tmp_path):
    """The lines that come out are `sort -u` of those that went in."""
    text = lzma.open(sources / "ja.txt.xz").read().replace("。".encode(), "。\n".encode())
    text += b"".join(b"%d " % i + line for i in range(30) for line in text.splitlines(keepends=True)[i::2])
    run_tool("shuffle-split", "--memory", "1M", "--shards", 4, "--valid-lines", 5000, tmp_path / "out", stdin=text)

    def sort(text, *args):
        env = {**os.environ, "LC_ALL": "C"}
        return subprocess.run(["sort", *args], input=text, capture_output=True, check=True, env=env).stdout

    distinct = sort(text, "-u").removeprefix(b"\n")  # without the blank line
    assert sort(b"".join(path.read_bytes() for path in (tmp_path / "out").glob("*.txt"))) == distinct


# --- fair -----------------------------------------------------------------------------------------------------------


def p_of_table(order, bins=16):
    """p of the chi-square test that place out does not depend on place in (Wilson and Hilferty's approximation)."""
    n = len(order)
    table = np.histogram2d(order, np.arange(n), bins=bins, range=[[0, n], [0, n]])[0]
    expected, df = n / bins**2, (bins - 1) ** 2
    chi2 = ((table - expected) ** 2 / expected).sum()
    z = ((chi2 / df) ** (1 / 3) - (1 - 2 / (9 * df))) / math.sqrt(2 / (9 * df))
    return math.erfc(abs(z) / math.sqrt(2))


def p_of_pairs(order):
    """p for the ascents among adjacent pairs (mean (n - 1) / 2, variance (n + 1) / 12: Euler's numbers)."""
    n = len(order)
    z = ((np.diff(order) > 0).sum() - (n - 1) / 2) / math.sqrt((n + 1) / 12)
    return math.erfc(abs(z) / math.sqrt(2))


def p_of_neighbours(orders):
    """p for neighbours that stayed neighbours: n - 1 pairs, each with probability 2 / n; normal for many orders."""
    stayed = sum((np.abs(np.diff(order)) == 1).sum() for order in orders)
    mean = sum(2 * (len(order) - 1) / len(order) for order in orders)
    return math.erfc(abs(stayed - mean) / math.sqrt(2 * mean))


def test_uniform(tmp_path):
    lines = [b"line %d" % i for i in range(20_000)]
    orders = []
    for seed in range(40):
        shuffle.shuffle_split(iter([b"\n".join(lines)]), tmp_path, seed=seed)
        orders.append(np.array([int(line.split()[1]) for line in lines_of(tmp_path)]))
    assert all(sorted(order) == list(range(20_000)) for order in orders)
    for name, ps in {"place": map(p_of_table, orders), "pairs": map(p_of_pairs, orders)}.items():
        ps = sorted(ps)
        assert ps[0] > 0.001, (name, ps)  # 40 tries: a fair shuffle goes below once in 25 sets of seeds
        apart = max(max(abs(p - i / 40), abs(p - (i + 1) / 40)) for i, p in enumerate(ps))
        assert apart < 1.63 / math.sqrt(40), (name, ps)  # Kolmogorov-Smirnov, p = 0.01: the p themselves are uniform
    assert p_of_neighbours(orders) > 0.001
    sums = np.sum([np.argsort(order) for order in orders], axis=0)  # one line's places over the seeds
    mean, sd = 40 * (20_000 - 1) / 2, math.sqrt(40 * (20_000**2 - 1) / 12)
    assert abs(sums - mean).max() < 5.5 * sd
    assert 0.9 < (sums - mean).std() / sd < 1.1
    # The tests notice what is not shuffled: rough places kept, pairs in order, nothing moved.
    assert p_of_table(orders[0][np.argsort(orders[0] // 5000, kind="stable")]) < 1e-6
    assert p_of_pairs(np.sort(orders[0].reshape(-1, 2)).ravel()) < 1e-6
    assert p_of_neighbours([np.arange(20_000)]) < 1e-6


# --- amounts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["1M", "1G"])
def test_exact_amounts(run_tool, tmp_path, many, memory):
    amounts = ["--valid-lines", "1k", "--train-lines", 30_001, "--shards", 7, "--memory", memory]
    run_tool("shuffle-split", *amounts, "--stats", tmp_path / "s", tmp_path / "out", stdin=b"\n".join(many))
    order = expected_order(many)
    assert lines_of(tmp_path / "out", "valid.txt") == order[:1000]
    shards = [lines_of(tmp_path / "out", f"train-{i:03}.txt") for i in range(7)]
    assert shards == [order[1000:31_001][i::7] for i in range(7)]
    counts = {
        "sentences_in": len(many),
        "duplicates_dropped": len(many) - len(order),
        "valid": 1000,
        "train": 30_001,
        "not_needed": len(order) - 31_001,
    }
    assert json.loads((tmp_path / "s").read_bytes()) == {"shuffle-split": counts}
    assert json.loads((tmp_path / "out/manifest.json").read_bytes())["counts"] == {"shuffle-split": counts}


@pytest.mark.parametrize("memory", ["1M", "1G"])
def test_too_few_shrinks_both_in_proportion(run_tool, tmp_path, many, memory):
    amounts = ["--valid-lines", 100_000, "--train-lines", 500_000, "--shards", 2, "--memory", memory]
    done = run_tool("shuffle-split", *amounts, tmp_path / "out", stdin=b"\n".join(many))
    order = expected_order(many)
    valid = round(len(order) / 6)
    assert f"there are {len(order):,} distinct sentences: {valid:,} for validation" in done.stderr.decode()
    assert lines_of(tmp_path / "out", "valid.txt") == order[:valid]
    assert sorted(lines_of(tmp_path / "out", "train-*")) == sorted(order[valid:])
    sizes = [len(lines_of(tmp_path / "out", f"train-00{i}.txt")) for i in range(2)]
    assert abs(sizes[0] - sizes[1]) <= 1


def test_valid_stays_valid(run_tool, tmp_path, many):
    """--valid-fraction: more text moves nothing between valid and train."""
    distinct = sorted(set(many))
    random.Random(2).shuffle(distinct)
    parts = {}
    for n in [20_000, len(distinct)]:
        args = ["--valid-fraction", "0.05", "--shards", 2, "--memory", "1M"]
        run_tool("shuffle-split", *args, tmp_path / "out", stdin=b"\n".join(distinct[:n]))
        parts[n] = [set(lines_of(tmp_path / "out", pattern)) for pattern in ["valid.txt", "train-*.txt"]]
    (valid, train), (more_valid, more_train) = parts.values()
    assert valid < more_valid and train < more_train and not more_valid & more_train
    assert more_valid == {line for line in distinct if xxh3_64_intdigest(line, 0) < Fraction("0.05") * 2**64}
    assert abs(len(more_valid) / len(distinct) - 0.05) < 0.004  # 4 sigma


@pytest.mark.parametrize(("part", "valid"), [("0", 0), ("1", 300), ("1/1", 300)])
def test_valid_fraction_at_its_ends(run_tool, tmp_path, part, valid):
    run_tool("shuffle-split", "--valid-fraction", part, tmp_path / "out", stdin=b"\n".join(numbered(300)))
    assert len(lines_of(tmp_path / "out", "valid.txt")) == valid
    assert len(lines_of(tmp_path / "out", "train-*")) == 300 - valid


def test_max_lines_stops_reading(bin_dir, run_tool, tmp_path):
    """The tool ends though its input stays open, and a producer without end gets SIGPIPE."""
    first = b"".join(b"line %d\n\n" % i for i in range(1000))
    with subprocess.Popen(
        [bin_dir / "shuffle-split", "--max-lines", "1000", tmp_path / "a"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        process.stdin.write(first)
        process.stdin.flush()
        assert process.wait(timeout=300) == 0
    assert sorted(lines_of(tmp_path / "a")) == sorted(first.split(b"\n\n")[:-1])
    pipe = f"seq 1 1000000000 | {bin_dir}/shuffle-split --max-lines 100k {tmp_path}/b; echo ${{PIPESTATUS[@]}}"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, timeout=300)
    assert done.stdout.split() == [b"141", b"0"]
    assert sorted(map(int, lines_of(tmp_path / "b"))) == list(range(1, 100_001))


# --- documents ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts():
    """3,000 documents of 1 to 30 sentences, 1.3 MB, and every tenth of them again."""
    draw = random.Random(3)
    texts = [
        b"\n".join(b"%d/%d " % (i, j) + b"y" * draw.randrange(50) for j in range(draw.randint(1, 30)))
        for i in range(3000)
    ]
    return texts + texts[::10]


@pytest.mark.parametrize("args", [["--memory", "1M"], ["--memory", "1M", "--jobs", 2], []])
def test_documents_stay_whole(run_tool, tmp_path, texts, args):
    amounts = ["--unit", "document", "--valid-lines", 500, "--train-lines", 20_000, "--shards", 3]
    run_tool("shuffle-split", *amounts, *args, tmp_path / "out", stdin=b"\n\n\n".join(texts))
    order = expected_order(texts)
    cut, sentences = [], 0
    for i, text in enumerate(order):
        if len(cut) < 2 and sentences >= [500, 20_000][len(cut)]:
            cut.append(i)
            sentences = 0
        sentences += text.count(b"\n") + 1
    wanted = [order[: cut[0]], *(order[cut[0] : cut[1]][i::3] for i in range(3))]
    names = ["valid.txt", *(f"train-00{i}.txt" for i in range(3))]
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == [b"\n\n".join(w) + b"\n" for w in wanted]


def test_too_few_documents(run_tool, tmp_path, texts):
    amounts = ["--unit", "document", "--valid-lines", 50_000, "--train-lines", 150_000]
    done = run_tool("shuffle-split", *amounts, tmp_path / "out", stdin=b"\n\n".join(texts))
    total = sum(text.count(b"\n") + 1 for text in set(texts))
    valid, train = ((tmp_path / "out" / name).read_bytes() for name in ["valid.txt", "train-000.txt"])
    assert set(valid[:-1].split(b"\n\n") + train[:-1].split(b"\n\n")) == set(texts)
    assert 0 <= len(lines_of(tmp_path / "out", "valid.txt")) - valid.count(b"\n\n") - total / 4 < 30
    assert f"there are {total:,} distinct sentences" in done.stderr.decode()


def test_max_lines_takes_whole_documents(run_tool, tmp_path):
    stdin = b"a\nb\nc\n\nd\ne\n\nf\n"
    run_tool("shuffle-split", "--unit", "document", "--max-lines", 4, tmp_path / "out", stdin=stdin)
    assert sorted((tmp_path / "out/train-000.txt").read_bytes()[:-1].split(b"\n\n")) == [b"a\nb\nc", b"d\ne"]


# --- the pure functions ---------------------------------------------------------------------------------------------


def as_records(contents, hashes):
    ends = np.cumsum([len(content) + 1 for content in contents], dtype=np.int64)
    starts = np.concatenate(([0], ends))[:-1]
    text = np.frombuffer(b"".join(content + b"\n" for content in contents), np.uint8)
    return rec.Records(text, starts, ends, np.array(hashes, np.uint64))


short = st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), min_size=1, max_size=40)


@given(short, st.integers(0, 2**32))
def test_gather_is_join(contents, seed):
    order = np.random.default_rng(seed).integers(0, len(contents), 100)
    got = rec.gather(as_records(contents, [0] * len(contents)).take(order))
    assert got.tobytes() == b"".join(contents[i] + b"\n" for i in order)


@given(short, st.integers(1, 3))
def test_colliding_hashes_come_in_order_of_content(contents, n):
    hashes = [len(content) % n for content in contents]
    got = rec.sorted_distinct(as_records(contents, hashes))
    wanted = sorted({(len(content) % n, content + b"\n") for content in contents})
    assert [(h, got.text[s:e].tobytes()) for h, s, e in zip(got.hashes, got.starts, got.ends, strict=True)] == wanted


# --- memory and disk ------------------------------------------------------------------------------------------------


def memory_of(pid):
    """Bytes that a process and its children take, shared pages counted once (0 when it is gone)."""
    try:
        pss = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(pss[1]) * 1024 + sum(map(memory_of, children))


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=SLOW)])
def test_memory_stays_bounded(bin_dir, tmp_path, jobs):
    """25 MB of short lines, whose index alone would take 250 MB, at --memory 5M."""
    command = ["bash", "-c", '{ seq 1600000; seq 1600000; } | "$0" "$@"', bin_dir / "shuffle-split"]
    with subprocess.Popen([*command, "--memory", "5M", "--jobs", jobs, tmp_path / "out"]) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            time.sleep(0.03)
    assert process.returncode == 0
    assert 20e6 < peak < 120e6, "the interpreter and NumPy take 45 MB, and part of that again in each process"
    assert sorted(map(int, lines_of(tmp_path / "out"))) == list(range(1, 1_600_001))


@pytest.mark.parametrize("unit", ["line", "document"])
def test_scratch_is_no_larger_than_the_input(tmp_path, monkeypatch, many, unit):
    sizes = []
    ranges = shuffle.Scratch.ranges
    monkeypatch.setattr(
        shuffle.Scratch,
        "ranges",
        lambda self, m: [sizes.append(os.fstat(self.file.fileno()).st_size), ranges(self, m)][1],
    )
    text = b"\n\n".join(many)
    shuffle.shuffle_split(iter([text]), tmp_path, unit=unit, memory=10**6)
    assert len(text) / 2 < sizes[0] <= len(text) + 2


def test_record_larger_than_memory(run_tool, tmp_path):
    done = run_tool("shuffle-split", "--memory", "1M", "out", stdin=b"a\n" + b"z" * 2_000_000, status=1, cwd=tmp_path)
    assert done.stderr == b"shuffle-split: standard input: a line is longer than --memory, 1,000,000 bytes; raise it\n"
    assert not list(tmp_path.iterdir())


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"", b"\n", b"\n\n\n\n"])
@pytest.mark.parametrize("unit", ["line", "document"])
def test_no_text(run_tool, tmp_path, text, unit):
    done = run_tool("shuffle-split", "--unit", unit, "out", stdin=text, status=1, cwd=tmp_path)
    assert done.stderr == b"shuffle-split: standard input: no text in it\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("memory", ["1M", "1G"])
def test_full_disk(bin_dir, tmp_path, many, memory):
    """In the scratch file or in the output: one line, nothing left, and the folder of before untouched."""
    command = [bin_dir / "shuffle-split", "--memory", memory, "out"]
    subprocess.run(command, input=b"before", cwd=tmp_path, capture_output=True, check=True)
    before = files(tmp_path / "out")
    done = subprocess.run(
        command,
        input=b"\n".join(many),
        cwd=tmp_path,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)),
    )
    assert (done.returncode, done.stderr) == (1, b"shuffle-split: out: File too large\n")
    assert os.listdir(tmp_path) == ["out"] and files(tmp_path / "out") == before


def test_folder_of_somebody_else(run_tool, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").write_text("mine")
    done = run_tool("shuffle-split", "out", stdin=b"a\n", status=1, cwd=tmp_path)
    assert done.stderr.count(b"\n") == 1 and b"out: holds files but no manifest.json" in done.stderr
    assert os.listdir(tmp_path) == ["out"] and files(tmp_path / "out") == {"precious": b"mine"}


def test_folder_cannot_be_made(run_tool, tmp_path):
    (tmp_path / "file").write_text("")
    done = run_tool("shuffle-split", "file/out", stdin=b"a\n", status=1, cwd=tmp_path)
    assert re.fullmatch(rb"shuffle-split: file/out\.part: Not a directory\n", done.stderr)


@pytest.mark.parametrize(
    "args",
    [
        ["--seed", "-1"],
        ["--seed", str(2**64)],
        ["--shards", "0"],
        ["--shards", "1001"],
        ["--valid-fraction", "1.1"],
        ["--valid-fraction", "1/0"],
        ["--valid-lines", "1", "--valid-fraction", "0.1"],
        ["--valid-lines", "-1"],
        ["--memory", "999k"],
        ["--jobs", "0"],
        ["--max-lines", "0"],
        ["--unit", "page"],
    ],
)
def test_usage(run_tool, tmp_path, args):
    done = run_tool("shuffle-split", *args, "out", stdin=b"a\n", status=2, cwd=tmp_path)
    assert done.stderr.splitlines()[-1].startswith(b"shuffle-split: error: ")
    assert not list(tmp_path.iterdir())


def test_killed_then_run_again(bin_dir, run_tool, tmp_path, many):
    command = [bin_dir / "shuffle-split", "--memory", "1M", tmp_path / "out"]
    text = b"\n".join(many)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdin.write(text[: len(text) // 2])
    process.stdin.flush()
    process.kill()
    process.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["out.part"]
    run_tool("shuffle-split", "--memory", "1M", tmp_path / "out", stdin=text)
    assert lines_of(tmp_path / "out") == expected_order(many)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# --- what is recorded -----------------------------------------------------------------------------------------------


def test_manifest(run_tool, tmp_path):
    (tmp_path / "raw.txt").write_bytes(b"a\nb\na\n")
    (tmp_path / "split.json").write_text('{"split-sentences": {"lines_in": 3}}')
    args = ["--source", "raw.txt", "--counts", "split.json", "--counts", "missing.json", "--valid-fraction", "1/4"]
    done = run_tool("shuffle-split", *args, "--max-lines", 4, "text/x", stdin=b"a\nb\nc\n", cwd=tmp_path)
    assert b"missing.json: not found" in done.stderr
    manifest = json.loads((tmp_path / "text/x/manifest.json").read_bytes())
    assert list(manifest["inputs"]) == ["../../raw.txt"]
    assert list(manifest["outputs"]) == ["train-000.txt", "valid.txt"]
    assert manifest["counts"]["split-sentences"] == {"lines_in": 3}
    assert manifest["counts"]["shuffle-split"]["sentences_in"] == 3
    assert manifest["settings"] == {
        "seed": 0,
        "unit": "line",
        "valid_lines": 0,
        "valid_fraction": "1/4",
        "train_lines": None,
        "shards": 1,
        "max_lines": 4,
    }
    # What tools upstream had counted when --max-lines ended them is chance: it is left out.
    run_tool("shuffle-split", *args, "--max-lines", 2, "text/x", stdin=b"a\nb\nc\n", cwd=tmp_path)
    assert list(json.loads((tmp_path / "text/x/manifest.json").read_bytes())["counts"]) == ["shuffle-split"]
    done = run_tool("shuffle-split", "--source", "nowhere", "y", stdin=b"a\n", status=1, cwd=tmp_path)
    assert done.stderr == b"shuffle-split: nowhere: No such file or directory\n"
    (tmp_path / "split.json").write_text("[")
    done = run_tool("shuffle-split", "--counts", "split.json", "y", stdin=b"a\n", status=1, cwd=tmp_path)
    assert done.stderr.splitlines()[-1].startswith(b"shuffle-split: split.json: not a JSON file of counts")
    assert sorted(os.listdir(tmp_path)) == ["raw.txt", "split.json", "text"]
