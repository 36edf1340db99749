"""The part that all tools in bin/ share: the argument parser, exit statuses and the summary line.

A tool is a `main(argv) -> None` that is passed to `run`. It imports its heavy modules only after `parse_args`, so that
`--help` answers at once.
"""

import argparse
import decimal
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from suzuri import __version__, content
from suzuri.environment import PR_SET_PDEATHSIG, ROOT, TOOL, install, prctl
from suzuri.errors import DataError
from suzuri.files import check_output, replacing
from suzuri.progress import note, shield_stderr
from suzuri.streams import MAX_LINE


def enter_venv() -> None:
    """Continue in the project's own Python: $SUZURI_PYTHON, or ROOT/.venv if it exists."""
    asked = os.environ.get("SUZURI_PYTHON")
    python = shutil.which(asked or os.path.join(ROOT, ".venv/bin/python"))
    if asked and not python:
        fail(f"SUZURI_PYTHON: {asked}: no such program")
    entered = os.environ.pop("SUZURI_ENTERED", None)  # once: a Python outside a venv may have any prefix
    if python and entered != python and sys.prefix != os.path.dirname(os.path.dirname(python)):
        os.environ["SUZURI_ENTERED"] = python
        os.execv(python, [python, *sys.argv])


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        if message.startswith("unrecognized arguments: ") and "--max-line" in self._option_string_actions:
            message += f" (the text is read from standard input: {self.prog} … <FILE)"
        super().error(message)


def last_line(error: Exception) -> str:
    """The last line of a message: NumPy's begin with a page of advice."""
    return str(error).strip().rpartition("\n")[2]


def reserve_streams() -> None:
    """Make the use of a closed standard input or output an error: else the next file that is opened would be it."""
    for fd, other_way in ((0, os.O_WRONLY), (1, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, other_way), True)


def parser(doc: str, **kwargs) -> argparse.ArgumentParser:
    """The parser of a tool with the docstring `doc`: what comes before `Example:` is the description."""
    about, _, example = doc.partition("Example:")
    p = _Parser(
        prog=TOOL,
        description=about.strip(),
        epilog="Example:\n" + example.strip("\n") if example else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **kwargs,
    )
    p.add_argument("--version", action="version", version=f"%(prog)s (suzuri) {__version__}")
    return p


MAX_JOBS = 512  # processes; thousands of them end in errors about memory, files or semaphores


def add_jobs_option(p: argparse.ArgumentParser, help: str, default: int | None = 1) -> None:
    def jobs(text):
        n = count(text)
        if not 1 <= n <= MAX_JOBS:
            raise argparse.ArgumentTypeError(f"from 1 to {MAX_JOBS}, not {text}")
        return n

    p.add_argument("--jobs", type=jobs, default=default, metavar="N", help=help)


MAX_SHARDS = 1000  # their names have three digits


def add_shards_option(p: argparse.ArgumentParser) -> None:
    p.add_argument("--shards", type=int, default=1, metavar="N", help=f"train files, up to {MAX_SHARDS} (default 1)")


def add_seed_option(p: argparse.ArgumentParser) -> None:
    p.add_argument("--seed", type=int, default=0, metavar="N", help="key of the order, 0 to 2^64 - 1 (default 0)")


def add_memory_option(p: argparse.ArgumentParser) -> None:
    p.add_argument("--memory", type=size, default=10**9, metavar="SIZE", help="memory to use (default 1G)")


def add_length_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--min-chars", type=count, default=10, metavar="N", help="drop what is shorter (default 10)")
    p.add_argument("--max-chars", type=count, default=1000, metavar="N", help="drop what is longer (default 1000)")


def add_stats_option(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--stats", type=check_output, metavar="FILE", help="also write the counts of the summary line to FILE, as JSON"
    )


def add_unfinished_option(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--unfinished",
        action="store_true",
        help="leave the result in DIR.part: finish-folder gives it its name when the other programs of the pipe, too, "
        "have succeeded",
    )


