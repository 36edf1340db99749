"""Checks of shards' files against the manifest of their folder and against what they were before."""

import fnmatch
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from suzuri.errors import DataError
from suzuri.files import sha256
from suzuri.manifest import MANIFEST, read_manifest

AGAIN = "remove it and pack the text again (make shards)"
Sums = dict[str, list]  # {path: [bytes, time of the last change in ns, sha256]}


def check_sums(paths: Sequence[str], known: Sums) -> Sums:
    """The sums of files. Raises DataError for a file that has changed since its sum in `known` was taken, and for one
    that its folder's manifest does not have with this sum.

    Reads each file once, as many at a time as there are cores; files with the size and date in `known`, not at all.
    """
    paths = [os.path.realpath(path) for path in paths]

    def found(path):
        status = os.stat(path)
        date = [status.st_size, status.st_mtime_ns]
        return [*date, known[path][2] if path in known and known[path][:2] == date else sha256(path)]

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        sums = dict(zip(paths, pool.map(found, paths), strict=True))
    for path, (*_, found_sum) in sums.items():
        if path in known and known[path][2] != found_sum:
            raise DataError(path, f"has changed since this run began; {AGAIN}")
    for folder in sorted({os.path.dirname(path) for path in paths}):
        if not os.path.exists(os.path.join(folder, MANIFEST)):
            continue  # packed by hand: there is nothing to compare with
        listed = read_manifest(folder)["outputs"]
        for path in (path for path in paths if os.path.dirname(path) == folder):
            name = os.path.basename(path)
            if name not in listed:
                raise DataError(path, f"is not in the {MANIFEST} of its folder; remove it, or run make shards")
            if listed[name]["sha256"] != sums[path][2]:
                raise DataError(path, f"damaged: its sha256 is not the one in the {MANIFEST} of its folder; {AGAIN}")
    return sums


def refuse_missing(folder: str, names: Sequence[str], pattern: str) -> None:
    """Raise DataError if the manifest of a folder, where there is one, names a file of this pattern besides `names`."""
    if os.path.exists(os.path.join(folder, MANIFEST)):
        missing = sorted(set(fnmatch.filter(read_manifest(folder)["outputs"], pattern)) - set(names))
        if missing:
            raise DataError(os.path.join(folder, missing[0]), "missing; pack the text again (make shards)")
