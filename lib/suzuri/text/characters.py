"""Character classes that all modules share, each defined once, as the inside of a regular expression's [...]."""

import re
from collections.abc import Iterator

# What str.split takes for white space, except the line feed and the two common blanks in SPACE. Each becomes a space,
# even a "line separator": only a line feed ends a line.
BLANKS = "\t\x0b\x0c\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f"
SPACE = " \u3000"

# Characters without a visible form, removed from all text: controls, soft hyphen, zero-width and direction marks,
# invisible operators and fillers, variation selectors, tags, the byte order mark, the object replacement character,
# private use (its meaning is not public), halves of surrogate pairs, noncharacters. Without the zero-width joiner a
# family emoji falls apart into its members: three good emoji. U+FFFD stays: it shows where bytes were invalid.
REMOVED = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
)
REMOVED_RUN = re.compile(f"[{REMOVED}]+")

HIRAGANA = "ぁ-ゖ"
KATAKANA = "ァ-ヺ"
HALF_WIDTH_KATAKANA = "ｦ-ｯｱ-ﾝ"
# Marks that lengthen or repeat a kana. A text of these alone is not Japanese: ・・・ーー
KANA_MARKS = "ーゝゞヽヾ"
# Kanji, and the signs written in place of one (人々, 二〇年, 〻); the hexagrams between U+4DC0 and U+4DFF are
# not among them.
HAN = "々〇〻\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
JAPANESE = HIRAGANA + KATAKANA + HALF_WIDTH_KATAKANA + HAN


def code_ranges(chars: str) -> Iterator[tuple[int, int]]:
    """The first and the last code point of each range in such a class.

    >>> list(code_ranges("ぁ-ゖ。"))
    [(12353, 12438), (12290, 12290)]
    """
    for first, last in re.findall("(.)(?:-(.))?", chars, re.DOTALL):
        yield ord(first), ord(last or first)
