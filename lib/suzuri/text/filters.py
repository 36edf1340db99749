"""Which sentences are worth learning from, decided for a block of them at once."""

import re

from suzuri.text.documents import squeeze

REASONS = ("too short", "too long", "no Japanese", "with TeX")

KANA = "ぁ-ゖァ-ヺｦ-ｯｱ-ﾝ"
KANJI = "々〇\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
TEX = "\\displaystyle"  # what is left of a formula where a dump has dropped the rest


class SentenceFilter:
    """Keeps sentences of `min_chars` to `max_chars` code points that have a kana or a kanji and no TEX.

    >>> SentenceFilter(3, 5)("短い\\n\\nabcd\\nちょうど\\n長すぎるでしょ\\n")
    ('\\nちょうど\\n', [('too short', '短い'), ('no Japanese', 'abcd'), ('too long', '長すぎるでしょ')])
    """

    def __init__(self, min_chars, max_chars):
        self.min_chars, self.max_chars = min_chars, max_chars
        good = f"(?=[^\n{KANA}{KANJI}]*+[{KANA}{KANJI}]).{{{min_chars},{max_chars}}}+\n"
        self.good = re.compile(f"(?>{good}|\n)*+")  # runs through good and empty lines in one go
        self.good_without_tex = re.compile(f"(?>(?!.*{re.escape(TEX)}){good}|\n)*+")

    def __call__(self, text):
        """Lines, each with its end -> (what is kept, empty lines squeezed; [(reason, sentence), ...])."""
        good = self.good_without_tex if TEX in text else self.good
        kept, dropped, done = [], [], 0
        while (bad := good.match(text, done).end()) < len(text):
            kept.append(text[done:bad])
            done = text.index("\n", bad) + 1
            dropped.append(self.reason(text[bad : done - 1]))
        kept.append(text[done:])
        return squeeze("".join(kept)), dropped

    def reason(self, sentence):
        """-> (why it goes, the sentence)"""
        if len(sentence) < self.min_chars:
            why = "too short"
        elif len(sentence) > self.max_chars:
            why = "too long"
        elif TEX in sentence:
            why = "with TeX"
        else:
            why = "no Japanese"
        return why, sentence
