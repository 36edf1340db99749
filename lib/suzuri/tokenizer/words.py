"""Words of Japanese text: NFKC, then MeCab (through fugashi) with unidic-lite.

The words are those of transformers' `MecabTokenizer`, which walks MeCab's nodes; asking for -Owakati (the words in
one string, joined by blanks) takes half the time. The string can be split at its blanks again: of the 756,264 words
of unidic-lite those that hold a blank all begin with, or follow, a full-width bracket （, which NFKC has turned into
an ASCII one by then.

MeCab does not handle lines of every length: it counts a word and the blanks before it in 16 bits and loses the rest of
the line beyond that, it crashes on some lines of more than a million characters, and its time for a long run of letters
of one kind grows with the square of the length. So a line of more than LONGEST characters (after NFKC) is cut into
parts, and MeCab gets each part by itself. Up to LONGEST the words are exactly transformers'; in a longer line, words
near a cut may differ.
"""

import unicodedata

from suzuri.text.mecab import tagger

LONGEST = 65_000  # characters; leaves 535 of the 65,535 bytes to the word after blanks


def segment(lines: list[str]) -> list[str]:
    """For each line (without its line end) its words, joined by single blanks.

    ["私は東京都に住む。"] -> ["私 は 東京 都 に 住む 。"]

    A line ends at a NUL, as it does for transformers.
    """
    parse, normalize = tagger("-Owakati").parse, unicodedata.normalize
    found = []
    for line in lines:
        text = normalize("NFKC", line)
        if len(text) > LONGEST:
            found.append(" ".join(filter(None, segment(_parts(text)))))
        elif len(text.strip()) == len(text) and "\0" not in text:
            found.append(parse(text))
        else:
            # fugashi strips what it returns, so that words such as U+0085 at either end would be lost, and MeCab
            # takes NUL for the end: such a line (one in a million) is read node by node.
            found.append(" ".join([node.surface for node in tagger()(text)]))
    return found


def _parts(text):
    """A long text in parts of at most LONGEST characters, cut after 。 or a blank where there is one."""
    text, parts = text.partition("\0")[0], []
    while len(text) > LONGEST:
        end = 1 + max(text.rfind("。", 0, LONGEST), text.rfind(" ", 0, LONGEST)) or LONGEST
        parts.append(text[:end])
        text = text[end:]
    return [*parts, text]
