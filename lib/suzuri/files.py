"""Files that appear whole or not at all; locks, errors with a file's name, checksums, sizes, free space."""

import fcntl
import hashlib
import io
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from suzuri.errors import DataError

UMASK = os.umask(0o077)  # can be read only by setting it
os.umask(UMASK)
WAIT = 1.0  # seconds to wait for a lock: so long may the last processes of a killed run still hold it


def sha256(path: str) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextmanager
def named(name: str) -> Iterator[None]:
    """Give an OSError in the block the name of its file, unless it has one: those of open descriptors have none."""
    try:
        yield
    except OSError as e:
        if e.filename is None:
            e.filename = name
        raise


class NamedFile(io.FileIO):
    """An unbuffered file for writing, whose errors have its name. `file` is a path or a descriptor."""

    def __init__(self, file: str | int, name: str, closefd: bool = True):
        super().__init__(file, "w", closefd)
        self.name = name

    def write(self, data) -> int:
        with named(self.name):
            return super().write(data)


def open_named(file: str | int, name: str, mode: str = "wb", **kwargs) -> IO:
    """Like open(file, mode, …) for writing, with a NamedFile behind it."""
    buffered = io.BufferedWriter(NamedFile(file, name))
    return buffered if "b" in mode else io.TextIOWrapper(buffered, **kwargs)


@contextmanager
def replacing(path: str, mode: str = "wb", wait: float = WAIT, **kwargs) -> Iterator[IO]:
    """Open PATH for writing; a regular file appears whole or not at all, with the mode that the umask gives.

    It is written as .NAME.part beside PATH, which is locked, flushed to disk and renamed on success, and removed on
    failure. A link stays, and its target is replaced. What is there and is not a regular file (a device, a FIFO,
    /dev/stdout) is opened and written. Raises DataError if PATH is a folder, or if another run still writes it after
    `wait` seconds.
    """
    if os.path.isdir(path):
        raise DataError(path, "is a folder; give the name of a file, or move it away")
    if not is_replaced(path):
        fd = _descriptor(path)
        with open_named(path if fd is None else os.dup(fd), path, mode, **kwargs) as f:
            yield f
        return
    target = os.path.realpath(path)
    part = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.part")
    fd = lock(part, os.O_RDWR | os.O_CREAT, wait)
    try:
        os.ftruncate(fd, 0)
        with open_named(fd, path, mode, **kwargs) as f:
            yield f
            f.flush()
            with named(path):
                os.fsync(fd)
            os.replace(part, target)
    except BaseException:
        unlink_quietly(part)
        raise


def is_replaced(path: str) -> bool:
    """Whether `replacing` gives PATH a new file (it is a regular one, or not there yet), or opens what is there."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        regular = True
    return regular and _descriptor(path) is None


def _descriptor(path):
    """N for a path that leads to /dev/fd/N of this process, like /dev/stdout: it is not opened again, because that
    would empty a file that standard output has been written to."""
    while os.path.islink(path):
        folder = os.path.realpath(os.path.dirname(path))
        if folder == f"/proc/{os.getpid()}/fd":
            return int(os.path.basename(path))
        path = os.path.join(folder, os.readlink(path))
    return None


def check_output(path: str) -> str:
    """PATH, which will be written at the end; raises DataError if that cannot be: now, and not after hours of work.

    A FIFO is opened here already, so that its reader sees its end even if the run fails.
    """
    if os.path.isdir(path):
        raise DataError(path, "is a folder; give the name of a file, or move it away")
    if not is_replaced(path):
        if stat.S_ISFIFO(os.stat(path).st_mode) and _descriptor(path) is None:
            os.open(path, os.O_WRONLY)
        return path
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise DataError(path, f"cannot be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise DataError(path, f"cannot be written: no permission to write in {folder}")
    return path


def scratch_folder(path: str) -> str | None:
    """The folder for temporary files on the way to PATH: its own; None, the system's, for a device or a FIFO."""
    return os.path.dirname(os.path.realpath(path)) if is_replaced(path) else None


def lock(path: str, flags: int, wait: float = WAIT) -> int:
    """Open PATH (with os.open's flags) and lock it; returns the descriptor, which holds the lock until it is closed.

    A killed run leaves no lock. Raises DataError if another run holds the lock after `wait` seconds.
    """
    deadline = time.monotonic() + wait
    while True:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(fd, path):  # if not, its writer has just given it its final name
                return fd
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                raise DataError(path, "another run is writing it; wait for it, or end it") from None
            time.sleep(0.02)
        except OSError:  # a file system without locks
            return fd
        os.close(fd)


def is_at(fd: int, path: str) -> bool:
    """Whether PATH is still the name of the open file `fd`."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def share(path: str) -> None:
    """Give a file the mode that the umask asks for; other libraries make theirs for their owner alone, or for all."""
    os.chmod(path, 0o666 & ~UMASK)


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
