"""Japanese text to words: NFKC, then MeCab with unidic-lite.

The words are those of transformers' `MecabTokenizer`, which walks MeCab's nodes; asking for -Owakati
(the words in one string, joined by blanks) takes half the time. That the string can be taken apart at
its blanks again is no luck: of the 756,264 words of unidic-lite those that hold a blank all begin with,
or follow, a full-width bracket （, which NFKC has turned into an ASCII one by then.
"""

import functools
import os
import unicodedata

from suzuri.malloc import on_huge_pages


@functools.cache
def tagger(output=""):
    """MeCab with unidic-lite; one a process for each way of output, since a Tagger is not to be shared."""
    import fugashi

    from suzuri import dictionary

    folder = dictionary.folder()
    mecab = fugashi.GenericTagger(f'-d "{folder}" -r "{os.path.join(folder, "mecabrc")}" {output}')
    if output:  # the one that all the text goes through
        for name in "matrix.bin", "sys.dic":
            on_huge_pages(os.path.join(folder, name))
    return mecab


def segment(lines):
    """For each line (str, without its line end) its words, joined by single blanks.

    "私は東京都に住む。" -> "私 は 東京 都 に 住む 。"
    """
    parse, normalize = tagger("-Owakati").parse, unicodedata.normalize
    for line in lines:
        text = normalize("NFKC", line)
        # fugashi strips what it returns, so that words such as U+0085 at either end would be lost, and
        # MeCab takes NUL for the end: such a line (one in a million) goes by the nodes.
        if len(text.strip()) == len(text) and "\0" not in text:
            yield parse(text)
        else:
            yield " ".join([node.surface for node in tagger()(text)])
