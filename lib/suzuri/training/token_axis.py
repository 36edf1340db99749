"""The token axis (all train shards end to end), its chunks, their order, and the arrays of a micro-batch.

    visit   0    1    2  …  the chunks in the order of training; visit v is slot v % n of epoch v // n
    epoch e visits chunk permuted(v % n, n, key of e): each chunk once, in a different order each epoch
    step s  takes visits s·k … s·k + k - 1, with k = batch_tokens / chunk_tokens

All of it is arithmetic on the step: no index file, no shuffle buffer, no state to save. So a run resumes at once
and to the bit, and a batch does not depend on the number of GPUs or the size of micro-batches. Sequences are not
padded; only the last chunk of the axis, which may be short, is filled up with [PAD]s.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from suzuri.shards.shard_file import Shard
from suzuri.training.masking import Masker, mix64

PAD_LENGTH = 16  # of the sequences of [PAD]s in a short chunk, which so has about as many sequences as other chunks
ORDER, MASK = 1, 2  # what a hash is for: different uses get different numbers


def permuted(i: int, n: int, key: int) -> int:
    """The place of i in a keyed permutation of 0..n-1: a Feistel network of four rounds on the next even
    power of two, applied until the result is below n (Black and Rogaway 2002). Time and memory do not grow with n.

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


