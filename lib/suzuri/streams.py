"""Standard input and output as blocks of bytes."""

import fcntl
import os
from contextlib import contextmanager, suppress

from suzuri.progress import note

PIPE = 1 << 20  # bytes; what Linux allows everybody


def widen(fd):
    """Let a pipe hold PIPE bytes, not 64 kB, so that the tools at its ends wait for one another less often."""
    with suppress(OSError, AttributeError):  # no pipe; too many of them; not on this system
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)


def open_stdin():
    if os.isatty(0):
        note("reading from the terminal (Ctrl-D ends it; --help tells how to use it in a pipe)")
    widen(0)


def stdin_blocks(size=1 << 16):
    """Blocks of bytes from standard input, as read: from 1 to `size` bytes each."""
    open_stdin()
    while block := os.read(0, size):
        yield block


def write_all(fd, block):
    """os.write until all is written: a full disk takes the first half of a block and refuses the other."""
    view = memoryview(block)
    while view:
        view = view[os.write(fd, view) :]


def line_blocks(blocks, end=b"\n"):
    """Regroup blocks of bytes so that each ends with `end`, save perhaps the last.

    >>> list(line_blocks([b"a\\nb", b"c\\n", b"d"]))
    [b'a\\n', b'bc\\n', b'd']
    """
    kept = []  # pieces of a line still without its end: joined once, so a 2 GB line costs no n² copying
    for block in blocks:
        cut = block.rfind(end)
        if cut < 0:
            kept.append(block)
            if len(end) > 1:  # the separator itself may lie across two blocks
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
def stdout():
    """Our own buffered standard output (sys.stdout.buffer writes through under PYTHONUNBUFFERED=1).

    Flushed on leaving, so that a full disk or a vanished reader is told as an error and never lost.
    """
    widen(1)
    out = open(1, "wb", buffering=1 << 20, closefd=False)
    try:
        yield out
    except BaseException:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing more is to go out, not even from the destructor
        raise
    else:
        out.flush()
