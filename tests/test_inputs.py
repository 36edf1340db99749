"""What people give to the tools that read text: other encodings, archives, lines without an end, much more of it."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import resource
import subprocess
import tarfile
import zipfile

import pytest
from conftest import ROOT

LINE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n"
TEXT = "".join(p.read_text("utf-8") for p in sorted((ROOT / "data/sample/cc100").glob("*.txt")))
# Python's name of an encoding: iconv's, which the error must name.
ENCODINGS = {
    "cp932": "CP932",
    "euc_jp": "EUC-JP",
    "iso2022_jp": "ISO-2022-JP",
    "utf_16_le": "UTF-16LE",
    "utf_16_be": "UTF-16BE",
    "utf_16": "UTF-16",
    "utf_32": "UTF-32",
}
READERS = {  # tools that read text, with arguments; OUT is a path for the result
    "split-sentences": ["--jobs", "2"],
    "filter-sentences": [],
    "shuffle-split": ["--memory", "20M", "OUT"],
    "train-tokenizer": ["--jobs", "1", "--vocab-size", "200", "OUT"],
    "segment-words": [],
    "pack-tokens": ["--tokenizer", "TOKENIZER", "OUT"],
    "extract-wiki": [],
}


@pytest.fixture(scope="module")
def tokenizer(run_tool, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "t"
    run_tool("train-tokenizer", "--jobs", 1, "--vocab-size", 2000, path, stdin=TEXT[:30_000])
    return path


@pytest.fixture
def read(run_tool, tokenizer, tmp_path):
    """read(tool, stdin, *more arguments, status=0) -> its stdout, and the last line of its stderr."""

    def run(tool, stdin, *more, status=0):
        places = {"OUT": tmp_path / "out", "TOKENIZER": tokenizer}
        done = run_tool(tool, *(places.get(a, a) for a in READERS.get(tool, [])), *more, stdin=stdin, status=status)
        said = done.stderr.decode().splitlines()
        assert not status or len(said) == 1, said
        return done.stdout, said[-1]

    return run


# Encodings


@pytest.mark.parametrize(("encoding", "name"), ENCODINGS.items())
def test_another_encoding_is_named_and_mended(read, tmp_path, encoding, name):
    """Whole texts and single lines; iconv itself judges whether the command in the message is right."""
    for text in (TEXT, LINE):
        (tmp_path / "FILE").write_bytes(text.encode(encoding, "ignore"))
        _, said = read("split-sentences", (tmp_path / "FILE").read_bytes(), status=1)
        command = re.search(f"standard input: is not UTF-8; it looks like {name}: convert it with (iconv .*)", said)[1]
        subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True)
        assert (tmp_path / "NEW").read_text("utf-8") == text.encode(encoding, "ignore").decode(encoding)


@pytest.mark.parametrize("tool", READERS)
def test_every_reader_stops(read, tmp_path, tool):
    text = json.dumps({"namespace": 0, "text": TEXT}, ensure_ascii=False) + "\n" if tool == "extract-wiki" else TEXT
    for encoding in ("cp932", "utf_16_le"):
        _, said = read(tool, text.encode(encoding, "ignore"), status=1)
        assert f"{tool}: standard input: is not UTF-8; it looks like {ENCODINGS[encoding]}" in said
    assert not (tmp_path / "out").exists()


def test_an_endless_stream_ends_at_once(bin_dir, tmp_path):
    (tmp_path / "line").write_bytes(LINE.encode("cp932").rstrip())
    command = f'yes "$(<"{tmp_path}/line")" | "{bin_dir}/split-sentences"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=300)
    assert done.returncode == 1 and b"looks like CP932" in done.stderr


def test_one_file_of_several_is_in_another_encoding(read):
    for encoding, name in ENCODINGS.items():
        if encoding == "utf_32":  # without its byte order mark it is not recognized
            continue
        _, said = read("filter-sentences", LINE.encode() * 5000 + (LINE * 8000).encode(encoding), status=1)
        at, found = re.search(r"at byte ([\d,]+) it is not UTF-8; it looks like (\S+):", said).groups()
        assert found == name or (name, found) == ("UTF-16", "UTF-16LE")
        assert abs(int(at.replace(",", "")) - len(LINE.encode()) * 5000) < 1 << 19


@pytest.mark.parametrize("tool", ["split-sentences", "filter-sentences", "segment-words", "pack-tokens"])
def test_some_damage_is_counted(read, tool):
    """A character cut in two, a tail of garbage, a page in another encoding: no reason to stop."""
    for text, count in (
        (LINE.encode()[:-2] + b"\n", 2),
        (b"\xff" + LINE.encode(), 1),
        (LINE.encode() * 900 + b"\xff" * 3000, 3000),
        (LINE.encode() * 500 + b"\xfe\xff\n" * 1000 + LINE.encode() * 500, 2000),
        (b"\0" + LINE.encode() * 9, 0),
    ):
        _, said = read(tool, text)
        assert f"{count:,} invalid bytes replaced" in said or not count


def test_no_pages_of_tables_are_taken_for_another_encoding(read):
    """Latin, Cyrillic, emoji, half-width kana, and what is private: UTF-8 is UTF-8."""
    text = "Ça coûte 5 €; Щи да каша — пища наша 😀👨‍👩‍👧 ｱｲｳ \ue000\U000f0000 \x1b[31m\n" * 500
    read("split-sentences", text.encode())


def test_every_sample_is_text(run_tool, shared_data):
    """The real corpora pass: no text of 120 MB has as many invalid bytes as a stretch that is refused."""
    packed = subprocess.Popen(["xz", "-dc", shared_data / "cc100/ja.txt.xz"], stdout=subprocess.PIPE)
    done = subprocess.run([ROOT / "bin/filter-sentences"], stdin=packed.stdout, capture_output=True)
    packed.wait()
    assert done.returncode == 0 and b"invalid" not in done.stderr


# Line ends


@pytest.mark.parametrize("tool", READERS)
def test_windows_line_ends(read, tmp_path, tool):
    text = LINE * 3 + "\n" + "墨を硯ですり、筆で紙に書く。\n" * 2 + "\n"
    if tool == "extract-wiki":
        text = "\n".join(f'{{"namespace": 0, "text": "{line}"}}' for line in text.split("\n") if line) + "\n"
    found = []
    for ends in (text, text.replace("\n", "\r\n")):
        out, _ = read(tool, ends.encode())
        files = sorted(tmp_path.glob("out/**/*")) if (tmp_path / "out").is_dir() else [tmp_path / "out"]
        files = [p for p in files if p.is_file() and p.name != "manifest.json"]
        found.append([out] + [re.sub(b'"source_sha256": "[^"]*"', b"", p.read_bytes()) for p in files])
    assert found[0] == found[1]


# Lines without an end


@pytest.mark.parametrize("tool", READERS)
def test_the_longest_line(read, tool):
    """--max-line counts the bytes of a line without its end; one more is refused."""
    line = b'{"namespace": 0, "text": "abc"}' if tool == "extract-wiki" else "墨を硯ですり、紙に書く。".encode()
    for text in (line, b"\n".join([line] * 12_000)):
        read(tool, text, "--max-line", len(line))
        _, said = read(tool, text, "--max-line", len(line) - 1, status=1)
        assert f"is longer than --max-line, {len(line) - 1:,} bytes; is it text" in said


@pytest.mark.parametrize("tool", READERS)
def test_a_line_without_end(bin_dir, tokenizer, tmp_path, tool):
    """An endless line, of zeros or of letters, in no more memory than --max-line needs."""
    places = {"OUT": tmp_path / "out", "TOKENIZER": tokenizer}
    command = [bin_dir / tool, *(places.get(a, a) for a in READERS[tool]), "--max-line", "10M"]
    for endless, said in (
        ("cat /dev/zero", b"is not UTF-8 text"),
        ("yes abc | tr -d '\\n'", b"is longer than --max-line"),
    ):
        run = f'{endless} | (ulimit -v {LIMITS[tool]}000; "$0" "$@")'
        done = subprocess.run(["bash", "-c", run, *command], capture_output=True, timeout=300)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count(b"\n") == 1, done.stderr


# Memory

# Address space in MB that each tool may have: a quarter more than it takes for a text of 1 MB (most of it libraries).
LIMITS = {
    "split-sentences": 140,
    "filter-sentences": 60,
    "shuffle-split": 160,
    "train-tokenizer": 500,
    "segment-words": 350,
    "pack-tokens": 450,
    "extract-wiki": 60,
    "cat-text": 60,
}
MORE = {
    "split-sentences": [],
    "filter-sentences": [],
    "shuffle-split": ["--memory", "10M", "OUT"],
    "train-tokenizer": ["--jobs", "1", "OUT"],
    "segment-words": [],
    "pack-tokens": ["--tokenizer", "TOKENIZER", "OUT"],
    "extract-wiki": [],
    "cat-text": [],
}


@pytest.mark.parametrize("times", [1, 8])
@pytest.mark.parametrize("tool", LIMITS)
def test_memory_does_not_grow_with_the_input(bin_dir, tokenizer, tmp_path, tool, times):
    places = {"OUT": tmp_path / "out", "TOKENIZER": tokenizer}
    text = TEXT * (2 if tool in ("train-tokenizer", "segment-words", "pack-tokens") else 16)
    if tool == "extract-wiki":
        text = "".join(f'{{"namespace": 0, "text": "{line}"}}\n' for line in text.split("\n") if line)

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (LIMITS[tool] * 10**6,) * 2)

    command = [bin_dir / tool, *(places.get(a, a) for a in MORE[tool])]
    done = subprocess.run(command, input=text.encode() * times, capture_output=True, timeout=300, preexec_fn=limit)
    assert done.returncode == 0, done.stderr


TOOLS = sorted(p.name for p in (ROOT / "bin").iterdir())


@pytest.mark.parametrize("tool", TOOLS)
def test_help_names_the_memory(tool):
    assert re.search(r"^Memory: ", (ROOT / "bin" / tool).read_text("utf-8").split('"""')[1], re.MULTILINE)


