"""Compressed files, recognized by their first bytes and decompressed by the ordinary tools (xz, bzip2, gzip, zstd)."""

import os
import re
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

from suzuri.errors import DataError
from suzuri.manifest import MANIFEST
from suzuri.streams import read_blocks, write_all

# (first bytes, commands of which the first that is installed is used, Debian package of the last one).
# lbzip2 uses all cores, and bzip2 is by far the slowest of these.
KINDS = (
    (rb"\xfd7zXZ\x00", (["xz", "-dcq", "-T0"],), "xz-utils"),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", (["lbzip2", "-dc"], ["bzip2", "-dc"]), "bzip2"),
    (rb"\x1f\x8b", (["gzip", "-dc"],), "gzip"),
    (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", (["zstd", "-dcq"],), "zstd"),
    (rb"", (["cat"],), "coreutils"),
)
MAGIC_SIZE = 10
# What these tools print when they cannot write their output.
NOT_WRITTEN = re.compile("write error|write\\(|no space left|file too large|quota exceeded", re.I)
NOT_DATA = re.compile(r"\..*|_SUCCESS|.*\.part|.*\.part\.json")


def command(head: bytes, name: str) -> list[str]:
    """Command line that unpacks standard input, whose first bytes are `head`. `name` is for the error."""
    _, commands, package = next(kind for kind in KINDS if re.match(kind[0], head, re.DOTALL))
    for argv in commands:
        if shutil.which(argv[0]):
            return argv
    raise DataError(name, f"{argv[0]} is needed to unpack it and is not installed (apt-get install {package})")


def data_files(folder: str) -> list[str]:
    """Paths of a folder's data files, sorted: no manifest, no records of fetch-url, nothing hidden or unfinished."""
    names = {e.name for e in os.scandir(folder) if e.is_file()}
    records = {MANIFEST} | {f"{name}.json" for name in names}
    found = sorted(n for n in names - records if not NOT_DATA.fullmatch(n))
    if not found:
        raise DataError(folder, "no data files in it")
    return [os.path.join(folder, n) for n in found]


def unpack(source: BinaryIO | Iterator[bytes], name: str, sink: Callable[[bytes], None] | None = None) -> None:
    """Unpack `source` (a binary file with fileno(), or an iterator of blocks) to standard output.

    The tool itself writes there, so no output passes through this process; with `sink`, that function gets the blocks.
    Raises DataError, with `name`, if the data are damaged or cut short, even after some output; BrokenPipeError when
    the reader downstream is gone.
    """
    seekable = hasattr(source, "seekable") and source.seekable()
    if seekable:
        start = source.tell()
        head = os.pread(source.fileno(), MAGIC_SIZE, start)
        os.lseek(source.fileno(), start, os.SEEK_SET)
        feed = None
    else:
        feed = read_blocks(source.fileno(), 1 << 20) if hasattr(source, "fileno") else iter(source)
        head = b""
        while len(head) < MAGIC_SIZE and (block := next(feed, b"")):
            head += block
    argv = command(head[:MAGIC_SIZE], name)
    tool = subprocess.Popen(
        argv,
        stdin=source if seekable else subprocess.PIPE,
        stdout=None if sink is None else subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        if sink is None:
            if feed:
                _feed(tool.stdin, head, feed)
        else:
            feeder = threading.Thread(target=_feed, args=(tool.stdin, head, feed), daemon=True) if feed else None
            if feeder:
                feeder.start()
            for block in read_blocks(tool.stdout.fileno(), 1 << 20):
                sink(block)
            if feeder:
                feeder.join()
        said = tool.stderr.read().decode(errors="replace")
        status = tool.wait()
    except BaseException:
        tool.kill()
        tool.wait()
        raise
    if status == 0:
        return
    if status == -signal.SIGPIPE or (sink is None and _reader_gone()):
        raise BrokenPipeError
    lines = [line.removeprefix(f"{argv[0]}:").strip(" \t\n.") for line in said.splitlines() if line.strip()]
    what = lines[0].removeprefix("(stdin):").removeprefix("stdin:").strip() if lines else f"status {status}"
    for line in filter(NOT_WRITTEN.search, lines if sink is None else ()):
        raise DataError("standard output", line.removeprefix("(stdout):").removeprefix("stdout:").strip())
    raise DataError(name, f"damaged or cut short ({argv[0]}: {what}); fetch it again")


def _feed(pipe, head, rest):
    """Write everything to the tool's stdin. If the tool ends earlier, its exit status says why."""
    with pipe:
        try:
            write_all(pipe.fileno(), head)
            for block in rest:
                write_all(pipe.fileno(), block)
        except BrokenPipeError:
            pass


def _reader_gone():
    """True when standard output is a pipe that nobody reads any more (gzip and zstd may report that as an error)."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


class Joiner:
    """Writes files to standard output, one after the other, with one blank line between two of them.

    `write` takes blocks of a file, `end_file` is called after its last one. An empty file leaves no trace.
    """

    def __init__(self):
        self.tail = b""  # the last two bytes written
        self.between = False  # has a file ended since then

    def write(self, block: bytes) -> None:
        if self.between and self.tail:
            write_all(1, b"\n" * (2 - (len(self.tail) - len(self.tail.rstrip(b"\n")))))
        self.between = False
        write_all(1, block)
        self.tail = (self.tail + block)[-2:] if len(block) < 2 else block[-2:]

    def end_file(self) -> None:
        self.between = True
