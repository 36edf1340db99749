"""Manifests: what a finished folder contains, what it was made from, and with which settings and counts."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from suzuri import __version__
from suzuri.environment import TOOL
from suzuri.errors import DataError
from suzuri.files import replacing, sha256, share

MANIFEST = "manifest.json"
# Checksums of the manifests below a folder that has this file (make's DATA), and of files that no manifest lists
# because they hold times: `sha256sum -c` reads it.
SUMS = ".manifests.sha256"


def write_manifest(
    folder: str,
    *,
    files: Iterable[str] | None = None,
    inputs: Iterable[str] = (),
    counts: dict | None = None,
    settings: dict | None = None,
    name: str | None = None,
    unlisted: Iterable[str] = (),
    known: Mapping[str, str] | None = None,
) -> None:
    """Write FOLDER/manifest.json, last: {format, tool, versions, settings, inputs, outputs, counts, unlisted}.

    `inputs` are files and folders (see recorded_paths), recorded relative to `name` (the folder's final path) with
    their sha256. Outputs are `files`, by default every file in the folder, except .part files and those below a name in
    `unlisted` (event logs with times in them). `known` has the sha256 of files that need not be read again, by their
    paths. The manifest has no times and no host names: equal work gives equal bytes.
    """
    known = known or {}
    name = os.path.abspath(name or folder)
    refuse_others_manifest(folder)
    outputs = {}
    for file in sorted(files_below(folder) if files is None else files, key=os.path.split):
        if file.split(os.sep)[0] not in (MANIFEST, *unlisted) and not file.endswith(".part"):
            path = os.path.join(folder, file)
            outputs[file] = {"bytes": os.path.getsize(path), "sha256": known.get(path) or sha256(path)}
            if name != os.path.abspath(folder) and os.stat(path).st_nlink == 1:  # another name of it is not ours
                share(path)
    manifest = {
        "format": "suzuri-manifest/1",
        "tool": TOOL,
        "versions": {"suzuri": __version__},
        "settings": settings or {},
        "inputs": {
            os.path.relpath(os.path.abspath(path), name): known.get(path) or recorded_sha256(path)
            for path in recorded_paths(inputs)
        },
        "outputs": outputs,
        "counts": counts or {},
        "unlisted": sorted(unlisted),
    }
    text = (json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode()
    with replacing(os.path.join(folder, MANIFEST)) as f:
        f.write(text)
        if name == os.path.abspath(folder):
            record_sums(folder, text)


def refuse_others_manifest(folder: str) -> None:
    """Raise DataError if FOLDER has another program's manifest.json, which would be replaced."""
    path = os.path.join(folder, MANIFEST)
    with suppress(FileNotFoundError, ValueError):
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
        if not (isinstance(found, dict) and str(found.get("format")).startswith("suzuri-")):
            raise DataError(path, "is not a manifest of suzuri, so it is not replaced; move it away")


def record_sums(folder: str, manifest: bytes) -> None:
    """Note the checksums of FOLDER's manifest and unlisted files in SUMS, if one is in the two folders above."""
    folder = os.path.abspath(folder)
    above = os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))
    paths = [os.path.join(root, SUMS) for root in above]
    path = next((p for p in paths if os.path.isfile(p) and not os.path.islink(p)), None)
    if path is None:
        return
    name = os.path.relpath(folder, os.path.dirname(path))
    sums = {MANIFEST: hashlib.sha256(manifest).hexdigest()}
    for unlisted in json.loads(manifest)["unlisted"]:
        sums |= {found: sha256(os.path.join(folder, found)) for found in files_below(folder, unlisted)}
    with replacing(path, "w", wait=60, encoding="utf-8") as f:
        others = [line for line in _read_sums(path) if not line[66:].startswith(f"{name}/")]
        f.writelines(sorted([*others, *(f"{digest}  {name}/{found}\n" for found, digest in sums.items())]))


def _read_sums(path):
    """The lines `DIGEST  NAME` of a SUMS file; the name begins at 66."""
    with open(path, encoding="utf-8", errors="backslashreplace") as f:
        return f.readlines()


def files_below(folder: str, name: str = "") -> Iterator[str]:
    """The files in FOLDER/NAME, or that file itself: names relative to FOLDER, sorted. Links are files."""
    path = os.path.join(folder, name)
    if os.path.isdir(path) and not (name and os.path.islink(path)):
        for entry in sorted(os.listdir(path)):
            yield from files_below(folder, os.path.join(name, entry))
    elif os.path.lexists(path):
        yield name


def strangers(folder: str, manifest: dict) -> Iterator[str]:
    """The files in FOLDER, relative to it, that are neither in its manifest nor below an unlisted name."""
    for name in files_below(folder):
        if name not in (MANIFEST, *manifest["outputs"]) and name.split(os.sep)[0] not in manifest["unlisted"]:
            yield name


def recorded_paths(inputs: Iterable[str]) -> list[str]:
    """The paths that a manifest records for input files and folders: for a folder without a manifest (a model that
    another program made) its files.

    Raises DataError for a folder whose manifest is not suzuri's.
    """
    paths = []
    for path in inputs:
        if not os.path.isdir(path):
            paths.append(path)
        elif os.path.lexists(os.path.join(path, MANIFEST)):
            read_manifest(path)
            paths.append(path)
        else:
            paths += [os.path.join(path, name) for name in files_below(path)]
    return paths


def check_inputs(inputs: Iterable[str]) -> None:
    """Raise what write_manifest would raise at the end of the work: inputs that are missing or cannot be recorded."""
    for path in recorded_paths(inputs):
        os.stat(path)
        try:
            path.encode()
        except UnicodeEncodeError:
            raise DataError(path, "its name is not UTF-8, and so cannot be in a manifest; rename it") from None


