"""Words to the ids of their WordPieces, compiled: the longest piece that fits, then the longest `##` piece after it, …

The rules are those of transformers' WordpieceTokenizer: a word that cannot be covered, or is longer than
MAX_CHARACTERS, is unknown as a whole; white space of any kind separates words.
"""

import numpy as np

from suzuri import double_array
from suzuri.compiled import compiled
from suzuri.double_array import BASE, LABELS, PARENT, VALUE
from suzuri.wordpiece import CONTINUES

MAX_CHARACTERS = 100  # of a word
LINE_END, SPACE = LABELS - 1, LABELS - 2  # labels that no piece has


def encoder(ids, unknown):
    """A function: words (characters, uint32) -> (ids uint32 [n], all lines end to end; lengths int64 [lines]).

    Words have white space between, and each line ends with a line feed. ids: {piece: id}; unknown: the id of a word
    that cannot be covered.
    """
    labels, trie = double_array.from_keys(ids)
    labels[[c for c in range(0x3001) if chr(c).isspace()]] = SPACE
    labels[ord("\n")] = LINE_END
    inner = 0
    for c in CONTINUES:  # to where the pieces that go on begin, if there are any
        child = trie[inner, BASE] + labels[ord(c)]
        inner = child if inner >= 0 and trie[child, PARENT] == inner else -1
    return lambda words: encode(words, labels, trie, inner, unknown)


@compiled
def encode(words, labels, trie, inner, unknown):
    """What the function of `encoder` does; `inner` is the unit of the pieces that go on, or -1."""
    found, lengths = np.empty(len(words), np.uint32), np.empty(len(words), np.int64)
    n = lines = line = place = 0
    while place < len(words):
        label = labels[words[place]]
        if label >= SPACE:
            if label == LINE_END:
                lengths[lines] = n - line
                lines, line = lines + 1, n
            place += 1
            continue
        start, first, unit = place, n, 0
        while True:
            stop, best = place, -1
            while label > 0 and unit >= 0:
                child = trie[unit, BASE] + label
                if trie[child, PARENT] != unit:
                    break
                unit = child
                stop += 1
                if trie[unit, VALUE] >= 0:
                    place, best = stop, trie[unit, VALUE]
                label = labels[words[stop]]
                if label >= SPACE:
                    break
            if best < 0:
                break
            found[n] = best
            n += 1
            label, unit = labels[words[place]], inner
            if label >= SPACE:
                break
        end = place
        while labels[words[end]] < SPACE:
            end += 1
        if place < end or end - start > MAX_CHARACTERS:
            found[first] = unknown
            n = first + 1
        place = end
    return found[:n].copy(), lengths[:lines].copy()
