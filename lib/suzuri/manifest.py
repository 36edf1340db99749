"""Manifests: what a finished folder contains, what it was made from, and with which settings and counts."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from suzuri import __version__
from suzuri.environment import TOOL
from suzuri.errors import DataError
from suzuri.files import replacing, sha256

MANIFEST = "manifest.json"


@contextmanager
def replacing_folder(path: str) -> Iterator[str]:
    """Yield PATH.part/, a folder to work in, which is renamed to PATH/ at the end.

    A PATH that this tool made before is replaced; any other folder with files in it is refused.
    """
    path = os.path.normpath(path)
    refuse_others_folder(path)
    part = f"{path}.part"
    shutil.rmtree(part, ignore_errors=True)  # left by a killed run
    os.makedirs(part)
    try:
        yield part
        if os.path.isdir(path):
            shutil.rmtree(path)
        os.rename(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def refuse_others_folder(path: str) -> None:
    """Raise DataError unless PATH can be replaced: it is missing, empty, or holds only this tool's files."""
    if not os.path.exists(path):
        return
    if not os.path.isdir(path):
        raise DataError(path, "is not a folder")
    names = os.listdir(path)
    if not names:
        return
    if MANIFEST not in names:
        raise DataError(path, f"holds files but no {MANIFEST}, so {TOOL} did not make it; choose another folder")
    manifest = read_manifest(path)
    if manifest.get("tool") != TOOL:
        raise DataError(path, f"was made by {manifest.get('tool')}, not by {TOOL}; choose another folder")
    ours = {MANIFEST, *manifest["unlisted"], *(name.split("/")[0] for name in manifest["outputs"])}
    if strangers := sorted(set(names) - ours):
        raise DataError(path, f"holds {strangers[0]}, which {TOOL} did not make and would remove; move it away")


def write_manifest(
    folder: str,
    *,
    inputs: Iterable[str] = (),
    counts: dict | None = None,
    settings: dict | None = None,
    name: str | None = None,
    unlisted: Iterable[str] = (),
) -> None:
    """Write FOLDER/manifest.json, last: {format, tool, versions, settings, inputs, outputs, counts, unlisted}.

    `inputs` are paths, recorded relative to `name` (the folder's final path) with their sha256. Every file in the
    folder is an output, except .part files and those below a name in `unlisted` (event logs with times in them). The
    manifest has no times and no host names: equal work gives equal bytes.
    """
    name = os.path.abspath(name or folder)
    outputs = {}
    for directory, _, files in sorted(os.walk(folder)):
        for file in sorted(files):
            path = os.path.join(directory, file)
            name_in_folder = os.path.relpath(path, folder)
            if name_in_folder.split(os.sep)[0] not in (MANIFEST, *unlisted) and not file.endswith(".part"):
                outputs[name_in_folder] = {"bytes": os.path.getsize(path), "sha256": sha256(path)}
    manifest = {
        "format": "suzuri-manifest/1",
        "tool": TOOL,
        "versions": {"suzuri": __version__},
        "settings": settings or {},
        "inputs": {os.path.relpath(os.path.abspath(p), name): recorded_sha256(p) for p in inputs},
        "outputs": outputs,
        "counts": counts or {},
        "unlisted": sorted(unlisted),
    }
    with replacing(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as f:
        json.dump(manifest, f, ensure_ascii=False, indent=2)
        f.write("\n")


def recorded_sha256(path: str) -> str:
    """The sha256 of a file (from fetch-url's record beside it, if that still fits) or of a folder's manifest."""
    if os.path.isdir(path):
        return sha256(os.path.join(path, MANIFEST))
    try:
        with open(f"{path}.json", encoding="utf-8") as f:
            record = json.load(f)
        if record["size"] == os.path.getsize(path) and os.path.getmtime(f"{path}.json") >= os.path.getmtime(path):
            return record["sha256"]
    except (FileNotFoundError, KeyError, ValueError, TypeError):
        pass
    return sha256(path)


def read_manifest(folder: str) -> dict:
    path = os.path.join(folder, MANIFEST)
    try:
        with open(path, encoding="utf-8") as f:
            manifest = json.load(f)
        if manifest["format"] != "suzuri-manifest/1":
            raise DataError(path, f"unknown format {manifest['format']!r}")
        return manifest
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(path, f"not a manifest of suzuri ({e})") from None


GONE = "input is gone"


def verify(folder: str) -> Iterator[tuple[str, str | None]]:
    """Yield (path, problem or None) for every file that a folder's manifest names, and for others in the folder."""
    manifest = read_manifest(folder)
    for name, recorded in manifest["outputs"].items():
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            yield path, "missing"
        elif os.path.getsize(path) != recorded["bytes"]:
            yield path, f"{os.path.getsize(path)} bytes, recorded {recorded['bytes']}"
        else:
            yield path, None if sha256(path) == recorded["sha256"] else "sha256 differs from the manifest's"
    for name, recorded in manifest["inputs"].items():
        path = os.path.normpath(os.path.join(folder, name))
        if not os.path.exists(path):
            yield path, GONE
        else:
            same = (recorded_sha256(path) if os.path.isdir(path) else sha256(path)) == recorded
            yield path, None if same else f"has changed since {folder} was made from it"
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and name not in manifest["outputs"] and name not in (MANIFEST, *manifest["unlisted"]):
            yield path, "not in the manifest"


def folders_with_manifest(folder: str) -> Iterator[str]:
    """FOLDER itself or the folders below it, if they have a manifest.json; unfinished .part folders are left out."""
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(d for d in subfolders if not d.endswith(".part"))
        if MANIFEST in names:
            subfolders.clear()
            yield directory


def read_counts(paths: Iterable[str], report: Callable[[str], None] | None = None) -> dict[str, dict]:
    """Merge the JSON objects that `--stats FILE` wrote: {"split-sentences": {"lines_in": 12, …}, …}.

    A missing file is only reported: finished work is not lost because of it.
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
            raise DataError(path, f"not a JSON file of counts ({e})") from None
    return counts
