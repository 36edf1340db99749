"""Packing: token ids of lines, cut or joined into the sequences of a shard."""

from collections.abc import Callable

import numpy as np

from suzuri.shards.crop_pairs import CropPairs
from suzuri.tokenizer.encoding import ID


class Packer:
    """Cuts encoded lines into sequences of at most `max_seq_length` tokens, `[CLS]` and `[SEP]` included.

    unit "line": a line is a sequence; a longer one is cut into several.
    unit "document": the lines up to a blank one are joined; a sequence takes as many whole lines as fit, and
    only a line longer than a sequence is cut.
    unit "window": the same, with a `[SEP]` after each line.

    Ids stay in order: packing only chooses the lengths of the sequences. `encode` is an encoder of
    suzuri.tokenizer.encoding. `crops`, for unit "line", is a CropPairs, which changes lines before that. `lines`,
    `documents` and `lines_cut` count what has been packed.
    """

    def __init__(
        self, encode: Callable, cls: int, sep: int, unit: str, max_seq_length: int, crops: CropPairs | None = None
    ):
        self.encode, self.cls, self.sep, self.unit, self.crops = encode, cls, sep, unit, crops
        self.room = max_seq_length - 2
        self.held = np.zeros(0, ID)  # ids of the open document that are in no sequence yet
        self.open = False
        self.lines = self.documents = self.lines_cut = 0

    def pack(self, lines: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths) of the sequences that end with these lines, or before."""
        texts = [line for line in lines if line and not line.isspace()]
        ids, lengths = self.encode(texts)
        if self.crops:
            ids, lengths = self.crops(texts, ids, lengths)
        self.lines += len(texts)
        self.lines_cut += int((lengths > self.room).sum())
        # With room for 510, 1000 ids are 1 full sequence and 490 left over; no ids are one empty sequence.
        full = np.maximum(lengths - 1, 0) // self.room
        over = lengths - full * self.room
        if self.unit == "line":
            return self._framed(ids, cut_lengths(full, over, self.room))
        room = self.room
        if self.unit == "window":  # the last [SEP] is that of the last line
            ids = np.insert(ids, np.cumsum(cut_lengths(full, over, self.room)), self.sep)
            lengths, over, room = lengths + full + 1, over + 1, room + 1
        ids, sequences = np.concatenate([self.held, ids]), []
        cuts = zip(lengths.tolist(), full.tolist(), over.tolist(), strict=True)
        held = len(self.held)
        for line in lines:
            if line and not line.isspace():
                length, full, over = next(cuts)
                if held and held + length > room:
                    sequences.append(held)
                    held = 0
                sequences += [room] * full
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
        """Sequences with [CLS] before and [SEP] after each, unless that is there."""
        after = 0 if self.unit == "window" else 1
        lengths = np.array(lengths, np.int64) + 1 + after
        ends = np.cumsum(lengths)
        framed = np.full(ends[-1] if len(ends) else 0, self.sep, ID)
        body = np.ones(len(framed), bool)
        framed[ends - lengths] = self.cls
        body[ends - lengths] = False
        if after:
            body[ends - 1] = False
        framed[body] = ids
        return framed, lengths


def cut_lengths(full: np.ndarray, over: np.ndarray, room: int) -> np.ndarray:
    """The lengths of the parts into which lines are cut: `full` parts of `room` ids, then one of `over`, for each line.

    >>> cut_lengths(np.array([0, 2]), np.array([7, 3]), 10)
    array([ 7, 10, 10,  3])
    """
    parts = np.full(len(over) + full.sum(), room)
    parts[np.cumsum(full + 1) - 1] = over
    return parts
