"""Lines and a progress bar on standard error."""

import os
import stat
import sys
import time

from suzuri.environment import TOOL


def note(message):
    """One line on stderr: `tool: message`."""
    print(f"{TOOL}: {message}", file=sys.stderr, flush=True)


class Progress:
    """A bar on stderr when that is a terminal and this tool is the last of its pipe.

    In `a | b | c` all three would draw over one another; only the one whose stdout is no pipe does.
    """

    def __init__(self, total=None, unit="B", desc=None):
        import_bar = sys.stderr.isatty() and not stat.S_ISFIFO(os.fstat(1).st_mode)
        self.bar = None
        self.start = time.monotonic()
        if import_bar:
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit=unit, desc=desc or TOOL, unit_scale=True, leave=False, mininterval=0.3)

    def update(self, n):
        if self.bar is not None:
            self.bar.update(n)

    def skip(self, n):
        """`n` were done by an earlier run: on the bar, but not in its speed."""
        if self.bar is not None:
            self.bar.initial = self.bar.n = n
            self.bar.refresh()

    def say(self, message):
        """A line of its own on stderr, above the bar where there is one."""
        if self.bar is None:
            note(message)
        else:
            self.bar.write(f"{TOOL}: {message}", file=sys.stderr)

    def expect(self, n):
        """`n` more are to come, which was not known at the start."""
        if self.bar is not None:
            self.bar.total = (self.bar.total or 0) + n
            self.bar.refresh()

    def describe(self, desc):
        if self.bar is not None:
            self.bar.set_description(desc)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.bar is not None:
            self.bar.close()

    @property
    def seconds(self):
        return time.monotonic() - self.start
