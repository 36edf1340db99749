"""Japanese text to words: NFKC, then MeCab (by fugashi) with unidic-lite.

The words are those of transformers' `MecabTokenizer`, which walks MeCab's nodes; asking for -Owakati (the words in
one string, joined by blanks) takes half the time. The string can be split at its blanks again: of the 756,264 words
of unidic-lite those that hold a blank all begin with, or follow, a full-width bracket （, which NFKC has turned into
an ASCII one by then.
"""

import functools
import os
import unicodedata


@functools.cache
def tagger(output: str = ""):
    """MeCab with unidic-lite: one per process for each kind of output, since a Tagger must not be shared."""
    import fugashi
    import unidic_lite

    folder = unidic_lite.DICDIR
    return fugashi.GenericTagger(f'-d "{folder}" -r "{os.path.join(folder, "mecabrc")}" {output}')


def segment(lines: list[str]) -> list[str]:
    """For each line (without its line end) its words, joined by single blanks.

    ["私は東京都に住む。"] -> ["私 は 東京 都 に 住む 。"]
    """
    parse, normalize = tagger("-Owakati").parse, unicodedata.normalize
    found = []
    for line in lines:
        text = normalize("NFKC", line)
        # fugashi strips what it returns, so that words such as U+0085 at either end would be lost, and
        # MeCab takes NUL for the end: such a line (one in a million) goes by the nodes.
        if len(text.strip()) == len(text) and "\0" not in text:
            found.append(parse(text))
        else:
            found.append(" ".join([node.surface for node in tagger()(text)]))
    return found
