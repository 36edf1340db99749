"""The arrays made of unidic-lite: the same words are found with them as by MeCab itself with unidic-lite itself."""

import functools
import lzma
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import fugashi
import numpy as np
import unidic_lite
from hypothesis import given, settings
from hypothesis import strategies as st
from suzuri import dictionary
from suzuri.segment import segment, tables

SOURCE = Path(unidic_lite.DICDIR)
LIB = Path(dictionary.__file__).parents[1]


@functools.cache
def mecab():
    return fugashi.GenericTagger(f'-d "{SOURCE}" -r "{SOURCE}/mecabrc"')


def theirs(line):
    return " ".join([node.surface for node in mecab()(unicodedata.normalize("NFKC", line))])


def test_every_sixth_of_its_words_in_pairs():
    """Words from the dictionary itself, two at a time, so that rare context ids meet, too."""
    features = (SOURCE / "sys.dic").read_bytes().split(b"\0")[-800_000:]
    written = sorted({feature.split(b",")[8] for feature in features[::6] if feature.count(b",") > 8})
    written = [word.decode() for word in written]
    assert len(written) > 50_000
    pairs = ["".join(pair) for pair in zip(written, reversed(written), strict=True)]
    assert segment(pairs) == [theirs(pair) for pair in pairs]


def test_every_character_of_two_bytes():
    """Each between two others, by chance: all the categories meet, and unknown words of all kinds are made."""
    characters = [chr(c) for c in range(1, 0x10000) if c != 0x0A and not 0xD800 <= c < 0xE000]
    random.Random(0).shuffle(characters)
    lines = ["".join(characters[i : i + 50]) for i in range(0, len(characters), 50)]
    assert segment(lines) == [theirs(line) for line in lines]


def test_real_text(shared_data):
    with lzma.open(shared_data / "cc100/ja-mini.txt.xz", "rt", errors="replace", newline="\n") as f:
        lines = [line[:-1] for line in f]
    assert segment(lines) == [theirs(line) for line in lines]


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text("東京都はがでにをのある行っ、。（）0aｱー々〇😀 "))
def test_any_text(text):
    text = text.replace("\n", " ")
    assert segment([text])[0] == theirs(text)


def test_less_to_read():
    words, kept = 756_264, tables()
    assert 0.9 * words < len(kept.tokens) < 0.95 * words
    assert sum(array.nbytes for array in kept) < 110e6
    assert (np.sort(kept.matrix.ravel()) == np.sort(np.fromfile(SOURCE / "matrix.bin", "<i2", offset=4))).all()


def start(cache, code):
    env = {**os.environ, "PYTHONPATH": str(LIB), "XDG_CACHE_HOME": str(cache)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], env=env, text=True, **pipes)


def test_made_once_by_many(tmp_path):
    code = "from suzuri import compiled, dictionary; print(len(dictionary.tables().tokens), compiled.folder())"
    started = [start(tmp_path, code) for _ in range(3)]
    said = {process.communicate() for process in started}
    assert said == {(f"{len(tables().tokens)} {tmp_path / 'suzuri'}\n", "")}
    made = [path for path in (tmp_path / "suzuri").iterdir() if path.is_dir() and "words" in path.name]
    assert len(made) == 1 and not list((tmp_path / "suzuri").glob(".part-*"))


def test_no_place_to_keep_it(tmp_path):
    (tmp_path / "file").touch()
    code = "from suzuri import compiled, segment; print(segment.segment(['東京都は'])[0], compiled.folder())"
    said, complaint = start(tmp_path / "file", code).communicate()
    words, _, place = said.strip().rpartition(" ")
    assert words == "東京 都 は" and not Path(place).exists()
    assert "no place to keep what is made ready" in complaint and len(complaint.splitlines()) == 1


def test_damaged(tmp_path):
    """As after a power cut: what was compiled is compiled again, what was made is not trusted."""
    code = "from suzuri import segment; print(segment.segment(['東京都は'])[0])"
    assert start(tmp_path, code).communicate()[0] == "東京 都 は\n"
    next((tmp_path / "suzuri").glob("suzuri_*/lattice.cut*.nbc")).write_bytes(b"")
    assert start(tmp_path, code).communicate()[0] == "東京 都 は\n"
    place = next((tmp_path / "suzuri").glob("*words*"))
    (place / "trie.npy").write_bytes((place / "trie.npy").read_bytes()[:-1])
    said, complaint = start(tmp_path, code).communicate()
    assert said == "" and f"{place}: damaged" in complaint


def test_count_ids():
    found = dictionary.count_ids(["東京は東京。", "", "京"])
    assert len(found) > 5 and len(set(found)) == len(found)
