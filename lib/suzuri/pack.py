"""Text to token ids, exactly as transformers gives them, a block of lines at a time."""

import os

import numpy as np

from suzuri import segment, tokenizer
from suzuri.cli import DataError

ID = np.dtype("I")  # 4 bytes; big enough for any vocabulary and what is none of its ids
LINE_END, NOTHING = 0xFFFFFFFF, 0xFFFFFFFE


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


def _word_encoder(ids, unknown):
    from suzuri import pieces

    encode = pieces.encoder(ids, unknown)
    return lambda lines: encode(segment.cut(lines))


def _char_encoder(ids, unknown):
    """The characters of the words are those of the text, less what MeCab skips: no need to ask MeCab.

    The category SPACE of unidic-lite's char.def is tab, line feed, vertical tab and blank. NUL ends a text there.
    """
    table = np.full(0x110000, unknown, ID)  # code point -> id
    for piece, i in ids.items():
        if len(piece) == 1:
            table[ord(piece)] = i
    table[[ord(c) for c in "\t\v "]], table[ord("\n")] = NOTHING, LINE_END

    def encode(lines):
        found = table.take(segment.characters(lines))
        found = found[found != NOTHING]
        ends = found == LINE_END
        return found[~ends], np.diff(np.flatnonzero(ends), prepend=-1) - 1

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
        # 1000 ids are 1 full sequence of 510 and 490 over; no ids are one empty sequence.
        full = np.maximum(lengths - 1, 0) // self.room
        over = lengths - full * self.room
        if self.unit == "line":
            sequences = np.full(len(lengths) + full.sum(), self.room)
            sequences[np.cumsum(full + 1) - 1] = over
            return self._framed(ids, sequences)
        ids, sequences = np.concatenate([self.held, ids]), []
        cuts = zip(lengths.tolist(), full.tolist(), over.tolist(), strict=True)
        held = len(self.held)
        for line in lines:
            if line and not line.isspace():
                length, full, over = next(cuts)
                if held and held + length > self.room:
                    sequences.append(held)
                    held = 0
                sequences += [self.room] * full
                held += over
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
