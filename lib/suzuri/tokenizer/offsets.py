"""Token ids of text, with the characters that each came from, for any Hugging Face tokenizer.

BertJapaneseTokenizer does not give offsets, so its steps are repeated here: the text is normalized (NFKC
turns one character into four, or two into one), cut into words by the tokenizer's own word tokenizer, and
these into pieces by its own subword tokenizer. An unknown token is a whole word, or a character.
Tokenizers of the `tokenizers` library give their offsets themselves.
"""

import unicodedata
from collections.abc import Callable, Sequence

from suzuri.errors import DataError
from suzuri.tokenizer import tokenizer_folder
from suzuri.tokenizer.wordpiece import letters


def normalize(text: str, lower: bool = False) -> tuple[str, Sequence[int], Sequence[int]]:
    """(NFKC text, starts, ends): its character i came from text[starts[i]:ends[i]].

    The text is cut where normalizing the parts gives what normalizing the whole does: が written as か and
    a combining mark stays together, as does a half-width ｶ with its ﾞ.

    >>> normalize("ｶﾞ①㌔")
    ('ガ1キロ', [0, 2, 3, 3], [2, 3, 4, 4])
    """
    if unicodedata.is_normalized("NFKC", text) and not lower:
        return text, range(len(text)), range(1, len(text) + 1)
    parts = []  # [start, as written, normalized]
    for i, c in enumerate(text):
        form = unicodedata.normalize("NFKC", c)
        if parts:
            _, before, before_form = parts[-1]
            together = unicodedata.normalize("NFKC", before + c)
            if unicodedata.combining(form[0]) or together != before_form + form:
                parts[-1][1:] = before + c, together
                continue
        parts.append([i, c, form])
    forms, starts, ends = [], [], []
    for start, written, form in parts:
        form = form.lower() if lower else form
        forms.append(form)
        starts += [start] * len(form)
        ends += [start + len(written)] * len(form)
    return "".join(forms), starts, ends


def place_pieces(word: str, pieces: list[str], cut: Callable[[str], list[str]]) -> list[tuple[int, int]]:
    """[(start, end), …] in `word` of its pieces; if these are unknown, each gets the whole word.

    `cut` cuts a part of the word into pieces (U+0085 is a blank to WordPiece, but not to MeCab).

    >>> place_pieces("東京都", ["東京", "##都"], None)
    [(0, 2), (2, 3)]
    """
    if len(pieces) == len(word):  # one each: characters, known or not
        return [(i, i + 1) for i in range(len(word))]
    if len(pieces) == 1:
        return [(0, len(word))]
    parts = word.split()
    if len(parts) > 1:
        spans, at = [], 0
        for part in parts:
            at = word.index(part, at)
            spans += [(at + a, at + b) for a, b in place_pieces(part, cut(part), cut)]
            at += len(part)
        if len(spans) == len(pieces):
            return spans
    spans, at = [], 0
    for piece in pieces:
        piece = letters(piece)
        if not word.startswith(piece, at):
            return [(0, len(word))] * len(pieces)
        spans.append((at, at + len(piece)))
        at += len(piece)
    return spans


class Encoder:
    """The tokenizer of a folder: `encode` a text, then `join` one or two into a model's input."""

    def __init__(self, folder: str):
        self.folder, self.tokenizer = folder, tokenizer_folder.load(folder)
        # A pair shows where the tokenizer puts its special tokens (and types), so this works for any model.
        a, b = "日本", "東京"
        probe = self.tokenizer(a, b)
        ids, types = probe["input_ids"], probe.get("token_type_ids")
        a, b = self.encode(a)[0], self.encode(b)[0]
        first = find(ids, a, 0)
        second = find(ids, b, first + len(a))
        self.before, self.between = ids[:first], ids[first + len(a) : second]
        self.after = ids[second + len(b) :]
        self.types = "token_type_ids" in self.tokenizer.model_input_names and types is not None
        self.second_type = types[second] if self.types else 0
        self.special = len(self.before) + len(self.between) + len(self.after)  # in a pair; a single text has fewer

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """(ids, spans): without special tokens; a "[MASK]" in the text is text. A token is text[start:end]."""
        if self.tokenizer.is_fast:
            found = self.tokenizer(
                text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
            )
            return found["input_ids"], [trim(text, *span) for span in found["offset_mapping"]]
        words = getattr(self.tokenizer, "word_tokenizer", None)
        cut = getattr(self.tokenizer, "subword_tokenizer", None)
        if words is None or cut is None:
            raise DataError(self.folder, f"{type(self.tokenizer).__name__} does not say where a token comes from")
        normal, starts, ends = normalize(text, self.tokenizer.do_lower_case)
        tokens, spans, at = [], [], 0
        for word in words.tokenize(text, never_split=[]):
            at = max(at, normal.find(word, at))
            pieces = cut.tokenize(word)
            tokens += pieces
            for a, b in place_pieces(word, pieces, cut.tokenize):
                a, b = min(at + a, len(normal) - 1), min(at + b, len(normal))
                spans.append((starts[a], ends[b - 1]))
            at += len(word)
        return self.tokenizer.convert_tokens_to_ids(tokens), spans

    def join(self, a: list[int], b: list[int] | None = None, max_length: int | None = None) -> dict[str, list[int]]:
        """A model's input {input_ids, attention_mask[, token_type_ids]} of one or two lists of ids.

        Beyond max_length, ids are removed from the end, first of the longer list.
        """
        a, b = list(a), list(b) if b is not None else None
        room = (max_length or 1 << 30) - (self.special if b is not None else len(self.before) + len(self.after))
        while len(a) + len(b or ()) > room:
            (a if b is None or len(a) > len(b) else b).pop()
        second = [*b, *self.after] if b is not None else []
        first = [*self.before, *a, *(self.between if b is not None else self.after)]
        joined = {"input_ids": first + second, "attention_mask": [1] * (len(first) + len(second))}
        if self.types:
            joined["token_type_ids"] = [0] * len(first) + [self.second_type] * len(second)
        return joined

    def start_of_second(self, a: list[int]) -> int:
        """Where in join(a, b) the ids of b begin."""
        return len(self.before) + len(a) + len(self.between)


def find(ids: list[int], part: list[int], start: int) -> int:
    """The place of the list `part` in the list `ids`, from `start` on."""
    return next(i for i in range(start, len(ids)) if ids[i : i + len(part)] == part)


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the white space around it, which some tokenizers include, but with the combining
    marks after it, which they may leave out when NFKC has made one character of both.

    >>> trim("a 東京", 1, 4), trim("ｶﾞ", 0, 1)
    ((2, 4), (0, 2))
    """
    while end < len(text) and unicodedata.combining(unicodedata.normalize("NFKC", text[end])[0]):
        end += 1
    part = text[start:end]
    bare = part.strip()
    lead = len(part) - len(part.lstrip())
    return (start + lead, start + lead + len(bare)) if bare else (start, end)
