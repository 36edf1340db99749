"""The shuffle of a corpus of many files, piece by piece, with the same bytes as that of all its text in one pipe.

`mapping` turns each file into sorted runs of its sentences or documents. `reduce_range` takes a range of hashes out of
the runs of all files, drops duplicates, and deals the rest. `join` puts the shares of all ranges end to end. A piece
does not depend on the others of its kind: they are made side by side, on any machine and in any order.

The train files get the records in turn. Which of them has its turn when a range begins depends on all ranges before it.
So each row of a range is dealt as if it were the first one, and `join`, which knows how many records came before, finds
whose share is whose. A limit on sentences, for validation or training, works the same way: the row that reaches it is
known only when all ranges are there. `join` cuts that row, and joins the validation rows before it. A fraction of the
hashes needs none of that.
"""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from typing import BinaryIO

import numpy as np

from suzuri.errors import DataError
from suzuri.files import open_named
from suzuri.manifest import read_manifest
from suzuri.processes import ordered_map
from suzuri.text import hashed_records as rec
from suzuri.text.filters import REASONS
from suzuri.text.record_file import RecordFile, RecordWriter, record_files
from suzuri.text.shuffle import RECORD, load, ranges_that_fit, read_slice
from suzuri.text.split_output import fewer, output_names
from suzuri.text.wiki import check_counts, in_phrases

INVALID = "invalid bytes replaced"
SPLIT, FILTERED = ("lines in", "sentences out", INVALID), ("sentences in", "kept", *REASONS)


def reduce_range(
    maps: str, out: BinaryIO, number: int, of: int, *, shards: int, valid_fraction: Fraction, memory: int
) -> Counter:
    """Write range `number` (from 0) of `of` ranges of hashes, out of all files of a folder, dealt, to `out`.

    Where validation is to get a number of sentences, `valid_fraction` is 0. Returns the counts of sentences.
    """
    files = record_files(maps)
    unit, seed = (files[0].metadata.get(key) for key in ("unit", "seed"))
    first, last = rec.BUCKETS * number // of, rec.BUCKETS * (number + 1) // of
    runs, need = [], np.zeros(last - first, np.int64)
    for file in files:
        file.check(unit=unit, seed=seed, slices=rec.BUCKETS)
        for until, records in np.array(file.cuts[:, :, first : last + 1]):
            runs.append((file.path, until))
            need += np.diff(until) + RECORD * np.diff(records)
    writer, counts, in_rows = RecordWriter(out, 1 + shards), Counter(), []
    for a, b in ranges_that_fit(need, memory):
        slices = [(path, int(until[a]), int(until[b])) for path, until in runs]
        records = load(read_slices(slices), sum(stop - start for _, start, stop in slices), unit, seed)
        valid = rec.number_below(records, valid_fraction)
        parts = [records.take(slice(valid)), *(records.take(slice(valid + i, None, shards)) for i in range(shards))]
        sizes = [(part.lengths.sum(), len(part.starts)) for part in parts]
        writer.append(parts, tuple(np.cumsum([(0, 0), *sizes], axis=0).T))
        sentences = rec.sentence_counts(records, unit)
        in_rows.append(int(sentences[valid:].sum()))
        counts.update(distinct=int(sentences.sum()), valid=int(sentences[:valid].sum()))
    settings = {"unit": unit, "seed": seed, "shards": shards, "valid_fraction": str(valid_fraction)}
    writer.close(number=number, of=of, maps=len(files), counts=counts, sentences=in_rows, **settings)
    return counts


def read_slices(slices: list[tuple[str, int, int]]) -> Iterator[bytes]:
    """The bytes of slices (path, start, stop) of files, one after the other."""
    for path, start, stop in slices:
        with open(path, "rb") as f:
            for block in read_slice(f.fileno(), start, stop):
                if not block:
                    raise DataError(path, "has become shorter; remove it and run make again")
                yield block


Slice = tuple[str, int, int]  # a file, and where in it the slice begins and ends
Part = tuple["Row", int, int]  # a row, and which of its records for training


