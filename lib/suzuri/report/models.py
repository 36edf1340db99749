"""The report on the models: how training went, what they guess, how they are scored."""

import os

import numpy as np

from suzuri.errors import DataError
from suzuri.evaluation import results_table
from suzuri.report import data_reader as facts
from suzuri.report.blocks import Guesses, Heading, Missing, Plot, Plots, Right, Table, Text, figure, percent

# Of metrics.jsonl: key, what it is, what it is measured in.
CURVES = (
    ("loss", "Training loss", "loss"),
    ("eval_loss", "Validation loss", "loss"),
    ("eval_accuracy", "Validation accuracy", "share of masked tokens"),
    ("learning_rate", "Learning rate", "learning rate"),
    ("grad_norm", "Gradient norm", "norm, before clipping"),
    ("tokens_per_second", "Speed", "tokens per second"),
)


def training_blocks(data):
    """A table of the models, and the curves of their metrics.jsonl."""
    models = facts.models(data)
    if not models:
        return [Missing("No models yet: make train-model-cc100-ja train-model-jawiki.")]
    rows = {}
    for model in models:
        counts, config, lines = (model["manifest"] or {}).get("counts", {}), model["config"], model["lines"]
        _, losses = facts.curve(lines, "eval_loss")
        _, right = facts.curve(lines, "eval_accuracy")
        _, speeds = facts.curve(lines, "tokens_per_second")
        shape = [config.get(k) for k in ("num_hidden_layers", "hidden_size", "num_attention_heads")]
        rows[model["name"]] = {
            "began with": model["init"] or ("random weights" if model["manifest"] else None),
            "architecture": config.get("model_type"),
            "layers × width × heads": Right(" × ".join(map(figure, shape))) if all(shape) else None,
            "parameters": counts.get("parameters"),
            "steps": counts.get("steps") or max((line["step"] for line in lines), default=None),
            "tokens seen": counts.get("tokens seen"),
            "epochs": counts.get("epochs"),
            "validation loss, before": losses[0] if losses else None,
            "validation loss, after": losses[-1] if losses else None,
            "validation accuracy, before": Right(percent(right[0], 1)) if right else None,
            "validation accuracy, after": Right(percent(right[-1], 1)) if right else None,
            "tokens per second, median": float(round(np.median(speeds))) if speeds else None,
        }
    keys = next(iter(rows.values()))
    cells = [[key, *(Right(v) if isinstance(v := row[key], str) else v for row in rows.values())] for key in keys]
    blocks = [Table(["", *rows], cells)]
    blocks += [Missing(f"{m['name']}: still in training, or stopped.") for m in models if not m["manifest"]]
    plots = []
    for key, title, unit in CURVES:
        series = {m["name"]: curve for m in models if (curve := facts.curve(m["lines"], key))[0]}
        if series:
            plots.append(Plot(title, "step", unit, series))
    return [*blocks, Plots(plots)] if plots else blocks


def fill_mask_blocks(data, lines, top=5):
    """The last model's guesses, for each [MASK] of a line."""
    made = [m for m in facts.models(data) if m["manifest"]]
    if not made or not lines:
        return [Missing("No finished model yet." if lines else "No sentences with [MASK] given (--fill-mask FILE).")]
    from suzuri.evaluation.fill_mask import Filler

    filled = zip(lines, Filler(made[-1]["folder"], top).fill(lines), strict=True)
    guesses = [(line, [(token, percent(p, 1)) for token, p in found]) for line, masks in filled for found in masks]
    return [Text(f"What {made[-1]['name']} would put at [MASK], the likeliest first."), Guesses(guesses)]


def evaluation_blocks(data):
    """What eval-mlm and finetune wrote into DATA/eval."""
    found = facts.evaluations(data)
    if not found:
        return [Missing("No evaluation yet: make eval.")]
    masked = {name: thing for name, thing in found if "loss" in thing}
    tasks = [thing for _, thing in found if "task" in thing]
    blocks = []
    if masked:
        keys = list(
            dict.fromkeys(k for thing in masked.values() for k, v in thing.items() if isinstance(v, int | float))
        )
        rows = [[name, *map(thing.get, keys)] for name, thing in masked.items()]
        blocks += [
            Heading("Masked tokens"),
            Text("Over the validation shard of each model's dataset, always the same masks."),
            Table(["model", *(k.replace("_", " ") for k in keys)], rows),
        ]
    if tasks:
        blocks += [
            Heading("Tasks"),
            Text(
                "Fine-tuned, scored on the validation split: mean ± deviation over seeds. A figure that is not above "
                "a baseline by more than both deviations together says so."
            ),
            task_table(tasks, os.path.join(data, "eval")),
        ]
    else:
        blocks.append(Missing("No fine-tuned tasks yet: make eval with the tasks' data."))
    return blocks


def task_table(results, room):
    """compare-results' table of what finetune wrote: the baselines last."""
    order = ("pre-trained", "random", None)
    try:
        header, *rows = results_table.table(sorted(results, key=lambda r: order.index(r["weights"])))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise DataError(room, f"not all results of finetune ({type(e).__name__}: {e})") from None
    return Table(header, [[name, *map(Right, cells)] for name, *cells in rows])
