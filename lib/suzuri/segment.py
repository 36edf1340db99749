"""Japanese text to words: NFKC, then MeCab's way of cutting, with unidic-lite.

The words are those of transformers' `MecabTokenizer`. They can be joined by blanks and taken apart again, which is no
luck: of the 756,264 words of unidic-lite those that hold a blank all begin with, or follow, a full-width bracket （,
which NFKC has turned into an ASCII one by then.
"""

import functools
import unicodedata

import numpy as np

from suzuri import dictionary

LONGEST = 0xFFFF  # characters; a longer line goes to MeCab itself, which cannot count more blanks than that


def segment(lines):
    """For each line (str, without its line end) its words, joined by single blanks.

    "私は東京都に住む。" -> "私 は 東京 都 に 住む 。"
    """
    return cut(lines).tobytes().decode("utf-32-le").split("\n")[:-1]


def cut(lines):
    """The same as one array of characters (uint32), each line ended by a line feed."""
    from suzuri import lattice

    texts, long = [], []
    for line in lines:
        text = unicodedata.normalize("NFKC", line)
        if "\0" in text:  # which MeCab takes for the end
            text = text[: text.index("\0")]
        if len(text) > LONGEST:
            long.append((len(texts), text))
            text = ""
        texts.append(text)
    found = lattice.cut(_characters(texts), *tables())
    if long:
        words = found.tobytes().decode("utf-32-le").split("\n")[:-1]
        for i, text in long:
            words[i] = " ".join([node.surface for node in _mecab()(text)])
        found = _characters(words).copy()  # which may be written to, as what the others give
    return found


def _characters(lines):
    return np.frombuffer("".join([line + "\n" for line in lines]).encode("utf-32-le"), "<u4")


@functools.cache
def tables():
    return dictionary.tables()


@functools.cache
def _mecab():
    import fugashi
    import unidic_lite

    return fugashi.GenericTagger(f'-d "{unidic_lite.DICDIR}" -r "{unidic_lite.DICDIR}/mecabrc"')
