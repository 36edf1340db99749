"""Standard input and output as blocks of bytes."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import BufferedWriter
from itertools import chain
from typing import BinaryIO

from suzuri import content
from suzuri.environment import keep_memory
from suzuri.errors import DataError
from suzuri.files import NamedFile, named
from suzuri.progress import Progress, note

PIPE = 1 << 20  # bytes; the most that Linux allows without privileges
BLOCK = 1 << 18  # bytes of lines; a block and what is made of it should stay in the processor's cache
MAX_LINE = 64_000_000  # bytes; the longest paragraph of a book has 100 kB, the longest article of Wikipedia 2 MB


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


def peek(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """(the first content.HEAD bytes, or more, or all there are; an iterator over the same blocks from their start)"""
    head = b""
    for block in blocks:
        head += block
        if len(head) >= content.HEAD:
            break
    return head, chain([head] if head else [], blocks)


def _read(fd, size):
    with named("standard input" if fd == 0 else "pipe"):
        return os.read(fd, size)


class Block:
    """Some whole lines: their bytes, their text, and how many of the bytes are not UTF-8 (U+FFFD in the text).

    In the text a line ends with a line feed alone, also where the bytes have the CR LF of Windows.
    """

    def __init__(self, data: bytes):
        self.data = data
        self.text, self.invalid = content.decode(data)
        if b"\r" in data:  # to look for one byte takes no time
            self.text = self.text.replace("\r\n", "\n")

    def __len__(self) -> int:
        return len(self.data)


class LineReader:
    """Standard input, or other `source` blocks, as blocks of whole lines, however the pipe cuts them.

    Raises DataError for what is not text in UTF-8 (content.EncodingCheck), and for a line of more than `max_line`
    bytes. Such a line is refused, not skipped: it is a text without line ends or not a text, often all there is.
    A block has at least `least` bytes, except the last; 1: lines typed, or sent one by one, arrive at once. A reader
    can be sent from one process to another between two blocks, if it has no `progress` bar and no `source`, of which
    `name` is for the errors.
    """

    def __init__(
        self,
        max_line: int,
        least: int = BLOCK,
        progress: Progress | None = None,
        source: Iterator[bytes] | None = None,
        name: str = "standard input",
    ):
        self.max_line, self.least, self.progress = max_line, least, progress
        self.source, self.name = source, name
        self.check = content.EncodingCheck(name)
        self.bytes = 0  # of the blocks read
        self.rest = b""  # the beginning of the next line; None at the end of the input

    def __iter__(self) -> Iterator[Block]:
        self._begin()
        while (block := self.read()) is not None:
            yield block

    def read(self) -> Block | None:
        """The next block; None at the end of the input."""
        data = self._read_lines()
        if data is None:
            return None
        block = Block(data)
        self.check.add(data, block.invalid, self.bytes - len(data))
        return block

    def raw(self) -> Iterator[bytes]:
        """The blocks without their text. To see a quarter of them (from 1 MB on) is enough to know the encoding."""
        self._begin()
        number = 0
        while (data := self._read_lines()) is not None:
            number += 1
            if self.bytes < 1 << 20 or number % 4 == 0:
                self.check.add(data, content.decode(data)[1], self.bytes - len(data))
            yield data.replace(b"\r\n", b"\n") if b"\r" in data else data

    def _begin(self):
        if self.source is None:
            open_stdin()
        keep_memory()

    def _read_lines(self):
        if self.rest is None:
            return None
        parts, size, cut = [self.rest], len(self.rest), 0
        line = size  # bytes of the line whose end has not come
        while size < self.least or not cut:
            if line > self.max_line:
                self._refuse_line(b"".join(parts), line)
            part = _read(0, BLOCK) if self.source is None else next(self.source, b"")
            if not part:
                break
            parts.append(part)
            size += len(part)
            cut = part.rfind(b"\n") + 1
            line = len(part) - cut if cut else line + len(part)
        self.rest = parts[-1][cut:] if cut else None
        if cut:
            parts[-1] = parts[-1][:cut]
        data = b"".join(parts)
        if len(data) > self.max_line and (longest := max(map(len, data.split(b"\n")))) > self.max_line:
            self._refuse_line(data, longest)
        if not self.bytes and (found := content.describe(data[: content.HEAD])):
            raise DataError(self.name, f"is {found[0]}, not text; {found[1]}")
        self.bytes += len(data)
        if self.progress:
            self.progress.update(len(data))
        return data or None

    def _refuse_line(self, data, length):
        self.check.add(data[-length:][:BLOCK], content.decode(data[-length:][:BLOCK])[1], self.bytes)
        what = f"a line after byte {self.bytes:,} is longer than --max-line, {self.max_line:,} bytes"
        raise DataError(self.name, f"{what}; is it text, with a line feed after each paragraph?")


def read_text(path: str) -> str:
    """The text of a small file; raises DataError unless all of it is UTF-8."""
    with open(path, "rb") as f:
        block = Block(f.read())
    mend = f"iconv -f {{}} -t UTF-8 <{path} >NEW"
    content.EncodingCheck(path, mend).add(block.data, block.invalid, 0)
    if block.invalid:
        raise DataError(path, content.refuse_encoding(block.data, 0, mend))
    return block.text


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
