"""Japanese text to words: NFKC, then MeCab's way of cutting, with unidic-lite.

The words are those of transformers' `MecabTokenizer`. They can be joined by blanks and taken apart again, which is no
luck: of the 756,264 words of unidic-lite those that hold a blank all begin with, or follow, a full-width bracket （,
which NFKC has turned into an ASCII one by then.
"""

import functools
import unicodedata

import numpy as np


def segment(lines):
    """For each line (str, without its line end) its words, joined by single blanks.

    "私は東京都に住む。" -> "私 は 東京 都 に 住む 。"
    """
    return cut(lines).tobytes().decode("utf-32-le").split("\n")[:-1]


def cut(lines):
    """The same as one array of characters (uint32), each line ended by a line feed."""
    from suzuri import lattice

    return lattice.cut(characters(lines), *tables())


def characters(lines):
    """The lines after NFKC, up to a NUL, which ends a text for MeCab: as one array of characters, as `cut` does."""
    texts = [unicodedata.normalize("NFKC", line).partition("\0")[0] + "\n" for line in lines]
    return np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")


@functools.cache
def tables():
    from suzuri import dictionary

    return dictionary.tables()