# Files that are not text


def packed_tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(ROOT / "LICENSE", "LICENSE")
    return out.getvalue()


def packed_zip():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.write(ROOT / "LICENSE", "LICENSE")
    return out.getvalue()


HTML = b"<!DOCTYPE html>\n<html><body>Maintenance</body></html>\n"
DATA = TEXT.encode()
FILES = [  # (name, bytes, what cat-text says)
    ("ja.txt.xz", HTML, "its name says xz, but it is an HTML page; fetch it again"),
    ("ja.txt.gz", lzma.compress(DATA), "its name says gzip, but it is xz data"),
    ("ja.txt.bz2", DATA, "its name says bzip2, but it is something else"),
    ("ja.TXT.ZST", b"", "its name says zstd, but it is empty"),
    ("ja.txt.xz", lzma.compress(DATA)[:3], "its name says xz, but it is something else"),
    ("ja.txt", lzma.compress(DATA)[:5], "is only the first bytes of a packed file"),
    ("ja.txt", gzip.compress(DATA)[:1], "is only the first bytes of a packed file"),
    ("ja.txt.xz", lzma.compress(DATA)[:-9], "damaged or cut short (xz: "),
    ("ja.txt.gz", gzip.compress(gzip.compress(DATA)), "is packed twice: gzip data inside gzip data; unpack it once"),
    ("ja.txt.xz", lzma.compress(bz2.compress(DATA)), "is packed twice: bzip2 data inside xz data; unpack it once"),
    ("ja", packed_tar(), "is a tar archive, not text; unpack it"),
    ("ja.tar.gz", gzip.compress(packed_tar()), "is a tar archive packed by gzip, not text; unpack it"),
    ("ja.tgz", gzip.compress(packed_tar()), "is a tar archive packed by gzip"),
    ("ja.txt", packed_zip(), "is a zip archive (or .docx, .xlsx, .epub), not text"),
    ("ja.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99), "is a 7z archive, not text"),
    ("ja.rar", b"Rar!\x1a\x07\x01\x00" + bytes(99), "is a rar archive"),
    ("ja.parquet", b"PAR1" + bytes(range(99)), "is a Parquet file, not text; export"),
    ("ja.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is a PDF document, not text; extract"),
    ("ja.lz4", b"\x04\x22\x4d\x18" + bytes(99), "is lz4 data, not text; unpack it: lz4 -dc"),
    ("ja.db", b"SQLite format 3\0" + bytes(99), "is an SQLite database"),
    ("ja.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "is a Git LFS pointer, not the file"),
    ("ja.bin", bytes(range(256)) * 40, "is not UTF-8 text, nor text in another encoding"),
    ("ja.txt", TEXT.encode("cp932", "ignore"), "is not UTF-8; it looks like CP932: convert it with iconv"),
    ("ja.txt.xz", lzma.compress(TEXT.encode("utf_16")), "is not UTF-8; it looks like UTF-16: convert it with xz -dc "),
    ("ja.txt", b"", "is empty"),
    ("ja.txt.gz", gzip.compress(b""), "is empty"),
]


@pytest.mark.parametrize(("name", "data", "what"), FILES, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(FILES)])
def test_what_is_not_text_is_named(run_tool, tmp_path, name, data, what):
    (tmp_path / name).write_bytes(data)
    done = run_tool("cat-text", tmp_path / name, status=1)
    said = done.stderr.decode()
    assert said.startswith(f"cat-text: {tmp_path / name}: {what}") and said.count("\n") == 1, said
    assert not done.stdout or "cut short" in said
    if "convert it with" in said:
        command = re.search("convert it with (.*)", said)[1]
        subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True)
        assert run_tool("cat-text", tmp_path / "NEW").stdout.startswith(DATA[:300])


