"""Files that appear whole or not at all, and the manifest that closes a folder."""

import hashlib
import json
import os
import shutil
from contextlib import contextmanager

from suzuri import __version__
from suzuri.cli import TOOL, DataError

MANIFEST = "manifest.json"


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextmanager
def replacing(path, mode="wb", **kwargs):
    """Open PATH.part for writing; on success flush it to disk and rename it to PATH, else remove it."""
    part = f"{path}.part"
    try:
        with open(part, mode, **kwargs) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    except BaseException:
        unlink_quietly(part)
        raise


def unlink_quietly(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


@contextmanager
def replacing_folder(path):
    """Work in PATH.part/, renamed to PATH/ at the end; a folder of ours that stands there is replaced.

    A folder with files but no manifest.json is somebody else's: refused.
    """
    path = os.path.normpath(path)
    if os.path.isdir(path) and os.listdir(path) and not os.path.exists(os.path.join(path, MANIFEST)):
        raise DataError(path, f"holds files but no {MANIFEST}, so it was not made by {TOOL}; give another folder")
    if os.path.exists(path) and not os.path.isdir(path):
        raise DataError(path, "is not a folder")
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


def write_manifest(folder, *, inputs=(), counts=None, settings=None, name=None):
    """Write FOLDER/manifest.json, last: {format, tool, versions, settings, inputs, outputs, counts}.

    `inputs` are paths, recorded relative to `name` (the folder's final path) with their sha256; every
    other file in the folder is an output. No times, no host names: equal work gives equal bytes.
    """
    name = os.path.abspath(name or folder)
    outputs = {}
    for directory, _, files in sorted(os.walk(folder)):
        for file in sorted(files):
            path = os.path.join(directory, file)
            if os.path.relpath(path, folder) != MANIFEST and not file.endswith(".part"):
                outputs[os.path.relpath(path, folder)] = {"bytes": os.path.getsize(path), "sha256": sha256(path)}
    manifest = {
        "format": "suzuri-manifest/1",
        "tool": TOOL,
        "versions": {"suzuri": __version__},
        "settings": settings or {},
        "inputs": {os.path.relpath(os.path.abspath(p), name): recorded_sha256(p) for p in inputs},
        "outputs": outputs,
        "counts": counts or {},
    }
    with replacing(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as f:
        json.dump(manifest, f, ensure_ascii=False, indent=2)
        f.write("\n")


def recorded_sha256(path):
    """sha256 of a file, taken from the record that fetch-url left beside it when that still fits its size.

    A folder is known by its manifest.
    """
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


def read_manifest(folder):
    path = os.path.join(folder, MANIFEST)
    try:
        with open(path, encoding="utf-8") as f:
            manifest = json.load(f)
        if manifest["format"] != "suzuri-manifest/1":
            raise DataError(path, f"unknown format {manifest['format']!r}")
        return manifest
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(path, f"not a manifest of suzuri ({e})") from None
