"""Packing: token ids of lines, cut or joined into the sequences of a shard."""

from collections.abc import Callable

import numpy as np

from suzuri.tokenizer.encoding import ID


class Packer:
    """Cuts encoded lines into sequences of at most `max_seq_length` tokens, `[CLS]` and `[SEP]` included.

    unit "line": a line is a sequence; a longer one is cut into several.
    unit "document": the lines up to a blank one are joined; a sequence takes as many whole lines as fit, and
    only a line longer than a sequence is cut.

    Ids stay in order: packing only chooses the lengths of the sequences. `encode` is an encoder of
    suzuri.tokenizer.encoding. `lines`, `documents` and `lines_cut` count what has been packed.
    """

    def __init__(self, encode: Callable, cls: int, sep: int, unit: str, max_seq_length: int):
        self.encode, self.cls, self.sep, self.unit = encode, cls, sep, unit
        self.room = max_seq_length - 2
        self.held = np.zeros(0, ID)  # ids of the open document that are in no sequence yet
        self.open = False
        self.lines = self.documents = self.lines_cut = 0

    def pack(self, lines: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths) of the sequences that end with these lines, or before."""
        texts = [line for line in lines if line and not line.isspace()]
        ids, lengths = self.encode(texts)
        self.lines += len(texts)
        self.lines_cut += int((lengths > self.room).sum())
        # With room for 510, 1000 ids are 1 full sequence and 490 left over; no ids are one empty sequence.
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

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
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