class Row:
    """A row of reduce_range's result, of which the first part is for validation.

    Of the `count` records for training, in the order of their hashes, record i is the (i // shards)-th of share
    i % shards; they have `sentences` sentences. `until` says where in the file the parts of the row end, from its
    beginning on, and `before` how many of its records are before that.
    """

    def __init__(self, path: str, until: list[int], before: list[int], sentences: int, unit: str):
        self.path, self.until, self.before, self.sentences, self.unit = path, until, before, sentences, unit
        self.shards = len(until) - 2
        self.count = before[-1] - before[1]

    def load(self) -> rec.Records:
        """The records for training, as they are in the file: share by share."""
        text = b"".join(read_slices([(self.path, self.until[1], self.until[-1])]))
        return rec.find_records(text, self.unit, seed=0)

    def part(self, first: int, last: int) -> rec.Records:
        """The records for training from `first` to `last`, in the order of their hashes."""
        i = np.arange(first, last)
        return self.load().take(np.array(self.before)[1 + i % self.shards] - self.before[1] + i // self.shards)

    def number_until(self, first: int, amount: int) -> int:
        """Which record comes after those, from `first` on, that it takes to reach `amount` sentences."""
        if self.unit == "line":
            return min(self.count, first + amount)
        return first + rec.number_until(np.cumsum(self.sentence_counts(first, self.count)), amount)

    def sentence_counts(self, first: int, last: int) -> np.ndarray:
        """The numbers of sentences of the records from `first` to `last`."""
        if self.unit == "line":
            return np.ones(last - first, np.int64)
        return rec.sentence_counts(self.part(first, last), self.unit)

    def dealt(self, first: int, last: int, already: int) -> Iterator[tuple[int, Slice]]:
        """(train file, its slice) of the records from `first` to `last`, if `already` records have been dealt."""
        whole = (first, last) == (0, self.count)
        begins = None if whole else self.until[1] + np.append(0, np.cumsum(self.load().lengths))
        for share in range(self.shards):
            start, stop = self.until[1 + share : 3 + share]
            if not whole:
                before = self.before[1 + share] - self.before[1]
                start, stop = (int(begins[before + max(0, -((share - i) // self.shards))]) for i in (first, last))
            if start < stop:
                yield (already + share - first) % self.shards, (self.path, start, stop)


def cut_rows(rows: list[Row], valid_lines: int, train_lines: int | None) -> tuple[list[Part], list[Part]]:
    """(parts of rows for validation, parts for training), in their order: what SplitOutput takes of their records."""
    there, asked = sum(row.sentences for row in rows), valid_lines + (train_lines or 0)
    valid, train = first_parts([(row, 0, row.count) for row in rows], valid_lines)
    if train_lines is not None and there < asked:  # they are shared out in proportion
        valid, handed_over = first_parts(valid, (2 * there * valid_lines + asked) // (2 * asked))
        train += handed_over
    return valid, first_parts(train, train_lines)[0]


def first_parts(parts: list[Part], amount: int | None) -> tuple[list[Part], list[Part]]:
    """(parts of rows that reach `amount` sentences (None: all), the rest)."""
    taken, rest, left = [], [], math.inf if amount is None else amount
    for part in parts:
        row, first, last = part
        sentences = count_sentences(part)
        cut = last
        if sentences > left:
            cut = row.number_until(first, left) if left > 0 else first
            sentences = count_sentences((row, first, cut))
        left -= sentences
        taken += [(row, first, cut)] if first < cut else []
        rest += [(row, cut, last)] if cut < last else []
    return taken, rest


def count_sentences(part: Part) -> int:
    row, first, last = part
    return row.sentences if (first, last) == (0, row.count) else int(row.sentence_counts(first, last).sum())


def join(
    maps: str,
    ranges: str,
    folder: str,
    sources: list[str],
    *,
    valid_lines: int = 0,
    train_lines: int | None = None,
    max_lines: int | None = None,
    jobs: int,
    report: Callable[[str], None],
    **settings,
) -> tuple[dict[str, int], dict[str, dict[str, int]], dict[str, str]]:
    """Write FOLDER/valid.txt and FOLDER/train-NNN.txt out of all ranges; `settings` are those of reduce_range's result.

    Returns the counts of sentences, those of the tools that the pipe has before shuffle-split, as in a manifest, and
    {path: sha256} of the files and of the `sources`, from which the maps must have been made.
    """
    mapped, unit, shards = record_files(maps), settings["unit"], settings["shards"]
    known = check_sources(maps, mapped, sources)
    total, wiki = (sum((Counter(f.metadata.get(key)) for f in mapped), Counter()) for key in ("counts", "wiki"))
    if wiki:
        check_counts(wiki, sources[0])
    for file in mapped:
        file.check(max_lines=max_lines)
    if not total["sentences"]:
        raise DataError(sources[0] if len(sources) == 1 else os.path.dirname(sources[0]), "no text in it")
    files = sorted(record_files(ranges), key=lambda file: file.metadata.get("number", 0))
    if [file.metadata.get("number") for file in files] != list(range(of := files[0].metadata.get("of", 0))):
        raise DataError(ranges, f"does not hold each of {of} ranges once; remove it and run make again")
    rows, found, fraction = [], Counter(), settings["valid_fraction"]
    for file in files:
        # A machine may have seen an old listing of the folder of maps: those of NFS are up to a minute old.
        file.check(of=of, maps=len(mapped), **settings | {"valid_fraction": str(fraction or 0)})
        in_rows = file.metadata.get("sentences", ())
        if len(in_rows) != len(file.cuts):
            raise DataError(file.path, "was made by another version of suzuri; remove it and run make again")
        found.update(file.metadata["counts"])
        for (until, before), sentences in zip(file.cuts.tolist(), in_rows, strict=True):
            rows.append(Row(file.path, until, before, sentences, unit))
    if fraction is None:
        valid, train = cut_rows(rows, valid_lines, train_lines)
        found["valid"] = sum(map(count_sentences, valid))
    else:
        valid = [(row.path, *row.until[:2]) for row in rows]
        train = first_parts([(row, 0, row.count) for row in rows], train_lines)[0]
    found["train"] = sum(map(count_sentences, train))
    shares, dealt = [valid, *([] for _ in range(shards))], 0
    for row, first, last in train:
        for file, piece in row.dealt(first, last, dealt):
            shares[1 + file].append(piece)
        dealt += last - first
    paths = [os.path.join(folder, name) for name in output_names(shards)]
    digests = ordered_map(partial(write_share, unit), zip(paths, shares, strict=True), jobs)
    known |= dict(zip(paths, digests, strict=True))
    asked = (0 if fraction is not None else valid_lines) + (train_lines or 0)
    if found["valid"] + found["train"] < asked or (train_lines is None and not found["train"]):
        report(fewer(found["distinct"], found["valid"], found["train"]))
    counts = {"sentences in": total["sentences"], "duplicates dropped": total["sentences"] - found["distinct"]}
    counts |= {"valid": found["valid"], "train": found["train"]}
    if left := found["distinct"] - found["valid"] - found["train"]:
        counts["not needed"] = left
    stopped = any(file.metadata.get("stopped") for file in mapped)
    return counts, {} if stopped else upstream(mapped), known


def check_sources(maps: str, mapped: list[RecordFile], sources: list[str]) -> dict[str, str]:
    """{path: sha256} of the sources. Raises DataError unless the maps were made from all of them, and only these.

    The source of a dump is its folder: the files are those of its manifest, whose own sum is not known here.
    """
    known = {file.metadata.get("source"): file.metadata.get("source_sha256") for file in mapped}
    if len(sources) == 1 and os.path.isdir(sources[0]):
        found = {name: made["sha256"] for name, made in read_manifest(sources[0])["outputs"].items()}
        complete, sums = known == found, {}
    else:
        found = {os.path.basename(path): path for path in sources}
        complete, sums = known.keys() == found.keys(), {path: known.get(name) for name, path in found.items()}
    if not complete:
        why = f"was not made from all of the {len(found)} sources, and only these"
        raise DataError(maps, f"{why}; remove it, and run make again")
    return sums


def upstream(mapped: list[RecordFile]) -> dict[str, dict[str, int]]:
    """The counts of the tools that the pipe has before shuffle-split, as in a manifest."""
    total, wiki = (sum((Counter(f.metadata.get(key)) for f in mapped), Counter()) for key in ("counts", "wiki"))
    found = {"split-sentences": SPLIT, "filter-sentences": FILTERED}
    found = {tool: {what: total[what] for what in whats} for tool, whats in found.items()}
    if not total[INVALID]:
        del found["split-sentences"][INVALID]
    if wiki:  # in the pipe, an empty line is also between the articles of two files
        found["split-sentences"]["lines in"] += sum(f.metadata["wiki"].get("documents", 0) > 0 for f in mapped) - 1
        found = {"extract-wiki": in_phrases(wiki)} | found
    return {tool: {what.replace(" ", "_"): n for what, n in counts.items()} for tool, counts in found.items()}


def write_share(unit: str, share: tuple[str, list[Slice] | list[Part]]) -> str:
    """Write a file out of slices or parts of rows; returns its sha256."""
    path, pieces = share
    blocks = part_blocks(pieces) if pieces and isinstance(pieces[0][0], Row) else read_slices(pieces)
    digest = hashlib.sha256()
    with open_named(path, path) as f:
        for block in blocks if unit == "line" else without_last_byte(blocks):
            f.write(block)
            digest.update(block)
    return digest.hexdigest()


def part_blocks(parts: list[Part]) -> Iterator[np.ndarray]:
    for row, first, last in parts:
        for portion in rec.portions(row.part(first, last)):
            yield rec.gather(portion)


def without_last_byte(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """A blank line is between documents, not at the end."""
    held = b""
    for block in blocks:
        if len(block):
            yield held
            held = block
    yield held[:-1]