def recorded_sha256(path: str) -> str:
    """The sha256 of a file (from fetch-url's record beside it, if that still fits) or of a folder's manifest."""
    if os.path.isdir(path):
        read_manifest(path)
        return sha256(os.path.join(path, MANIFEST))
    record = download_record(path)
    return record["sha256"] if record else sha256(path)


def download_record(path: str) -> dict | None:
    """fetch-url's record of a file, PATH.json: {url, size, sha256, …}; None unless it is of the file as it is now."""
    path = os.path.realpath(path)
    try:
        with open(f"{path}.json", encoding="utf-8") as f:
            record = json.load(f)
        fits = record["size"] == os.path.getsize(path) and os.path.getmtime(f"{path}.json") >= os.path.getmtime(path)
        return record if fits and record["sha256"] and record["url"] else None
    except (FileNotFoundError, KeyError, ValueError, TypeError):
        return None


def read_manifest(folder: str) -> dict:
    path = os.path.join(folder, MANIFEST)
    try:
        with open(path, encoding="utf-8") as f:
            manifest = json.load(f)
        if manifest["format"] != "suzuri-manifest/1":
            raise ValueError(f"unknown format {manifest['format']!r}")
        for key, kind in {"outputs": dict, "inputs": dict, "settings": dict, "counts": dict, "unlisted": list}.items():
            if not isinstance(manifest[key], kind):
                raise ValueError(f"its {key} are not a {kind.__name__}")
        for output in manifest["outputs"].values():
            output["bytes"], output["sha256"]
        return manifest
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        what = f"not a manifest of suzuri ({f'no {e}' if isinstance(e, KeyError) else e})"
        raise DataError(path, f"{what}; if suzuri made the folder, remove it and make it again") from None


GONE = "input is gone"


def verify(folder: str) -> Iterator[tuple[str, str | None]]:
    """Yield (path, problem or None) for every file that a folder's manifest names, and for others in the folder."""
    try:
        manifest = read_manifest(folder)
    except (DataError, OSError) as e:
        yield os.path.join(folder, MANIFEST), e.args[1]
        return
    for name, recorded in manifest["outputs"].items():
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.path.getsize(path) != recorded["bytes"]:
            yield path, f"{os.path.getsize(path)} bytes, recorded {recorded['bytes']}"
        else:
            yield path, _difference(path, recorded["sha256"], "the manifest's")
    for name, recorded in manifest["inputs"].items():
        path = os.path.normpath(os.path.join(folder, name))
        file = os.path.join(path, MANIFEST) if os.path.isdir(path) else path
        now = sha256(file) if os.path.exists(file) else None
        yield path, None if now == recorded else f"has changed since {folder} was made from it" if now else GONE
        if now == recorded and file == path and recorded_sha256(path) != now:
            yield f"{path}.json", f"does not have the sha256 of {os.path.basename(path)}"
    for name in strangers(folder, manifest):
        yield os.path.join(folder, name), "not in the manifest"


def verify_sums(root: str) -> Iterator[tuple[str, str | None]]:
    """Yield (path, problem or None) for every file in ROOT's SUMS, and for files that should be there, too."""
    path = os.path.join(root, SUMS)
    sums = {}
    for number, line in enumerate(_read_sums(path) if os.path.exists(path) else (), 1):
        if re.fullmatch("[0-9a-f]{64}  .+\n", line):
            sums[line[66:-1]] = line[:64]
        else:
            yield path, f"line {number} is not a checksum"
    for name, digest in sums.items():
        found, folder = os.path.join(root, name), os.path.dirname(name)
        if os.path.basename(name) == MANIFEST and not os.path.exists(os.path.join(root, folder)):
            yield os.path.join(root, folder), GONE if name.startswith("raw/") else "missing, the whole folder"
        elif os.path.exists(os.path.join(root, folder)):
            yield found, _difference(found, digest, f"that in {SUMS}")
        if os.path.basename(name) == MANIFEST and os.path.exists(found):
            with suppress(DataError):  # which `verify` reports
                for unlisted in read_manifest(os.path.dirname(found))["unlisted"]:
                    for other in files_below(os.path.dirname(found), unlisted):
                        if f"{folder}/{other}" not in sums:
                            yield os.path.join(root, folder, other), f"not in {SUMS}"


def _difference(path, digest, whose):
    if not os.path.exists(path):
        return "missing"
    if not os.path.isfile(path):
        return "is not a file"
    return None if sha256(path) == digest else f"sha256 differs from {whose}"


def folders_with_manifest(folder: str) -> Iterator[str]:
    """FOLDER itself or the folders below it, and those that links lead to, if they have a manifest.json.

    Unfinished .part folders are left out.
    """
    seen = set()  # of folders, because links may lead in a circle
    for directory, subfolders, names in os.walk(folder, followlinks=True):
        subfolders[:] = sorted(d for d in subfolders if not d.endswith(".part"))
        if (here := os.path.realpath(directory)) in seen:
            subfolders.clear()
            continue
        seen.add(here)
        if MANIFEST in names:
            subfolders.clear()
            yield directory


def read_counts(paths: Iterable[str], report: Callable[[str], None] | None = None) -> dict[str, dict]:
    """Merge the JSON objects that `--stats FILE` wrote: {"split-sentences": {"lines_in": 12, …}, …}.

    With `report` a file that is missing or damaged is only reported: finished work is not lost because of it.
    """
    counts = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as f:
                counts |= json.load(f)
        except FileNotFoundError:
            if report:
                report(f"{path}: not found; the manifest will not have its counts")
        except (ValueError, TypeError) as e:
            if not report:
                raise DataError(path, f"not a JSON file of counts ({e})") from None
            report(f"{path}: not a JSON file of counts ({e}); the manifest will not have them")
    return counts
