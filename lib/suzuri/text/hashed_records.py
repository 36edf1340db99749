"""The records of a shuffle: lines or documents with a hash of their content, which orders them and finds duplicates.

Records are slices of one big text, handled by NumPy without a Python loop over them.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import repeat
from typing import NamedTuple

import numpy as np
from xxhash import xxh3_64_intdigest

END = {"line": b"\n", "document": b"\n\n"}  # the end of a record, and a part of it, in memory and on disk
# (?>…)++ and not (?:…)++, which Python before 3.11.5 (Debian 12 has 3.11.2) mismatches where … can backtrack.
DOCUMENT = re.compile(rb"((?>[^\n]+\n)++)\n")
PORTION = 1 << 20  # bytes moved at a time: about what a core's own cache holds
BUCKETS = 1 << 12  # finest cut of the hashes


class Records(NamedTuple):
    """n records: slices of a text, each with its END, and the hashes of their content.

    text: uint8 [any length]; starts, ends: int64 [n]; hashes: uint64 [n].
    """

    text: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    hashes: np.ndarray

    def take(self, which: np.ndarray | slice) -> "Records":
        """The records at the indices, or in the slice, `which`."""
        return Records(self.text, self.starts[which], self.ends[which], self.hashes[which])

    @property
    def lengths(self) -> np.ndarray:
        return self.ends - self.starts


def find_records(text: bytes, unit: str, seed: int) -> Records:
    """The records in `text`, which stops where a record ends. Blank lines and empty documents are not records.

    >>> find_records(b"a\\n\\nbc\\n", "line", seed=0).starts
    array([0, 3])
    """
    octets = np.frombuffer(text, np.uint8)
    if unit == "document":
        spans = np.array([m.span() for m in DOCUMENT.finditer(text)], np.int64).reshape(-1, 2)
        starts, ends = spans[:, 0], spans[:, 1]
        contents = [text[start : end - 2] for start, end in spans.tolist()]
    else:
        ends = np.flatnonzero(octets == ord("\n")) + 1
        starts = np.concatenate(([0], ends))[:-1]
        filled = ends - starts > 1
        starts, ends = starts[filled], ends[filled]
        contents = list(filter(None, text.split(b"\n")))
    hashes = np.fromiter(map(xxh3_64_intdigest, contents, repeat(seed)), np.uint64, len(contents))
    return Records(octets, starts, ends, hashes)


def sentence_counts(records: Records, unit: str) -> np.ndarray:
    """Number of lines in each record: int64 [n]."""
    if unit == "line":
        return np.ones(len(records.starts), np.int64)
    spans = zip(records.starts.tolist(), records.ends.tolist(), strict=True)
    return np.array([np.count_nonzero(records.text[start : end - 1] == ord("\n")) for start, end in spans], np.int64)


def number_until(until: np.ndarray, amount: int | None) -> int:
    """How many records it takes to reach `amount` sentences (None: all).

    until: int64 [n], the running total of sentences.
    """
    if amount is None:
        return len(until)
    return min(len(until), int(np.searchsorted(until, amount)) + 1) if amount > 0 else 0


def number_below(records: Records, fraction: float | Fraction) -> int:
    """How many of the records, which are in the order of their hashes, are in the lowest `fraction` of all hashes."""
    if fraction >= 1:
        return len(records.starts)
    return int(np.searchsorted(records.hashes, np.uint64(int(fraction * 2**64))))


def bucket_cuts(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Where the buckets of sorted records begin and end, in bytes of their text and in records: int64 [BUCKETS + 1]."""
    first = np.searchsorted(records.hashes, np.arange(BUCKETS, dtype=np.uint64) << np.uint64(52))
    first = np.append(first, len(records.starts))
    return np.append(0, np.cumsum(records.lengths))[first], first


def gather(records: Records) -> np.ndarray:
    """The records' bytes end to end, in their order: uint8 [sum of lengths].

    A record of 2^k to 2^(k+1) - 1 bytes is its first 2^k bytes and its last 2^k bytes, which may overlap. So two
    fancy indexings of 2^k-byte items move all records of that size: some 20 NumPy calls move any number of records.
    """
    lengths = records.lengths
    until = np.cumsum(lengths)
    out = np.empty(until[-1] if len(until) else 0, np.uint8)
    log2 = np.frexp(lengths.astype(np.float64))[1] - 1  # exact below 2^53
    for k in np.flatnonzero(np.bincount(log2)).tolist():
        width = 1 << k
        some = np.flatnonzero(log2 == k)
        source, target = _items(records.text, width), _items(out, width)
        target[until[some] - lengths[some]] = source[records.starts[some]]
        target[until[some] - width] = source[records.ends[some] - width]
    return out


def _items(octets, width):
    """A view of uint8 [n] as n - width + 1 items that overlap: item i is octets[i : i + width]."""
    return np.ndarray(len(octets) - width + 1, f"V{width}", octets, strides=(1,))


def portions(records: Records) -> Iterator[Records]:
    """Cut records into consecutive Records of about PORTION bytes of text, and of at least one record."""
    until = np.cumsum(records.lengths)
    first = 0
    while first < len(until):
        bound = (until[first - 1] if first else 0) + PORTION
        last = max(first + 1, int(np.searchsorted(until, bound, "right")))
        yield records.take(slice(first, last))
        first = last


def sorted_distinct(records: Records) -> Records:
    """Records in order of (hash, content), exact duplicates dropped."""
    records = records.take(np.argsort(records.hashes))
    again = records.hashes[1:] == records.hashes[:-1]  # [n - 1]: does the next one have the same hash?
    if not again.any():
        return records
    new = np.concatenate(([True], ~again))
    if not _equal(records.take(np.flatnonzero(again)), records.take(np.flatnonzero(again) + 1)):
        _sort_collisions(records, new)
    return records.take(new)


def _equal(some, others):
    return np.array_equal(some.lengths, others.lengths) and all(
        np.array_equal(gather(a), gather(b)) for a, b in zip(portions(some), portions(others), strict=True)
    )


def _sort_collisions(records, new):
    """Where different contents share a hash (two in 2^64): put each such group in order of content, in place.

    new: bool [n], true at the first of each group; set here for all distinct contents.
    """
    firsts = np.flatnonzero(new)
    for first, last in zip(firsts.tolist(), [*firsts[1:].tolist(), len(new)], strict=True):
        if last - first > 1:
            group = [(s, e) for s, e in zip(records.starts[first:last], records.ends[first:last], strict=True)]
            spans = {records.text[start:end].tobytes(): (start, end) for start, end in group}
            for i, content in enumerate(sorted(spans), first):
                records.starts[i], records.ends[i] = spans[content]
                new[i] = True