def add_max_line_option(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--max-line",
        type=count,
        default=MAX_LINE,
        metavar="SIZE",
        help=f"refuse a line of more bytes (default {MAX_LINE // 10**6}M)",
    )


def add_tokenizer_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--type", choices=("wordpiece", "char", "unigram"), default="wordpiece", help="default wordpiece")
    p.add_argument("--vocab-size", type=count, default=32768, metavar="N", help="at most N pieces; default 32768")
    p.add_argument(
        "--alphabet", type=count, default=6129, metavar="N", help="the N most frequent characters; default 6129"
    )


def add_packing_options(p: argparse.ArgumentParser, longest: int | None, about_longest: str) -> None:
    """Add the options that say what a sequence is; `longest` is the default of --max-seq-length."""
    p.add_argument(
        "--unit", choices=("line", "document", "window"), default="line", help="what a sequence holds; default line"
    )
    p.add_argument("--max-seq-length", type=count, default=longest, metavar="N", help=about_longest)
    p.add_argument(
        "--crop-pairs",
        type=fraction,
        default=0,
        metavar="SHARE",
        help="the share of lines (0.25, 1/4) that become pairs of parts; lines of fewer than 8 words, and lines whose "
        "parts do not fit into one sequence, stay as they are; default 0",
    )


def add_license_option(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--license", type=licence, metavar="NAME", help="the model's licence for its card, such as cc-by-sa-4.0 or mit"
    )


