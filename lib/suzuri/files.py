"""Files that appear whole or not at all; checksums, sizes, free space."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


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