def test_readers_name_what_is_packed(read):
    for tool, data, what in (
        ("split-sentences", gzip.compress(DATA), "is gzip data, not text; unpack it with cat-text"),
        ("shuffle-split", packed_zip(), "is a zip archive"),
        ("extract-wiki", bz2.compress(DATA), "is bzip2 data, not text; unpack it with cat-text"),
    ):
        assert f"{tool}: standard input: {what}" in read(tool, data, status=1)[1]


def test_a_page_of_html_is_the_users_choice(run_tool, tmp_path):
    """Under a name that promises nothing else, it is printed, but not without a word."""
    (tmp_path / "page.txt").write_bytes(HTML)
    done = run_tool("cat-text", tmp_path / "page.txt")
    assert done.stdout == HTML and b"begins like an HTML page, whose tags will be in the text" in done.stderr


def test_links_to_nothing(run_tool, tmp_path):
    """A shard that is only linked to is a part of the text: if it is gone, that is not a smaller text."""
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert run_tool("cat-text", tmp_path).stdout == b"a\n\na\n"
    (tmp_path / "c.txt").symlink_to("/gone/c.txt")
    done = run_tool("cat-text", tmp_path, status=1)
    assert done.stderr.decode() == (
        f"cat-text: {tmp_path}/c.txt: is a link to /gone/c.txt, which does not exist; mend or remove it\n"
    )
    done = run_tool("fetch-jawiki", tmp_path, tmp_path / "jw", status=1)
    assert done.stderr.count(b"\n") == 1


