"""Text to token ids, exactly as transformers gives them, at the speed of MeCab.

Words repeat, so each is cut into pieces once; the ids of a block of lines are one join of its words' ids.
"""

import os
import unicodedata
from array import array

import numpy as np

from suzuri import tokenizer, wordpiece
from suzuri.cli import DataError
from suzuri.segment import segment

ID = np.dtype("I")  # 4 bytes; big enough for any vocabulary and LINE_END
LINE_END = 0xFFFFFFFF
REMEMBERED = 400_000  # words kept with their ids, about 100 MB


def encoder(folder):
    """A function: lines (list of str) -> (ids uint32 [n], all lines end to end; lengths int64 [lines]).

    A line's ids are those of `AutoTokenizer(line, split_special_tokens=True, add_special_tokens=False)`.
    """
    kind = tokenizer.kind(folder)
    if kind == "unigram":
        return _unigram_encoder(folder)
    if kind == "other":
        raise DataError(folder, "cannot be packed: neither MeCab (unidic_lite, cased) nor a tokenizer.json")
    ids = {piece: i for i, piece in enumerate(tokenizer.read_vocabulary(folder))}
    unknown = tokenizer.special_ids(folder)["unk_token"]
    return (_char_encoder if kind == "char" else _word_encoder)(ids, unknown)


class Remembered(dict):
    """{key: find(key)}, worked out when first asked for; forgets all when it is full."""

    def __init__(self, find):
        self.find = find

    def __missing__(self, key):
        if len(self) >= REMEMBERED:
            self.clear()
        self[key] = value = self.find(key)
        return value


def _packed(ids):
    return array("I", ids).tobytes()  # half of np.array's time for so few


def _joined(known, units):
    """(ids, lengths) of units, among which "\\n" ends each line."""
    ids = np.frombuffer(b"".join(map(known.__getitem__, units)), ID)
    is_id = ids != LINE_END
    return ids[is_id], np.diff(np.flatnonzero(~is_id), prepend=-1) - 1


def _word_encoder(ids, unknown):
    def find(word):
        return _packed([LINE_END] if word == "\n" else wordpiece.cut(word, ids, unknown))

    known = Remembered(find)

    def encode(lines):
        words = " \n ".join([*segment(lines), ""]).split(" ")
        return _joined(known, words[:-1])

    return encode


def _char_encoder(ids, unknown):
    """The characters of the words are those of the text, less what MeCab skips: no need to ask MeCab.

    The category SPACE of unidic-lite's char.def is tab, line feed, vertical tab and blank. NUL ends a text
    there, and more than 65,535 blanks are more than it can count: such a line goes through MeCab.
    """
    ids = {c: [i] for c, i in ids.items()} | {c: [] for c in "\t\v "} | {"\n": [LINE_END]}

    def find(c):
        return _packed(ids.get(c, [unknown]))

    known = Remembered(find)

    def words(line):
        text = unicodedata.normalize("NFKC", line)
        return next(segment([line])) if "\0" in text or len(text) > 0xFFFF else text

    def encode(lines):
        return _joined(known, "".join([words(line) + "\n" for line in lines]))

    return encode


def _unigram_encoder(folder):
    from tokenizers import Tokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # make packs as many shards at a time as there are cores
    fast = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    fast.no_truncation()
    fast.no_padding()
    fast.encode_special_tokens = True  # a [MASK] spelled out is text

    def encode(lines):
        found = [line.ids for line in fast.encode_batch_fast(lines, add_special_tokens=False)]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        return np.array([i for ids in found for i in ids], ID), lengths

    return encode


class Packer:
    """Cuts encoded lines into sequences of at most `max_seq_length` tokens, `[CLS]` and `[SEP]` among them.

    unit "line": a line is a sequence; a longer one is cut into several.
    unit "document": the lines up to a blank one are joined; a sequence takes as many whole lines as fit, and
    only a line longer than a sequence is cut.

    Ids stay in the order in which they come: packing is choosing lengths.
    """

    def __init__(self, encode, cls, sep, unit, max_seq_length):
        self.encode, self.cls, self.sep, self.unit = encode, cls, sep, unit
        self.room = max_seq_length - 2
        self.held = np.zeros(0, ID)  # ids of the open document that are in no sequence yet
        self.open = False
        self.lines = self.documents = self.lines_cut = 0

    def pack(self, lines):
        """(ids, lengths) of the sequences that end with these lines, or before."""
        texts = [line for line in lines if line and not line.isspace()]
        ids, lengths = self.encode(texts)
        self.lines += len(texts)
        self.lines_cut += int((lengths > self.room).sum())
        if self.unit == "line":
            return self._framed(ids, [n for length in lengths.tolist() for n in self._cut(length)])
        ids, sequences, lengths = np.concatenate([self.held, ids]), [], iter(lengths.tolist())
        held = len(self.held)
        for line in lines:
            if line and not line.isspace():
                length = next(lengths)
                if held and held + length > self.room:
                    sequences.append(held)
                    held = 0
                *full, last = self._cut(length)
                sequences += full
                held += last
                self.open = True
            elif self.open:
                sequences.append(held)
                self.documents += 1
                held, self.open = 0, False
        end = len(ids) - held
        self.held = ids[end:]
        return self._framed(ids[:end], sequences)

    def finish(self):
        """(ids, lengths) of the document that is still open, if one is."""
        return self.pack([""])

    def _cut(self, length):
        """1000 ids in sequences of 510 -> [510, 490]; no ids are one empty sequence."""
        full = max(0, length - 1) // self.room
        return [self.room] * full + [length - full * self.room]

    def _framed(self, ids, lengths):
        """Sequences with [CLS] before and [SEP] after each."""
        lengths = np.array(lengths, np.int64) + 2
        ends = np.cumsum(lengths)
        starts = ends - lengths
        framed, body = np.empty(len(ids) + 2 * len(lengths), ID), np.ones(len(ids) + 2 * len(lengths), bool)
        framed[starts], framed[ends - 1] = self.cls, self.sep
        body[starts] = body[ends - 1] = False
        framed[body] = ids
        return framed, lengths
