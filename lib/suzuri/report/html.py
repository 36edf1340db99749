"""The report as one HTML page: no script, no font, no picture from elsewhere; nothing to fetch."""

import base64
import html
import os
import re

from suzuri.report import plots as curves
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
    Right,
    Sentence,
    Sentences,
    Table,
    Text,
    Tiles,
    figure,
    visible,
)

# Nothing may be fetched, and nothing of a corpus can run, whatever is in it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def escape(text):
    return html.escape(visible(text))


def page(title, sections, foot):
    """The whole page, str. `sections`: report_blocks.Section; the first stands above the table of contents."""
    with open(os.path.join(os.path.dirname(__file__), "report.css"), encoding="utf-8") as f:
        css = f.read()
    first, *rest = sections
    links = "".join(f'<li><a href="#{anchor(s.title)}">{escape(s.title)}</a></li>' for s in rest)
    body = "".join(
        f'<section aria-labelledby="{anchor(s.title)}">\n<h2 id="{anchor(s.title)}">{escape(s.title)}</h2>\n'
        f"{blocks(s.blocks)}</section>\n"
        for s in rest
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
<header>
<h1>{escape(first.title)}</h1>
{blocks(first.blocks)}<nav aria-label="Contents"><ul>{links}</ul></nav>
</header>
<main>
{body}</main>
<footer>{escape(foot)}</footer>
</body>
</html>
"""


def anchor(title):
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def blocks(found):
    return "".join(DRAW[type(block)](block) + "\n" for block in found)


def table(block):
    right = block.right()
    head = "".join(
        f'<th scope="col"{" class=n" if r else ""}>{escape(h)}</th>' for h, r in zip(block.header, right, strict=True)
    )
    lines = []
    for row in block.rows:
        if isinstance(row, Group):
            lines.append(f'<tr class="g"><th scope="rowgroup" colspan="{len(right)}">{escape(row)}</th></tr>')
            continue
        cells = [cell(value, r) for value, r in zip(row[1:], right[1:], strict=True)]
        lead = row[0]
        first = cell(lead, right[0]) if isinstance(lead, Sentence) else f'<th scope="row">{escape(str(lead))}</th>'
        lines.append(f"<tr>{first}{''.join(cells)}</tr>")
    # A box that can be scrolled must be reached by the keyboard, too.
    return (
        f'<div class="box" tabindex="0" role="group" aria-label="table"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{chr(10).join(lines)}</tbody></table></div>"
    )


def cell(value, right):
    if isinstance(value, Sentence):
        return f'<td lang="ja">{escape(value)}</td>'
    if isinstance(value, Right) or not isinstance(value, str):
        text = value if isinstance(value, str) else figure(value)
        return f'<td class="{"n w" if len(text) > 30 else "n"}">{escape(text)}</td>'
    if re.fullmatch("[0-9a-f]{40,}", value):
        return f"<td><code>{value}</code></td>"
    return f"<td{' class=w' if len(value) > 40 else ''}>{escape(value)}</td>"


def beside(block):
    columns = "".join(f"<div>{blocks(column)}</div>\n" for column in block.columns)
    return f'<div class="beside">{columns}</div>'


def plots(block):
    return f'<div class="plots">\n{"".join(plot(p) for p in block.items)}</div>'


def plot(block):
    looks = curves.look(block.series)
    key = "".join(
        f'<li><i style="border-top-style:{style};border-top-color:{colour}"></i>{escape(name)}</li>'
        for name, (colour, style) in looks.items()
    )
    data = base64.b64encode(curves.draw(block)).decode()
    note = f" {escape(block.note)}" if block.note else ""
    return (
        f'<figure><figcaption><b>{escape(block.title)}</b>{note}<ul class="key">{key}</ul></figcaption>'
        f'<img alt="{escape(alternative(block))}" src="data:image/svg+xml;base64,{data}"></figure>\n'
    )


def alternative(block):
    """The plot in words, for who cannot see it."""
    told = []
    for name, (xs, ys) in block.series.items():
        if block.steps:
            top = max(range(len(ys)), key=ys.__getitem__)
            told.append(f"{name}: most, {figure(ys[top])}, at {figure(xs[top])} to {figure(xs[top + 1])}")
        else:
            told.append(f"{name}: from {figure(ys[0])} at {figure(xs[0])} to {figure(ys[-1])} at {figure(xs[-1])}")
    return f"{block.title}, {block.y} over {block.x}. {'; '.join(told)}."


def tiles(block):
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for value, name in block.items)
    return f'<dl class="tiles">{items}</dl>'


def sentences(block):
    items = "".join(f"<li>{escape(s)}</li>\n" for s in block.items)
    return f'<ul class="said" lang="ja">\n{items}</ul>'


def pieces(block):
    items = "".join(f"<li>{escape(piece)}<small>{escape(str(n))}</small></li>" for piece, n in block.items)
    return f'<ul class="pieces" lang="ja">{items}</ul>'


def guesses(block):
    items = "".join(f"<li>{escape(sentence)}{pieces(Pieces(found))}</li>\n" for sentence, found in block.items)
    return f'<ol class="said guesses" lang="ja">\n{items}</ol>'


DRAW = {
    Text: lambda b: f"<p>{escape(b.text)}</p>",
    Heading: lambda b: f"<h3>{escape(b.text)}</h3>",
    Missing: lambda b: f'<p class="missing">{escape(b.text)}</p>',
    Details: lambda b: f"<details><summary>{escape(b.summary)}</summary>\n{blocks(b.blocks)}</details>",
    Table: table,
    Plot: plot,
    Plots: plots,
    Tiles: tiles,
    Sentences: sentences,
    Pieces: pieces,
    Guesses: guesses,
    Beside: beside,
}
