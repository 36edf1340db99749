"""What every tool in bin/ shares: its parser, its streams, its last words.

A tool is a `main(argv) -> None` handed to `run`. It imports its heavy modules only after
`parse_args`, so that `--help` answers at once.
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import stat
import sys
import time
from contextlib import contextmanager, suppress

from suzuri import __version__

# NumPy's BLAS starts a thread a core, which no tool uses: a tenth of a second of CPU each time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
TOOL = os.path.basename(sys.argv[0])


class DataError(Exception):
    """Bad data, told as `tool: where: what` in one line; the exit status is 1."""

    def __init__(self, where, what):
        super().__init__(where, what)  # both, so that it can pass between processes

    def __str__(self):
        return ": ".join(map(str, self.args))


def enter_venv():
    """Continue in the project's own Python: $SUZURI_PYTHON, else ROOT/.venv where it is there."""
    asked = os.environ.get("SUZURI_PYTHON")
    python = shutil.which(asked or os.path.join(ROOT, ".venv/bin/python"))
    if asked and not python:
        fail(f"SUZURI_PYTHON: {asked}: no such program")
    entered = os.environ.pop("SUZURI_ENTERED", None)  # a python that is no venv may have any prefix: enter once
    if python and entered != python and sys.prefix != os.path.dirname(os.path.dirname(python)):
        os.environ["SUZURI_ENTERED"] = python
        os.execv(python, [python, *sys.argv])


def parser(doc, **kwargs):
    """ArgumentParser made from a tool's docstring: the text before `Example:` is the description."""
    about, _, example = doc.partition("Example:")
    p = argparse.ArgumentParser(
        prog=TOOL,
        description=about.strip(),
        epilog="Example:\n" + example.strip("\n") if example else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **kwargs,
    )
    p.add_argument("--version", action="version", version=f"%(prog)s (suzuri) {__version__}")
    return p


def add_stats_option(p):
    p.add_argument("--stats", metavar="FILE", help="write the counts of the summary line to FILE as JSON, too")


def run(main, requirements="requirements.txt"):
    """Run `main(argv)`; turn failures into one line on stderr and an exit status.

    `requirements` is the file in configs/ that names the packages which the tool needs.

    0 ok; 1 data or I/O error; 2 usage; 130 interrupted; killed by SIGPIPE (141 in a shell) when the
    reader downstream has gone, like any C filter.
    """
    enter_venv()
    try:
        main(sys.argv[1:])
    except BrokenPipeError:
        _die_by(signal.SIGPIPE)
    except KeyboardInterrupt:
        _die_by(signal.SIGINT)
    except DataError as e:
        fail(str(e))
    except ModuleNotFoundError as e:
        fail(f"{e.name}: not installed: {install(requirements)}")
    except OSError as e:
        fail(f"{e.filename or 'input/output'}: {e.strerror or e}")
    except MemoryError:
        fail("memory: not enough; ask for less (--memory, --jobs) or free some")


def install(requirements):
    """The command that installs the packages of a file in configs/."""
    return f"{sys.executable} -m pip install -r {ROOT}/configs/{requirements}"


def _die_by(signum):
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def fail(message, status=1):
    print(f"{TOOL}: {message}", file=sys.stderr, flush=True)
    # Whatever is still buffered for stdout belongs to a failed run: leave without flushing it.
    os._exit(status)


def note(message):
    """One line on stderr: `tool: message`."""
    print(f"{TOOL}: {message}", file=sys.stderr, flush=True)


def summary(counts, seconds=None, nbytes=None, stats=None):
    """The tool's last line: `tool: 12 lines in, 30 sentences out, 92 MB/s`.

    `counts` maps a phrase to a number, {"lines in": 12, ...}; zero counts of things gone wrong are the
    caller's to leave out. `stats` is the path of the same counts as JSON ("lines in" becomes "lines_in").
    """
    parts = [f"{n:,} {what}" for what, n in counts.items()]
    if seconds and nbytes:
        parts.append(f"{nbytes / 1e6 / seconds:.0f} MB/s")
    note(", ".join(parts))
    if stats:
        with open(stats, "w", encoding="utf-8") as f:
            json.dump({TOOL: {what.replace(" ", "_"): n for what, n in counts.items()}}, f, indent=2)
            f.write("\n")


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


def size(text):
    """'100M' -> 100_000_000 bytes; k M G T are powers of 1000, Ki Mi Gi Ti of 1024, as in coreutils' --help."""
    units = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
    digits = text.rstrip("kKmMgGtTiIbB")
    unit = text[len(digits) :].lower().removesuffix("b")
    try:
        return int(float(digits) * units[unit])
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (try 500M or 2G)") from None


def count(text):
    """'10M' -> 10_000_000; '1_000' and '1,000' are numbers, too. A non-negative integer, for amounts."""
    try:
        n = size(text.replace(",", "").replace("_", ""))
    except argparse.ArgumentTypeError:
        n = -1
    if n < 0:
        raise argparse.ArgumentTypeError(f"not an amount: {text!r} (try 1000000 or 1M)")
    return n
