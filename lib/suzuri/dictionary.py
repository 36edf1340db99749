"""unidic-lite as six arrays for `lattice`, made once and kept in the user's cache folder.

Most of the time of the search goes into waiting for memory: a table of 71 MB of what each pair of neighbouring words
costs, read at random places, for words many of which cannot be in any best path. So the arrays differ from the
dictionary in three ways, none of which changes where words begin and end:

- A word stays only if there are neighbours between which no other one written the same is cheaper. Gone are those
  that differ from another in reading alone, and the rare ones that would never be chosen.
- Context ids are numbered by how often they are met, so that the rows of the table that matter lie together in the
  processor's cache. Vibrato does so, too: https://github.com/daac-tools/vibrato (mapping of connection ids).
- Words are looked up by characters, not by bytes.

Source of the formats: MeCab 0.996, dictionary.cpp (header, token), darts.h (double array), connector.h (matrix),
char_property.h (characters).
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from suzuri import compiled, double_array, files
from suzuri.cli import DataError

ORDER = Path(__file__).with_name("unidic-lite-ids.txt")
HEADER = np.dtype(
    [
        (name, "<u4")
        for name in ["magic", "version", "type", "words", "left", "right", "trie", "tokens", "features", "unused"]
    ]
    + [("charset", "S32")]
)
UNIT = np.dtype([("base", "<i4"), ("check", "<u4")])
TOKEN = np.dtype(
    [("left", "<u2"), ("right", "<u2"), ("pos", "<u2"), ("cost", "<i2"), ("feature", "<u4"), ("compound", "<u4")]
)


class Tables(NamedTuple):
    """The arrays, by characters (code points), categories and context ids.

    A "word" is an integer: 256 × the first of its tokens + how many they are.
    """

    labels: np.ndarray  # uint16 [0x110000], with the trie: see double_array
    kinds: np.ndarray  # uint32 [0x110000]: bits 0-17 categories, 18-25 the main one, 26-29 how many characters an
    # unknown word has at most, 30 whether all of the category make one, 31 whether that is so beside known words
    trie: np.ndarray  # int32 [units, 3]: words
    tokens: np.ndarray  # int16 [tokens, 3]: left and right context id, cost
    unknown: np.ndarray  # int64 [categories]: an unknown word of the category
    matrix: np.ndarray  # int16 [left ids, right ids]: the cost of a word with that left id after one with that right id


def tables():
    """The Tables of unidic-lite, made now if they are not there yet."""
    import unidic_lite

    source = Path(unidic_lite.DICDIR)

    def save(folder):
        for name, array in make(source)._asdict().items():
            with files.replacing(folder / f"{name}.npy") as f:
                np.save(f, array)

    folder = compiled.kept(f"unidic-lite-{(source / 'version').read_text().strip()}-words-3", save)
    try:
        return Tables(*(np.load(folder / f"{name}.npy") for name in Tables._fields))
    except (EOFError, ValueError, OSError) as e:
        raise DataError(folder, f"damaged ({e}); remove it, and it is made anew") from None


def make(source):
    """The Tables of the MeCab dictionary in folder `source`.

    matrix.bin: two uint16 (how many right and left ids there are), then int16 [left ids, right ids].
    """
    head, cost = np.fromfile(source / "matrix.bin", "<u2", 2), np.fromfile(source / "matrix.bin", "<i2", offset=4)
    cost = cost.reshape(head[1], head[0])
    number, old = _numbering(int(head[0]))
    units, known = _read(source / "sys.dic")
    units, known = _useful(units, known, cost)
    labels, trie = _trie(units)
    categories, kinds = _characters(source / "char.bin")
    units, guessed = _read(source / "unk.dic")
    unknown = np.array([_word(units, name) + 256 * len(known) for name in categories])
    tokens = np.concatenate([known, guessed])
    return Tables(
        labels,
        kinds,
        trie,
        np.stack([number[tokens["left"]], number[tokens["right"]], tokens["cost"]], 1).astype(np.int16),
        unknown,
        np.ascontiguousarray(cost[old][:, old]),
    )


def _numbering(size):
    """(new id [old id], old id [new id]) of `size` ids; 0, the edge of a sentence, stays."""
    frequent = np.array([id for id in map(int, ORDER.read_text().split()) if 0 < id < size], np.int64)
    old = np.concatenate([[0], frequent, np.setdiff1d(np.arange(1, size), frequent)])
    number = np.empty(size, np.uint16)
    number[old] = np.arange(size)
    return number, old


def _read(path):
    """The parts of a dictionary -> (the double array's units, tokens)."""
    data = np.fromfile(path, np.uint8)
    header = data[: HEADER.itemsize].view(HEADER)[0]
    trie, tokens, _ = np.split(data[HEADER.itemsize :], np.cumsum([header["trie"], header["tokens"]], dtype=np.int64))
    return trie.view(UNIT), tokens.view(TOKEN)


def _characters(path):
    """char.bin -> (names of the categories, bytes; kinds uint32 [0x110000]).

    MeCab knows characters of 16 bits, less the last one, and takes the others for U+0000.
    """
    data = path.read_bytes()
    names = np.frombuffer(data, "S32", int.from_bytes(data[:4], "little"), 4)
    known = np.frombuffer(data, "<u4", offset=4 + names.nbytes)
    kinds = np.full(double_array.CHARACTERS, known[0])
    kinds[: len(known)] = known
    kinds[len(known) : 0x10000] = 0
    return names.tolist(), kinds


def _word(units, name):
    """The word written `name` (bytes) in a double array of bytes."""
    base = units["base"][0]
    for byte in name:
        base = units["base"][base + byte + 1]
    return -1 - int(units["base"][base])


def _trie(units):
    """MeCab's double array of bytes -> (labels, trie), of characters: see double_array.

    The children of a unit lie at its base + 1 + byte, and have that base for a check. A word's end is a child, too,
    at the base itself, with -1 - its word for a base.
    """
    base, check = units["base"].astype(np.int64), units["check"].astype(np.int64)
    parent_by_base = np.full(len(base) + 1, -1)
    inner = np.flatnonzero(base > 0)
    parent_by_base[base[inner]] = inner
    parent, byte = parent_by_base[check], np.arange(len(base)) - check - 1
    ends = np.flatnonzero((parent >= 0) & (byte == -1) & (base < 0))
    words = np.full(len(base), -1)
    words[parent[ends]] = -1 - base[ends]
    # From each last byte of a character up to its first one.
    child = np.flatnonzero((parent >= 0) & (byte >= 0) & (byte < 256))
    place, code, edges = child, np.zeros_like(child), []
    for shift, low, high in (0, 0x00, 0x80), (6, 0xC0, 0xE0), (12, 0xE0, 0xF0), (18, 0xF0, 0xF8):
        first = (byte[place] >= low) & (byte[place] < high)
        edges.append((parent[place[first]], code[first] | (byte[place[first]] - low) << shift, child[first]))
        later = (byte[place] >= 0x80) & (byte[place] < 0xC0)
        child, place, code = (a[later] for a in (child, place, code | (byte[place] & 0x3F) << shift))
        place = parent[place]
    parents, characters, children = map(np.concatenate, zip(*edges, strict=True))
    return double_array.build(parents, characters, children, words)


def _useful(trie, tokens, cost):
    """Only the tokens that can be in a best path -> (units, tokens). cost: int16 [left ids, right ids].

    A unit whose base is negative ends a word: -base - 1 is 256 × its first token + how many it has. Of two with the
    same ids that cost the same the first stays, since MeCab would take that one.
    """
    trie = trie.copy()
    ends = np.flatnonzero(trie["base"] < 0)
    first, n = np.divmod(-trie["base"][ends].astype(np.int64) - 1, 256)
    ends, first, n = (a[np.argsort(first)] for a in (ends, first, n))
    if not np.array_equal(first, np.cumsum(n) - n) or n.sum() != len(tokens):
        raise RuntimeError("tokens do not lie word by word")
    word = np.repeat(np.arange(len(n)), n)
    order = np.lexsort([tokens["cost"], tokens["right"], tokens["left"], word])
    same = [field[order][1:] == field[order][:-1] for field in (word, tokens["left"], tokens["right"])]
    keep = np.ones(len(tokens), bool)
    keep[order[1:][np.logical_and.reduce(same)]] = False
    keep[_dominated(first, n, tokens, cost)] = False
    kept = np.concatenate([[0], np.cumsum(keep)])
    trie["base"][ends] = -(kept[first] * 256 + kept[first + n] - kept[first]) - 1
    return trie, tokens[keep]


def _dominated(first, n, tokens, cost):
    """The tokens beside which another one of the same word is cheaper whatever comes before and after it."""
    pairs = [[], []]
    for count in range(2, n.max() + 1):
        for side, other in zip(pairs, np.nonzero(~np.eye(count, dtype=bool)), strict=True):
            side.append((first[n == count, None] + other).ravel())
    a, b = (tokens[np.concatenate(side)] for side in pairs)
    more = _most_above(a["left"], b["left"], cost) + _most_above(a["right"], b["right"], np.ascontiguousarray(cost.T))
    return np.concatenate(pairs[1])[more + a["cost"] < b["cost"]]


def _most_above(a, b, cost):
    """By how much cost[a] is above cost[b] where it is most above it (int32, for arrays of rows a and b)."""
    rows, place = np.unique(np.stack([a, b]), axis=1, return_inverse=True)
    worst = [(cost[i].astype(np.int32) - cost[j]).max() for i, j in rows.T]
    return np.array(worst, np.int32)[place]


def count_ids(lines):
    """The context ids of all words that MeCab considers in the lines (str), the most frequent first."""
    import fugashi
    import unidic_lite

    counts = {}
    with tempfile.TemporaryDirectory() as plain:
        for file in Path(unidic_lite.DICDIR).iterdir():
            os.symlink(file, Path(plain) / file.name)
        rc = Path(plain) / "dicrc"  # which names an output format of its own
        text = re.sub(r"(?m)^output-format-type.*\n", "", rc.read_text())
        rc.unlink()
        rc.write_text(text)
        tagger = fugashi.GenericTagger(f'-d "{plain}" -r "{plain}/mecabrc" --all-morphs -F%phl; -U%phl; -E;')
        for line in lines:
            for id in tagger.parse(line.strip()).split(";"):
                if id.isdigit():
                    counts[int(id)] = counts.get(int(id), 0) + 1
    return sorted(counts, key=lambda id: (-counts[id], id))


if __name__ == "__main__":  # how unidic-lite-ids.txt was made: python -m suzuri.dictionary < text
    print("\n".join(map(str, count_ids(sys.stdin))))
