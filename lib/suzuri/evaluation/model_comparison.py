"""The comparison of models, for example before training and after each stage, as text for a terminal.

Two tables with a column per model: the ranks of the right words at [MASK], and the accuracy over minimal pairs.
"""

import os
import statistics
import unicodedata

from suzuri.evaluation.fill_mask import Ranked
from suzuri.evaluation.minimal_pairs import Pair, Passed

GAP = "  "


def short_names(folders: list[str]) -> list[str]:
    """The names of model folders, without the part with which all of them begin.

    >>> short_names(["models/demo-cc100-ja", "models/demo-jawiki/"])
    ['cc100-ja', 'jawiki']
    >>> short_names(["a/models/x", "b/models/x"])
    ['a/models/x', 'b/models/x']
    """
    paths = [os.path.abspath(folder).split("/") for folder in folders]
    names, parts = [path[-1] for path in paths], 1
    while len(set(names)) < len(set(map(tuple, paths))):  # two of one name
        parts += 1
        names = ["/".join(path[-parts:]) for path in paths]
    while len(names) > 1 and all("-" in name for name in names) and len({name.split("-")[0] for name in names}) == 1:
        names = [name.partition("-")[2] for name in names]
    return names


def width(text: str) -> int:
    """The columns that a text takes in a terminal: kanji, kana and other wide characters take two.

    >>> width("硯 (suzuri)")
    11
    """
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def aligned(rows: list[list[str]], left: set[int]) -> str:
    """Rows of cells as lines; columns in `left` are flush left, others flush right. An empty row is a blank line."""
    filled = [row for row in rows if row]
    widths = [max(width(row[i]) for row in filled) for i in range(len(filled[0]))]
    lines = []
    for row in rows:
        pads = [" " * (w - width(cell)) for cell, w in zip(row, widths, strict=False)]
        cells = [cell + pad if i in left else pad + cell for i, (cell, pad) in enumerate(zip(row, pads, strict=True))]
        lines.append(GAP.join(cells).rstrip() + "\n")
    return "".join(lines)


def table_of_ranks(
    names: list[str], texts: list[str], mask: str, ranks: list[list[list[Ranked]]], best: list[list[list[str]]]
) -> str:
    """A row per mask: the right piece's rank in each model, the sentence with it, the last model's candidates.

    ranks: for each model, for each text, for each mask; best: for each text, for each mask.
    """
    n, top = len(names), max((len(pieces) for masks in best for pieces in masks), default=0)
    rows = [[*names, "the right word, in brackets", f"top {top} of {names[-1]}"], []]
    for i, text in enumerate(texts):
        for j, pieces in enumerate(best[i]):
            found = [model[i][j] for model in ranks]
            shown = text
            for k, (answer, _) in enumerate(ranks[-1][i]):
                shown = shown.replace(mask, f"[{answer}]" if k == j else answer, 1)
            rows.append([*(f"{r:,}" if r else "-" for _, r in found), shown, " ".join(pieces)])
    known = [[r for text in model for _, r in text if r] for model in ranks]
    medians = [f"{statistics.median(them):,.1f}".removesuffix(".0") if them else "-" for them in known]
    firsts = [f"{sum(r <= top for r in them)}/{len(them)}" for them in known]
    rows += [[], [*medians, "median rank", ""], [*firsts, f"in the top {top}", ""]]
    missing = any(r is None for model in ranks for text in model for _, r in text)
    note = "-: the word is not one piece of the model's vocabulary, and is not counted.\n" if missing else ""
    return aligned(rows, left={n, n + 1}) + note


def table_of_pairs(names: list[str], pairs: list[Pair], passed: list[dict[str, Passed]]) -> str:
    """A row per kind of pair: the share that each model passes, and an example."""
    examples = {pair.kind: f"{pair.right} / {pair.wrong}" for pair in reversed(pairs)}
    rows = [[*names, "kind", "example"], []]
    for kind, (_, n) in passed[0].items():
        cells = [f"{100 * them[kind].accuracy:.0f} %" for them in passed]
        if kind == "all":
            rows += [[], [*cells, f"all {n} pairs", "chance: 50 %"]]
        else:
            rows.append([*cells, kind, examples[kind]])
    return aligned(rows, left={len(names), len(names) + 1})
