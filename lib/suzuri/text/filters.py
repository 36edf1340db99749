"""A filter for sentences that are worth learning from, applied to a block of them at once."""

import re

from suzuri.text.characters import JAPANESE
from suzuri.text.documents import squeeze

REASONS = ("too short", "too long", "no Japanese", "with TeX")

TEX = "\\displaystyle"  # what is left of a formula where a dump has dropped the rest


class SentenceFilter:
    """Keeps sentences of `min_chars` to `max_chars` code points with a kana or a kanji in them and without TEX.

    >>> SentenceFilter(3, 5)("短い\\n\\nabcd\\nちょうど\\n長すぎるでしょ\\n")
    ('\\nちょうど\\n', [('too short', '短い'), ('no Japanese', 'abcd'), ('too long', '長すぎるでしょ')])
    """

    def __init__(self, min_chars: int, max_chars: int):
        self.min_chars, self.max_chars = min_chars, max_chars
        good = f"(?=[^\n{JAPANESE}]*+[{JAPANESE}]).{{{min_chars},{max_chars}}}+\n"
        self.good = re.compile(f"(?>{good}|\n)*+")  # runs through good and empty lines in one go
        self.good_without_tex = re.compile(f"(?>(?!.*{re.escape(TEX)}){good}|\n)*+")

    def __call__(self, text: str) -> tuple[str, list[tuple[str, str]]]:
        """Lines, each with its line feed -> (the lines kept, empty lines squeezed; [(reason, sentence), ...])."""
        good = self.good_without_tex if TEX in text else self.good
        kept, dropped, done = [], [], 0
        while (bad := good.match(text, done).end()) < len(text):
            kept.append(text[done:bad])
            done = text.index("\n", bad) + 1
            sentence = text[bad : done - 1]
            dropped.append((self.reason(sentence), sentence))
        kept.append(text[done:])
        return squeeze("".join(kept)), dropped

    def reason(self, sentence: str) -> str:
        """Why this sentence is dropped: one of REASONS."""
        if len(sentence) < self.min_chars:
            return "too short"
        if len(sentence) > self.max_chars:
            return "too long"
        return "with TeX" if TEX in sentence else "no Japanese"
