"""Text as it flows between the tools: one sentence a line, one empty line between documents."""

import codecs

from suzuri import cli
from suzuri.malloc import keep_memory

BLOCK = 1 << 17  # bytes; a block and what is made of it should stay in the processor's cache


def stdin_lines(progress):
    """Blocks of whole lines from standard input, about BLOCK bytes each however the pipe chops its reads."""
    keep_memory()
    return cli.line_blocks(_gathered(cli.stdin_blocks(BLOCK), progress))


def _gathered(blocks, progress):
    pieces, size = [], 0
    for block in blocks:
        progress.update(len(block))
        pieces.append(block)
        size += len(block)
        if size >= BLOCK:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


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
    """Writes blocks of lines so that one empty line stands between documents, none at the start or the end.

    A block may begin and end with any number of empty lines, but has no two in a row inside (`squeeze`).
    """

    def __init__(self, out):
        self.out = out
        self.begun = self.gap = False

    def write(self, block):
        lines = block.strip(b"\n")
        if lines:
            if self.begun and (self.gap or block.startswith(b"\n")):
                self.out.write(b"\n")
            self.out.write(lines)
            self.out.write(b"\n")
            self.begun, self.gap = True, block.endswith(b"\n\n")
        elif block:
            self.gap = True


def squeeze(text):
    """Runs of empty lines to one."""
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def count_lines(text):
    """The number of lines with something in them, of squeezed text."""
    return text.count("\n") - text.count("\n\n") - text.startswith("\n")
