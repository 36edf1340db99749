"""What every tool in bin/ shares: its parser, its streams, its last words.

A tool is a `main(argv) -> None` handed to `run`. It imports its heavy modules only after
`parse_args`, so that `--help` answers at once.
"""

import argparse
import json
import os
import shutil
import signal
import sys

from suzuri import __version__
from suzuri.environment import ROOT, TOOL, install
from suzuri.errors import DataError
from suzuri.progress import note


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


def _die_by(signum):
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def fail(message, status=1):
    print(f"{TOOL}: {message}", file=sys.stderr, flush=True)
    # Whatever is still buffered for stdout belongs to a failed run: leave without flushing it.
    os._exit(status)


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