def place_of(i: int, n: int, key: int) -> int:
    """The inverse of permuted: the same rounds backwards.

    >>> place_of(permuted(3, 10, key=7), 10, key=7)
    3
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = i >> half, i & low
        for turn in reversed(range(4)):
            left, right = right ^ (mix64(key ^ (turn << 60 | left)) & low), left
        i = left << half | right
        if i < n:
            return i


@dataclass
class Chunk:
    """A stretch of the token axis; sequences are cut only at its two ends.

    tokens [n], as in the shards; starts int64 [m], where the sequences begin, starts[0] = 0; first is the position of
    tokens[0] within its sequence (0 unless the chunk begins inside one).
    """

    tokens: np.ndarray
    starts: np.ndarray
    first: int


class TokenAxis:
    """All tokens of `shards`, end to end, in chunks of `chunk_tokens`; the last one may be shorter."""

    def __init__(self, shards: Sequence[Shard], chunk_tokens: int):
        self.shards = shards
        self.chunk_tokens = chunk_tokens
        self.ends = np.cumsum([len(s.tokens) for s in shards]).tolist()
        self.num_tokens = self.ends[-1]
        self.num_sequences = sum(len(s) for s in shards)
        self.num_chunks = -(-self.num_tokens // chunk_tokens)

    def sequences_per_chunk(self, sample: int = 256) -> tuple[float, float]:
        """(mean, standard deviation) of the number of sequences in a chunk, from about `sample` chunks."""
        some = range(0, self.num_chunks, max(1, self.num_chunks // sample))
        counts = [len(self.chunk(c).starts) for c in some]
        return float(np.mean(counts)), float(np.std(counts))

    def chunk(self, c: int) -> Chunk:
        """Chunk number c. Raises DataError if its shard is damaged there."""
        at = c * self.chunk_tokens
        stop = min(at + self.chunk_tokens, self.num_tokens)
        parts, starts, done = [], [], 0
        while at < stop:
            i = bisect_right(self.ends, at)  # the shard that `at` is in
            tokens, offsets = self.shards[i].arrays
            base = self.ends[i] - len(tokens)
            a, b = at - base, min(stop, self.ends[i]) - base
            # from the sequence that a is in to the last one that begins before b
            first_in, end_in = int(offsets.searchsorted(a, "right")) - 1, int(offsets.searchsorted(b))
            if first_in >= end_in:
                raise self.shards[i].damaged("its offsets do not ascend")
            self.shards[i].check_body(first_in, end_in)
            begins = offsets[first_in:end_in] - a
            if not parts:
                first = -int(begins[0])
            begins[0] = 0
            parts.append(tokens[a:b])
            starts.append(begins + done)
            done, at = done + b - a, base + b
        return Chunk(
            parts[0] if len(parts) == 1 else np.concatenate(parts),
            starts[0] if len(starts) == 1 else np.concatenate(starts),
            first,
        )

    def where(self, c: int) -> str:
        """Chunk c in words, for error messages: "train-000.safetensors tokens 8192-16383"."""
        at = c * self.chunk_tokens
        i = bisect_right(self.ends, at)
        a = at - self.ends[i] + len(self.shards[i].tokens)
        return f"{self.shards[i].path} tokens {a}-{a + self.chunk_tokens - 1}"

    def visited(self, visit: int, seed: int) -> int:
        """The number of the chunk that visit `visit` takes."""
        epoch, slot = divmod(visit, self.num_chunks)
        return permuted(slot, self.num_chunks, mix64(seed, ORDER, epoch))

    def tokens_before(self, visit: int, seed: int) -> int:
        """The number of tokens in the visits before `visit`, without what fills up the last chunk of the axis."""
        epoch, slot = divmod(visit, self.num_chunks)
        last = self.num_chunks - 1
        short = slot > 0 and place_of(last, self.num_chunks, mix64(seed, ORDER, epoch)) < slot
        fill = self.num_chunks * self.chunk_tokens - self.num_tokens
        return visit * self.chunk_tokens - (epoch + short) * fill


def mask_key(seed: int, visit: int) -> int:
    return mix64(seed, MASK, visit)


def assemble(
    chunks: Sequence[Chunk],
    keys: Sequence[int],
    masker: Masker,
    chunk_tokens: int,
    pad_id: int,
    pad_length: int = PAD_LENGTH,
) -> dict[str, np.ndarray]:
    """Mask chunks and join them into one flat micro-batch of static size; `keys` has a mask_key for each.

    With t = chunk_tokens × len(chunks) and p = masker.count(chunk_tokens) × len(chunks) the result is a dict of
    int64 arrays:

        input_ids [t]     sequences end to end; a short chunk is filled up with sequences of `pad_length` [PAD]s, which
                          no other token attends to and in which nothing is predicted
        position_ids [t]  the positions within each sequence
        lengths [m]       of the sequences, summing to t
        rows [p]          places in input_ids that are predicted
        labels [p]        the tokens there; IGNORED in unused slots
    """
    tokens = np.full((len(chunks), chunk_tokens), pad_id, np.int64)
    flat = np.arange(tokens.size)
    starts, origins = [], []  # of each sequence: where it begins, and where its position 0 is or would be
    for i, chunk in enumerate(chunks):
        base, n = i * chunk_tokens, len(chunk.tokens)
        tokens[i, :n] = chunk.tokens
        fill = flat[base + n : base + chunk_tokens : pad_length]
        starts += [chunk.starts + base, fill]
        origins += [starts[-2].copy(), fill]
        origins[-2][:1] -= chunk.first
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


def by_length(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """assemble()'s batch with its sequences sorted, the shortest first."""
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


def micro_batches(
    axis: TokenAxis,
    masker: Masker,
    seed: int,
    visits: Sequence[int],
    chunks_at_once: int,
    pad_id: int,
    pad_length: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """The micro-batches of the chunks of `visits`, in order: assemble()'s dicts.

    With `pad_length`, the last one is as large as the others, filled up with sequences of so many [PAD]s.
    """
    for i in range(0, len(visits), chunks_at_once):
        some = visits[i : i + chunks_at_once]
        chunks = [axis.chunk(axis.visited(visit, seed)) for visit in some]
        keys = [mask_key(seed, visit) for visit in some]
        if pad_length:
            missing = chunks_at_once - len(chunks)
            chunks += missing * [Chunk(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)]
            keys += missing * [0]
        yield assemble(chunks, keys, masker, axis.chunk_tokens, pad_id, pad_length or PAD_LENGTH)
