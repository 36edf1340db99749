"""Documents in blocks of lines, as they flow between tools: a sentence per line, an empty line between documents."""

from typing import BinaryIO


class DocumentWriter:
    """Writes blocks of lines with one empty line between documents, none at the start or the end.

    A block may begin and end with any number of empty lines, but must not have two in a row inside (`squeeze`).
    """

    def __init__(self, out: BinaryIO):
        self.out = out
        self.begun = False  # has anything been written
        self.gap = False  # must an empty line come before the next line

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
