"""The table of results: a row per model, a column per metric, figures with their deviations and errors."""

import math
import os

from suzuri.errors import DataError
from suzuri.evaluation.tasks import TASKS, show
from suzuri.training.metrics import SNAPSHOTS

BASELINES = ("random weights", "bag of words")


def row_of(result: dict) -> str:
    """The row that a result of bin/finetune or bin/eval-mlm belongs to."""
    if result["weights"] is None:
        return "bag of words"
    if result["weights"] == "random":
        return "random weights"
    model, tokens = model_of(result)
    return model if tokens is None else f"{model} after {tokens:,} tokens"


def model_of(result: dict) -> tuple[str, int | None]:
    """(the name of the model, and if it is a snapshot, after how many tokens) of a result.

    >>> model_of({"model": "models/mini/snapshots/000001000000"}), model_of({"model": "models/mini/"})
    (('mini', 1000000), ('mini', None))
    """
    parent, name = os.path.split(os.path.normpath(result["model"]))
    model, folder = os.path.split(parent)
    if folder == SNAPSHOTS and name.isdecimal():
        return os.path.basename(model).removesuffix(".part"), int(name)  # of a run that goes on, or is finished
    return name, None


def variance(found: dict) -> float:
    """That of a mean: by the choice of the examples, and by the choice of the seeds."""
    seeds = (found["deviation"] or 0) ** 2 / len(found.get("values") or [0])
    return seeds + (found.get("standard_error") or 0) ** 2


def is_above(one: dict, other: dict) -> bool:
    """Whether the mean of `one` is higher than that of `other` by two standard errors of the difference or more."""
    return one["mean"] - other["mean"] > 2 * math.sqrt(variance(one) + variance(other))


def table(results: list[dict]) -> list[list[str]]:
    """[[cell, …], …] of results. The first row is the header; the others are in the order of the models' first results.

    A pre-trained model's cell says which of the two baselines it is not above.
    """
    cells, models = {}, {}
    for result in results:
        for metric, found in result["metrics"].items():
            key = row_of(result), result["task"], metric
            if key in cells:
                two = f"two results of {key[0]} in {key[1]}, of {models[key]} and {result['model']}"
                raise DataError(two, "the table tells rows apart by the folder's name: rename one")
            cells[key], models[key] = found, result["model"]
    known = [(t.name, m) for t in TASKS.values() for m in t.metrics]
    columns = sorted(dict.fromkeys(k[1:] for k in cells), key=lambda c: known.index(c) if c in known else len(known))
    rows = [["model", *(f"{task} {metric}" for task, metric in columns)]]
    for row in dict.fromkeys(map(row_of, results)):
        line = [row]
        for column in columns:
            found = cells.get((row, *column))
            if found is None:
                line.append("-")
                continue
            others = [] if row in BASELINES else [b for b in BASELINES if (b, *column) in cells]
            below = [b for b in others if not is_above(found, cells[b, *column])]
            line.append(show(found) + (f" (not above {' or '.join(below)})" if below else ""))
        rows.append(line)
    return rows


def as_tsv(rows: list[list[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


def as_markdown(rows: list[list[str]]) -> str:
    head, *rest = (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)
    return "".join([head, "|---" * len(rows[0]) + "|\n", *rest])
