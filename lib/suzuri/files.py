"""Files that appear whole or not at all; checksums, sizes, free space."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from suzuri.errors import DataError

JSON_LIMIT = 64 << 20  # bytes; the largest that we read, a tokenizer.json of 250,000 pieces, has 17 MB


def sha256(path: str) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextmanager
def replacing(path: str, mode: str = "wb", **kwargs) -> Iterator[IO]:
    """Open PATH.part for writing; on success flush it to disk and rename it to PATH, on failure remove it."""
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


def read_json(path: str, **kwargs) -> Any:
    """The value in a JSON file; `kwargs` are json.loads()'s.

    Raises DataError for what is not JSON, and for more than JSON_LIMIT bytes (/dev/zero has no end).
    """
    with open(path, "rb") as f:
        data = f.read(JSON_LIMIT + 1)
    if len(data) > JSON_LIMIT:
        raise DataError(path, f"has more than {JSON_LIMIT >> 20} MB, so it is not what should be here")
    try:
        return json.loads(data, **kwargs)
    except (ValueError, RecursionError) as e:
        raise DataError(path, f"not JSON ({e})") from None


def read_settings(path: str) -> dict[str, Any]:
    """A JSON object that a person wrote. Raises DataError, also if a key is in it twice: one of them would be lost."""

    def once(pairs):
        found = {}
        for key, value in pairs:
            if key in found:
                raise DataError(path, f"{json.dumps(key, ensure_ascii=False)} is in it twice; remove one of them")
            found[key] = value
        return found

    settings = read_json(path, object_pairs_hook=once)
    if not isinstance(settings, dict):
        raise DataError(path, "not a JSON object of settings")
    return settings


def unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def disk_size(path: str) -> int:
    """Bytes of a file, or of all files below a folder, following symbolic links; 0 if it does not exist."""
    if os.path.isdir(path):
        return sum(disk_size(os.path.join(path, name)) for name in os.listdir(path))
    return os.path.getsize(path) if os.path.exists(path) else 0


def free_space(folder: str) -> int:
    """Bytes still available on the file system of `folder`, or of its nearest parent that exists."""
    folder = os.path.abspath(folder)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free
