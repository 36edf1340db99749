"""The report as Markdown that reads well in a terminal: columns line up, curves are sparklines."""

import re
import unicodedata

from suzuri.report.blocks import (
    Beside,
    Details,
    Group,
    Guesses,
    Heading,
    Missing,
    Pieces,
    Plot,
    Plots,
    Sentences,
    Table,
    Text,
    Tiles,
    figure,
    visible,
)
from suzuri.report.plots import thin

BARS = "▁▂▃▄▅▆▇█"
POINTS = 40


def page(sections, foot):
    """The whole text, str."""
    first, *rest = sections
    parts = [f"# {escape(first.title)}\n", blocks(first.blocks)]
    parts += [f"## {escape(s.title)}\n\n{blocks(s.blocks)}" for s in rest]
    return "\n".join(parts) + f"\n---\n\n{escape(foot)}\n"


def escape(text):
    """Text that Markdown takes as it is."""
    text = re.sub(r"([\\`*_\[\]<>|~&#])", r"\\\1", visible(text))
    return re.sub(r"^(\d*)([-+.)])(?=\s|$)", r"\1\\\2", text)  # no list of its own


def blocks(found):
    return "".join(DRAW[type(block)](block).rstrip("\n") + "\n\n" for block in found)


def width(text):
    """Columns in a terminal: Japanese takes two a character."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def table(block):
    right = block.right()
    rows = [[row, *[""] * (len(right) - 1)] if isinstance(row, Group) else row for row in block.rows]
    shown = [[cell(v) for v in row] for row in [block.header, *rows]]
    # A column of long texts is not padded: it is the last, or the lines break anyway.
    widths = [min(60, max(3, *(width(row[i]) for row in shown))) for i in range(len(block.header))]
    rule = ["-" * (w - r) + ":" * r for w, r in zip(widths, right, strict=True)]
    lines = []
    for row in [shown[0], rule, *shown[1:]]:
        cells = [pad(v, w, r) for v, w, r in zip(row, widths, right, strict=True)]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def cell(value):
    text = escape(value if isinstance(value, str) else figure(value))
    return f"**{text}**" if isinstance(value, Group) else text


def pad(text, columns, right):
    room = " " * (columns - width(text))
    return room + text if right else text + room


def spark(values, low=None):
    """[0, 1, 2] -> '▁▅█'; `low` is what stands at the bottom, by default the least of them."""
    low, high = min(values) if low is None else low, max(values)
    return "".join(BARS[round((v - low) / ((high - low) or 1) * (len(BARS) - 1))] for v in values)


def plot(block):
    lines = [
        f"**{escape(block.title)}**{' ' + escape(block.note) if block.note else ''} ({block.y} over {block.x})\n\n"
    ]
    longest = max(width(name) for name in block.series)
    for name, (xs, ys) in block.series.items():
        line = spark(thin(ys, ys, POINTS)[1].tolist(), 0 if block.steps else None)
        if block.steps:
            told = f"{figure(xs[0])} to {figure(xs[-1])}, at most {figure(max(ys))}"
        else:
            told = f"{figure(ys[0])} → {figure(ys[-1])}, step {figure(xs[0])} to {figure(xs[-1])}"
        lines.append(f"    {pad(name, longest, False)}  {line}  {told}\n")
    return "".join(lines)


def details(block):
    return f"### {escape(block.summary)}\n\n{blocks(block.blocks)}"


def pieces(block):
    return "  ".join(f"{escape(piece)} ({n})" if n else escape(piece) for piece, n in block.items)


DRAW = {
    Text: lambda b: escape(b.text),
    Heading: lambda b: f"### {escape(b.text)}",
    Missing: lambda b: f"> {escape(b.text)}",
    Details: details,
    Table: table,
    Plot: plot,
    Plots: lambda b: "\n".join(plot(p) for p in b.items),
    Tiles: lambda b: "".join(f"- {escape(name)}: **{escape(str(value))}**\n" for value, name in b.items),
    Sentences: lambda b: "".join(f"- {escape(s)}\n" for s in b.items),
    Pieces: pieces,
    Guesses: lambda b: "".join(f"- {escape(sentence)}\n  {pieces(Pieces(found))}\n" for sentence, found in b.items),
    Beside: lambda b: "".join(map(blocks, b.columns)),
}
