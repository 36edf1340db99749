"""Text to token ids, exactly as transformers gives them, at the speed of MeCab.

Words repeat, so each is cut into pieces once; the words of a block of lines are looked up together, by NumPy.
"""

import os
import unicodedata
from array import array

import numpy as np

from suzuri import tokenizer, wordpiece
from suzuri.cli import DataError
from suzuri.segment import segment

ID = np.dtype("I")  # 4 bytes; big enough for any vocabulary and what is none of its ids
LINE_END, NOTHING = 0xFFFFFFFF, 0xFFFFFFFE
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


def _word_encoder(ids, unknown):
    known = Words(lambda word: wordpiece.cut(word, ids, unknown))

    def encode(lines):
        return known.encode("".join([words + "\n" for words in segment(lines)]))

    return encode


class Words:
    """The ids of words, found by `cut(word)` when a word is first met; forgets all when it is full.

    Nearly all words (99 % of Japanese text) have at most four UTF-16 units and so fit into an integer of 64 bits:
    these are looked up in a hash table of arrays. Of two that want the same slot the first has it; the other one, like
    a longer word, is found in a dict.
    """

    SLOTS_LOG2 = 20
    SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ / golden ratio (Knuth, TAOCP 6.4)
    MASKS = np.array([(1 << 16 * n) - 1 for n in range(5)], np.uint64)
    HIGH = 0xD800  # no text ends with this unit, half of a character: it can stand for "no more units"

    def __init__(self, cut):
        self.cut = cut
        self.forget()

    def forget(self):
        self.pool = array(ID.char)  # ids of all words met, end to end
        self.spans = {}  # word -> (where its ids begin in the pool) << 16 | how many they are
        self.slot_keys = np.zeros(1 << self.SLOTS_LOG2, np.uint64)
        self.slot_spans = np.zeros(1 << self.SLOTS_LOG2, np.int64)

    def encode(self, text):
        """Words with one blank between, each line ended by "\n" -> (ids uint32 [n], their number in each line)."""
        if len(self.spans) >= REMEMBERED:
            self.forget()
        units = np.frombuffer(text.encode("utf-16-le") + bytes(6), "<u2")
        ends = np.flatnonzero((units == ord(" ")) | (units == ord("\n")))
        starts = np.concatenate([[0], ends + 1])[:-1]
        spans = self.find(units, starts, ends)
        counts, first = spans & 0xFFFF, spans >> 16
        done = np.cumsum(counts)
        places = np.arange(done[-1] if len(done) else 0) + np.repeat(first - done + counts, counts)
        return np.array(self.pool, ID).take(places), np.diff(done[units.take(ends) == ord("\n")], prepend=0)

    def find(self, units, starts, ends):
        """The spans of the words units[start:end]."""
        lengths = ends - starts
        marked = units ^ np.uint16(self.HIGH)
        four = np.ndarray(len(units) - 3, "<u8", marked, strides=(2,))  # the four units from each place on
        keys = four[starts] & self.MASKS.take(np.minimum(lengths, 4))
        slots = (keys * self.SPREAD >> np.uint64(64 - self.SLOTS_LOG2)).astype(np.int64)
        spans = self.slot_spans.take(slots)
        missed = np.flatnonzero((self.slot_keys.take(slots) != keys) | (lengths > 4))
        raw = units.tobytes()
        for i, start, end in zip(missed.tolist(), starts[missed].tolist(), ends[missed].tolist(), strict=True):
            word = raw[2 * start : 2 * end].decode("utf-16-le")
            span = self.spans.get(word)
            if span is None:
                found = self.cut(word)
                span = self.spans[word] = len(self.pool) << 16 | len(found)
                self.pool.extend(found)
            spans[i] = span
        new = missed[(self.slot_keys.take(slots[missed]) == 0) & (lengths[missed] <= 4)]
        self.slot_keys[slots[new]], self.slot_spans[slots[new]] = keys[new], spans[new]
        return spans


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
        return next(segment([line])) if "\0" in text or len(text) > 0xFFFF else text

    def encode(lines):
        text = "".join([words(line) + "\n" for line in lines])
        found = table.take(np.frombuffer(text.encode("utf-32-le"), "<u4"))
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
