"""A fair shuffle of any size in bounded memory: records sorted by a keyed hash of their content.

The output is in the order of xxh3_64(record, seed). It depends on neither the order of arrival nor the memory
nor the number of processes, and equal records meet in it, so that duplicates are dropped on the way.

 1. Text is read into one buffer; of each record its start, end and hash are noted.
 2. A full buffer is sorted by hash and written as one run to an unlinked scratch file.
 3. At the end the range of hashes is cut into units that fit the memory. A unit gathers its slice of every
    run, is sorted, loses its duplicates, and goes out. Text that never filled the buffer is one unit already.
"""

import ctypes
import mmap
import os
import signal
import sys
import tempfile
from contextlib import suppress
from itertools import chain
from multiprocessing import Pipe

import numpy as np

from suzuri.errors import DataError
from suzuri.progress import note
from suzuri.streams import line_blocks
from suzuri.text import hashed_records as rec

SCANNED = 1 << 16  # bytes hashed at a time: their Python objects stay in the cache and malloc keeps their memory
RECORD = 80  # bytes of index that sorting a record takes beside its text: (start, end, hash) three times, order
BUCKETS = 1 << 12  # finest cut of the range of hashes


def shuffle_split(blocks, folder, *, unit="line", seed=0, max_lines=None, memory=10**9, jobs=1, **output):
    """Shuffle text into FOLDER/valid.txt and FOLDER/train-NNN.txt; returns the counts.

    `blocks` is a generator of bytes, closed as soon as `max_lines` have come; `output` are the settings of Output.
    DataError: no text, or a record larger than `memory` (bytes).
    """
    run, scratch = Run(memory, unit, seed, max_lines), None
    for block in chain(blocks, [rec.END[unit]]):  # the last end may be missing
        while block and not run.satisfied:
            block = block[run.add(block) :]
            if run.filled + RECORD * run.count >= memory:
                scratch = scratch or Scratch(folder, unit, seed)
                scratch.append(rec.distinct(run.records()))
                run.start_over()
        if run.satisfied:
            blocks.close()
            break
    rest = rec.distinct(run.records())
    lines = run.lines
    if not lines:
        raise DataError("standard input", "no text in it")
    output = Output(folder, unit, **output)
    if scratch is None:
        output.write(rest)
    else:
        scratch.append(rest)
        del run, rest  # their memory is now the units'
        in_turns(scratch.units(memory // jobs), scratch.load, output, jobs)
    output.finish()
    return {"sentences in": lines, **output.counts(lines)}


class Run:
    """Text in order of arrival, up to `capacity` bytes, and where its records are."""

    def __init__(self, capacity, unit, seed, max_lines=None):
        self.buffer = mmap.mmap(-1, capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(AttributeError, OSError):  # where there are huge pages, 120 MB cost 60 page faults, not 30,000
            self.buffer.madvise(mmap.MADV_HUGEPAGE)
        self.capacity, self.unit, self.seed, self.max_lines = capacity, unit, seed, max_lines
        self.lines = 0  # in whole records, never reset
        self.filled = self.whole = 0
        self.start_over()

    def start_over(self):
        """Forget the records; what came of the next one moves to the front."""
        self.buffer.move(0, self.whole, self.filled - self.whole)
        self.filled -= self.whole
        self.whole = self.scanned = 0  # end of the last whole record; end of the last that is noted
        self.found, self.count = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint64))], 0
        self.unscanned_lines = 0 if self.max_lines is None else self.buffer[: self.filled].count(b"\n")

    def add(self, block):
        """Copy what fits of a block of bytes; the number of bytes taken."""
        end, before = rec.END[self.unit], self.filled
        taken = min(len(block), self.capacity - before)
        if not taken:
            size = f"{self.capacity:,} bytes"
            raise DataError("standard input", f"a {self.unit} is longer than --memory, {size}; give more")
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

    def scan(self):
        """Note the whole records that came since the last time."""
        records = rec.find(self.buffer[self.scanned : self.whole], self.unit, self.seed)
        until = self.lines + np.cumsum(rec.sentences(records, self.unit))
        if self.max_lines is not None:
            records = records.take(slice(whole_records(until, self.max_lines)))
        if len(records.starts):
            self.lines = int(until[len(records.starts) - 1])
            self.count += len(records.starts)
            self.found.append((records.starts + self.scanned, records.ends + self.scanned, records.hashes))
        self.scanned, self.unscanned_lines = self.whole, 0

    @property
    def satisfied(self):
        return self.max_lines is not None and self.lines >= self.max_lines

    def records(self):
        if not self.satisfied:
            self.scan()
        starts, ends, hashes = map(np.concatenate, zip(*self.found, strict=True))
        self.found = []
        return rec.Records(np.frombuffer(self.buffer, np.uint8), starts, ends, hashes)


