"""Words: the same as transformers' MecabTokenizer, whatever the text."""

import functools
import lzma
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suzuri.tokenizer.words import segment
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
    assert not any(" " in word for word in words)  # else the string could not be taken apart again


@settings(max_examples=400, deadline=None)
@given(st.lists(st.text() | st.text(LETTERS), min_size=1, max_size=4))
def test_any_text(texts):
    texts = [text.replace("\n", "") for text in texts]
    found = segment(texts)
    assert [line.split(" ") if line else [] for line in found] == [mecab().tokenize(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "東京都に住む。" * 9000,  # more nodes than there was room for at first
        "東" * 200_000,  # one word or another spans every place
        "東京" * 100_000,
        "京" + " " * 60_000 + "都",
        "あいうえお𠮷野家😀" * 3000,
    ],
    ids=["nodes", "spanned", "long", "blanks", "planes"],
)
def test_long_lines(text):
    lines = ["東京都", text, "", "京都"]
    assert [line.split(" ") if line else [] for line in segment(lines)] == [mecab().tokenize(line) for line in lines]


def test_lines_that_mecab_cannot_take():
    """It counts no more than 65,535 blanks, and no way that costs more than 2³¹; the words are there all the same."""
    assert segment(["京" + " " * 70_000 + "都"]) == ["京 都"]
    sentence = "日本で梅雨がないのは、北海道とどこか。"
    assert segment([sentence * 70_000]) == [" ".join(segment([sentence]) * 70_000)]
    words = segment(["東" * 600_000])[0].split(" ")
    assert "".join(words) == "東" * 600_000 and len(set(words)) < 4


def test_a_long_run_takes_no_longer():
    """MeCab looks for the end of a run of letters at each of them: base64 of 1 MB would take it minutes."""
    text = "あ" + "aB3" * 350_000
    begun = time.process_time()
    words = segment([text])[0].split(" ")
    assert "".join(words) == text and time.process_time() - begun < 20


def test_what_is_certain_of_the_way(shared_data):
    """Long lines are cut stretch by stretch, and as MeCab cuts them."""
    with lzma.open(shared_data / "cc100/ja-mini.txt.xz", "rt", encoding="utf-8", newline="\n") as f:
        text = f.read().replace("\n", "")[:600_000]
    lines = [text[i : i + n] for n in (4095, 4097, 50_000, 300_000) for i in range(0, 300_000, n)]
    assert [line.split(" ") for line in segment(lines)] == [mecab().tokenize(line) for line in lines]


def test_invalid_bytes_are_counted(run_tool):
    done = run_tool("segment-words", stdin=b"\xe6\x9d\xb1\xff\xe4\xba\xac")
    assert done.stdout.decode() == "東 \ufffd 京\n"
    assert b"1 invalid bytes replaced" in done.stderr


def test_a_vanished_reader_is_no_error(bin_dir):
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
