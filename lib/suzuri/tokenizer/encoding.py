"""Text to token ids, exactly as transformers gives them, a block of lines at a time."""

import os
import unicodedata

import numpy as np

from suzuri.errors import DataError
from suzuri.tokenizer import tokenizer_folder
from suzuri.tokenizer.wordpiece_training import cut
from suzuri.tokenizer.words import segment

ID = np.dtype("I")  # 4 bytes; big enough for any vocabulary and what is none of its ids
LINE_END, NOTHING = 0xFFFFFFFF, 0xFFFFFFFE
REMEMBERED = 400_000  # words kept with their ids, about 100 MB


def encoder(folder):
    """A function: lines (list of str) -> (ids uint32 [n], all lines end to end; lengths int64 [lines]).

    A line's ids are those of `AutoTokenizer(line, split_special_tokens=True, add_special_tokens=False)`.
    """
    kind = tokenizer_folder.kind(folder)
    if kind == "unigram":
        return _unigram_encoder(folder)
    if kind == "other":
        raise DataError(folder, "cannot be packed: neither MeCab (unidic_lite, cased) nor a tokenizer.json")
    ids = {piece: i for i, piece in enumerate(tokenizer_folder.read_vocabulary(folder))}
    unknown = tokenizer_folder.special_ids(folder)["unk_token"]
    return (_char_encoder if kind == "char" else _word_encoder)(ids, unknown)


def _word_encoder(ids, unknown):
    known = {}  # word -> its ids: words repeat, so each is cut into pieces once

    def encode(lines):
        if len(known) > REMEMBERED:
            known.clear()
        found, lengths = [], np.zeros(len(lines), np.int64)
        for i, words in enumerate(segment(lines)):
            before = len(found)
            for word in words.split(" "):
                pieces = known.get(word)
                if pieces is None:
                    pieces = known[word] = cut(word, ids, unknown)
                found += pieces
            lengths[i] = len(found) - before
        return np.array(found, ID), lengths

    return encode


def _char_encoder(ids, unknown):
    """The characters of the words are those of the text, less what MeCab skips: no need to ask MeCab.

    The category SPACE of unidic-lite's char.def is tab, line feed, vertical tab and blank. NUL ends a text
    there, and more than 65,535 blanks are more than it can count: such a line goes through MeCab.
    """
    table = np.full(0x110000, unknown, ID)  # code point -> id
    for piece, i in ids.items():
        if len(piece) == 1:
            table[ord(piece)] = i
    table[[ord(c) for c in "\t\v "]], table[ord("\n")] = NOTHING, LINE_END

    def words(line):
        text = unicodedata.normalize("NFKC", line)
        return segment([line])[0] if "\0" in text or len(text) > 0xFFFF else text

    def encode(lines):
        text = "".join([words(line) + "\n" for line in lines])
        found = table.take(np.frombuffer(text.encode("utf-32-le"), "<u4"))
        found = found[found != NOTHING]
        ends = found == LINE_END
        return found[~ends], np.diff(np.flatnonzero(ends), prepend=-1) - 1

    return encode


def _unigram_encoder(folder):
    from tokenizers import Tokenizer

    fast = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    fast.no_truncation()
    fast.no_padding()
    fast.encode_special_tokens = True  # a [MASK] spelled out is text

    def encode(lines):
        found = [line.ids for line in fast.encode_batch_fast(lines, add_special_tokens=False)]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        return np.array([i for ids in found for i in ids], ID), lengths

    return encode
