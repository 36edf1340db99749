"""The made-ready dictionary: MeCab finds the same words with it as with unidic-lite itself."""

import lzma
import os
import subprocess
import sys
from pathlib import Path

import fugashi
import pytest
import unidic_lite
from hypothesis import given, settings
from hypothesis import strategies as st
from suzuri import dictionary

SOURCE = Path(unidic_lite.DICDIR)
LIB = Path(dictionary.__file__).parents[1]


def words(folder):
    return fugashi.GenericTagger(f'-d "{folder}" -r "{folder}/mecabrc" -Owakati').parse


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    made = tmp_path_factory.mktemp("dictionary") / "made"
    dictionary.make(SOURCE, made)
    return words(SOURCE), words(made)


def test_every_sixth_of_its_words_in_pairs(both):
    """Words from the dictionary itself, two at a time, so that rare context ids meet, too."""
    _, _, _, features = dictionary._read(SOURCE / "sys.dic")
    written = sorted({feature.split(b",")[8] for feature in features.split(b"\0")[::6] if feature.count(b",") > 8})
    written = [word.decode() for word in written]
    assert len(written) > 50_000
    theirs, ours = both
    for pair in zip(written, reversed(written), strict=True):
        assert ours("".join(pair)) == theirs("".join(pair))


def test_real_text(both, shared_data):
    theirs, ours = both
    with lzma.open(shared_data / "cc100/ja-mini.txt.xz", "rt", errors="replace") as lines:
        for line in lines:
            assert ours(line) == theirs(line)


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text("東京都はがでにをのある行っ、。（）0aｱー々〇😀 "))
def test_any_text(both, text):
    theirs, ours = both
    assert ours(text) == theirs(text)


def test_less_to_read(both, tmp_path):
    dictionary.make(SOURCE, tmp_path / "made")
    _, _, before, _ = dictionary._read(SOURCE / "sys.dic")
    header, _, tokens, _ = dictionary._read(tmp_path / "made/sys.dic")
    assert header["words"] == len(tokens) < 0.95 * len(before)
    assert sum(file.stat().st_size for file in (tmp_path / "made").iterdir()) < 105e6


def folder(cache):
    code = "from suzuri import dictionary; print(dictionary.folder())"
    env = {**os.environ, "PYTHONPATH": str(LIB), "XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)


def test_made_once_by_many(tmp_path):
    started = [folder(tmp_path) for _ in range(3)]
    places = {Path(process.communicate()[0].strip()) for process in started}
    assert len(places) == 1 and places.pop().parent == tmp_path / "suzuri"
    assert len([path for path in (tmp_path / "suzuri").iterdir() if path.is_dir()]) == 1  # and no leavings


def test_no_place_to_keep_it(tmp_path):
    (tmp_path / "file").touch()
    assert folder(tmp_path / "file").communicate()[0].strip() == str(SOURCE)


def test_count_ids():
    found = dictionary.count_ids(["東京は東京。", "", "京"])
    assert len(found) > 5 and len(set(found)) == len(found)