def check_options(p: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a usage error if a value of the options above does not do."""
    given = vars(args)
    if not 0 <= given.get("seed", 0) < 2**64:
        p.error("argument --seed: from 0 to 2^64 - 1")
    if given.get("memory", 10**6) < 10**6:
        p.error("argument --memory: at least 1M")
    if given.get("max_chars", 0) > 10**9:
        p.error("argument --max-chars: at most 1G")
    if given.get("min_chars", 0) > given.get("max_chars", 0):
        p.error("--min-chars is more than --max-chars")
    if given.get("max_lines") == 0:
        p.error("argument --max-lines: at least 1")
    if not 1 <= given.get("shards", 1) <= MAX_SHARDS:
        p.error(f"argument --shards: from 1 to {MAX_SHARDS}")
    if given.get("alphabet") == 0:
        p.error("argument --alphabet: at least 1")
    if given.get("vocab_size", 128) < 128:
        p.error("argument --vocab-size: at least 128")
    if given.get("crop_pairs") and args.unit != "line":
        p.error("argument --crop-pairs: only with --unit line")
    if given.get("max_seq_length") is not None and args.max_seq_length < 3:
        p.error("argument --max-seq-length: at least 3, for [CLS], a token and [SEP]")


RETRY_OPTIONS = ("retries", "timeout", "wait", "min_rate")


def add_retry_options(p: argparse.ArgumentParser) -> None:
    """Add the options of tools that download: the arguments of sources.http.read with the same names."""
    p.add_argument(
        "--retries", type=count, default=8, metavar="N", help="give up after N retries without progress (default 8)"
    )
    time = {"type": seconds, "metavar": "SECONDS"}
    p.add_argument("--timeout", default=60, **time, help="reconnect after this long without data (default 60)")
    p.add_argument(
        "--min-rate",
        type=count,
        default=1000,
        metavar="BYTES",
        help="reconnect after --timeout with fewer bytes per second (default 1k)",
    )
    p.add_argument("--wait", default=1, **time, help="wait before the first retry, then doubled (default 1)")


def run(main: Callable[[list[str]], None], requirements: str = "requirements.txt") -> None:
    """Run `main(argv)`; turn failures into one line on stderr and an exit status.

    0 ok; 1 data or I/O error; 2 usage; 130 interrupted; killed by SIGPIPE (141 in a shell) when the reader downstream
    is gone, as C filters are. `requirements` is the file in configs/ that names the packages that the tool needs.
    """
    reserve_streams()
    enter_venv()
    shield_stderr()
    if "SUZURI_LOCK" in os.environ:  # under make: end with the shell of the recipe, however that is killed
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
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
    except UnicodeEncodeError as e:
        fail(f"{e.object[max(0, e.start - 20) : e.end + 20]!r}: not Unicode: {e.reason}")
    except UnicodeDecodeError as e:
        fail(f"input: {content.refuse_encoding(e.object, 0, 'iconv -f {} -t UTF-8 <FILE >NEW')}")
    except ImportError as e:
        fail(f"a library cannot be loaded, for want of memory (ulimit -v) or because it is damaged: {last_line(e)}")
    except OSError as e:
        fail(f"{e.filename or 'input/output'}: {e.strerror or e}")
    except MemoryError:
        fail("memory: not enough; ask for less (--memory, --jobs) or free some")


def _die_by(signum):
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def fail(message: str, status: int = 1) -> NoReturn:
    note(message)
    # What is still buffered for stdout belongs to a failed run: exit without flushing it.
    os._exit(status)


def summary(
    counts: dict[str, int],
    seconds: float | None = None,
    nbytes: int | None = None,
    stats: str | None = None,
    name: str | None = None,
) -> None:
    """Print the tool's last line: `tool: 12 lines in, 30 sentences out, 92 MB/s`, or with a name `tool: name: 12 …`.

    `counts` maps phrases to numbers, {"lines in": 12, …}. The same counts go to the file `stats` as JSON, as
    {"tool": {"lines_in": 12, …}}.
    """
    parts = [f"{n:,} {what}" for what, n in counts.items()]
    if seconds and nbytes:
        parts.append(f"{nbytes / 1e6 / seconds:.0f} MB/s")
    note(f"{name}: {', '.join(parts)}" if name else ", ".join(parts))
    if stats:
        with replacing(stats, "w", encoding="utf-8") as f:
            json.dump({TOOL: {what.replace(" ", "_"): n for what, n in counts.items()}}, f, indent=2)
            f.write("\n")


LARGEST = 1 << 62  # of sizes and amounts, so that sums of them fit into 64 bits


def scaled(text: str) -> decimal.Decimal:
    """'1.5M' -> 1500000. Raises ValueError for what is not a number from 0 to LARGEST."""
    units = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
    digits = text.rstrip("kKmMgGtTiIbB")
    unit = text[len(digits) :].lower().removesuffix("b")
    try:
        value = decimal.Decimal(digits) * units[unit]
    except (KeyError, decimal.DecimalException):
        raise ValueError from None
    if not (value.is_finite() and 0 <= value <= LARGEST):
        raise ValueError
    return value


def size(text: str) -> int:
    """'100M' -> 100_000_000 bytes; k M G T are powers of 1000, Ki Mi Gi Ti of 1024."""
    try:
        return int(scaled(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (try 500M or 2G)") from None


def count(text: str) -> int:
    """'10M' -> 10_000_000, '1_000' and '1,000' -> 1000: an amount, 0 or more."""
    try:
        n = scaled(text.replace(",", "").replace("_", ""))
        if n != int(n):
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"not an amount: {text!r} (try 1000000 or 1M)") from None
    return int(n)


def seconds(text: str) -> float:
    """'0.5' -> 0.5, at most a year."""
    n = float(text)
    if not 0 <= n <= 366 * 24 * 3600:
        raise ValueError
    return n


def fraction(text: str):
    """'0.01' or '1/100' -> a fractions.Fraction from 0 to 1."""
    from fractions import Fraction

    try:
        part = Fraction(text)
    except ZeroDivisionError:
        raise ValueError from None
    if not 0 <= part <= 1:
        raise ValueError
    return part


def licence(text: str) -> str:
    """The identifier of a licence, such as cc-by-sa-4.0."""
    if not re.fullmatch(r"[\w.+-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the identifier of a licence, such as cc-by-sa-4.0")
    return text


def share(text: str) -> tuple[int, int]:
    """'3/16', the third of 16, -> (2, 16)."""
    try:
        number, of = map(int, text.split("/"))
    except ValueError:
        number = of = 0
    if not 1 <= number <= of:
        raise argparse.ArgumentTypeError(f"not one of several: {text!r} (try 1/16)")
    return number - 1, of
