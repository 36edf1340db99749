"""Crop pairs: two overlapping parts of a sentence in one sequence, [CLS] … [SEP] … [SEP].

A word that is masked in one part is often in the other. A model that finds it there has learned to look for the same
word in another sentence, which a small model does not learn from single sentences (tests/bench/recipes.md). This is the
TLM of XLM (Lample & Conneau 2019) with a part of the same sentence in place of a translation.
"""

import math

import numpy as np
from xxhash import xxh3_128_intdigest

from suzuri.tokenizer.encoding import ID

SHORTEST = 0.6  # of a sentence's words in a part: two parts have at least a fifth of the words in common
LEAST_WORDS = 8  # of a sentence that becomes a pair


class CropPairs:
    """Turns a share of the lines into pairs. Which, and where they are cut, depends on the line alone.

    `starts` bool [vocabulary] says which pieces begin a word: lines are cut there.
    """

    def __init__(self, share: float, starts: np.ndarray, sep: int, room: int):
        self.share, self.starts, self.sep, self.room = share, starts, np.array([sep], ID), room
        self.pairs = 0  # made so far

    def __call__(self, lines: list[str], ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An encoder's (ids, lengths) of lines -> the same, where a pair is: ids of a part, [SEP], ids of another."""
        parts, lengths, end = [], lengths.copy(), 0
        for i, (line, length) in enumerate(zip(lines, lengths.tolist(), strict=True)):
            end += length
            whole = ids[end - length : end]
            chosen, *draws = uniform(line)
            if chosen < self.share and (pair := self.pair(whole, draws)):
                parts += pair
                lengths[i] = sum(map(len, pair))
                self.pairs += 1
            else:
                parts.append(whole)
        return np.concatenate(parts) if parts else ids, lengths

    def pair(self, whole: np.ndarray, draws: list[float]) -> list[np.ndarray] | None:
        """The parts of a line's ids; None if it has too few words, or if the parts do not fit into one sequence."""
        edges = np.append(np.flatnonzero(self.starts[whole]), len(whole)).tolist()
        words = len(edges) - 1
        if words < LEAST_WORDS:
            return None
        found = []
        for size, place in (draws[:2], draws[2:]):
            n = math.ceil(words * (SHORTEST + (1 - SHORTEST) * size))
            at = int((words - n + 1) * place)
            found += [whole[edges[at] : edges[at + n]], self.sep]
        found.pop()
        return found if sum(map(len, found)) <= self.room else None


def uniform(line: str) -> list[float]:
    """Five numbers from 0 to 1, without 1, drawn by a line."""
    bits = xxh3_128_intdigest(line.encode())
    return [(bits >> shift & 0xFFFFFF) / 0x1000000 for shift in range(0, 120, 24)]
