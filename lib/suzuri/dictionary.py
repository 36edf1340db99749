"""unidic-lite made ready for segmenting alone: the same words in 70 to 87 % of the time, by the machine.

Most of MeCab's time goes into waiting for memory: a table of 71 MB of what each pair of neighbouring words costs,
read at random places, for words many of which cannot be in any best path. The copy made here once, and kept in the
user's cache folder, differs from the dictionary in three ways, none of which changes where words begin and end:

- A word stays only if there are neighbours between which no other one written the same is cheaper. Gone are those
  that differ from another in reading alone, and the rare ones that would never be chosen.
- Context ids are numbered by how often they are met, so that the rows of the table that matter lie together in the
  processor's cache. Vibrato does so, too: https://github.com/daac-tools/vibrato (mapping of connection ids).
- Readings and parts of speech are left out: 102 MB in place of 259.

Source of the formats: MeCab 0.996, dictionary.cpp (header, token), darts.h (double array), connector.h (matrix).
"""

import fcntl
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

ORDER = Path(__file__).with_name("unidic-lite-ids.txt")
MAGIC = 0xEF718F77
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


def folder():
    """The made-ready copy's folder, made now if there is none; unidic-lite's own where none can be kept."""
    import unidic_lite

    source = Path(unidic_lite.DICDIR)
    try:
        name = f"unidic-lite-{(source / 'version').read_text().strip()}-words-2"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "suzuri"
        if not (cache / name).exists():
            cache.mkdir(parents=True, exist_ok=True)
            with open(cache / ".lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one makes it, the others wait
                if not (cache / name).exists():
                    with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as part:
                        make(source, Path(part) / name)
                        os.rename(Path(part) / name, cache / name)
        return cache / name
    except (OSError, RuntimeError):  # no home, a full disk, a folder that is only read
        return source


def make(source, target):
    """Write the copy of the dictionary in folder `source` to the new folder `target`.

    matrix.bin: two uint16 (how many right and left ids there are), then int16 [left ids, right ids]: the cost of a
    word with that left id after one with that right id.
    """
    target.mkdir()
    for name in "char.bin", "dicrc", "mecabrc":
        shutil.copyfile(source / name, target / name)
    head, cost = np.fromfile(source / "matrix.bin", "<u2", 2), np.fromfile(source / "matrix.bin", "<i2", offset=4)
    cost = cost.reshape(head[1], head[0])
    number, old = _numbering(int(head[0]))
    with open(target / "matrix.bin", "wb") as f:
        head.tofile(f)
        np.ascontiguousarray(cost[old][:, old]).tofile(f)
    for name in "sys.dic", "unk.dic":
        header, trie, tokens, features = _read(source / name)
        if name == "sys.dic":
            trie, tokens = _useful(trie, tokens, cost)
            tokens["feature"], features = 0, b"*\0"
        tokens["left"], tokens["right"] = number[tokens["left"]], number[tokens["right"]]
        _write(target / name, header, trie, tokens, features)


def _numbering(size):
    """(new id [old id], old id [new id]) of `size` ids; 0, the edge of a sentence, stays."""
    frequent = np.array([id for id in map(int, ORDER.read_text().split()) if 0 < id < size], np.int64)
    old = np.concatenate([[0], frequent, np.setdiff1d(np.arange(1, size), frequent)])
    number = np.empty(size, np.uint16)
    number[old] = np.arange(size)
    return number, old


def _read(path):
    """The parts of a dictionary -> (header, the double array's units, tokens, features)."""
    data = np.fromfile(path, np.uint8)
    header = data[: HEADER.itemsize].view(HEADER)[0]
    trie, tokens, features = np.split(
        data[HEADER.itemsize :], np.cumsum([header["trie"], header["tokens"]], dtype=np.int64)
    )
    return header, trie.view(UNIT), tokens.view(TOKEN), features.tobytes()


def _write(path, header, trie, tokens, features):
    header["words"], header["tokens"], header["features"] = len(tokens), tokens.nbytes, len(features)
    header["magic"] = (HEADER.itemsize + trie.nbytes + tokens.nbytes + len(features)) ^ MAGIC
    path.write_bytes(b"".join([header.tobytes(), trie.tobytes(), tokens.tobytes(), features]))


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
