"""WordPiece training from word counts.

The algorithm is that of Hugging Face's WordPieceTrainer: byte-pair encoding (Sennrich, Haddow and
Birch, 2016, "Neural Machine Translation of Rare Words with Subword Units") on pieces marked with `##`: the
pair of neighbours with the highest count becomes a piece, over and over. As in Sennrich's `learn_bpe.py`,
pair counts are updated where a merge happened, never counted again; the best pair
comes from a heap whose entries are corrected when they come up. The same counts give the same vocabulary,
whatever their order; the trainer of `tokenizers` walks hash maps and gives a different one on every run.
"""

import heapq
from array import array
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from suzuri.tokenizer.wordpiece import CONTINUES

MIN_COUNT = 2  # a pair seen once says nothing


def learn(words: dict[str, int], alphabet: set[str], reserved: Sequence[str], size: int) -> list[str]:
    """The vocabulary: `reserved` pieces, the alphabet, its `##` forms that occur, then merges up to `size`.

    words: {word: count}. alphabet: the characters to keep; others are skipped as if they were not there.
    Returns a list of distinct pieces, index = id; it is shorter than `size` when the text has no more pairs
    seen MIN_COUNT times.

    Ties go to the lower pair of ids, and ids follow code points, so nothing depends on the order of `words`.
    """
    words = dict(sorted(words.items()))
    codes, begins, weights = _flatten(words, alphabet)
    inner = [chr(c) for c in np.unique(codes[~begins])]  # in the order of their code points
    pieces = [*reserved, *sorted(alphabet), *(CONTINUES + c for c in inner)]
    ids = {piece: i for i, piece in enumerate(pieces)}
    at_start, inside = np.zeros((2, 0x110000), np.int32)  # code point -> id
    for c in alphabet:
        at_start[ord(c)] = ids[c]
    for c in inner:
        inside[ord(c)] = ids[CONTINUES + c]
    # One gap, -1, before, between and after the words: two neighbours with ids are always in the same word.
    places = np.arange(len(codes)) + np.cumsum(begins)
    symbols = np.full(len(codes) + begins.sum() + 1, -1, np.int32)
    symbols[places] = np.where(begins, at_start[codes], inside[codes])
    counts = np.zeros(len(symbols), np.int64)
    counts[places] = weights
    return _merge(pieces, ids, symbols, counts, size)


def _flatten(words, alphabet):
    """The characters of all words end to end, without those that are not in the alphabet.

    Returns (code points, is it the first of its word, count of its word), three arrays of equal length.
    """
    codes = np.frombuffer("".join(words).encode("utf-32-le"), "<u4")
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    kept = np.zeros(0x110000, bool)
    kept[[ord(c) for c in alphabet]] = True
    kept = kept[codes]
    codes, word = codes[kept], np.repeat(np.arange(len(words)), lengths)[kept]
    weights = np.fromiter(words.values(), np.int64, len(words))[word]
    return codes, np.diff(word, prepend=-1) > 0, weights


def _index_pairs(symbols, weights):
    """({pair: count}, {pair: positions of its left symbol}); a pair (a, b) is the integer a << 32 | b."""
    counts, positions = defaultdict(int), defaultdict(lambda: array("i"))
    where = np.nonzero((symbols[:-1] >= 0) & (symbols[1:] >= 0))[0].astype(np.int32)
    if len(where) == 0:
        return counts, positions
    pairs = symbols[where].astype(np.int64) << 32 | symbols[where + 1]
    order = np.argsort(pairs, kind="stable")
    pairs, where = pairs[order], where[order]
    starts = np.nonzero(np.diff(pairs, prepend=-1))[0]
    keys = pairs[starts].tolist()
    counts.update(zip(keys, np.add.reduceat(weights[where], starts).tolist(), strict=True))
    for pair, part in zip(keys, np.split(where, starts[1:]), strict=True):
        positions[pair] = array("i", part.tobytes())
    return counts, positions


def _merge(pieces, ids, symbols, weights, size):
    """Add the best pair as a piece until there are `size`; `pieces` and `ids` grow, `symbols` are merged."""
    counts, positions = _index_pairs(symbols, weights)
    heap = [(-n, pair) for pair, n in counts.items() if n >= MIN_COUNT]
    heapq.heapify(heap)
    symbols, weights = array("i", symbols.tobytes()), array("q", weights.tobytes())  # faster one by one
    # Words are linked lists over the positions: a merge keeps its left position and unlinks its right one.
    after, before = array("i", range(1, len(symbols) + 1)), array("i", range(-1, len(symbols) - 1))
    while heap and len(pieces) < size:
        n, pair = heap[0]
        if counts[pair] != -n:  # merges have lowered it since it was pushed
            if counts[pair] >= MIN_COUNT:
                heapq.heapreplace(heap, (-counts[pair], pair))
            else:
                heapq.heappop(heap)
            continue
        heapq.heappop(heap)
        a, b = pair >> 32, pair & 0xFFFFFFFF
        piece = pieces[a] + pieces[b][len(CONTINUES) :]
        new = ids.setdefault(piece, len(pieces))
        if new == len(pieces):  # else: another pair has spelled it before, as ab+c and a+bc do
            pieces.append(piece)
        lefts, rights = defaultdict(int), defaultdict(int)  # neighbour -> how often it was met
        for p in positions.pop(pair):
            q = after[p]
            if symbols[p] != a or symbols[q] != b:
                continue  # merged into something else since
            n, left, right = weights[p], before[p], after[q]
            symbols[p], symbols[q] = new, -1
            after[p], before[right] = right, p
            x, y = symbols[left], symbols[right]
            if x >= 0:
                lefts[x] += n
                positions[x << 32 | new].append(left)
            if y >= 0:
                rights[y] += n
                positions[new << 32 | y].append(p)
        for x, n in lefts.items():
            counts[x << 32 | a] -= n
            counts[x << 32 | new] += n
        for y, n in rights.items():
            counts[b << 32 | y] -= n
            counts[new << 32 | y] += n
        del counts[pair]
        for grown in {x << 32 | new for x in lefts} | {new << 32 | y for y in rights}:
            if counts[grown] >= MIN_COUNT:
                heapq.heappush(heap, (-counts[grown], grown))
    return pieces
