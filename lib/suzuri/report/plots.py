"""Plots as SVG: the same bytes for the same numbers, at home on light and dark pages.

Letters are drawn as outlines from the font that comes with matplotlib, and only our own English and digits
are among them: names, which may be Japanese, stand in the page's text beside the plot. So no font can be
missing, neither here nor where the page is read.
"""

import io
import re
from itertools import cycle

import numpy as np

SIZE = 4.6, 2.9  # inches; 331 points: on a phone's 340 pixels a point is a pixel
POINTS = 500  # of a curve; more cannot be seen
INK = "#010203"  # stands for the page's own colour of text
STYLES = ("solid", "dashed", "dotted")
COLOURS = ("#3f87c9", "#d0762a", "#3d9c6e", "#a765c4", "#c9504f", "#8a8a3a")
RC = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "svg.fonttype": "path",
    "svg.hashsalt": "suzuri",
    "path.simplify": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick", "grid")},
    **{f"axes.{part}": INK for part in ("edgecolor", "labelcolor", "titlecolor")},
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
}


def look(series):
    """{name: (colour, line style)}: told apart by colour, and in grey by style."""
    return {name: found for name, *found in zip(series, cycle(COLOURS), cycle(STYLES))}


def thin(xs, ys, points=POINTS):
    """A curve as the means of at most `points` runs of it."""
    if len(xs) <= points:
        return np.asarray(xs, float), np.asarray(ys, float)
    parts = [np.array_split(np.asarray(v, float), points) for v in (xs, ys)]
    return tuple(np.array([part.mean() for part in split]) for split in parts)


def short(value, _=None):
    """A number beside an axis: 0, 0.0025, 250, 12k, 3M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.4g}{unit}"
    return f"{value:.4g}".replace("-", "−")


def draw(plot):
    """The SVG of a report_blocks.Plot, as bytes."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    with matplotlib.rc_context(dict(matplotlib.rcParamsDefault) | {"backend": "svg"} | RC):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        looks = look(plot.series)
        for name, (xs, ys) in plot.series.items():
            colour, style = looks[name]
            if plot.steps:
                axes.stairs(ys, xs, color=colour, linestyle=style, linewidth=1.7)
                continue
            xs, ys = thin(xs, ys)
            axes.plot(xs, ys, color=colour, linestyle=style, linewidth=1.7, marker="o" if len(xs) < 20 else "", ms=4)
        axes.set_xlabel(plot.x)
        axes.set_ylabel(plot.y)
        if plot.steps:
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=axis is axes.xaxis))
            axis.set_major_formatter(FuncFormatter(short))
        svg = io.StringIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", svg.getvalue(), flags=re.S)
    text = re.sub(r"<!--.*?-->\n?|<\?xml.*?\?>\n?|<!DOCTYPE.*?>\n?", "", text, flags=re.S)
    themes = "svg{color:#2b2926}@media(prefers-color-scheme:dark){svg{color:#d9d5cc}}"
    return text.replace(INK, "currentColor").replace("<defs>", f"<style>{themes}</style>\n <defs>", 1).encode()
