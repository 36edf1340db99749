"""Files that appear whole or not at all, sums and sizes."""

import hashlib
import os
import shutil
from contextlib import contextmanager


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


def disk_size(path):
    """Bytes of a file, or of all files below a folder; symbolic links followed; 0 for what is not there."""
    if os.path.isdir(path):
        return sum(disk_size(os.path.join(path, name)) for name in os.listdir(path))
    return os.path.getsize(path) if os.path.exists(path) else 0


def free_space(folder):
    """Bytes free for us on the file system of `folder` or of its nearest existing parent."""
    folder = os.path.abspath(folder)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free