def whole_records(until, amount):
    """How many records to take until `amount` sentences are reached. until: int64 [n], running total of sentences."""
    if amount is None:
        return len(until)
    return min(len(until), int(np.searchsorted(until, amount)) + 1) if amount > 0 else 0


class Scratch:
    """An unlinked file in FOLDER with sorted runs, read back by ranges of hashes."""

    def __init__(self, folder, unit, seed):
        self.file = tempfile.TemporaryFile(dir=folder, buffering=0)
        self.unit, self.seed = unit, seed
        self.bounds = []  # a run each: int64 [BUCKETS + 1], where in the file its buckets begin and end
        self.need = np.zeros(BUCKETS, np.int64)  # bytes of memory to sort a bucket

    def append(self, records):
        start = self.bounds[-1][-1] if self.bounds else 0
        first = np.searchsorted(records.hashes, np.arange(BUCKETS, dtype=np.uint64) << np.uint64(52))
        until = np.concatenate(([0], np.cumsum(records.lengths)))
        self.bounds.append(start + np.append(until[first], until[-1]))
        count = np.diff(np.append(first, len(records.starts)))
        self.need += np.diff(self.bounds[-1]) + RECORD * count
        for piece in rec.pieces(records):
            write(self.file.fileno(), rec.gather(piece))

    def units(self, memory):
        """Cut the buckets into ranges (first, last) that each need at most `memory` bytes, or are one bucket."""
        first, cuts = 0, []
        until = np.cumsum(self.need)
        while first < BUCKETS:
            bound = (until[first - 1] if first else 0) + memory
            last = max(first + 1, int(np.searchsorted(until, bound, "right")))
            cuts.append((first, last))
            first = last
        return cuts

    def load(self, unit):
        """The distinct records of a range of buckets, in order. They are gone from the file then."""
        first, last = unit
        slices = [(int(bounds[first]), int(bounds[last])) for bounds in self.bounds]
        run = Run(max(1, sum(stop - start for start, stop in slices)), self.unit, self.seed)
        for start, stop in slices:
            for at in range(start, stop, rec.PIECE):
                run.add(os.pread(self.file.fileno(), min(rec.PIECE, stop - at), at))
            give_back_disk(self.file.fileno(), start, stop - start)
        return rec.distinct(run.records())


def give_back_disk(fd, start, length):
    """Punch a hole into a file (Linux's fallocate), so that scratch shrinks as output grows; else do nothing."""
    keep_size, punch_hole = 1, 2
    if length and hasattr(libc := ctypes.CDLL(None), "fallocate"):
        libc.fallocate(fd, keep_size | punch_hole, ctypes.c_int64(start), ctypes.c_int64(length))


def write(fd, octets):
    view = memoryview(octets)
    while len(view):
        view = view[os.write(fd, view) :]


