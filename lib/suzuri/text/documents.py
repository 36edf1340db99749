"""Text as it flows between the tools: one sentence a line, one empty line between documents."""

import codecs
import os

from suzuri import streams
from suzuri.environment import keep_memory

BLOCK = 1 << 18  # bytes; a block and what is made of it should stay in the processor's cache


def stdin_lines(progress):
    """Blocks of whole lines from standard input, about BLOCK bytes each however the pipe chops its reads."""
    open_stdin()
    block, rest = read_lines(b"")
    while block is not None:
        progress.update(len(block))
        yield block
        block, rest = read_lines(rest)


def open_stdin():
    keep_memory()
    streams.open_stdin()


def read_lines(rest):
    """Read on after `rest` -> (whole lines, about BLOCK bytes; the beginning of the next).

    At the end there is nothing to begin, None; and after that no lines either, None.
    """
    if rest is None:
        return None, None
    pieces, size, cut = [rest], len(rest), 0
    while size < BLOCK or not cut:
        size += len(block := os.read(0, BLOCK))
        if not block:
            return b"".join(pieces) or None, None
        pieces.append(block)
        cut = block.rfind(b"\n") + 1
    rest = pieces[-1][cut:]
    pieces[-1] = pieces[-1][:cut]
    return b"".join(pieces), rest


def decode(data):
    """UTF-8 -> (text, number of invalid bytes); each ill-formed sequence becomes one U+FFFD."""
    invalid = 0

    def replace(error):
        nonlocal invalid
        invalid += error.end - error.start
        return "\ufffd", error.end

    codecs.register_error("suzuri-replace", replace)
    return data.decode(errors="suzuri-replace"), invalid


class DocumentWriter:
    """Writes blocks of lines with one empty line between documents, none at the start or the end.

    A block may begin and end with any number of empty lines, but must not have two in a row inside (`squeeze`).
    """

    def __init__(self, out):
        self.out = out
        self.begun = False  # was anything written
        self.gap = False  # is an empty line to come before the next line

    def write(self, block: bytes) -> None:
        lines = block.strip(b"\n")
        if lines:
            if self.begun and (self.gap or block.startswith(b"\n")):
                self.out.write(b"\n")
            self.out.write(lines)
            self.out.write(b"\n")
            self.begun, self.gap = True, block.endswith(b"\n\n")
        elif block:
            self.gap = True


def squeeze(text: str) -> str:
    """The text with each run of empty lines as one."""
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def count_lines(text: str) -> int:
    """The number of lines of a squeezed text that are not empty."""
    return text.count("\n") - text.count("\n\n") - text.startswith("\n")
