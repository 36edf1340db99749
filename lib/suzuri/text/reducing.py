"""The shuffle of a corpus of many files, piece by piece, with the same bytes as that of all its text in one pipe.

`mapping` turns each file into sorted runs of its sentences or documents. `reduce_range` takes a range of hashes out of
the runs of all files, drops duplicates, and deals the rest. `join` puts the shares of all ranges end to end. A piece
does not depend on the others of its kind: they are made side by side, on any machine and in any order.

The train files get the records in turn. Which of them has its turn when a range begins depends on all ranges before it.
So each row of a range is dealt as if it were the first one, and `join`, which knows how many records came before, finds
whose share is whose.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import BinaryIO

import numpy as np

from suzuri.errors import DataError
from suzuri.files import open_named
from suzuri.processes import ordered_map
from suzuri.text import hashed_records as rec
from suzuri.text.filters import REASONS
from suzuri.text.record_file import RecordWriter, record_files
from suzuri.text.shuffle import RECORD, load, ranges_that_fit, read_slice
from suzuri.text.split_output import fewer, output_names

INVALID = "invalid bytes replaced"
SPLIT, FILTERED = ("lines in", "sentences out", INVALID), ("sentences in", "kept", *REASONS)


def reduce_range(
    maps: str, out: BinaryIO, number: int, of: int, *, shards: int, valid_fraction: Fraction, memory: int
) -> Counter:
    """Write range `number` (from 0) of `of` ranges of hashes, out of all files of a folder, dealt, to `out`.

    Returns the counts of sentences.
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
    writer, counts = RecordWriter(out, 1 + shards), Counter()
    for a, b in ranges_that_fit(need, memory):
        slices = [(path, int(until[a]), int(until[b])) for path, until in runs]
        records = load(read_slices(slices), sum(stop - start for _, start, stop in slices), unit, seed)
        valid = rec.number_below(records, valid_fraction)
        parts = [records.take(slice(valid)), *(records.take(slice(valid + i, None, shards)) for i in range(shards))]
        sizes = [(part.lengths.sum(), len(part.starts)) for part in parts]
        writer.append(parts, tuple(np.cumsum([(0, 0), *sizes], axis=0).T))
        sentences = rec.sentence_counts(records, unit)
        counts.update(distinct=int(sentences.sum()), valid=int(sentences[:valid].sum()))
    settings = {"unit": unit, "seed": seed, "shards": shards, "valid_fraction": str(valid_fraction)}
    writer.close(number=number, of=of, maps=len(files), counts=counts, **settings)
    return counts


def read_slices(slices: list[tuple[str, int, int]]) -> Iterator[bytes]:
    """The bytes of slices (path, start, stop) of files, one after the other."""
    for path, start, stop in slices:
        with open(path, "rb") as f:
            for block in read_slice(f.fileno(), start, stop):
                if not block:
                    raise DataError(path, "has become shorter; remove it and run make again")
                yield block


def join(
    maps: str, ranges: str, folder: str, sources: list[str], *, jobs: int, report: Callable[[str], None], **settings
) -> tuple[dict[str, int], dict[str, dict[str, int]], dict[str, str]]:
    """Write FOLDER/valid.txt and FOLDER/train-NNN.txt out of all ranges; `settings` are those of reduce_range's result.

    Returns the counts of sentences, those of the tools that the pipe has before shuffle-split, as in a manifest, and
    {path: sha256} of the files and of the `sources`, from which the maps must have been made.
    """
    mapped, unit, shards = record_files(maps), settings["unit"], settings["shards"]
    known = {file.metadata.get("source"): file.metadata.get("source_sha256") for file in mapped}
    if known.keys() != {os.path.basename(path) for path in sources}:
        raise DataError(maps, f"was not made from all of the {len(sources)} sources, and only these; run make again")
    total = sum((Counter(file.metadata["counts"]) for file in mapped), Counter())
    if not total["sentences"]:
        raise DataError(os.path.dirname(sources[0]), "no text in it")
    files = sorted(record_files(ranges), key=lambda file: file.metadata.get("number", 0))
    if [file.metadata.get("number") for file in files] != list(range(of := files[0].metadata.get("of", 0))):
        raise DataError(ranges, f"does not hold each of {of} ranges once; remove it and run make again")
    shares, dealt, found = [[] for _ in range(1 + shards)], 0, Counter()
    for file in files:
        # A machine may have seen an old listing of the folder of maps: those of NFS are up to a minute old.
        file.check(of=of, maps=len(mapped), **settings | {"valid_fraction": str(settings["valid_fraction"])})
        found.update(file.metadata["counts"])
        for until, records in file.cuts.tolist():
            for i, (start, stop) in enumerate(pairwise(until)):
                if start < stop:
                    shares[1 + (dealt + i - 1) % shards if i else 0].append((file.path, start, stop))
            dealt += records[-1] - records[1]
    paths = [os.path.join(folder, name) for name in output_names(shards)]
    for share in filter(None, shares if unit == "document" else ()):
        path, start, stop = share[-1]
        share[-1] = path, start, stop - 1  # a blank line is between documents, not at the end
    digests = ordered_map(write_share, zip(paths, shares, strict=True), jobs)
    known = {path: known[os.path.basename(path)] for path in sources} | dict(zip(paths, digests, strict=True))
    train = found["distinct"] - found["valid"]
    if not train:
        report(fewer(found["distinct"], found["valid"], train))
    tools = {"split-sentences": SPLIT, "filter-sentences": FILTERED}
    if not total[INVALID]:
        tools["split-sentences"] = SPLIT[:-1]
    upstream = {tool: {what.replace(" ", "_"): total[what] for what in whats} for tool, whats in tools.items()}
    counts = {"sentences in": total["sentences"], "duplicates dropped": total["sentences"] - found["distinct"]}
    return counts | {"valid": found["valid"], "train": train}, upstream, known


def write_share(share: tuple[str, list[tuple[str, int, int]]]) -> str:
    """Write a file out of slices; returns its sha256."""
    path, slices = share
    digest = hashlib.sha256()
    with open_named(path, path) as f:
        for block in read_slices(slices):
            f.write(block)
            digest.update(block)
    return digest.hexdigest()