class Output:
    """FOLDER/valid.txt and FOLDER/train-NNN.txt, filled from one sequence of records.

    The first `valid_lines` sentences are for validation, or all with a hash below `valid_fraction` of the range, so
    that these stay there whatever else is added; then come `train_lines` (None: all) for training, dealt to the
    shards in turn. Amounts count sentences; a document is never cut: it is taken whole until an amount is reached.
    """

    def __init__(self, folder, unit, *, valid_lines=0, valid_fraction=None, train_lines=None, shards=1):
        self.unit, self.shards = unit, shards
        self.valid_lines, self.valid_fraction, self.train_lines = valid_lines, valid_fraction, train_lines
        self.paths = [
            os.path.join(folder, name) for name in ["valid.txt", *map("train-{:03}.txt".format, range(shards))]
        ]
        self.fds = [os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND, 0o666) for path in self.paths]
        self.state = {"distinct": 0, "valid": 0, "train": 0, "dealt": 0}  # sentences; dealt: records in the shards

    def write(self, records):
        """Put down the next records of the sequence."""
        until = np.cumsum(rec.sentences(records, self.unit))
        if self.valid_fraction is None:
            valid = whole_records(until, self.valid_lines - self.state["valid"])
        elif self.valid_fraction < 1:
            valid = int(np.searchsorted(records.hashes, np.uint64(int(self.valid_fraction * 2**64))))
        else:
            valid = len(until)
        in_valid = int(until[valid - 1]) if valid else 0
        self._append(0, records.take(slice(valid)))
        self.state["valid"] += in_valid
        self.state["distinct"] += int(until[-1]) if len(until) else 0
        self._deal(records.take(slice(valid, None)), until[valid:] - in_valid)

    def _deal(self, records, until):
        left = None if self.train_lines is None else self.train_lines - self.state["train"]
        count = whole_records(until, left)
        records = records.take(slice(count))
        for shard in range(self.shards):
            first = (shard - self.state["dealt"]) % self.shards
            self._append(1 + shard, records.take(slice(first, None, self.shards)))
        self.state["dealt"] += count
        self.state["train"] += int(until[count - 1]) if count else 0

    def _append(self, file, records):
        for piece in rec.pieces(records):
            write(self.fds[file], rec.gather(piece))

    def finish(self):
        """Make up for too few sentences, say so, and close the files."""
        there, valid, train = self.state["distinct"], self.valid_lines, self.train_lines
        asked = (valid if self.valid_fraction is None else 0) + (train or 0)
        if self.valid_fraction is None and train is not None and there < asked:
            self._hand_over((2 * there * valid + asked) // (2 * asked))
        if self.state["valid"] + self.state["train"] < asked or (train is None and not self.state["train"]):
            got = f"{self.state['valid']:,} to validation, {self.state['train']:,} to training"
            note(f"fewer than asked for: there are {there:,} distinct sentences: {got}")
        for fd in self.fds:
            if self.unit == "document" and os.fstat(fd).st_size:
                os.truncate(fd, os.fstat(fd).st_size - 1)  # blank lines stand between documents, not at the end
            os.close(fd)

    def _hand_over(self, valid):
        """Keep the first `valid` sentences in valid.txt and deal the others to the shards."""
        self.state["valid"] = size = 0
        with open(self.paths[0], "rb") as f:
            for block in line_blocks(iter(lambda: f.read(rec.PIECE), b""), rec.END[self.unit]):
                records = rec.find(block, self.unit, seed=0)
                until = np.cumsum(rec.sentences(records, self.unit))
                kept = whole_records(until, valid - self.state["valid"])
                in_kept = int(until[kept - 1]) if kept else 0
                self.state["valid"] += in_kept
                size += int(records.lengths[:kept].sum())
                self._deal(records.take(slice(kept, None)), until[kept:] - in_kept)
        os.truncate(self.fds[0], size)

    def counts(self, lines):
        """The phrases of the summary line."""
        valid, train, there = self.state["valid"], self.state["train"], self.state["distinct"]
        counts = {"duplicates dropped": lines - there, "valid": valid, "train": train}
        return counts | ({"not needed": there - valid - train} if there > valid + train else {})


def in_turns(units, load, output, jobs):
    """output.write(load(unit)) for all units in order; with `jobs` > 1, that many processes load ahead.

    Process p has units p, p + jobs, …. It loads one, waits for its turn, writes, and passes on where the output
    stands: a pipe to each process carries that state there and back, and its end tells of the other's death.
    """
    if jobs == 1:
        for unit in units:
            output.write(load(unit))
        return
    ends, processes = [], []
    try:
        for p in range(min(jobs, len(units))):
            ours, theirs = Pipe()
            if (process := os.fork()) == 0:
                for end in [*ends, ours]:
                    end.close()  # or no process would see the end of another
                _serve(theirs, units[p::jobs], load, output)
            theirs.close()
            ends.append(ours)
            processes.append(process)
        for i in range(len(units)):
            try:
                ends[i % jobs].send(output.state)
                answer = ends[i % jobs].recv()
            except (EOFError, ConnectionError):
                raise DataError("--jobs", "a process died; for want of memory? try less --memory") from None
            if isinstance(answer, OSError):
                raise answer
            output.state = answer
    finally:
        for end in ends:
            end.close()
        for process in processes:
            os.waitpid(process, 0)


def _serve(pipe, units, load, output):
    """A process of in_turns; does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C; we hear that the parent is gone
    try:
        for unit in units:
            records = load(unit)
            output.state = pipe.recv()
            output.write(records)
            pipe.send(output.state)
            del records
    except (EOFError, MemoryError):
        pass
    except OSError as e:
        pipe.recv()  # to be told in our turn
        pipe.send(e)
    except Exception:
        sys.excepthook(*sys.exc_info())  # a fault of ours: show where
    finally:
        os._exit(0)
