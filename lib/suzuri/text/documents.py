"""Text as it flows between the tools: one sentence a line, one empty line between documents."""

import re


def decode(data):
    """UTF-8 -> (text, number of invalid bytes); each ill-formed sequence becomes one U+FFFD."""
    try:
        return data.decode(), 0
    except UnicodeDecodeError:
        bytewise = data.decode(
            errors="surrogateescape"
        )  # each invalid byte as U+DC80 to U+DCFF, which valid UTF-8 cannot hold
        return data.decode(errors="replace"), len(re.findall("[\udc80-\udcff]", bytewise))


class DocumentWriter:
    """Writes blocks of lines so that one empty line stands between documents, none at the start or the end.

    A block may begin and end with any number of empty lines, but has no two in a row inside (`squeeze`).
    """

    def __init__(self, out):
        self.out = out
        self.begun = self.gap = False  # was anything written; is an empty line due

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
