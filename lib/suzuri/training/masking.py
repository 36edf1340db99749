"""Masks: which positions are predicted, and what replaces them.

A mask is a pure function of (seed, visit, position); token_axis.py numbers the visits to the chunks. It comes from an
integer hash, not from a generator with state. So the masks are the same on any device, for any number of ranks and
after any resumption, and they differ each time a chunk is visited.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from suzuri.tokenizer.wordpiece import continues_word

IGNORED = -100  # a label slot without a prediction, as in torch's cross_entropy

GOLDEN = np.uint32(0x9E3779B1)  # 2³² / golden ratio: spreads neighbouring positions (Knuth, TAOCP 6.4)
NEVER = 0xFFFFFFFF  # the hash of a token that must not be masked: the largest
EIGHTY, NINETY = round(0.8 * NEVER), round(0.9 * NEVER)


def mix64(*words: int) -> int:
    """A 64-bit integer hash of integers (splitmix64's finalizer, chained).

    >>> mix64(1, 2) == mix64(1, 2), mix64(1, 2) == mix64(2, 1)
    (True, False)
    """
    h, limit = 0, (1 << 64) - 1
    for word in words:
        h = (h + word + 0x9E3779B97F4A7C15) & limit
        h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & limit
        h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) & limit
        h ^= h >> 31
    return h


def mix32(x: np.ndarray) -> np.ndarray:
    """A 32-bit integer hash of a uint32 array (murmur3's finalizer), in place."""
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    return x


class Masker:
    """Masks chunks of token ids for one vocabulary.

    `pieces` is the vocabulary (index = id); `special_ids` are never masked, and never drawn as replacements.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        special_ids: Iterable[int],
        mask_id: int,
        probability: float = 0.15,
        whole_words: bool = False,
    ):
        self.probability = probability
        self.mask_id = mask_id
        self.barred = np.zeros(len(pieces), np.uint32)  # ORed with a token's hash: NEVER for the special ones
        self.barred[list(special_ids)] = NEVER
        self.ordinary = np.flatnonzero(self.barred == 0)  # the ids that random replacements are drawn from
        self.continues = None
        if whole_words:
            self.continues = np.array([continues_word(piece) for piece in pieces])

    def count(self, length: int) -> int:
        """How many of `length` tokens are predicted, if enough of them can be."""
        return round(self.probability * length)

    def __call__(
        self, tokens: np.ndarray, lengths: Sequence[int], keys: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mask the chunks int64 `tokens` [m, n]; in row i the first lengths[i] are tokens, the rest is padding.

        Returns (inputs [m, n], rows [m · count(n)], labels [m · count(n)]): count(length) positions per chunk are
        predicted, or fewer if it has fewer candidates; unused slots are at the end, labelled IGNORED.
        `rows` are positions in the flattened tokens, ascending; `keys` are integers, a different one for each visit.
        Of the chosen tokens 80 % become [MASK], 10 % a random ordinary token, 10 % stay (Devlin et al. 2018).
        """
        (m, n), k = tokens.shape, self.count(tokens.shape[1])
        order = np.arange(n, dtype=np.uint32) * GOLDEN + np.array([[key & NEVER] for key in keys], np.uint32)
        order = mix32(order)
        chosen = self.fast_choice(order, tokens, k) if self.continues is None and min(lengths) == n else None
        if chosen is None:
            order |= self.barred.take(tokens)
            choose = smallest if self.continues is None else self.smallest_words
            chosen = np.concatenate([
                i * n + choose(order[i, :length], self.count(length), tokens[i, :length])
                for i, length in enumerate(lengths)
            ])  # fmt: skip

        rows, labels = np.zeros(m * k, np.int64), np.full(m * k, IGNORED, np.int64)
        rows[: len(chosen)] = chosen
        labels[: len(chosen)] = tokens.take(chosen)
        draw = mix32(order.take(chosen) + GOLDEN)  # a second hash, because the chosen ones are all small
        inputs = tokens.copy()
        inputs.put(chosen[draw < EIGHTY], self.mask_id)
        random = np.flatnonzero((draw >= EIGHTY) & (draw < NINETY))
        inputs.put(chosen[random], self.ordinary[mix32(draw[random]) % np.uint32(len(self.ordinary))])
        return inputs, rows, labels

    def fast_choice(self, order: np.ndarray, tokens: np.ndarray, k: int) -> np.ndarray | None:
        """Positions of the k ordinary tokens with the smallest hashes in each row: the fast way, for ordinary rows.

        It looks only at hashes below a limit, somewhat more than k per row. None if these are too few (a row with
        very many special tokens) or if ties give more than k.
        """
        few = np.flatnonzero(order <= np.uint32(min(1.0, 1.3 * self.probability) * NEVER))
        few = few[self.barred.take(tokens.take(few)) == 0]
        hashes = order.take(few)
        ends = few.searchsorted(np.arange(1, len(order) + 1) * order.shape[1])
        keep = np.zeros(len(few), bool)
        for a, b in pairwise([0, *ends.tolist()]):
            if b - a < k or k == 0:
                return None
            keep[a:b] = hashes[a:b] <= np.partition(hashes[a:b], k - 1)[k - 1]
        few = few[keep]
        return few if len(few) == k * len(order) else None

    def smallest_words(self, order: np.ndarray, k: int, tokens: np.ndarray) -> np.ndarray:
        """Positions of whole words, by the hash of their first piece; those that do not fit into k are skipped."""
        starts = np.flatnonzero(~self.continues.take(tokens) | (order == NEVER))
        if len(starts) == 0 or starts[0] != 0:
            starts = np.insert(starts, 0, 0)  # the chunk begins inside a word: this part of it counts as one
        lengths = np.diff(starts, append=len(tokens))
        first = order.take(starts)
        for few in (k, len(starts)):  # k words are nearly always enough
            words = smallest(first, few)
            words = words[np.argsort(first[words], kind="stable")]
            ends = np.cumsum(lengths[words])
            fits = int(np.searchsorted(ends, k, "right"))
            chosen, left = list(words[:fits]), k - (int(ends[fits - 1]) if fits else 0)
            for word in words[fits:]:
                if left == 0:
                    break
                if lengths[word] <= left:
                    chosen.append(word)
                    left -= lengths[word]
            if left == 0:
                break
        taken = np.zeros(len(starts), bool)
        taken[chosen] = True
        return np.flatnonzero(np.repeat(taken, lengths))


def smallest(order: np.ndarray, k: int, tokens: np.ndarray | None = None) -> np.ndarray:
    """Ascending positions of the k smallest values below NEVER; of equal values, the first ones.

    `tokens` is not used; it makes the arguments those of Masker.smallest_words.

    >>> smallest(np.array([5, 2, 9, 2, NEVER], np.uint32), 2)
    array([1, 3])
    """
    k = min(k, int((order < NEVER).sum()))
    if k == 0:
        return np.zeros(0, np.int64)
    edge = np.partition(order, k - 1)[k - 1]
    rows = np.flatnonzero(order <= edge)
    if len(rows) > k:  # equal values at the edge
        rows = np.delete(rows, np.flatnonzero(order[rows] == edge)[k - len(rows) :])
    return rows
