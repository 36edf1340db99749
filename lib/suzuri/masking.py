"""Which positions are predicted, and what stands in their place: a pure function of (seed, visit, position).

An integer hash decides, not a generator with a state: the same masks on any device, for any number of
ranks, after any resume; and another mask each time that a chunk is visited.
"""

import numpy as np

IGNORED = -100  # a label slot without a prediction, as in torch's cross_entropy

GOLDEN = np.uint32(0x9E3779B1)  # 2³² / golden ratio: spreads neighbouring positions (Knuth, TAOCP 6.4)
NEVER = np.uint32(0xFFFFFFFF)  # the hash of what must not be masked: above every other


def mix64(*words):
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


def mix32(x):
    """A 32-bit integer hash of a uint32 array (murmur3's finalizer), in place."""
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    return x


class Masker:
    """Masks chunks of token ids for one vocabulary.

    `pieces` is the vocabulary (list of str, index = id), `special_ids` the ids never masked and never drawn.
    """

    def __init__(self, pieces, special_ids, mask_id, probability=0.15, whole_words=False):
        self.probability = probability
        self.mask_id = mask_id
        self.barred = np.zeros(len(pieces), np.uint32)  # ORed to a token's hash: NEVER for the special ones
        self.barred[list(special_ids)] = NEVER
        self.ordinary = np.flatnonzero(self.barred == 0)  # the ids that random replacements are drawn from
        self.continues = None
        if whole_words:
            self.continues = np.array([piece.startswith("##") for piece in pieces])

    def count(self, length):
        """How many positions of `length` tokens are predicted (where that many can be)."""
        return round(self.probability * length)

    def __call__(self, tokens, key):
        """Mask int64 `tokens` [n]: (inputs [n], rows [k], labels [k]), k = count(n) or, in want of candidates, less.

        `key` is a 64-bit integer, another one for each visit. Of the chosen 80 % become [MASK], 10 % a random
        ordinary token, 10 % stay (Devlin et al. 2018). `rows` ascend.
        """
        at = np.arange(len(tokens), dtype=np.uint32) * GOLDEN
        order = mix32(at + np.uint32(key & 0xFFFFFFFF))
        order >>= np.uint32(1)
        order |= self.barred.take(tokens)
        k = self.count(len(tokens))
        rows = smallest(order, k) if self.continues is None else self.smallest_words(order, tokens, k)
        labels = tokens[rows]

        draw = mix32(at[rows] + np.uint32(key >> 32))
        kind = draw % np.uint32(10)  # 0..7 [MASK], 8 random, 9 unchanged
        random = self.ordinary[mix32(draw) % np.uint32(len(self.ordinary))]
        inputs = tokens.copy()
        inputs[rows] = np.where(kind < 8, self.mask_id, np.where(kind == 8, random, labels))
        return inputs, rows, labels

    def smallest_words(self, order, tokens, k):
        """Rows of whole words, taken in the order of their first piece's hash as long as they fit into k."""
        starts = np.flatnonzero(~self.continues[tokens] | (order == NEVER))
        if len(tokens) and (len(starts) == 0 or starts[0] != 0):
            starts = np.insert(starts, 0, 0)  # the chunk begins inside a word: what is here of it is one
        lengths = np.diff(starts, append=len(tokens))
        first = order[starts]
        words = np.argsort(first, kind="stable")
        words = words[first[words] != NEVER]
        ends = np.cumsum(lengths[words])
        fits = int(np.searchsorted(ends, k, "right"))
        chosen, left = list(words[:fits]), k - (int(ends[fits - 1]) if fits else 0)
        for word in words[fits:]:
            if left == 0:
                break
            if lengths[word] <= left:
                chosen.append(word)
                left -= lengths[word]
        taken = np.zeros(len(starts), bool)
        taken[chosen] = True
        return np.flatnonzero(np.repeat(taken, lengths))


def smallest(order, k):
    """Ascending positions of the k smallest values below NEVER; of equal values the first ones.

    >>> smallest(np.array([5, 2, 9, 2, NEVER], np.uint32), 2)
    array([1, 3])
    """
    if k == 0:
        return np.zeros(0, np.int64)
    kth = np.partition(order, k - 1)[k - 1]
    if kth == NEVER:
        return np.flatnonzero(order < kth)
    rows = np.flatnonzero(order <= kth)
    if len(rows) > k:  # equal values at the edge
        rows = np.delete(rows, np.flatnonzero(order[rows] == kth)[k - len(rows) :])
    return rows
