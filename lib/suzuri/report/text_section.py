"""The section on the text: what each step read and dropped, lengths, examples."""

import random

import numpy as np

from suzuri.report import data_reader
from suzuri.report.formats import figure, table, table_of_columns, with_share
from suzuri.report.plots import Plot
from suzuri.shards import display

KEPT, DROPPED = 10, 4  # examples per dataset, per reason
LONGEST = 300  # characters shown of an example
BINS = 40


def text_blocks(data: str, seed: int) -> list:
    """Counts, lengths and examples of every dataset."""
    names = data_reader.datasets(data)
    if not names:
        return [("missing", "No text yet: make build-dataset-cc100-ja build-dataset-jawiki.")]
    samples = {name: found for name in names if (found := data_reader.sentences(data, name))}
    lengths = {name: np.array([len(s) for s in found]) for name, found in samples.items()}
    kept, dropped = [], []
    for name, found in samples.items():
        shown = [(s, []) for s in examples(found, KEPT, f"{seed} kept {name}")]
        kept.append([("heading", f"Kept sentences: {name}"), ("sentences", shown)])
    for name in names:
        rows = []
        for reason, found in data_reader.dropped(data, name).items():
            rows += [reason, *([s] for s in examples(found, DROPPED, f"{seed} dropped {name} {reason}"))]
        about = ("text", "Drawn from the first sentences that the filter dropped for each reason.")
        dropped += [[("heading", f"Dropped sentences: {name}"), about, table(["sentence"], rows, "j")]] if rows else []
    over = "In characters, over the first sentences of the shuffled train-000.txt"
    blocks = [
        ("beside", [counts_blocks(data, names), length_blocks("Sentence length", over, lengths, "characters")]),
        ("beside", kept),
        ("beside", dropped),
    ]
    unfinished = [name for name in names if name not in samples]
    return [*(("missing", f"{name}: not finished yet: make build-dataset-{name}.") for name in unfinished), *blocks]


def counts_blocks(data: str, names: list[str]) -> list:
    """A row per count of a tool, a column per dataset."""
    counts, rows = [data_reader.counts(data, name) for name in names], []
    for tool in dict.fromkeys(tool for found in counts for tool in found):
        rows.append(tool)
        columns = [found.get(tool, {}) for found in counts]
        for i, key in enumerate(dict.fromkeys(key for column in columns for key in column)):
            cells = [column.get(key) for column in columns]
            if i and tool in ("filter-sentences", "shuffle-split"):  # sentences in, sentences out
                cells = [n and with_share(n, next(iter(c.values()))) for n, c in zip(cells, columns, strict=True)]
            rows.append([key.replace("_", " "), *cells])
    text = (
        "Each step counts what it reads and what it passes on; percentages are of what the step reads. "
        "Duplicates are exact copies of a sentence or document, dropped wherever they occur."
    )
    return [("heading", "Counts per step"), ("text", text), table(["", *names], rows)] if rows else []


def examples(sentences: list[str], n: int, seed: str) -> list[str]:
    """`n` of the sentences, or all if there are fewer; the end of a long one is cut off."""
    drawn = random.Random(seed).sample(sentences, min(n, len(sentences)))
    return [s if len(s) <= LONGEST else f"{s[:LONGEST]}… ({figure(len(s))} characters)" for s in drawn]


def length_blocks(title: str, over: str, lengths: dict[str, np.ndarray], unit: str) -> list:
    """Quantiles and a histogram of `lengths`, {dataset: integers}, in bins up to the highest 99th percentile."""
    if not lengths:
        return []
    columns = {
        name: {"mean": float(found.mean())}
        | {what: int(np.quantile(found, q, method="lower")) for what, q in display.QUANTILES.items()}
        for name, found in lengths.items()
    }
    end = max(int(np.quantile(found, 0.99)) for found in lengths.values()) + 1
    edges = np.arange(0, end + BINS, max(1, -(-end // BINS)))
    series = {n: (edges.tolist(), (100 * np.histogram(v, edges)[0] / len(v)).tolist()) for n, v in lengths.items()}
    longest = max(int(found.max()) for found in lengths.values())
    note = f"The longest, up to {figure(longest)}, are beyond the right edge." if longest >= edges[-1] else ""
    sizes = ", ".join(f"{figure(len(found))} of {name}" for name, found in lengths.items())
    return [
        ("heading", title),
        ("text", f"{over}: {sizes}."),
        table_of_columns(columns),
        ("plots", [Plot(f"{title}s", unit, "share, %", series, steps=True, note=note)]),
    ]
