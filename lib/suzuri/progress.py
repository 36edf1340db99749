"""Messages and a progress bar on standard error."""

import io
import os
import re
import stat
import sys
import time

from suzuri.environment import TOOL

# What would move a terminal's cursor, or end the line: it may come from a server or a file's name.
CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def one_line(message: str) -> str:
    """The message `tool: message` with control characters as \\x1b and the like."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), f"{TOOL}: {message}")


class _Shielded(io.FileIO):
    """A file whose errors are ignored."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def shield_stderr() -> None:
    """Let work go on when messages cannot be written: on a full disk, or when their reader is gone.

    If standard error is closed, it becomes /dev/null: else the next file that is opened would get the messages.
    """
    try:
        os.fstat(2)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    raw = io.BufferedWriter(_Shielded(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def note(message: str) -> None:
    """Print the line `tool: message` on stderr."""
    print(one_line(message), file=sys.stderr, flush=True)


class Progress:
    """A bar on stderr, if that is a terminal and this tool is the last of its pipe.

    In `a | b | c` all three would draw over one another; only the one whose stdout is not a pipe draws.
    """

    def __init__(self, total: int | None = None, unit: str = "B", desc: str | None = None):
        self.bar = None
        self.start = time.monotonic()
        if sys.stderr.isatty() and not stat.S_ISFIFO(os.fstat(1).st_mode):
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit=unit, desc=desc or TOOL, unit_scale=True, leave=False, mininterval=0.3)

    def update(self, n: int) -> None:
        """`n` more are done."""
        if self.bar is not None:
            self.bar.update(n)

    def skip(self, n: int) -> None:
        """`n` were done by an earlier run: they count in the bar, but not in its speed."""
        if self.bar is not None:
            self.bar.initial = self.bar.n = n
            self.bar.refresh()

    def say(self, message: str) -> None:
        """Print a line on stderr, above the bar if there is one."""
        if self.bar is None:
            note(message)
        else:
            self.bar.write(one_line(message), file=sys.stderr)

    def expect(self, n: int) -> None:
        """`n` more are to come, which was not known at the start."""
        if self.bar is not None:
            self.bar.total = (self.bar.total or 0) + n
            self.bar.refresh()

    def describe(self, desc: str) -> None:
        if self.bar is not None:
            self.bar.set_description(desc)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.bar is not None:
            self.bar.close()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start
