"""The token axis: all train shards, end to end, cut into chunks; which chunk comes when; a step's arrays.

    visit   0    1    2  …  the chunks in the order of training; visit v is slot v % n of epoch v // n
    epoch e visits chunk permuted(v % n, n, key of e): each chunk once, in another order each epoch
    step s  is the visits s·k … s·k + k - 1, with k = batch_tokens / chunk_tokens

All of it is arithmetic on the step: no index file, no shuffle buffer, no state to save.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from suzuri.masking import IGNORED, mix64

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
            left, right = right, left ^ (mix64(key, turn, right) & low)
        i = left << half | right
        if i < n:
            return i


@dataclass
class Chunk:
    """A stretch of the token axis, its sequences cut only at its two ends.

    tokens int64 [n]; starts int64 [m], of the sequences in it, starts[0] = 0; first is the position of
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
        self.ends = np.cumsum([len(s.tokens) for s in shards]).tolist()
        self.num_tokens = self.ends[-1]
        self.num_sequences = sum(len(s) for s in shards)
        self.num_chunks = -(-self.num_tokens // chunk_tokens)

    def chunk(self, c):
        at = c * self.chunk_tokens
        stop = min(at + self.chunk_tokens, self.num_tokens)
        tokens, starts, first = [], [], None
        while at < stop:
            i = bisect_right(self.ends, at)  # the shard in which `at` lies
            shard, base = self.shards[i], self.ends[i] - len(self.shards[i].tokens)
            a, b = at - base, min(stop, self.ends[i]) - base
            lo, hi = np.searchsorted(shard.offsets, (a + 1, b))  # sequences that begin in (a, b)
            begin = int(shard.offsets[lo - 1])  # of the one in which a lies
            if first is None:
                first = a - begin
            tokens.append(shard.tokens[a:b])
            starts.append(np.concatenate([[a], shard.offsets[lo:hi]]) - a + sum(map(len, tokens[:-1])))
            at = base + b
        return Chunk(np.concatenate(tokens).astype(np.int64), np.concatenate(starts), first)

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


def assemble(masked, chunk_tokens, predictions, pad_id):
    """Join masked chunks into one flat micro-batch of static size, sequences sorted by length.

    `masked` is a list of (Chunk, inputs, rows, labels). With t = chunk_tokens × len(masked) and
    p = predictions × len(masked) the result is a dict of int64 arrays:

        input_ids [t]     sequences end to end, shortest first; a short chunk is filled up with [PAD]s,
        position_ids [t]  each a sequence of its own, so that they touch nothing
        lengths [m]       of the sequences, ascending, summing to t
        rows [p]          places in input_ids that are predicted
        labels [p]        the tokens there; IGNORED where a chunk had fewer to predict
    """
    total = chunk_tokens * len(masked)
    ids = np.full(total, pad_id, np.int64)
    rows, labels = np.zeros(predictions * len(masked), np.int64), np.full(predictions * len(masked), IGNORED, np.int64)
    starts, firsts = [], []
    for i, (chunk, inputs, at, label) in enumerate(masked):
        base, n = i * chunk_tokens, len(inputs)
        ids[base : base + n] = inputs
        rows[i * predictions : i * predictions + len(at)] = at + base
        labels[i * predictions : i * predictions + len(at)] = label
        starts.append(chunk.starts + base)
        starts.append(np.arange(base + n, base + chunk_tokens))  # the [PAD]s of a short chunk, one by one
        firsts.append((sum(map(len, starts[:-2])), chunk.first))
    starts = np.concatenate(starts)
    first = np.zeros(len(starts), np.int64)
    for i, position in firsts:
        first[i] = position
    lengths = np.diff(starts, append=total)
    order = np.argsort(lengths, kind="stable")
    lengths = lengths[order]
    new = np.cumsum(lengths) - lengths  # where each sequence now begins
    flat = np.arange(total)
    source = flat + np.repeat(starts[order] - new, lengths)
    target = np.empty(total, np.int64)
    target[source] = flat
    return {
        "input_ids": ids.take(source),
        "position_ids": flat - np.repeat(new - first[order], lengths),
        "lengths": lengths,
        "rows": target.take(rows),
        "labels": labels,
    }


def micro_batches(axis, masker, seed, visits, chunks_at_once, pad_id):
    """The micro-batches of the chunks of `visits`, in order: an iterator over assemble()'s dicts."""
    for i in range(0, len(visits), chunks_at_once):
        masked = []
        for visit in visits[i : i + chunks_at_once]:
            chunk = axis.chunk(axis.visited(visit, seed))
            masked.append((chunk, *masker(chunk.tokens, mask_key(seed, visit))))
        yield assemble(masked, axis.chunk_tokens, masker.count(axis.chunk_tokens), pad_id)
