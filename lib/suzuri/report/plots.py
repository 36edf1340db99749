"""Plots as SVG by matplotlib: the same bytes for the same numbers, in the colours of light and dark pages.

Letters are drawn as outlines from the font that comes with matplotlib, and only for our own English and digits. Names,
which may be Japanese, are in the page's text beside the plot. So the reader needs no particular font.
"""

import base64
import io
from dataclasses import dataclass
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from suzuri.report.formats import figure

SIZE = 4.6, 2.9  # inches, 331 points wide: on a phone's 340 pixels a point is about a pixel
POINTS = 500  # in a curve; more cannot be seen
INK = "#010203"  # replaced by the page's own colour of text
THEMES = "svg{color:#2b2926}@media(prefers-color-scheme:dark){svg{color:#d9d5cc}}"
STYLES = ("solid", "dashed", "dotted")
COLOURS = ("#3f87c9", "#d0762a", "#3d9c6e", "#a765c4", "#c9504f", "#8a8a3a")
RC = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "svg.fonttype": "path",
    "svg.hashsalt": "suzuri",
    "axes.spines.top": False,
    "axes.spines.right": False,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick", "grid")},
    **{f"axes.{part}": INK for part in ("edgecolor", "labelcolor")},
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
}


@dataclass
class Plot:
    """Curves, or with `steps` histograms, whose xs are the edges, one more than ys."""

    title: str
    x: str
    y: str
    series: dict[str, tuple[list, list]]  # {name: (xs, ys)}
    steps: bool = False
    log: bool = False  # whether xs are on a logarithmic axis
    note: str = ""


def legend(plot: Plot) -> list[tuple[str, str, str]]:
    """[(name, colour, line style), …]: the styles differ, too, for readers who see no colours."""
    return list(zip(plot.series, cycle(COLOURS), cycle(STYLES)))


def ranges(plot: Plot) -> dict[str, str]:
    """{name: in words, where a curve begins and ends, or the highest step of a histogram}."""
    found = {}
    for name, (xs, ys) in plot.series.items():
        if plot.steps:
            top = int(np.argmax(ys))
            found[name] = f"highest at {figure(xs[top])} to {figure(xs[top + 1])}: {figure(ys[top])}"
        else:
            found[name] = f"from {figure(ys[0])} at {figure(xs[0])} to {figure(ys[-1])} at {figure(xs[-1])}"
    return found


def thin_out(xs: list, ys: list, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """A curve as the means of at most `points` stretches of it."""
    parts = [np.array_split(np.asarray(v, float), min(points, len(v))) for v in (xs, ys)]
    return tuple(np.array([part.mean() for part in split]) for split in parts)


def axis_number(value: float, _=None) -> str:
    """A number on an axis: 0, 0.0025, 250, 12k, 3M."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.4g}{letter}"
    return f"{value:.4g}".replace("-", "−")


def draw(plot: Plot) -> bytes:
    """The plot as SVG."""
    with matplotlib.rc_context(dict(matplotlib.rcParamsDefault) | {"backend": "svg"} | RC):
        drawing = Figure(figsize=SIZE, layout="constrained")
        axes = drawing.add_subplot()
        for name, colour, style in legend(plot):
            xs, ys = plot.series[name]
            if plot.steps:
                axes.stairs(ys, xs, color=colour, linestyle=style, linewidth=1.7)
                axes.set(xlim=(0, None), ylim=(0, None))
            else:
                xs, ys = thin_out(xs, ys)
                marker = "o" if len(xs) < 20 else ""
                axes.plot(xs, ys, color=colour, linestyle=style, linewidth=1.7, marker=marker, ms=4)
        axes.set(xlabel=plot.x, ylabel=plot.y)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=axis is axes.xaxis))
            if plot.log and axis is axes.xaxis:
                axes.set_xscale("log")
                axis.set_major_locator(LogLocator(subs=(1, 3)))
                axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(axis_number))
        svg = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(svg, format="svg", transparent=True, metadata=nothing)
    themed = svg.getvalue().replace("<defs>", f"<style>{THEMES}</style>\n <defs>", 1)
    return themed.replace(INK, "currentColor").encode()


def draw_base64(plot: Plot) -> str:
    """The SVG for a data: URL."""
    return base64.b64encode(draw(plot)).decode()
