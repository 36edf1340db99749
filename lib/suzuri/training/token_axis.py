"""The token axis: all train shards, end to end, cut into chunks; which chunk comes when; a step's arrays.

    visit   0    1    2  …  the chunks in the order of training; visit v is slot v % n of epoch v // n
    epoch e visits chunk permuted(v % n, n, key of e): each chunk once, in another order each epoch
    step s  is the visits s·k … s·k + k - 1, with k = batch_tokens / chunk_tokens

All of it is arithmetic on the step: no index file, no shuffle buffer, no state to save.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from suzuri.training.masking import mix64

PAD_LENGTH = 16  # of the sequences that fill up a short chunk: not many more of them than there are usually
ORDER, MASK = 1, 2  # what a hash is for, so that no two uses share their numbers


def permuted(i, n, key):
    """The place of i in a keyed permutation of 0..n-1: a Feistel network of four rounds on the next even
    power of two, walked until it lands below n (Black and Rogaway 2002). Constant time and memory.

    >>> sorted(permuted(i, 10, key=7) for i in range(10)) == list(range(10))
    True
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = i >> half, i & low
        for turn in range(4):
            left, right = right, left ^ (mix64(key ^ (turn << 60 | right)) & low)
        i = left << half | right
        if i < n:
            return i


@dataclass
class Chunk:
    """A stretch of the token axis, its sequences cut only at its two ends.

    tokens [n], as in the shards; starts int64 [m], of the sequences in it, starts[0] = 0; first is the position of
    tokens[0] within its own sequence (0 unless the chunk begins inside one).
    """

    tokens: np.ndarray
    starts: np.ndarray
    first: int


class Axis:
    """All tokens of `shards`, end to end, in chunks of `chunk_tokens`; the last one may be shorter."""

    def __init__(self, shards, chunk_tokens):
        self.shards = shards
        self.chunk_tokens = chunk_tokens
        self.arrays = [(np.asarray(s.tokens), np.asarray(s.offsets)) for s in shards]  # a memmap is slow to slice
        self.ends = np.cumsum([len(s.tokens) for s in shards]).tolist()
        self.num_tokens = self.ends[-1]
        self.num_sequences = sum(len(s) for s in shards)
        self.num_chunks = -(-self.num_tokens // chunk_tokens)

    def chunk(self, c):
        at = c * self.chunk_tokens
        stop = min(at + self.chunk_tokens, self.num_tokens)
        pieces, starts, done = [], [], 0
        while at < stop:
            i = bisect_right(self.ends, at)  # the shard in which `at` lies
            tokens, offsets = self.arrays[i]
            base = self.ends[i] - len(tokens)
            a, b = at - base, min(stop, self.ends[i]) - base
            # from the sequence in which a lies to the last one that begins before b
            begins = offsets[offsets.searchsorted(a, "right") - 1 : offsets.searchsorted(b)] - a
            if not pieces:
                first = -int(begins[0])
            begins[0] = 0
            pieces.append(tokens[a:b])
            starts.append(begins + done)
            done, at = done + b - a, base + b
        return Chunk(
            pieces[0] if len(pieces) == 1 else np.concatenate(pieces),
            starts[0] if len(starts) == 1 else np.concatenate(starts),
            first,
        )

    def where(self, c):
        """Chunk c in words, for error messages: "train-000.safetensors tokens 8192-16383"."""
        at = c * self.chunk_tokens
        i = bisect_right(self.ends, at)
        a = at - self.ends[i] + len(self.shards[i].tokens)
        return f"{self.shards[i].path} tokens {a}-{a + self.chunk_tokens - 1}"

    def visited(self, visit, seed):
        """The chunk number of visit `visit`."""
        epoch, slot = divmod(visit, self.num_chunks)
        return permuted(slot, self.num_chunks, mix64(seed, ORDER, epoch))


def mask_key(seed, visit):
    return mix64(seed, MASK, visit)


def assemble(chunks, keys, masker, chunk_tokens, pad_id):
    """Mask chunks and join them into one flat micro-batch of static size.

    `chunks` is a list of Chunk, `keys` one mask_key each. With t = chunk_tokens × len(chunks) and
    p = masker.count(chunk_tokens) × len(chunks) the result is a dict of int64 arrays:

        input_ids [t]     sequences end to end; a short chunk is filled up with sequences
        position_ids [t]  of [PAD]s alone, so that they touch nothing
        lengths [m]       of the sequences, summing to t
        rows [p]          places in input_ids that are predicted
        labels [p]        the tokens there; IGNORED where there were fewer to predict
    """
    tokens = np.full((len(chunks), chunk_tokens), pad_id, np.int64)
    flat = np.arange(tokens.size)
    starts, origins = [], []  # of each sequence: where it begins, and where its position 0 is or would be
    for i, chunk in enumerate(chunks):
        base, n = i * chunk_tokens, len(chunk.tokens)
        tokens[i, :n] = chunk.tokens
        fill = flat[base + n : base + chunk_tokens : PAD_LENGTH]
        starts += [chunk.starts + base, fill]
        origins += [starts[-2].copy(), fill]
        origins[-2][0] -= chunk.first
    starts = np.concatenate([*starts, [tokens.size]])
    lengths = starts[1:] - starts[:-1]
    inputs, rows, labels = masker(tokens, [len(chunk.tokens) for chunk in chunks], keys)
    return {
        "input_ids": inputs.reshape(-1),
        "position_ids": flat - np.repeat(np.concatenate(origins), lengths),
        "lengths": lengths,
        "rows": rows,
        "labels": labels,
    }


def by_length(batch):
    """assemble()'s batch with its sequences in another order: the shortest first."""
    lengths = batch["lengths"]
    order = np.argsort(lengths, kind="stable")
    ascending = lengths[order]
    moves = np.empty_like(lengths)  # how far each sequence moves
    moves[order] = np.cumsum(ascending) - ascending - (np.cumsum(lengths) - lengths)[order]
    source = np.arange(len(batch["input_ids"])) - np.repeat(moves[order], ascending)
    return {
        "input_ids": batch["input_ids"].take(source),
        "position_ids": batch["position_ids"].take(source),
        "lengths": ascending,
        "rows": batch["rows"] + np.repeat(moves, lengths).take(batch["rows"]),
        "labels": batch["labels"],
    }


def micro_batches(axis, masker, seed, visits, chunks_at_once, pad_id):
    """The micro-batches of the chunks of `visits`, in order: an iterator over assemble()'s dicts."""
    for i in range(0, len(visits), chunks_at_once):
        some = visits[i : i + chunks_at_once]
        chunks = [axis.chunk(axis.visited(visit, seed)) for visit in some]
        yield assemble(chunks, [mask_key(seed, visit) for visit in some], masker, axis.chunk_tokens, pad_id)
