"""What a report is made of: blocks that say what is shown, not how. HTML and Markdown each draw them.

A cell of a table is a str, a number, a Right, a Sentence or None (nothing to tell).
"""

import json
import math
import unicodedata
from dataclasses import dataclass, field


class Right(str):
    """A figure that is text already ("94 (7.7 %)"): set flush right like a number."""


class Sentence(str):
    """Japanese from the corpus, a tokenizer or a model: any character may be in it."""


@dataclass
class Section:
    title: str
    blocks: list


@dataclass
class Heading:
    text: str


@dataclass
class Text:
    text: str


@dataclass
class Missing:
    """What is not there (yet), and what would make it."""

    text: str


@dataclass
class Tiles:
    """The few figures that a reader looks for first: [(value, what it is), …]."""

    items: list


class Group(str):
    """In the place of a row: what the rows under it have in common."""


@dataclass
class Table:
    header: list
    rows: list

    def right(self):
        """Of each column whether it is flush right: all figures."""
        rows = [row for row in self.rows if not isinstance(row, Group)]
        return [
            all(not isinstance(r[i], str) or isinstance(r[i], Right) for r in rows) for i in range(len(self.header))
        ]


@dataclass
class Sentences:
    items: list


@dataclass
class Pieces:
    """Short strings, each with a figure: [(piece, figure), …]."""

    items: list


@dataclass
class Guesses:
    """[(sentence, [(piece, figure), …]), …], the likeliest piece first."""

    items: list


@dataclass
class Plot:
    """Curves, or steps of a histogram, over one pair of axes. `series`: {name: (xs, ys)}; for steps xs are
    the edges, one more than ys. `note` is told under it."""

    title: str
    x: str
    y: str
    series: dict
    steps: bool = False
    note: str = ""


@dataclass
class Plots:
    items: list


@dataclass
class Beside:
    """Lists of blocks that stand side by side where there is room."""

    columns: list


@dataclass
class Details:
    """Folded away until somebody asks."""

    summary: str
    blocks: list = field(default_factory=list)


def all_blocks(sections):
    """Every block of the sections, those within others, too."""
    waiting = [block for section in sections for block in section.blocks]
    while waiting:
        block = waiting.pop()
        yield block
        if isinstance(block, Details):
            waiting += block.blocks
        elif isinstance(block, Beside):
            waiting += (b for column in block.columns for b in column)


def figure(x):
    """A number for people: 1234567 -> '1,234,567', 0.000123456 -> '0.0001235', None -> '–'."""
    if x is None:
        return "–"
    if isinstance(x, float):
        if not math.isfinite(x):
            return str(x)
        if x != int(x) or abs(x) >= 1e15:
            return f"{x:,.0f}" if abs(x) >= 1e4 else f"{x:.4g}"
    return f"{int(x):,}"


def percent(part, whole):
    """-> '7.7 %'; two digits below one per cent, '0.013 %', so that a rare thing does not look like none."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if not share:
        return "0 %"
    return f"{share:.{1 if share >= 1 else 1 - math.floor(math.log10(share))}f} %"


def with_share(part, whole):
    return Right(f"{figure(part)} ({percent(part, whole)})") if part else Right("0")


def setting(value):
    """A setting: numbers as people write them, anything else as JSON has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return json.dumps(value, ensure_ascii=False)
    return figure(value)


def nbytes(n):
    """-> '116 kB', '21.3 GB'; powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def visible(text):
    """Characters that no page may hold, or that nobody can see, as their code: 'a\\0b' -> 'a‹U+0000›b'."""
    return "".join(f"‹U+{ord(c):04X}›" if _is_hidden(c) else c for c in text)


def _is_hidden(c):
    return unicodedata.category(c) in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp") or c in "\u200b\u200e\u200f\ufeff"
