"""Folders of files under raw/ that are each a corpus of your own."""

import os
import re
from collections.abc import Iterator

from suzuri.errors import DataError
from suzuri.manifest import MANIFEST
from suzuri.sources.archives import data_files

PACKED = (".bz2", ".gz", ".xz", ".zst")
KINDS = (".txt", ".jsonl", ".parquet")
OURS = ("jawiki", "sample", "tasks")  # what make itself puts under raw/
# What make, or the shell of its recipes, would take for something else: the blank and all of ASCII but letters, digits
# and + - . _ (configs/make/corpora.mk).
UNFIT = re.compile(r"[\x00-*,/:-@\[-^`{-\x7f]|[\ud800-\udfff]")


def kind(name: str) -> str | None:
    """Which of KINDS a file is, by its name: "a.jsonl.gz" and "a.ndjson" -> ".jsonl"; None for other files."""
    stem, end = os.path.splitext(name.lower())
    found = os.path.splitext(stem)[1] if end in PACKED else end
    found = ".jsonl" if found == ".ndjson" else found
    return found if found in KINDS and (found != ".parquet" or end == found) else None


def own_folders(raw: str) -> Iterator[tuple[str, list[str] | DataError]]:
    """(name, paths of its files, sorted, or what is wrong) of each folder under `raw` that has a file of KINDS."""
    for folder in sorted(os.scandir(raw), key=lambda entry: entry.name):
        if folder.name.startswith(".") or folder.name.endswith(".part") or folder.name in OURS or not folder.is_dir():
            continue
        try:
            if any(map(kind, os.listdir(folder.path))):
                yield folder.name, checked_files(folder.path)
        except DataError as e:
            yield folder.name, e
        except OSError as e:
            yield folder.name, DataError(folder.path, e.strerror)


def checked_files(folder: str) -> list[str]:
    """The data files of a folder. Raises DataError if one of them, or a folder in it, cannot be part of a corpus."""
    files = data_files(folder)
    for path in (folder, *files):
        if UNFIT.search(os.path.basename(path)):
            raise DataError(path, "not read; rename it with letters, digits and . _ + - only")
    manifest = os.path.join(folder, MANIFEST)  # not a data file; with it, a folder would be one input
    for path in [*files, manifest] if os.path.exists(manifest) else files:
        if not kind(path):
            what = "NAME.txt or NAME.jsonl, also with .xz, .gz, .bz2 or .zst, or NAME.parquet"
            raise DataError(path, f"a file of a corpus is {what}; rename it or move it away")
    for entry in os.scandir(folder):
        if entry.is_dir() and not entry.name.startswith("."):
            raise DataError(entry.path, "is a folder in a folder of files; move it away, or its files up")
    return files
