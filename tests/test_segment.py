"""Words: the same as transformers' MecabTokenizer, whatever the text."""

import functools
import subprocess
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suzuri.tokenizer.words import LONGEST, segment
from trained import NASTY
from transformers.models.bert_japanese.tokenization_bert_japanese import MecabTokenizer

LETTERS = "東京はがか\u3099、。 \u3000\t\x0b\x0c\r\x1c\x85\u2028\0aZ09（●´ー｀）ｱﾞ㍻Åé😀"


@functools.cache
def mecab():
    return MecabTokenizer(mecab_dic="unidic_lite")


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_nasty(text):
    words = mecab().tokenize(text)
    assert segment([text])[0] == " ".join(words)
    assert not any(" " in word for word in words)  # else the string could not be split again


@settings(max_examples=400, deadline=None)
@given(st.lists(st.text() | st.text(LETTERS), min_size=1, max_size=4))
def test_any_text(texts):
    texts = [text.replace("\n", "") for text in texts]
    found = segment(texts)
    assert [line.split(" ") if line else [] for line in found] == [mecab().tokenize(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "東京都に住む。" * 9000,
        "東京" * 32_500,
        "京" + " " * (LONGEST - 2) + "都",
        "あいうえお𠮷野家😀" * 7000,
        ("aB3" * LONGEST)[:LONGEST],
    ],
    ids=["sentences", "words", "blanks", "planes", "base64"],
)
def test_lines_as_long_as_mecab_is_given(text):
    assert len(text) <= LONGEST
    lines = ["東京都", text, "", "京都"]
    assert [line.split(" ") if line else [] for line in segment(lines)] == [mecab().tokenize(line) for line in lines]


SENTENCE = "日本で梅雨がないのは、北海道とどこか。"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SENTENCE * 160_000, None),  # 3 million characters
        ("京" + " " * 200_000 + "都", ["京", "都"]),
        ("word " * 30_000, ["word"] * 30_000),
        ("東" * 300_000, None),
        ("ab3Zx9" * 200_000, None),
        ("ﬁ" * 40_000, None),  # a run of 80,000 letters after NFKC: the slowest kind
    ],
    ids=["sentences", "blanks", "words", "one character", "base64", "NFKC"],
)
def test_longer_lines_are_cut(text, words):
    """No crash, no minutes, nothing lost; each part is cut into the words that it has by itself."""
    begun = time.process_time()
    found = segment(["東京", text])[1].split(" ")
    assert time.process_time() - begun < 60
    assert "".join(found) == unicodedata.normalize("NFKC", text).replace(" ", "")
    assert words is None or found == words
    if text.startswith(SENTENCE):
        assert found == segment([SENTENCE])[0].split(" ") * 160_000


def test_a_long_line_ends_at_a_nul_too():
    assert segment(["東京 " * 30_000 + "\0京都 " + "東京 " * 30_000]) == [" ".join(["東京"] * 30_000)]


def test_a_line_with_a_nul(run_tool):
    assert run_tool("segment-words", stdin="東京\0都\n京都\n").stdout.decode() == "東京 都\n京都\n"


def test_invalid_bytes_are_counted(run_tool):
    done = run_tool("segment-words", stdin=b"\xe6\x9d\xb1\xff\xe4\xba\xac")
    assert done.stdout.decode() == "東 \ufffd 京\n"
    assert b"1 invalid bytes replaced" in done.stderr


def test_a_vanished_reader_is_not_an_error(bin_dir):
    tool = subprocess.Popen(
        [bin_dir / "segment-words"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    tool.stdout.close()
    try:
        tool.stdin.write("東京\n".encode() * 500_000)
        tool.stdin.close()
    except BrokenPipeError:
        pass
    assert tool.wait(300) == -13 and tool.stderr.read() == b""
