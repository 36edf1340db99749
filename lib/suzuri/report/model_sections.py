"""The sections on the models: training curves, candidates for [MASK], evaluation."""

import os

import numpy as np

from suzuri.errors import DataError
from suzuri.evaluation import results_table
from suzuri.report import data_reader
from suzuri.report.formats import figure, percent, table, table_of_columns
from suzuri.report.plots import Plot

# A key of metrics.jsonl, the title of its plot, its unit.
CURVES = (
    ("loss", "Training loss", "loss"),
    ("eval_loss", "Validation loss", "loss"),
    ("eval_accuracy", "Validation accuracy", "share of masked tokens"),
    ("learning_rate", "Learning rate", "learning rate"),
    ("grad_norm", "Gradient norm", "norm, before clipping"),
    ("tokens_per_second", "Speed", "tokens per second"),
)


def training_blocks(data: str) -> list:
    """A table of the models, and the curves of their metrics.jsonl."""
    models = data_reader.models(data)
    if not models:
        return [("missing", "No models yet: make train-model-cc100-ja train-model-jawiki.")]
    columns = {}
    for model in models:
        losses, accuracies, speeds = (model.curve(k)[1] for k in ("eval_loss", "eval_accuracy", "tokens_per_second"))
        shape = [model.config.get(k) for k in ("num_hidden_layers", "hidden_size", "num_attention_heads")]
        columns[model.name] = {
            "initial weights": model.init or ("random" if model.manifest else None),
            "architecture": model.config.get("model_type"),
            "layers × width × heads": " × ".join(map(figure, shape)) if all(shape) else None,
            "parameters": model.counts.get("parameters"),
            "steps": model.counts.get("steps") or max((line["step"] for line in model.lines), default=None),
            "tokens seen": model.counts.get("tokens seen"),
            "epochs": model.counts.get("epochs"),
            "validation loss, before": losses[0] if losses else None,
            "validation loss, after": losses[-1] if losses else None,
            "validation accuracy, before": percent(accuracies[0], 1) if accuracies else None,
            "validation accuracy, after": percent(accuracies[-1], 1) if accuracies else None,
            "tokens per second, median": float(round(np.median(speeds))) if speeds else None,
        }
    plots = []
    for key, title, unit in CURVES:
        series = {m.name: curve for m in models if (curve := m.curve(key))[0]}
        plots += [Plot(title, "step", unit, series)] if series else []
    waiting = [("missing", f"{m.name}: still in training, or stopped.") for m in models if not m.manifest]
    return [table_of_columns(columns), *waiting, ("plots", plots)]


def fill_mask_blocks(data: str, lines: list[str], top: int = 5) -> list:
    """The last finished model's candidates for each [MASK] in `lines`."""
    made = [model for model in data_reader.models(data) if model.manifest]
    if not made or not lines:
        why = "No finished model yet." if lines else "No sentences with [MASK] were given (--fill-mask FILE)."
        return [("missing", why)]
    from suzuri.evaluation.fill_mask import Filler

    filled = zip(lines, Filler(made[-1].folder, top).fill(lines), strict=True)
    shown = [(line, [(piece, percent(p, 1)) for piece, p in found]) for line, masks in filled for found in masks]
    return [("text", f"Candidates of {made[-1].name} for [MASK], the most likely first."), ("sentences", shown)]


def evaluation_blocks(data: str) -> list:
    """The results that eval-mlm and finetune wrote into DATA/eval."""
    found, old = data_reader.evaluations(data)
    blocks = [("missing", f"{name}: older than its model: make eval.") for name in old]
    if not found:
        return [*blocks, ("missing", "No evaluation yet: make eval.")]
    masked = {name: result for name, result in found.items() if "loss" in result}
    tasks = [result for result in found.values() if "task" in result]
    if masked:
        columns = {
            name: {key.replace("_", " "): value for key, value in result.items() if isinstance(value, int | float)}
            for name, result in masked.items()
        }
        blocks += [
            ("heading", "Masked tokens"),
            ("text", "Measured on the validation shard of each model's dataset, always with the same masks."),
            table_of_columns(columns),
        ]
    if not tasks:
        return [*blocks, ("missing", "No tasks yet: make download-jglue eval.")]
    about = (
        "Scored on the validation splits after fine-tuning; minimal pairs and similarities without it. Figures are "
        "mean ± deviation over the seeds, and the standard error (SE) that comes from the choice of the examples. A "
        "figure is marked unless it is above each baseline by two standard errors of the difference."
    )
    curves = task_curves(tasks, data_reader.models(data))
    return [*blocks, ("heading", "Tasks"), ("text", about), task_table(tasks, os.path.join(data, "eval")), *curves]


def task_curves(results: list[dict], models: list[data_reader.Model]) -> list:
    """Scores against the tokens seen, of a model, of those that it continues, and of the snapshots of all of them."""
    plots, trained = [], [result for result in results if result["weights"] == "pre-trained"]
    for last in (model for model in models if model.name not in {other.init for other in models}):
        series, seen = {}, 0
        for model in last.chain:
            for result in trained:
                name, tokens = results_table.model_of(result)
                tokens = tokens or model.tokens
                if name == model.name and tokens:
                    metric, score = next(iter(result["metrics"].items()))
                    series.setdefault(f"{result['task']} {metric}", []).append((seen + tokens, score["mean"]))
            seen += model.tokens
        curves = {name: tuple(zip(*sorted(points), strict=True)) for name, points in series.items() if len(points) > 1}
        plots += [Plot(f"{last.name}: tasks", "tokens", "score", curves, log=True)] if curves else []
    return [("plots", plots)] if plots else []


def task_table(results: list[dict], room: str) -> tuple[str, dict]:
    """compare-results' table of finetune's results, with the baselines last."""
    order = ("pre-trained", "random", None)
    try:
        header, *rows = results_table.table(sorted(results, key=lambda r: order.index(r["weights"])))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise DataError(room, f"not all are results of finetune ({type(e).__name__}: {e})") from None
    return table(header, rows)
