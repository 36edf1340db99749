"""Standard input and output as blocks of bytes."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import BufferedWriter
from typing import BinaryIO

from suzuri.environment import keep_memory
from suzuri.files import NamedFile, named
from suzuri.progress import Progress, note

PIPE = 1 << 20  # bytes; the most that Linux allows without privileges
BLOCK = 1 << 18  # bytes of lines; a block and what is made of it should stay in the processor's cache


def widen(fd: int) -> None:
    """Let a pipe hold PIPE bytes, not 64 kB, so that the tools at its ends wait for one another less often.

    The pipe from xz to shuffled text takes 3.4 times as long as xz alone with 64 kB, and 2.3 times with 1 MB.
    """
    with suppress(OSError, AttributeError):  # not a pipe; too many of them; not on this system
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)


def open_stdin() -> None:
    """Prepare to read standard input, and say so when it is a terminal."""
    if os.isatty(0):
        note("reading from the terminal (Ctrl-D ends it; --help shows how to use it in a pipe)")
    widen(0)


def read_blocks(fd: int, size: int = 1 << 16) -> Iterator[bytes]:
    """Blocks of bytes from a file descriptor, as they come: from 1 to `size` bytes each."""
    while block := _read(fd, size):
        yield block


def _read(fd, size):
    with named("standard input" if fd == 0 else "pipe"):
        return os.read(fd, size)


def stdin_blocks() -> Iterator[bytes]:
    """Standard input as it comes: lines typed, or sent one by one, arrive at once."""
    open_stdin()
    yield from read_blocks(0)


def stdin_lines(progress: Progress) -> Iterator[bytes]:
    """Standard input as blocks of whole lines, about BLOCK bytes each, however the pipe cuts them."""
    open_stdin()
    keep_memory()
    block, rest = read_lines(b"")
    while block is not None:
        progress.update(len(block))
        yield block
        block, rest = read_lines(rest)


def read_lines(rest: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Continue to read standard input after `rest` -> (whole lines, about BLOCK bytes; the beginning of the next line).

    At the end of the input the beginning is None; after that the lines are None too.
    """
    if rest is None:
        return None, None
    parts, size, cut = [rest], len(rest), 0
    while size < BLOCK or not cut:
        size += len(block := _read(0, BLOCK))
        if not block:
            return b"".join(parts) or None, None
        parts.append(block)
        cut = block.rfind(b"\n") + 1
    rest = parts[-1][cut:]
    parts[-1] = parts[-1][:cut]
    return b"".join(parts), rest


def write_all(fd: int, block: bytes | memoryview) -> None:
    """Write all bytes of a block: on a nearly full disk os.write writes some of them, and only the next call fails."""
    view = memoryview(block)
    with named("standard output") if fd == 1 else nullcontext():
        while view:
            view = view[os.write(fd, view) :]


def line_blocks(blocks: Iterable[bytes], end: bytes = b"\n") -> Iterator[bytes]:
    """Regroup blocks of bytes so that each ends with `end`, except perhaps the last.

    >>> list(line_blocks([b"a\\nb", b"c\\n", b"d"]))
    [b'a\\n', b'bc\\n', b'd']
    """
    kept = []  # parts of a line whose end has not come; joined once: a line of 2 GB is not copied for each block
    for block in blocks:
        cut = block.rfind(end)
        if cut < 0:
            kept.append(block)
            if len(end) > 1:  # `end` may begin in one block and end in the next
                joined = b"".join(kept[-2:])
                if end in joined:
                    kept[-2:] = []
                    cut = joined.rfind(end) + len(end)
                    yield b"".join([*kept, joined[:cut]])
                    kept = [joined[cut:]] if cut < len(joined) else []
            continue
        cut += len(end)
        yield b"".join([*kept, block[:cut]])
        kept = [block[cut:]] if cut < len(block) else []
    if kept:
        yield b"".join(kept)


@contextmanager
def stdout() -> Iterator[BinaryIO]:
    """Standard output with a buffer of our own (sys.stdout.buffer has none under PYTHONUNBUFFERED=1).

    Flushed at the end, so that a full disk or a reader that is gone raises an error here.
    """
    widen(1)
    out = BufferedWriter(NamedFile(1, "standard output", closefd=False), 1 << 20)
    try:
        yield out
    except BaseException:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing more may go out, not even from the destructor
        raise
    else:
        out.flush()
