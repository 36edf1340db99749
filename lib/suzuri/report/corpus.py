"""The report on the text: what each step read and dropped, examples of both, lengths."""

import random

import numpy as np

from suzuri.report import data_reader as facts
from suzuri.report.blocks import (
    Beside,
    Group,
    Heading,
    Missing,
    Plot,
    Plots,
    Sentence,
    Sentences,
    Table,
    Text,
    figure,
    percent,
    with_share,
)
from suzuri.shards import display

KEPT, DROPPED = 10, 4  # examples: of a dataset, of a reason
BINS = 40


def text_blocks(data, names, seed):
    """Counts, duplicates, lengths and examples of the datasets `names`."""
    if not names:
        return [Missing("No text yet: make build-dataset-cc100-ja build-dataset-jawiki.")]
    counts = {name: facts.counts(data, name) for name in names}
    samples = {name: facts.sentences(data, name) for name in names}
    flow = [
        Heading("What went in, what was dropped"),
        Text("Each step counts what it reads and what it passes on; a share is of what that step has read."),
        *flow_table(counts),
    ]
    flow += [Missing(f"{name}: not finished yet; make build-dataset-{name}.") for name in names if not samples[name]]
    split = {name: c["shuffle-split"] for name, c in counts.items() if "shuffle-split" in c}
    about = [Heading("Duplicates"), Text(duplicates(split))] if split else []
    samples = {name: found for name, found in samples.items() if found}
    if samples:
        lengths = {name: np.array([len(s) for s in found]) for name, found in samples.items()}
        sizes = ", ".join(f"{figure(len(found))} of {name}" for name, found in samples.items())
        about += [
            Heading("Length of a sentence"),
            Text(f"In characters, over the first sentences of the shuffled train-000.txt: {sizes}."),
            quantiles(lengths),
            Plots([histogram("Sentences by length", "characters", "sentences, %", lengths)]),
        ]
    blocks = [Beside([flow, about])]
    columns = []
    for name, found in samples.items():
        chosen = random.Random(f"{seed} kept {name}").sample(found, min(KEPT, len(found)))
        columns.append([Heading(f"Kept: {name}"), Sentences([Sentence(cut(s)) for s in chosen])])
    blocks.append(Beside(columns))
    columns = []
    for name in names:
        rows = dropped_rows(facts.dropped(data, name), seed, name)
        if rows:
            about = Text("Drawn from the first of each kind that the filter met.")
            columns.append([Heading(f"Dropped: {name}"), about, Table(["sentence"], rows)])
    return [*blocks, Beside(columns)]


def flow_table(counts):
    """One row for each thing that a tool counted, one column for each dataset."""
    order = ("extract-wiki", "split-sentences", "filter-sentences", "shuffle-split")
    tools = [*order, *sorted({tool for found in counts.values() for tool in found} - {*order})]
    rows = []
    for tool in tools:
        keys = list(dict.fromkeys(key for found in counts.values() for key in found.get(tool, ())))
        rows += [Group(tool)] if keys else []
        for i, key in enumerate(keys):
            cells = []
            for found in counts.values():
                numbers = found.get(tool, {})
                whole = next(iter(numbers.values()), 0)
                shared = i and tool in ("filter-sentences", "shuffle-split") and key in numbers
                cells.append(with_share(numbers[key], whole) if shared else numbers.get(key))
            rows.append([key.replace("_", " "), *cells])
    return [Table(["", *counts], rows)] if rows else []


def duplicates(split):
    """A sentence on the duplicates; `split`: {name: shuffle-split's counts}."""
    told = [
        f"{name}: {figure(c.get('duplicates_dropped'))} of {figure(c.get('sentences_in'))} "
        f"({percent(c.get('duplicates_dropped', 0), c.get('sentences_in'))})"
        for name, c in split.items()
    ]
    return f"Exact copies of a sentence or document, dropped wherever they stood. {'; '.join(told)}."


def dropped_rows(found, seed, name):
    """Rows of examples under their reasons; `found`: {reason: [sentence, …]}."""
    rows = []
    for reason, sentences in found.items():
        chosen = random.Random(f"{seed} dropped {name} {reason}").sample(sentences, min(DROPPED, len(sentences)))
        rows += [Group(reason), *([Sentence(cut(s))] for s in chosen)]
    return rows


def cut(sentence, longest=300):
    return sentence if len(sentence) <= longest else f"{sentence[:longest]}… ({figure(len(sentence))} characters)"


def quantiles(lengths):
    """A table of the lengths' quantiles; `lengths`: {name: integers}."""
    rows = [
        [what, *(int(np.quantile(found, q, method="lower")) for found in lengths.values())]
        for what, q in display.QUANTILES.items()
    ]
    rows.insert(0, ["mean", *(float(found.mean()) for found in lengths.values())])
    return Table(["", *lengths], rows)


def histogram(title, x, y, lengths):
    """Shares of `lengths`, {name: integers}, in bins that reach to where all but a hundredth of each end."""
    end = max(int(np.quantile(found, 0.99)) for found in lengths.values()) + 1
    edges = np.arange(0, end + BINS, max(1, -(-end // BINS)))
    series = {
        name: (edges.tolist(), (100 * np.histogram(found, edges)[0] / len(found)).tolist())
        for name, found in lengths.items()
    }
    longest = max(int(found.max()) for found in lengths.values())
    beyond = f"The longest, up to {figure(longest)}, lie beyond the right edge." if longest >= edges[-1] else ""
    return Plot(title, x, y, series, steps=True, note=beyond)
