"""Files for validation and training, filled from one sequence of records."""

import os
from fractions import Fraction

import numpy as np

from suzuri.manifest import read_manifest
from suzuri.streams import line_blocks, write_all
from suzuri.text import hashed_records as rec


def output_names(shards: int) -> list[str]:
    return ["valid.txt", *map("train-{:03}.txt".format, range(shards))]


def train_files(folder: str) -> list[str]:
    """The paths of the train files of a finished text, in their order."""
    names = sorted(name for name in read_manifest(folder)["outputs"] if name.startswith("train-"))
    return [os.path.join(folder, name) for name in names]


def fewer(there: int, valid: int, train: int) -> str:
    """The message that there are fewer sentences than asked for."""
    got = f"{valid:,} for validation, {train:,} for training"
    return f"fewer than asked for: there are {there:,} distinct sentences: {got}"


class SplitOutput:
    """FOLDER/valid.txt and FOLDER/train-NNN.txt, filled from one sequence of records.

    The first `valid_lines` sentences are for validation, or those in the lowest `valid_fraction` of all hashes, which
    stay there when text is added. Then come `train_lines` (None: all) for training. They are dealt to the shards in
    turn, so that no total is needed beforehand. Amounts count sentences; a document is never cut: documents are taken
    until an amount is reached. Call `finish` at the end.
    """

    def __init__(
        self,
        folder: str,
        unit: str,
        *,
        valid_lines: int = 0,
        valid_fraction: float | Fraction | None = None,
        train_lines: int | None = None,
        shards: int = 1,
    ):
        self.unit, self.shards = unit, shards
        self.valid_lines, self.valid_fraction, self.train_lines = valid_lines, valid_fraction, train_lines
        self.paths = [os.path.join(folder, name) for name in output_names(shards)]
        self.fds = [os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND, 0o666) for path in self.paths]
        self.state = {"distinct": 0, "valid": 0, "train": 0, "dealt": 0}  # sentences; dealt: records in the shards

    def write(self, records: rec.Records) -> None:
        """Write the next records of the sequence."""
        until = np.cumsum(rec.sentence_counts(records, self.unit))
        if self.valid_fraction is None:
            valid = rec.number_until(until, self.valid_lines - self.state["valid"])
        else:
            valid = rec.number_below(records, self.valid_fraction)
        in_valid = int(until[valid - 1]) if valid else 0
        self._append(0, records.take(slice(valid)))
        self.state["valid"] += in_valid
        self.state["distinct"] += int(until[-1]) if len(until) else 0
        self._deal(records.take(slice(valid, None)), until[valid:] - in_valid)

    def _deal(self, records, until):
        left = None if self.train_lines is None else self.train_lines - self.state["train"]
        count = rec.number_until(until, left)
        records = records.take(slice(count))
        for shard in range(self.shards):
            first = (shard - self.state["dealt"]) % self.shards
            self._append(1 + shard, records.take(slice(first, None, self.shards)))
        self.state["dealt"] += count
        self.state["train"] += int(until[count - 1]) if count else 0

    def _append(self, file, records):
        for portion in rec.portions(records):
            write_all(self.fds[file], rec.gather(portion))

    def finish(self) -> str | None:
        """Close the files. With fewer sentences than asked for, share them out in proportion, and return a message."""
        shortfall = None
        there, valid, train = self.state["distinct"], self.valid_lines, self.train_lines
        asked = (valid if self.valid_fraction is None else 0) + (train or 0)
        if self.valid_fraction is None and train is not None and there < asked:
            self._hand_over((2 * there * valid + asked) // (2 * asked))
        if self.state["valid"] + self.state["train"] < asked or (train is None and not self.state["train"]):
            shortfall = fewer(there, self.state["valid"], self.state["train"])
        for fd in self.fds:
            if self.unit == "document" and os.fstat(fd).st_size:
                os.truncate(fd, os.fstat(fd).st_size - 1)  # a blank line is between documents, not at the end
            os.close(fd)
        return shortfall

    def _hand_over(self, valid):
        """Keep the first `valid` sentences in valid.txt and deal the others to the shards."""
        self.state["valid"] = size = 0
        with open(self.paths[0], "rb") as f:
            for block in line_blocks(iter(lambda: f.read(rec.PORTION), b""), rec.END[self.unit]):
                records = rec.find_records(block, self.unit, seed=0)
                until = np.cumsum(rec.sentence_counts(records, self.unit))
                kept = rec.number_until(until, valid - self.state["valid"])
                in_kept = int(until[kept - 1]) if kept else 0
                self.state["valid"] += in_kept
                size += int(records.lengths[:kept].sum())
                self._deal(records.take(slice(kept, None)), until[kept:] - in_kept)
        os.truncate(self.fds[0], size)

    def counts(self, lines: int) -> dict[str, int]:
        """The phrases of the summary line."""
        valid, train, there = self.state["valid"], self.state["train"], self.state["distinct"]
        counts = {"duplicates dropped": lines - there, "valid": valid, "train": train}
        return counts | ({"not needed": there - valid - train} if there > valid + train else {})
