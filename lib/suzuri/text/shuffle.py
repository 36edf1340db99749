"""A fair shuffle of any size in bounded memory: records sorted by a keyed hash of their content.

The output is in the order of xxh3_64(record, seed). It does not depend on the order of arrival, the memory or the
number of processes. Equal records come together, so duplicates are dropped on the way. If validation takes a range of
hashes, its records stay there when text is added.

 1. Text is read into one buffer; the start, end and hash of each record are noted.
 2. A full buffer is sorted by hash and appended as one run to an unlinked scratch file.
 3. At the end the hashes are cut into ranges that fit the memory. The slices of a range are gathered from all runs,
    sorted, deduplicated and written. Text that never filled the buffer is one range already.
"""

import ctypes
import mmap
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain

import numpy as np

from suzuri.errors import DataError
from suzuri.processes import work_in_turns
from suzuri.streams import write_all
from suzuri.text import hashed_records as rec
from suzuri.text.split_output import SplitOutput

SCANNED = 1 << 16  # bytes hashed at a time: their Python objects stay in the cache and malloc keeps their memory
RECORD = 80  # bytes of index that sorting a record takes besides its text: (start, end, hash) three times, order
NOTHING = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint64)  # starts, ends, hashes of no records


def shuffle_split(
    blocks: Generator[bytes, None, None],
    folder: str,
    *,
    unit: str = "line",
    seed: int = 0,
    max_lines: int | None = None,
    memory: int = 10**9,
    jobs: int = 1,
    report: Callable[[str], None] | None = None,
    **amounts,
) -> dict[str, int]:
    """Shuffle text into FOLDER/valid.txt and FOLDER/train-NNN.txt; returns the counts.

    `blocks` is closed as soon as `max_lines` have been read; `amounts` are the settings of SplitOutput. `report`
    gets a message if there is less text than they ask for.
    Raises DataError if there is no text, or if a record is larger than `memory` (bytes).
    """
    buffer, scratch = TextBuffer(memory, unit, seed, max_lines), None
    for run, more in sorted_runs(blocks, buffer):
        if more or scratch:
            scratch = scratch or Scratch(folder, unit, seed)
            scratch.append(run)
    lines = buffer.lines
    if not lines:
        raise DataError("standard input", "no text in it")
    output = SplitOutput(folder, unit, **amounts)
    if scratch is None:
        output.write(run)
    else:
        del buffer, run  # the ranges need their memory
        write_ranges(scratch.ranges(memory // jobs), scratch.load, output, jobs)
    shortfall = output.finish()
    if shortfall and report:
        report(shortfall)
    return {"sentences in": lines, **output.counts(lines)}


def sorted_runs(blocks: Generator[bytes, None, None], buffer: "TextBuffer") -> Iterator[tuple[rec.Records, bool]]:
    """(the distinct records that fill the buffer, sorted; whether more may come), until the text ends.

    A run is in the buffer, and is lost when the next one is asked for.
    """
    for block in chain(blocks, [rec.END[buffer.unit]]):  # the last end may be missing
        while block and not buffer.satisfied:
            block = block[buffer.add(block) :]
            if buffer.filled + RECORD * buffer.count >= buffer.capacity:
                yield rec.sorted_distinct(buffer.records()), True
                buffer.start_over()
        if buffer.satisfied:
            blocks.close()
            break
    yield rec.sorted_distinct(buffer.records()), False


def write_ranges(ranges: list, load: Callable, output, jobs: int) -> None:
    """output.write(load(r)) for all ranges in order; `jobs` processes load, each no more than one range at a time."""

    def read(i):
        return (ranges[i], i + 1) if i < len(ranges) else (None, i)

    def write(records, state):
        output.state = state
        output.write(records)
        return output.state

    jobs = min(jobs, len(ranges))
    output.state = work_in_turns(read, load, write, output.state, jobs, start=0, ahead=1)


class TextBuffer:
    """Text in order of arrival, up to `capacity` bytes, and where its records are.

    `lines` counts those of whole records, over all fillings. text[whole:filled] is the beginning of a record, and
    text[scanned:whole] holds records that are not noted yet.
    """

    def __init__(self, capacity, unit, seed, max_lines=None, name="standard input"):
        self.buffer = mmap.mmap(-1, capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(AttributeError, OSError):  # where there are huge pages, 120 MB cost 60 page faults, not 30,000
            self.buffer.madvise(mmap.MADV_HUGEPAGE)
        self.capacity, self.unit, self.seed, self.max_lines, self.name = capacity, unit, seed, max_lines, name
        self.lines = 0
        self.filled = self.whole = self.scanned = 0
        self.found, self.count = [NOTHING], 0  # (starts, ends, hashes) of each scan, and the number of records
        self.unscanned_lines = 0  # counted only where max_lines is given

    def start_over(self) -> None:
        """Forget the records; move the beginning of the next one to the front."""
        self.buffer.move(0, self.whole, self.filled - self.whole)
        self.filled -= self.whole
        self.whole = self.scanned = 0
        self.found, self.count = [NOTHING], 0
        self.unscanned_lines = 0 if self.max_lines is None else self.buffer[: self.filled].count(b"\n")

    def add(self, block: bytes) -> int:
        """Copy as much of a block as fits; returns the number of bytes taken."""
        end, before = rec.END[self.unit], self.filled
        taken = min(len(block), self.capacity - before)
        if not taken:
            size = f"{self.capacity:,} bytes"
            raise DataError(self.name, f"a {self.unit} is longer than --memory, {size}; raise it")
        self.filled += taken
        self.buffer[before : self.filled] = block[:taken]
        last = self.buffer.rfind(end, max(self.whole, before - len(end) + 1), self.filled)
        if last >= 0:
            self.whole = last + len(end)
        if self.max_lines is not None:
            self.unscanned_lines += block.count(b"\n", 0, taken)
        if (
            self.whole - self.scanned >= SCANNED
            or self.filled == self.capacity
            or (self.max_lines is not None and self.lines + self.unscanned_lines >= self.max_lines)
        ):
            self.scan()
        return taken

    def scan(self) -> None:
        """Note the whole records that have come since the last time."""
        records = rec.find_records(self.buffer[self.scanned : self.whole], self.unit, self.seed)
        until = self.lines + np.cumsum(rec.sentence_counts(records, self.unit))
        if self.max_lines is not None:
            records = records.take(slice(rec.number_until(until, self.max_lines)))
        if len(records.starts):
            self.lines = int(until[len(records.starts) - 1])
            self.count += len(records.starts)
            self.found.append((records.starts + self.scanned, records.ends + self.scanned, records.hashes))
        self.scanned, self.unscanned_lines = self.whole, 0

    @property
    def satisfied(self) -> bool:
        return self.max_lines is not None and self.lines >= self.max_lines

    def records(self) -> rec.Records:
        if not self.satisfied:
            self.scan()
        starts, ends, hashes = map(np.concatenate, zip(*self.found, strict=True))
        self.found = []
        return rec.Records(np.frombuffer(self.buffer, np.uint8), starts, ends, hashes)


class Scratch:
    """An unlinked file in FOLDER with sorted runs, read back by ranges of hashes."""

    def __init__(self, folder, unit, seed):
        self.file = tempfile.TemporaryFile(dir=folder, buffering=0)
        self.unit, self.seed = unit, seed
        self.bounds = []  # per run: int64 [BUCKETS + 1], where in the file its buckets begin and end
        self.need = np.zeros(rec.BUCKETS, np.int64)  # bytes of memory to sort a bucket

    def append(self, records: rec.Records) -> None:
        """Write a run: records in the order of their hashes."""
        start = self.bounds[-1][-1] if self.bounds else 0
        until, first = rec.bucket_cuts(records)
        self.bounds.append(start + until)
        self.need += np.diff(until) + RECORD * np.diff(first)
        for portion in rec.portions(records):
            write_all(self.file.fileno(), rec.gather(portion))

    def ranges(self, memory: int) -> list[tuple[int, int]]:
        """The ranges of buckets to load, see ranges_that_fit."""
        return ranges_that_fit(self.need, memory)

    def load(self, buckets: tuple[int, int]) -> rec.Records:
        """The distinct records of a range of buckets, in order, which the file then no longer holds."""
        first, last = buckets
        slices = [(int(bounds[first]), int(bounds[last])) for bounds in self.bounds]

        def blocks():
            for start, stop in slices:
                yield from read_slice(self.file.fileno(), start, stop)
                give_back_disk(self.file.fileno(), start, stop - start)

        return load(blocks(), sum(stop - start for start, stop in slices), self.unit, self.seed)


def ranges_that_fit(need: np.ndarray, memory: int) -> list[tuple[int, int]]:
    """Cut buckets, of which each needs some bytes, into ranges (first, last) of at most `memory`, or of one bucket."""
    first, cuts = 0, []
    until = np.cumsum(need)
    while first < len(need):
        bound = (until[first - 1] if first else 0) + memory
        last = max(first + 1, int(np.searchsorted(until, bound, "right")))
        cuts.append((first, last))
        first = last
    return cuts


def read_slice(fd: int, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file from `start` to `stop`, in portions; fewer if the file ends before."""
    for at in range(start, stop, rec.PORTION):
        yield os.pread(fd, min(rec.PORTION, stop - at), at)


def load(blocks: Iterable[bytes], size: int, unit: str, seed: int) -> rec.Records:
    """The distinct records in blocks of text, `size` bytes in all, in order."""
    buffer = TextBuffer(max(1, size), unit, seed)
    for block in blocks:
        buffer.add(block)
    return rec.sorted_distinct(buffer.records())


def give_back_disk(fd: int, start: int, length: int) -> None:
    """Punch a hole into a file: scratch shrinks as output grows. Without Linux's fallocate this does nothing."""
    keep_size, punch_hole = 1, 2
    if length and hasattr(libc := ctypes.CDLL(None), "fallocate"):
        libc.fallocate(fd, keep_size | punch_hole, ctypes.c_int64(start), ctypes.c_int64(length))
