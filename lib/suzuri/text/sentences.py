"""Cleaning and splitting of Japanese text: a block of paragraphs in, one sentence per line out.

The rules are those of `sentence_rules`. Everything works on a block of lines at once and leaves the loops over
characters to NumPy and to str methods:

1. remove what is invisible
2. `Scan` finds the characters that matter, and the pairs of brackets; a bracket without a partner is ordinary
3. what DOUBT must not see is hidden: those brackets, quotation marks that open, the と of a word such as とても
4. `sentence_ends` works on the text as it was written. Most marks clearly end a sentence: 。 before an ordinary
   character, any mark at the end of a line. The others are matched with DOUBT
5. NFKC, white space, blank lines
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from itertools import repeat

import numpy as np

from suzuri.streams import Block
from suzuri.text.characters import BLANKS, HALF_WIDTH_KATAKANA, HIRAGANA, REMOVED, SPACE, code_ranges
from suzuri.text.documents import count_lines, squeeze
from suzuri.text.mecab import tagger
from suzuri.text.sentence_rules import (
    CLOSERS,
    DIGIT,
    DOUBT,
    ELLIPSIS,
    EMOJI,
    HIDDEN,
    KIND,
    LATIN,
    LOOSE,
    MARKS,
    OPENERS,
    PAIRS,
    QUOTE_KIND,
    QUOTES,
    STARS,
    STRAY_CLOSERS,
)

# The forms of characters for vertical text, and small ones: ︒ is 。, ﹖ is ?. The rules are about the usual forms.
FORMS = "︐-︙︰-﹄﹇﹈﹐-﹒﹔-﹦﹨-﹫\u2329\u232a"
SOUND_MARKS = "゛゜\u3099\u309a"  # か゛ is が
SOUNDED = re.compile(f"[{HIRAGANA}ァ-ヺゝヽ{HALF_WIDTH_KATAKANA}][{SOUND_MARKS}]")

LETTER = f"[{LATIN}{DIGIT}]"
QUOTATION_MARK = re.compile(f"[\"＂”“„‟‘‚‛]|(?<!{LETTER})['＇’]|['＇’](?!{LETTER})")  # an apostrophe is none
UNIT = re.compile(LETTER)  # a mark after one of these does not open: 5"
# It does not open if it has no partner either; nor does one before a mark or a closing bracket.
AFTER_CLOSED = f"[とって{SPACE}\n、､，,をはがに{MARKS}{CLOSERS}{STRAY_CLOSERS}{re.escape(LOOSE)}]"
CLOSED = re.compile(f"[”’]|.(?={AFTER_CLOSED}|\\.(?![.{LATIN}]))")

# What a character is, one bit each. A mark or a closing bracket with something REMARKABLE beside it is in doubt.
LINE_END, OPENER, CLOSER, MARK, UNCLEAN, REMARKABLE, COMPATIBLE, QUOTE = (1 << bit for bit in range(8))
NOTED = LINE_END | OPENER | CLOSER | MARK | UNCLEAN


@cache
def character_bits() -> np.ndarray:
    """The bits of each character: uint8 [0x110000]."""
    bits = np.zeros(sys.maxunicode + 1, np.uint8)
    bits[0x10000:] = REMARKABLE
    classes = {
        LINE_END: "\n",
        OPENER: OPENERS,
        CLOSER: CLOSERS,
        MARK: MARKS,
        UNCLEAN: f"{REMOVED}{BLANKS}{FORMS}{SOUND_MARKS}",
        QUOTE: QUOTES,
        REMARKABLE: f"{OPENERS}{CLOSERS}{MARKS}{STRAY_CLOSERS}{LOOSE}{QUOTES}、､，,をのは \u3000wｗ"
        f"{ELLIPSIS}{EMOJI}{STARS}",
    }
    for bit, chars in classes.items():
        for first, last in code_ranges(chars):
            bits[first : last + 1] |= bit
    bits[[code for code in range(0x10000) if not unicodedata.is_normalized("NFKC", chr(code))]] |= COMPATIBLE
    return bits


@cache
def clean_codes() -> np.ndarray:
    """What each character is before the split: 0 if it is removed. uint32 [0x110000]"""
    codes = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    for chars, code in (BLANKS, ord(" ")), (REMOVED, 0):
        for first, last in code_ranges(chars):
            codes[first : last + 1] = code
    for first, last in code_ranges(FORMS):
        for form in range(first, last + 1):  # not NFKC: ︙ is …, which that makes ...
            codes[form] = int(unicodedata.decomposition(chr(form)).split()[-1], 16)
    return codes


@cache
def bracket_kinds() -> np.ndarray:
    """The kind of each bracket: uint8 [0x10000]."""
    kinds = np.zeros(0x10000, np.uint8)
    for char, kind in KIND.items():
        kinds[ord(char)] = kind
    return kinds


@cache
def compatible_codes() -> np.ndarray:
    """The NFKC form of each character if that is one character, otherwise the character itself.

    uint32 [0x10000]
    """
    codes = np.arange(0x10000, dtype=np.uint32)
    for code in np.flatnonzero(character_bits() & COMPATIBLE).tolist():
        if len(char := unicodedata.normalize("NFKC", chr(code))) == 1:
            codes[code] = ord(char)
    return codes


def find_strays(noted: Sequence[int], kinds: Sequence[int]) -> list[int]:
    """The indices, ascending, of those brackets of some lines that have no partner or are more than two deep.

    noted: the bits of each bracket, and of the LINE_END before each line; kinds: their kinds. A closing bracket
    pairs with the nearest open one of its kind; what was opened in between never closes.
    """
    strays, stack, waiting = [], [], None  # waiting: how many of each kind are open
    for i, (what, kind) in enumerate(zip(noted, kinds, strict=True)):
        if what & LINE_END:
            strays += stack
            stack, waiting = [], [0] * len(PAIRS)
        elif what & OPENER:
            stack.append(i)
            waiting[kind] += 1
        elif not waiting[kind]:
            strays.append(i)
        else:
            while kinds[opened := stack.pop()] != kind:
                waiting[kinds[opened]] -= 1
                strays.append(opened)
            waiting[kind] -= 1
            if len(stack) >= 2:
                strays += opened, i
    # What looked more than two deep may be less, as strays do not count. Hiding it is harmless: it is inside a pair.
    return sorted(strays + stack)


def opening_quotes(text: str, start: int, end: int) -> list[int]:
    """The places of those QUOTES of a line, text[start:end], that open a quotation.

    Of the marks of a kind every other one opens. If their number is odd, one after 。！？ and before と closes.
    """
    kinds, found = {}, []
    for mark in QUOTATION_MARK.finditer(text, start, end):
        kinds.setdefault(QUOTE_KIND[mark[0]], []).append(mark.start())
    for places in kinds.values():
        opened = None
        for i, place in enumerate(places):
            if text[place] not in QUOTES:
                opened = place
            elif opened is not None:
                found.append(opened)
                opened = None
            elif (len(places) - i) % 2 and text[place - 1] in MARKS:
                found += [] if CLOSED.match(text, place) else [place]
            elif not UNIT.match(text, place - 1):
                opened = place
    return found


@lru_cache(1 << 12)
def begins_word(text: str) -> bool:
    """Does the と that the text begins with, after ！ or ？, begin a word, as in 行く？とっても行けない? By MeCab."""
    text = unicodedata.normalize("NFKC", text.partition("\n")[0])
    word = tagger()(f"？{text}")[1].surface
    return word not in ("と", "とて") and not text.startswith("とどな")  # there is no word とど in …！とどなる


def hide(text: str, places: Iterable[int]) -> str:
    """The text with the characters at these places behind their HIDDEN codes."""
    pieces, done = [], 0
    for place in places:
        pieces += text[done:place], text[place].translate(HIDDEN)
        done = place + 1
    return "".join([*pieces, text[done:]])


class Scan:
    """The marks, brackets and lines of a text that begins and ends with a line feed.

    codes: uint32 [characters]; bits: uint8 [characters]. Of the n NOTED characters: at, their places; noted, their
    bits; line, the index of their line; depth, how many brackets of the line are open after each: int64 [n], noted
    uint8 [n]. outer: which of them are the outer brackets, int64 [pairs, 2]. strays: the places of the brackets without
    a partner, ascending. unclean: is there anything to be removed, or a blank to be made a space?
    """

    def __init__(self, text: str):
        self.codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        self.bits = character_bits().take(self.codes, mode="clip")
        self.at = np.flatnonzero(self.bits & NOTED != 0)
        self.noted = self.bits[self.at]
        self.unclean = bool((self.noted & UNCLEAN).any())
        self.line = np.cumsum(self.noted == LINE_END) - 1
        self.strays = []
        self.depth, self.outer, mismatched = self.pair()
        if mismatched.any():
            brackets = self.noted & (LINE_END | OPENER | CLOSER) != 0
            self.strays = self.release_strays(np.flatnonzero(mismatched[self.line] & brackets))
            self.depth, self.outer, _ = self.pair()

    def pair(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """-> (depth; outer; the lines in which something is not properly paired, bool [lines + 1])"""
        feeds = np.flatnonzero(self.noted == LINE_END)
        steps = (self.noted & OPENER != 0).astype(np.int64) - (self.noted & CLOSER != 0)
        total = np.cumsum(steps)
        depth = total - total[feeds][self.line]
        mismatched = np.zeros(len(feeds), bool)
        mismatched[:-1] = total[feeds[1:]] != total[feeds[:-1]]
        mismatched[self.line[(depth < 0) | (depth > 2)]] = True
        brackets = np.flatnonzero((steps != 0) & ~mismatched[self.line])
        level = depth[brackets] + (steps[brackets] < 0)
        for deep in 2, 1:
            outer = brackets[level == deep].reshape(-1, 2)  # they alternate: opener, closer
            kinds = bracket_kinds()[self.codes[self.at[outer]]]
            mismatched[self.line[outer[kinds[:, 0] != kinds[:, 1], 0]]] = True
        return depth, outer, mismatched

    def release_strays(self, some: np.ndarray) -> list[int]:
        """Make the strays among the noted characters `some` ordinary characters; -> their places."""
        kinds = bracket_kinds().take(self.codes[self.at[some]], mode="clip")
        strays = some[find_strays(self.noted[some].tolist(), kinds.tolist())]
        places = self.at[strays]
        self.bits[places] = (self.bits[places] & COMPATIBLE) | np.where(self.noted[strays] & CLOSER, REMARKABLE, 0)
        self.noted[strays] = 0
        return places.tolist()

    def cleaned(self) -> str:
        """The text without invisible characters, with blanks as spaces, in the forms that the rules are about."""
        codes = clean_codes()[self.codes]
        codes = codes[codes != 0]
        text = codes.tobytes().decode("utf-32-le")
        marks = np.flatnonzero(np.isin(codes, [ord(mark) for mark in SOUND_MARKS]))
        for sounded in {text[place - 1 : place + 1] for place in marks.tolist()}:
            if SOUNDED.match(sounded):
                composed = sounded.replace("゛", "\u3099").replace("゜", "\u309a")
                text = text.replace(sounded, unicodedata.normalize("NFKC", composed))
        return text

    def hidden(self, text: str) -> list[int]:
        """The places, ascending, of what DOUBT must not see."""
        places, done = self.strays.copy(), 0
        outside = (self.depth == 0) & (self.noted & (MARK | CLOSER) != 0)
        at, noted = self.at[outside], self.noted[outside]
        for place in at[self.bits[at + 1] & QUOTE != 0].tolist():
            if place >= done:
                done = text.index("\n", place)
                places += opening_quotes(text, text.rindex("\n", 0, place), done)
        quoting = (self.codes[at + 1] == ord("と")) & (noted & MARK != 0) & (self.codes[at] != ord("。"))
        places += [place + 1 for place in at[quoting].tolist() if begins_word(text[place + 1 : place + 21])]
        return sorted(places)

    def sentence_ends(self, text: str) -> list[int]:
        """Where sentences end, apart from line feeds: sorted places in the text, in which `hidden` is hidden."""
        at, bits = self.at, self.bits
        marks = at[(self.noted & MARK != 0) & (self.depth == 0)]
        marks = marks[bits[marks + 1] != LINE_END]
        plain = (self.codes[marks] == ord("。")) & (bits[marks + 1] & REMARKABLE == 0) & (bits[marks - 1] & MARK == 0)
        opened, closed = at[self.outer].T
        pairs = opened[(bits[closed - 1] & REMARKABLE != 0) & (bits[closed + 1] != LINE_END)]
        ends, done = (marks[plain] + 1).tolist(), 0
        for place in np.sort(np.concatenate([marks[~plain], pairs])).tolist():
            if place >= done:
                found = DOUBT.match(text, place)
                done = found.end()
                if found["end"] is not None and text[done] != "\n":
                    ends.append(done)
        return sorted(ends)

    def normalized(self, ends: list[int]) -> str:
        """The text with a line feed at each of the `ends`, in NFKC, with white space as `trim` leaves it."""
        codes = self.codes.copy()
        places = np.flatnonzero(self.bits & COMPATIBLE != 0)
        codes[places] = compatible_codes()[codes[places]]
        left = codes[places]
        codes = np.insert(codes, ends, ord("\n"))
        blanks = np.flatnonzero(codes == ord(" "))
        codes = np.delete(codes, blanks[(codes[blanks + 1] == ord(" ")) | (codes[blanks + 1] == ord("\n"))])
        blanks = np.flatnonzero(codes == ord(" "))
        codes = np.delete(codes, blanks[codes[blanks - 1] == ord("\n")])
        text = codes.tobytes().decode("utf-32-le")
        for char in map(chr, set(left[character_bits()[left] & COMPATIBLE != 0].tolist())):
            normal = unicodedata.normalize("NFKC", char)
            text = text.replace(char, normal)
            if " " in normal:  # ¨ is a space and a combining mark
                text = trim(text)
        if not unicodedata.is_normalized("NFKC", text):  # what composes with its neighbours, or is beyond the BMP
            lines = text.split("\n")
            for i, done in enumerate(map(unicodedata.is_normalized, repeat("NFKC"), lines)):
                if not done:
                    lines[i] = unicodedata.normalize("NFKC", lines[i])
            text = "\n".join(lines)
        return text


# --- blocks -------------------------------------------------------------------------------------------------


def trim(text: str) -> str:
    """The text with runs of spaces as one, and none at the start or the end of a line."""
    while "  " in text:
        text = text.replace("  ", " ")
    return text.replace(" \n", "\n").replace("\n ", "\n")


def split(text: str) -> str:
    """Paragraphs, one per line -> sentences, one per line; empty lines stay.

    >>> split("「行こう。」と言った。雨だ！\\n\\n…３．１４（笑）。")
    '「行こう。」と言った。\\n雨だ!\\n\\n...3.14(笑)。\\n'
    """
    scan = Scan(text := f"\n{text}" if text.endswith("\n") else f"\n{text}\n")
    if scan.unclean:
        scan = Scan(text := scan.cleaned())
    if hidden := scan.hidden(text):
        text = hide(text, hidden)
    return scan.normalized(scan.sentence_ends(text))[1:]


def split_block(block: Block) -> tuple[bytes, tuple[int, int, int, int]]:
    """A block of whole lines -> (its sentences; the counts of bytes in, lines in, sentences out, invalid bytes).

    Several empty lines in a row become one.
    """
    lines_in = block.text.count("\n") + (not block.text.endswith("\n"))
    text = squeeze(split(block.text))
    return text.encode(), (len(block), lines_in, count_lines(text), block.invalid)