def test_empty_files_among_others_are_reported(run_tool, tmp_path):
    for name, data in (("a.txt", b"a\n"), ("b.txt", b""), ("c.txt", b"c\n")):
        (tmp_path / name).write_bytes(data)
    done = run_tool("cat-text", tmp_path)
    assert done.stdout == b"a\n\nc\n" and f"cat-text: {tmp_path}/b.txt: is empty\n" in done.stderr.decode()
    assert run_tool("cat-text", stdin=b"").stdout == b""


# Mistakes on the command line


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["split-sentences", "FILE"], "unrecognized arguments: FILE (the text is read from standard input: "),
        (
            ["train-tokenizer", "out", "FILE"],
            "(the text is read from standard input: train-tokenizer … <FILE)",
        ),
        (["split-sentences", "--jobs", "1000"], "argument --jobs: from 1 to 512, not 1000"),
        (["shuffle-split", "--jobs", "0", "x"], "argument --jobs: from 1 to 512, not 0"),
        (["train-tokenizer", "--jobs", "1e9", "x"], "argument --jobs"),
        (["filter-sentences", "--max-chars", "5G"], "--max-chars: at most 1G"),
        (["filter-sentences", "--max-line", "-3"], "argument --max-line"),
        (["split-sentences", "--max-line", "many"], "argument --max-line: not an amount: 'many'"),
    ],
)
def test_usage(run_tool, tmp_path, arguments, what):
    done = run_tool(*arguments, status=2, cwd=tmp_path)
    assert what in done.stderr.decode().splitlines()[-1] and os.listdir(tmp_path) == []
