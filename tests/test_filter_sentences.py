"""filter-sentences: cases at the limits, a comparison with the rules applied line by line."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suzuri.text.filters import REASONS, SentenceFilter

# sentence, reason to drop it (None: kept), with 4 to 8 characters allowed
CASES = [
    ("雨です", "too short"),
    ("雨です。", None),
    ("雨が降ります。", None),
    ("雨が降りました。", None),
    ("雨が降りましたね。", "too long"),
    ("𠮷野家だ", None),  # code points, not UTF-16 units or bytes
    ("𠮷野家", "too short"),
    ("abcdef", "no Japanese"),
    ("1234。。", "no Japanese"),
    ("・・・ーー", "no Japanese"),  # marks of kana alone are not Japanese
    ("한국어입니다", "no Japanese"),
    ("abc 1 x", "no Japanese"),
    ("abc 雨 x", None),
    ("abc あ x", None),
    ("abc ア x", None),
    ("abc ヴ x", None),
    ("abc々x", None),
    ("abc〇x", None),
    ("abc䷀x", "no Japanese"),  # a hexagram, between two blocks of kanji
    ("abc㐂x", None),
    ("abc𠮷x", None),
    ("雨\u2028雪です", None),  # only a line feed ends a line
    ("雨\r雪です", None),
]


@pytest.mark.parametrize("sentence, reason", CASES)
def test_table(sentence, reason):
    kept, dropped = SentenceFilter(4, 8)(f"前の文です\n{sentence}\n次の文です\n")
    assert dropped == ([(reason, sentence)] if reason else [])
    assert kept == f"前の文です\n{sentence + chr(10) if not reason else ''}次の文です\n"


def test_tex():
    keep = SentenceFilter(10, 1000)
    formula = r"{\displaystyle x^{2}}は二次式である。"
    assert keep(f"{formula}\n") == ("", [("with TeX", formula)])
    assert keep("display style の説明である。\n")[1] == []


@pytest.mark.parametrize(
    "text, want",
    [
        ("", ""),
        ("\n\n\n", ""),
        ("短い\n", ""),
        ("短い\n\n短い\n\n長い文が残る\n\n短い\n", "長い文が残る\n"),
        ("長い文が残る\n\n短い\n\n短い\n\nこれも残るよ\n", "長い文が残る\n\nこれも残るよ\n"),
        ("\n\n長い文が残る\n\n\n\nこれも残るよ\n\n", "長い文が残る\n\nこれも残るよ\n"),
        ("短い\n長い文が残る\n短い\n\n短い\nこれも残るよ", "長い文が残る\n\nこれも残るよ\n"),
    ],
)
def test_document_boundaries(text, want, run_tool):
    assert run_tool("filter-sentences", "--min-chars", 5, stdin=text).stdout.decode() == want


lines = st.one_of(
    st.sampled_from(["", "", "雨", "雨です。", "abcdefgh", "あ" * 8, "あ" * 9, "\\displaystyle あ", "・・・・"]),
    st.text(alphabet="aあ漢。 \r\x85", max_size=12),
)


def japanese(char):
    code = ord(char)
    kana = 0x3041 <= code <= 0x3096 or 0x30A1 <= code <= 0x30FA or (0xFF66 <= code <= 0xFF9D and char != "ｰ")
    blocks = (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)
    return kana or char in "々〇〻" or any(first <= code <= last for first, last in blocks)


@settings(max_examples=300, deadline=None)
@given(st.lists(lines, max_size=12))
def test_as_line_by_line(lines):
    text = "".join(line + "\n" for line in lines)
    kept, dropped = SentenceFilter(4, 8)(text)
    fine = [s for s in lines if not s or (4 <= len(s) <= 8 and any(map(japanese, s)) and "\\displaystyle" not in s)]
    assert kept == re.sub("\n\n\n+", "\n\n", re.sub("^\n\n+", "\n\n", "".join(line + "\n" for line in fine)))
    assert [s for _, s in dropped] == [s for s in lines if s and s not in fine]
    assert {reason for reason, _ in dropped} <= set(REASONS)


def test_blocks_change_nothing(run_tool):
    """Several blocks, with empty lines and dropped sentences everywhere."""
    document = "これは十分に長い文です。\n短い\n\n\nno Japanese in this one\n\n"
    done = run_tool("filter-sentences", stdin=document * 20_000)
    assert done.stdout.decode() == "\n".join(["これは十分に長い文です。\n"] * 20_000)
    assert b"60,000 sentences in, 20,000 kept, 20,000 too short, 0 too long, 20,000 no Japanese" in done.stderr


def test_dropped_samples_are_the_first_hundred(run_tool, tmp_path):
    path = tmp_path / "dropped.tsv"
    text = "".join(f"文{i}\nno Japanese {i}\n" for i in range(250))
    run_tool("filter-sentences", "--dropped", path, stdin=text)
    want = "".join(f"too short\t文{i}\nno Japanese\tno Japanese {i}\n" for i in range(100))
    assert path.read_text(encoding="utf-8") == want
    assert [p.name for p in tmp_path.iterdir()] == ["dropped.tsv"]


def test_invalid_bytes_are_counted(run_tool):
    done = run_tool("filter-sentences", stdin="これは十分に長い文です".encode() + b"\xff\xe3\x81\n")
    assert done.stdout.decode() == "これは十分に長い文です��\n"
    assert b"3 invalid bytes replaced" in done.stderr


@pytest.mark.parametrize("arguments", [["--min-chars", "20", "--max-chars", "10"], ["--min-chars", "-1"], ["x"]])
def test_usage(arguments, run_tool):
    assert run_tool("filter-sentences", *arguments, status=2).stdout == b""


def test_unwritable_samples(run_tool, tmp_path):
    done = run_tool("filter-sentences", "--dropped", tmp_path / "none/dropped.tsv", stdin="短い\n", status=1)
    assert done.stderr.decode().count("\n") == 1 and "none/dropped.tsv" in done.stderr.decode()


def test_limits_on_a_long_line(run_tool):
    line = "あ" * 700_000
    assert run_tool("filter-sentences", stdin=line).stdout == b""
    assert run_tool("filter-sentences", "--max-chars", "1M", stdin=line).stdout.decode() == line + "\n"
