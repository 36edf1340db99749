"""Text files, packed by xz, bzip2, gzip or zstd or not packed, as blocks of their text."""

import json
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from suzuri import content
from suzuri.environment import ROOT
from suzuri.errors import DataError
from suzuri.manifest import MANIFEST, read_manifest
from suzuri.progress import note
from suzuri.streams import BLOCK, peek, read_blocks, widen, write_all

# kind: (commands of which the first that is installed is used, Debian package of the last one).
# lbzip2 uses all cores, and bzip2 is by far the slowest of these.
TOOLS = {
    "xz": ((["xz", "-dcq", "-T0"],), "xz-utils"),
    "bzip2": ((["lbzip2", "-dc"], ["bzip2", "-dc"]), "bzip2"),
    "gzip": ((["gzip", "-dc"],), "gzip"),
    "zstd": ((["zstd", "-dcq"],), "zstd"),
}
NOT_DATA = re.compile(r"\..*|_SUCCESS|.*\.part|.*\.part\.json")
STARTS = (b"\xfd7zXZ\0", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # of packed files of which the rest may be missing
SAMPLE = 1 << 16  # bytes of text whose encoding is looked at


def command(kind: str, name: str) -> list[str]:
    """Command line that unpacks standard input of this kind. `name` is for the error."""
    commands, package = TOOLS[kind]
    for argv in commands:
        if shutil.which(argv[0]):
            return argv
    raise DataError(name, f"{argv[0]} is needed to unpack it and is not installed (apt-get install {package})")


def data_files(folder: str) -> list[str]:
    """Paths of a folder's data files, sorted: no manifest, no records of fetch-url, nothing hidden or unfinished."""
    entries = [e for e in os.scandir(folder) if not NOT_DATA.fullmatch(e.name)]
    for entry in entries:
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise DataError(
                entry.path, f"is a link to {os.readlink(entry.path)}, which does not exist; mend or remove it"
            )
    names = {e.name for e in entries if not e.is_dir()}
    records = {MANIFEST} | {f"{name}.json" for name in names}
    if not names - records:
        raise DataError(folder, "no data files in it")
    return [os.path.join(folder, n) for n in sorted(names - records)]


def unpacked(source: BinaryIO | Iterator[bytes], name: str) -> Iterator[bytes]:
    """Blocks of the text in `source` (an unbuffered binary file with fileno(), or an iterator of blocks).

    Raises DataError, with `name`, for what is not text, is not what the end of its name says or is in another encoding
    than UTF-8, as far as its beginning shows; and for data that are damaged or cut short, even after some output.
    """
    blocks = read_blocks(source.fileno(), BLOCK) if hasattr(source, "fileno") else iter(source)
    head, blocks = peek(blocks)
    content.check_packed(name, head, name, fetch_again(name))
    if len(head) < content.HEAD and head not in (b"", b"(") and any(start.startswith(head) for start in STARTS):
        raise DataError(name, f"is only the first bytes of a packed file; {fetch_again(name)}")
    kind = content.packed_kind(head)
    by_hand = f"iconv -f {{}} -t UTF-8 <{name if name != '-' else 'FILE'} >NEW"
    if kind:
        argv = command(kind, name)
        if hasattr(source, "seekable") and source.seekable():  # the tool reads it itself
            os.lseek(source.fileno(), -len(head), os.SEEK_CUR)
            blocks = source
        head, blocks = peek(_run(argv, blocks, name))
        if inner := content.packed_kind(head):
            raise DataError(name, f"is packed twice: {inner} data inside {kind} data; unpack it once ({argv[0]} -dc)")
        by_hand = f"{argv[0]} -dc <{name} | iconv -f {{}} -t UTF-8 >NEW"
    if found := content.describe(head):
        raise DataError(name, f"is {found[0]}{f' packed by {kind}' if kind else ''}, not text; {found[1]}")
    if content.is_html(head):
        note(f"{name}: begins like {content.HTML}, whose tags will be in the text")
    sample = head[:SAMPLE]
    content.EncodingCheck(name, by_hand).add(sample, content.decode(sample)[1], 0)
    yield from blocks


def fetch_again(path: str) -> str:
    """What to do with a damaged file: the command that fetches it again, if a record of its download names it."""
    folder = os.path.dirname(path) or "."
    with suppress(OSError, ValueError, KeyError, TypeError, DataError):
        if os.path.exists(f"{path}.json"):
            with open(f"{path}.json", encoding="utf-8") as f:
                return "fetch it again: " + shlex.join([f"{ROOT}/bin/fetch-url", json.load(f)["url"], path])
        manifest = read_manifest(folder)
        if manifest["tool"] == "fetch-jawiki":
            fetch = shlex.join([f"{ROOT}/bin/fetch-jawiki", manifest["settings"]["source"], folder])
            return f"fetch it again: rm {shlex.quote(path)}; {fetch}"
    return "fetch it again"


def _run(argv, source, name):
    """The output of a tool that unpacks `source`, a file or an iterator of blocks."""
    piped = not hasattr(source, "fileno")
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe if piped else source, stdout=pipe, stderr=pipe, bufsize=0) as tool:
        try:
            widen(tool.stdout.fileno())
            failures = []
            feeder = threading.Thread(target=_feed, args=(tool.stdin, source, failures), daemon=True)
            if piped:
                feeder.start()
            yield from read_blocks(tool.stdout.fileno(), BLOCK)
            if piped:
                feeder.join()
            said = tool.stderr.read().decode(errors="replace")
        except BaseException:
            tool.kill()
            raise
    for failure in failures:
        raise failure
    if tool.returncode:
        lines = [line.removeprefix(f"{argv[0]}:").strip(" \t\n.") for line in said.splitlines() if line.strip()]
        what = (lines or [f"status {tool.returncode}"])[0].removeprefix("(stdin):").removeprefix("stdin:").strip()
        raise DataError(name, f"damaged or cut short ({argv[0]}: {what}); {fetch_again(name)}")


def _feed(pipe, blocks, failures):
    """Write everything to the tool's stdin. If the tool ends earlier, its exit status says why."""
    with suppress(BrokenPipeError), pipe:
        try:
            for block in blocks:
                write_all(pipe.fileno(), block)
        except BrokenPipeError:
            pass
        except Exception as e:  # raised again by the thread that reads
            failures.append(e)


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
