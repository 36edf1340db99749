"""Counts that a tokenizer is learned from: of words, characters or runs of a script, taken in parallel.

Only counts go into a vocabulary, so neither the order of the lines nor the number of workers can matter.
Memory grows with what is distinct, not with the text.
"""

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TextIO

from suzuri.content import decode
from suzuri.errors import DataError
from suzuri.processes import ordered_map
from suzuri.streams import line_blocks
from suzuri.text.characters import HAN, HIRAGANA, KANA_MARKS, KATAKANA
from suzuri.text.mecab import tagger
from suzuri.tokenizer import words

BLOCK = 1 << 20  # bytes of text that a worker counts at a time: about half a second of cutting into words

# A run: characters in a row that one sentencepiece may hold, and a blank before them. Kana and kanji, which
# sentencepiece takes for one script, never share a piece with anything else (split_by_unicode_script), so
# training on counted runs is training on the sentences, with each repeated run given once.
# 〇, which is a kanji to sentencepiece too, is kept apart: in a run (三〇年) it would change the vocabularies.
_JAPANESE = HIRAGANA + KATAKANA + KANA_MARKS + HAN.replace("〇", "")
# sentencepiece's time grows with the square of a repetitive run (墨は黒い 25,000 times in a row: half a minute), so a
# run is cut at LONGEST_RUN characters, more than a sentence has.
LONGEST_RUN = 1000
_RUN = re.compile(f" ?[{_JAPANESE}]{{1,{LONGEST_RUN}}}| ?[^{_JAPANESE} ]{{1,{LONGEST_RUN}}}| ")


class TextBlocks:
    """Blocks of whole lines of about BLOCK bytes, up to `max_lines` lines that are not blank.

    Reads no further than it needs. `lines` (not blank) and `bytes` count what has been yielded;
    `progress(n)` is called with the number of lines of each block.
    """

    def __init__(
        self, blocks: Iterable[bytes], max_lines: int | None = None, progress: Callable[[int], None] | None = None
    ):
        self.blocks, self.max_lines, self.progress = blocks, max_lines, progress
        self.lines = self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        held, size = [], 0
        for block in line_blocks(self.blocks):
            kept = [line for line in block.split(b"\n") if line and not line.isspace()]
            kept = kept if self.max_lines is None else kept[: self.max_lines - self.lines]
            held += kept
            size += len(block)
            self.lines += len(kept)
            self.bytes += len(block)
            full = self.max_lines is not None and self.lines >= self.max_lines
            if size >= BLOCK or full:
                yield self._pack(held)
                held, size = [], 0
            if full:
                break
        if held:
            yield self._pack(held)

    def _pack(self, lines):
        if self.progress:
            self.progress(len(lines))
        return b"\n".join(lines)


def count_words(lines: list[str]) -> Counter:
    """Words as MeCab cuts them: ["私は私"] -> {"私": 2, "は": 1}"""
    counts = Counter(" ".join(words.segment(lines)).split(" "))
    del counts[""]
    return counts


def count_characters(lines: list[str]) -> Counter:
    """Characters after NFKC: ["ＡＡ Ｂ"] -> {"A": 2, " ": 1, "B": 1}"""
    counts = Counter(unicodedata.normalize("NFKC", "\n".join(lines)))
    del counts["\n"]
    return counts


def count_runs(lines: list[str]) -> Counter:
    """Runs of one kind of script after NFKC: ["私は ABC-1だ。"] -> {"私は": 1, " ABC-1": 1, "だ": 1, "。": 1}"""
    counts = Counter()
    for line in lines:
        counts.update(_RUN.findall(unicodedata.normalize("NFKC", line)))
    return counts


# kind of tokenizer: (what is counted for it, the function that counts)
COUNTED = {
    "wordpiece": ("words", count_words),
    "char": ("characters", count_characters),
    "unigram": ("runs of a script", count_runs),
}


def count_blocks(blocks: Iterable[bytes], kind: str, jobs: int) -> tuple[Counter, int]:
    """(Counter of what COUNTED[kind] counts, number of invalid bytes).

    blocks: bytes of whole lines. `jobs` processes count, this one adds up.
    """
    if kind == "wordpiece":
        tagger("-Owakati")  # the dictionary is read once, before the workers are forked
    total, invalid = Counter(), 0
    for counts, bad in ordered_map(partial(_count_block, COUNTED[kind][1]), blocks, jobs):
        total.update(counts)
        invalid += bad
    return total, invalid


FORMAT = "suzuri-counts/1"


@dataclass
class FileCounts:
    """What a tokenizer of a kind is learned from, counted in text: `lines` that are not blank, of `bytes`."""

    kind: str
    found: Counter
    lines: int = 0
    bytes: int = 0
    invalid: int = 0

    def write(self, file: TextIO, number: int, of: int) -> None:
        """Write them as those of file `number` (from 0) of `of` files."""
        json.dump(vars(self) | {"format": FORMAT, "number": number, "of": of}, file, ensure_ascii=False)


def count_file(path: str, kind: str, jobs: int = 1, progress: Callable[[int], None] | None = None) -> FileCounts:
    with open(path, "rb") as f:
        text = TextBlocks(iter(partial(f.read, BLOCK), b""), progress=progress)
        found, invalid = count_blocks(text, kind, jobs)
    return FileCounts(kind, found, text.lines, text.bytes, invalid)


def read_counts(folder: str, kind: str) -> FileCounts:
    """The sum of the NAME.json in a folder, which FileCounts.write has written: one for each file of a text."""
    total, numbers, of = FileCounts(kind, Counter()), [], None
    again = "remove it and count again"
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") or not name.endswith(".json"):  # of an attempt that was killed, or still writes
            continue
        path = os.path.join(folder, name)
        try:
            with open(path, encoding="utf-8") as f:
                made = json.load(f)  # of any size: it has a word of the text per entry
            if made["format"] != FORMAT:
                raise ValueError(f"format {made['format']!r}, not {FORMAT!r}")
            of = made["of"] if of is None else of
            for key, wanted in (("kind", kind), ("of", of)):
                if made[key] != wanted:
                    raise DataError(path, f"made with {key} {made[key]}, not {wanted}; {again}")
            total.found.update(made["found"])
            for key in ("lines", "bytes", "invalid"):
                setattr(total, key, getattr(total, key) + made[key])
            numbers.append(made["number"])
        except (KeyError, TypeError, ValueError, RecursionError) as e:
            raise DataError(path, f"not a file of counts ({e}); {again}") from None
    if not numbers:
        raise DataError(folder, "no counts in it (NAME.json, by count-words)")
    if sorted(numbers) != list(range(of)):
        raise DataError(folder, f"does not hold the counts of each of {of} files once; {again}")
    return total


def _count_block(count, block):
    text, invalid = decode(block)
    return count(text.split("\n")), invalid


def sum_characters(counts: dict[str, int]) -> Counter:
    """Counter of the characters in {word, character or run: count}, each weighted by the count."""
    total = Counter()
    for text, n in counts.items():
        for c in text:
            total[c] += n
    return total


def choose_alphabet(characters: dict[str, int], size: int) -> set[str]:
    """The `size` most frequent characters, ties to the lower code point: a set.

    White space and control characters are left out (vocab.txt could not hold them), and so is U+FFFD, which
    replaces invalid bytes.
    """
    usable = [c for c in characters if not c.isspace() and unicodedata.category(c) != "Cc" and c != "\ufffd"]
    return set(sorted(usable, key=lambda c: (-characters[c], c))[:size])
