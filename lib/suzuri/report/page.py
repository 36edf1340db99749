"""The report's sections as index.html and report.md, by the jinja2 templates in templates/.

Both templates escape every value, because the text of a corpus, a tokenizer or a model may hold any character. The
HTML has no script and no link to another file. The Markdown reads well in a terminal: columns line up, curves are
sparklines.
"""

import os
import re
import unicodedata
from functools import cache

import jinja2
from markupsafe import Markup

from suzuri.report import plots
from suzuri.report.formats import figure, visible

BARS = "▁▂▃▄▅▆▇█"
POINTS = 40  # in a sparkline


def as_html(sections: list, foot: str) -> str:
    return _environment(plain).get_template("page.html.j2").render(sections=sections, foot=foot)


def as_markdown(sections: list, foot: str) -> str:
    text = _environment(escape_markdown).get_template("report.md.j2").render(sections=sections, foot=foot)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


@cache
def _environment(finalize):
    """The environment of the templates; `finalize` turns every value that a template shows into text."""
    loader = jinja2.FileSystemLoader(os.path.join(os.path.dirname(__file__), "templates"))
    found = jinja2.Environment(
        loader=loader,
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else finalize(value),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"markdown_table": markdown_table, "sparklines": sparklines, "ranges": plots.ranges}
    found.filters |= {"svg": plots.draw_base64, "legend": plots.legend}
    return found


def plain(value) -> str:
    """A value as text that is not escaped yet, numbers as people write them."""
    return visible(value if isinstance(value, str) else figure(value))


def escape_markdown(value) -> Markup:
    """A value as a line of text without Markdown's markup."""
    text = re.sub(r"([\\`*_\[\]<>|~&#])", r"\\\1", plain(value))
    return Markup(re.sub(r"^(\d*)([-+.)])(?=\s|$)", r"\1\\\2", text))  # it would begin a list


def width(text: str) -> int:
    """Columns in a terminal: a Japanese character takes two."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def pad(text: str, columns: int, right: bool = False) -> str:
    room = " " * (columns - width(text))
    return room + text if right else text + room


def markdown_table(table: dict) -> Markup:
    """A table as Markdown."""
    right = [kind == "r" for kind in table["align"]]
    rows = [
        [f"**{escape_markdown(row)}**", *[""] * (len(right) - 1)] if isinstance(row, str) else map(escape_markdown, row)
        for row in [table["header"], *table["rows"]]
    ]
    rows = [list(row) for row in rows]
    # A column of long texts is not padded: it is the last one, or the lines are too long anyway.
    widths = [min(60, max(3, *map(width, column))) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * (w - r) + ":" * r for w, r in zip(widths, right, strict=True)])
    return Markup("\n").join(Markup(f"| {' | '.join(map(pad, row, widths, right))} |") for row in rows)


def sparklines(plot: plots.Plot) -> Markup:
    """A line per series of a plot, with its name and range."""
    lines, longest = [], max(width(visible(name)) for name in plot.series)
    for name, words in plots.ranges(plot).items():
        _, ys = plot.series[name]
        line = spark(plots.thin_out(ys, ys, POINTS)[1].tolist(), 0 if plot.steps else None)
        lines.append(f"    {pad(visible(name), longest)}  {line}  {words}")
    return Markup("\n".join(lines))


def spark(values: list[float], low: float | None = None) -> str:
    """[0, 1, 2] -> '▁▅█'; `low` is the bottom, by default the smallest value."""
    low, high = min(values) if low is None else low, max(values)
    return "".join(BARS[round((v - low) / ((high - low) or 1) * (len(BARS) - 1))] for v in values)
