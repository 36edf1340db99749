"""Token ids of text, exactly as transformers gives them, a block of lines at a time."""

import os
from array import array
from collections.abc import Callable
from unicodedata import normalize

import numpy as np

from suzuri.errors import DataError
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder, load
from suzuri.tokenizer.wordpiece import cut
from suzuri.tokenizer.words import segment

ID = np.dtype("I")  # 4 bytes: room for the ids of any vocabulary and the two marks below
LINE_END, NOTHING = 0xFFFFFFFF, 0xFFFFFFFE
REMEMBERED = 400_000  # words kept with their ids, about 100 MB


def encoder(tokenizer: TokenizerFolder) -> Callable[[list[str]], tuple[np.ndarray, np.ndarray]]:
    """A function: lines -> (ids uint32 [n], all lines end to end; lengths int64 [lines]).

    A line's ids are those of `AutoTokenizer(line, split_special_tokens=True, add_special_tokens=False)`.
    """
    if tokenizer.kind == "unigram":
        return _fast_encoder(tokenizer)
    if tokenizer.kind == "other":
        raise DataError(
            tokenizer.path,
            "cannot pack text: neither a MeCab tokenizer (unidic_lite, cased, no added tokens) nor a tokenizer.json",
        )
    make = _char_encoder if tokenizer.kind == "char" else _word_encoder
    return make(tokenizer.ids, tokenizer.special_ids["unk_token"])


class KnownWords(dict):
    """{word: the bytes of its ids}, each word cut into pieces when it is first asked for: words repeat.

    Bytes are joined faster than lists of ids. Words are looked up a block at a time, after MeCab has cut the
    block: line by line, MeCab and this table would push each other out of the processor's cache.
    """

    def __init__(self, ids: dict[str, int], unknown: int):
        super().__init__()
        self.ids, self.unknown = ids, unknown

    def __missing__(self, word):
        self[word] = found = array(ID.char, cut(word, self.ids, self.unknown)).tobytes()
        return found


def _word_encoder(ids, unknown):
    known = KnownWords(ids, unknown)

    def encode(lines):
        if len(known) > REMEMBERED:
            known.clear()
        found = [b"".join(map(known.__getitem__, words.split(" "))) for words in segment(lines)]
        lengths = np.fromiter(map(len, found), np.int64, len(found)) // ID.itemsize
        return np.frombuffer(b"".join(found), ID), lengths

    return encode


def _char_encoder(ids, unknown):
    """The characters of the words are those of the text without what MeCab skips, so MeCab is not needed.

    It skips the category SPACE of unidic-lite's char.def: tab, line feed, vertical tab and blank. A text ends
    at a NUL.
    """
    table = np.full(0x110000, unknown, ID)  # code point -> id
    for piece, i in ids.items():
        if len(piece) == 1:
            table[ord(piece)] = i
    table[[ord(c) for c in "\t\v "]], table[ord("\n")] = NOTHING, LINE_END

    def encode(lines):
        text = "".join([normalize("NFKC", line).partition("\0")[0] + "\n" for line in lines])
        found = table.take(np.frombuffer(text.encode("utf-32-le"), "<u4"))
        found = found[found != NOTHING]
        ends = found == LINE_END
        return found[~ends], np.diff(np.flatnonzero(ends), prepend=-1) - 1

    return encode


def _fast_encoder(tokenizer):
    from tokenizers import Tokenizer

    if tokenizer.config.get("tokenizer_class") == "PreTrainedTokenizerFast":
        fast = Tokenizer.from_file(os.path.join(tokenizer.path, "tokenizer.json"))
    else:  # transformers makes it anew, by its class and its settings
        fast = getattr(load(tokenizer.path), "backend_tokenizer", None)
        if fast is None:
            raise DataError(tokenizer.path, "cannot pack text: transformers' tokenizer of it is not a fast one")
    fast.no_truncation()
    fast.no_padding()
    fast.encode_special_tokens = True  # a [MASK] spelled out is text

    def encode(lines):
        found = [line.ids for line in fast.encode_batch_fast(lines, add_special_tokens=False)]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        return np.array([i for ids in found for i in ids], ID), lengths

    return encode
