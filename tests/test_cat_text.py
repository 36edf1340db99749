"""cat-text: every kind of file, one or several, from a path, a pipe and a folder; damage; readers that leave early."""

import bz2
import gzip
import json
import lzma
import os
import random
import shutil
import subprocess
import sys

import pytest

TEXT = "".join(f"{i}行目。\n" * (i % 3) + "\n" * (i % 7 == 0) for i in range(30_000)).encode()
FIRST_LINE = TEXT[: TEXT.index(b"\n") + 1].decode()


def zstd(data):
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


PACKERS = {
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "gzip": gzip.compress,
    "plain": bytes,
    "zstd": pytest.param(zstd, marks=pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")),
}
kinds = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
packed_kinds = pytest.mark.parametrize("pack", [p for p in PACKERS.values() if p is not bytes])


@kinds
def test_every_kind(run_tool, bin_dir, tmp_path, pack):
    file = tmp_path / "no-telling-name"
    file.write_bytes(pack(TEXT))
    assert run_tool("cat-text", file).stdout == TEXT
    assert run_tool("cat-text", stdin=pack(TEXT)).stdout == TEXT
    with open(file, "rb") as f:  # standard input that is a file
        assert subprocess.run([bin_dir / "cat-text", "-"], stdin=f, capture_output=True).stdout == TEXT
    empty = run_tool("cat-text", stdin=pack(b""))
    assert empty.stdout == b""


@kinds
def test_concatenated_archives(run_tool, pack):
    assert run_tool("cat-text", stdin=pack(TEXT) + pack(b"more\n")).stdout == TEXT + b"more\n"


@pytest.mark.parametrize(
    "texts, expected",
    [
        ([b"a\n"], b"a\n"),
        ([b"a"], b"a"),
        ([b"a", b"b"], b"a\n\nb"),
        ([b"a\n", b"b\n"], b"a\n\nb\n"),
        ([b"a\n\n", b"b\n"], b"a\n\nb\n"),
        ([b"a\n\n\n", b"b\n"], b"a\n\n\nb\n"),
        ([b"", b"a\n", b"", b"", b"b\n", b""], b"a\n\nb\n"),
        ([b"\n", b"b\n"], b"\n\nb\n"),
        ([TEXT, TEXT], TEXT.rstrip(b"\n") + b"\n\n" + TEXT),
    ],
)
def test_one_blank_line_between_files(run_tool, tmp_path, texts, expected):
    paths = [tmp_path / str(i) for i in range(len(texts))]
    for path, text, pack in zip(paths, texts, [bytes, gzip.compress] * 3, strict=False):
        path.write_bytes(pack(text))
    assert run_tool("cat-text", *paths).stdout == expected


def test_standard_input_among_files(run_tool, tmp_path):
    (tmp_path / "a").write_bytes(bz2.compress(b"a\n"))
    (tmp_path / "c").write_bytes(lzma.compress(b"c\n"))
    done = run_tool("cat-text", tmp_path / "a", "-", tmp_path / "c", stdin=gzip.compress(TEXT))
    assert done.stdout == b"a\n\n" + TEXT + b"\n" * (not TEXT.endswith(b"\n\n")) + b"c\n"


def test_folder(run_tool, tmp_path):
    """The data files in the order of their names: no manifest, record or subfolder, nothing hidden or unfinished."""
    for name, data in {"b.json.bz2": bz2.compress(b"2\n"), "a.txt": b"1\n", "c.json": b"3\n"}.items():
        (tmp_path / name).write_bytes(data)
    for name in ("manifest.json", "_SUCCESS", ".hidden", "d.part", "d.part.json", "a.txt.json", "b.json.bz2.json"):
        (tmp_path / name).write_text("not data\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/e.txt").write_text("not data\n")
    assert run_tool("cat-text", tmp_path).stdout == b"1\n\n2\n\n3\n"
    done = run_tool("cat-text", tmp_path / "missing", status=1)
    assert done.stderr.decode() == f"cat-text: {tmp_path}/missing: No such file or directory\n"
    (tmp_path / "empty").mkdir()
    done = run_tool("cat-text", tmp_path / "empty", status=1)
    assert done.stderr.decode() == f"cat-text: {tmp_path}/empty: no data files in it\n"


@packed_kinds
@pytest.mark.parametrize(
    "how, way", [("cut short", "file"), ("cut short", "files"), ("cut short", "pipe"), ("damaged", "file")]
)
def test_damage_is_an_error_that_names_the_file(run_tool, tmp_path, pack, how, way):
    noise = os.urandom(200_000).hex().encode()  # packs badly, so that much is out before the damage is met
    data = pack(noise)
    data = data[:-1000] if how == "cut short" else data[:-1000] + bytes(500) + data[-500:]
    path = tmp_path / "archive"
    path.write_bytes(data)
    (tmp_path / "other").write_text("other\n")
    arguments = {"file": [path], "files": [path, tmp_path / "other"], "pipe": ["-"]}[way]
    done = run_tool("cat-text", *arguments, stdin=data if way == "pipe" else b"", status=1)
    name = "-" if way == "pipe" else path
    assert done.stderr.decode().startswith(f"cat-text: {name}: damaged or cut short (")
    assert done.stderr.count(b"\n") == 1
    assert b"other" not in done.stdout


def test_a_full_disk_is_not_damage(bin_dir, tmp_path):
    (tmp_path / "x.xz").write_bytes(lzma.compress(random.Random(0).randbytes(100_000).hex().encode()))
    with open("/dev/full", "wb") as full:
        done = subprocess.run([bin_dir / "cat-text", tmp_path / "x.xz"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and b"standard output" in done.stderr and b"damaged" not in done.stderr


def test_a_missing_tool_is_named(bin_dir, tmp_path):
    (tmp_path / "archive").write_bytes(b"\x28\xb5\x2f\xfd and so on")
    command = [sys.executable, bin_dir / "cat-text", tmp_path / "archive"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr == (
        f"cat-text: {tmp_path}/archive: zstd is needed to unpack it and is not installed (apt-get install zstd)\n"
    )


def check_leaving(bin_dir, file, way):
    command = f"'{bin_dir}/cat-text' {way.format(file=file)} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == (FIRST_LINE + "141\n", "")


@kinds
def test_a_reader_that_leaves(bin_dir, tmp_path, pack):
    (tmp_path / "file").write_bytes(pack(TEXT))
    check_leaving(bin_dir, tmp_path / "file", "'{file}'")
    check_leaving(bin_dir, tmp_path / "file", "- < <(cat '{file}')")


@pytest.mark.parametrize(
    "way", ["- < '{file}'", "'{file}' '{file}'", "<(cat '{file}')", "'{file}' - < <(cat '{file}')"]
)
def test_a_reader_that_leaves_in_other_ways(bin_dir, tmp_path, way):
    (tmp_path / "file").write_bytes(bz2.compress(TEXT))
    check_leaving(bin_dir, tmp_path / "file", way)


def test_looks_like_an_archive_but_is_text(run_tool):
    for text in (b"BZh9 is how bzip2 begins\n", b"BZh", b"PK", b"(", b"<html> is how a page begins"):
        assert run_tool("cat-text", stdin=text).stdout == text


def test_both_layouts_of_a_dump(run_tool, sources):
    folder = sources / "cirrus_search_index/20260101/index_name=jawiki_content"
    records = [json.loads(line) for line in run_tool("cat-text", folder).stdout.split(b"\n") if line]
    (old,) = sources.glob("*.json.gz")
    text = run_tool("cat-text", old).stdout
    assert text == gzip.decompress(old.read_bytes()) and len(records) == text.count(b"\n") > 600


def test_json_lines_as_they_are_in_the_wild(run_tool, bin_dir, tmp_path):
    """Half a surrogate pair and what cannot be seen make no sentence and no document of their own."""
    lines = [
        b'{"text": "\xe7\xa1\xaf\\ud83d\xe3\x81\xa7"}\n',
        '{"text": "一。\\n\u200b\\n\u3000\\n二。"}\n'.encode(),
        b'{"text": "\xff\xe5\xa2\xa8"}\n',
    ]
    wanted = "硯で\n\n一。\n二。\n\n\ufffd墨\n".encode()
    for name in ("a.jsonl", "b.ndjson", "c.jsonl.gz"):
        file = tmp_path / name
        file.write_bytes((gzip.compress if name.endswith("gz") else bytes)(b"".join(lines)))
        done = run_tool("cat-text", "--text-field", "text", file)
        assert done.stdout == wanted and f"{file}: 1 invalid bytes replaced" in done.stderr.decode()
        assert run_tool("cat-text", "--text-field", "text", stdin=file.read_bytes()).stdout == wanted
    done = run_tool("cat-text", "--max-line", 10, "--text-field", "text", tmp_path / "a.jsonl", status=1)
    assert "--max-line" in done.stderr.decode()
