#!/usr/bin/env python3
"""A comparison of many recipes: one small model trained by each, with equal tokens, and a table of the results.

Each recipe in RECIPES differs from "suzuri" in what its name says; "tiny-plm" is tiny-plm's own. All see the same
number of tokens of $SUZURI_DATA's web text (by default ../shared/data next to the checkout) with one tokenizer. They
are measured by the validation loss at 15 % masking, with fixed masks, on documents that are not in the training text.
With --tasks each model is also fine-tuned (bin/finetune). In the table, "tokens to tiny-plm's loss" is when a recipe
reaches tiny-plm's final loss; "work" is a run's arithmetic (model.flops) relative to that of "suzuri".

Works in --out: data/ (shards, made once), runs/KEY/ (models, curves), results.json and recipes.md. What exists is not
made again, so a stopped sweep continues and --only NAME adds to it. KEY is a hash of all settings of a run, so runs
with other --tokens, --model or --seed do not replace one another.

The default model is small enough for two CPU cores, and says little about a large one. The second example is for a
GPU.

Example:
  tests/bench/sweep_recipes.py --out data/sweep
  tests/bench/sweep_recipes.py --out data/sweep --model configs/model-bert-tiny.json --tokens 300M --vocab-size 32768
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SUZURI_DATA", ROOT.parent / "shared/data")).resolve()
sys.path.insert(0, str(ROOT / "lib"))

from suzuri.cli import count  # noqa: E402
from suzuri.shards.shard_file import Shard  # noqa: E402
from suzuri.training.model import flops  # noqa: E402
from transformers import AutoModelForMaskedLM  # noqa: E402

SMALL = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384}
# As many parameters in as many layers: modernbert's gated MLP has three matrices where bert's has two.
SMALL_MODERNBERT = SMALL | {"model_type": "modernbert", "intermediate_size": 256, "global_attn_every_n_layers": 2}

SUZURI = {
    "chunk_tokens": 2048,  # at least two per step even for the smallest batch: one per core
    "batch_tokens": 8192,
    "learning_rate": 2e-3,
    "warmup_ratio": 0.05,
    "lr_scheduler_type": "linear",
    "weight_decay": 0.01,
}
RECIPES = {
    # 256 sentences per step are about 8,192 tokens; the rest is run_mlm.py's default.
    "tiny-plm": {
        "learning_rate": 5e-5,
        "warmup_ratio": 0.0,
        "weight_decay": 0.0,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "dropout": None,
    },
    "suzuri": {},
    "learning rate 5e-4": {"learning_rate": 5e-4},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "learning rate 4e-3": {"learning_rate": 4e-3},
    "learning rate 8e-3": {"learning_rate": 8e-3},
    "batch 4,096 tokens": {"batch_tokens": 4096},
    "batch 16,384 tokens": {"batch_tokens": 16384},
    "batch 32,768 tokens": {"batch_tokens": 32768},
    "cosine": {"lr_scheduler_type": "cosine"},
    "wsd, decay 20 %": {"lr_scheduler_type": "wsd", "decay_ratio": 0.2},
    "weight decay 0.1": {"weight_decay": 0.1},
    "masking 20 %": {"mlm_probability": 0.2},
    "masking 30 %": {"mlm_probability": 0.3},
    "masking 40 %": {"mlm_probability": 0.4},
    "masking 30 %, the last tenth 15 %": {"mlm_probability": 0.3, "mlm_probability_tail": 0.15},
    "whole words": {"whole_word_masking": True},
    "documents (UNIT=document)": {"unit": "document"},
    "embeddings not tied": {"model.tie_word_embeddings": False},
    "initializer range 0.05": {"model.initializer_range": 0.05},
    "dropout 0.1": {"dropout": None},
    "Muon": {"optim": "muon"},
    "Muon, learning rate 4e-3": {"optim": "muon", "learning_rate": 4e-3},
    "Muon, learning rate 8e-3": {"optim": "muon", "learning_rate": 8e-3},
    "modernbert": {"model": SMALL_MODERNBERT},
    "modernbert, Muon, learning rate 4e-3": {"model": SMALL_MODERNBERT, "optim": "muon", "learning_rate": 4e-3},
    "Muon, learning rate 4e-3, masking 30 %, the last tenth 15 %": {
        "optim": "muon",
        "learning_rate": 4e-3,
        "mlm_probability": 0.3,
        "mlm_probability_tail": 0.15,
    },
}


def bash(command):
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True, env={**os.environ, "PATH": path()})


def path():
    return f"{ROOT / 'bin'}:{os.environ['PATH']}"


def prepare(folder, vocab_size):
    """Shards of the training text, by sentence and by document, and of the validation text, by sentence."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    clean = "split-sentences --jobs 2 | filter-sentences"
    text, other = DATA / "cc100/ja.txt.xz", DATA / "cc100/ja-mini.txt.xz"
    bash(f"xzcat {other} | {clean} | shuffle-split --valid-fraction 1 {folder}/other")
    for unit in "line", "document":
        bash(f"xzcat {text} | {clean} | shuffle-split --unit {unit} {folder}/text-{unit}")
    bash(f"train-tokenizer --vocab-size {vocab_size} {folder}/tokenizer < {folder}/text-line/train-000.txt")
    pack = f"pack-tokens --tokenizer {folder}/tokenizer --max-seq-length 128"
    bash(f"{pack} {folder}/valid.safetensors < {folder}/other/valid.txt")
    for unit in "line", "document":
        (folder / unit).mkdir()
        bash(f"{pack} --unit {unit} {folder}/{unit}/train-000.safetensors < {folder}/text-{unit}/train-000.txt")
    (folder / "done").touch()


def train(name, args, data, runs):
    """Train by a recipe, or continue -> (its folder, the curve [(tokens, validation loss)], FLOPs)."""
    given = SUZURI | RECIPES[name]
    shape = json.loads(Path(args.model).read_text()) if args.model else {"model_type": "bert"} | SMALL
    shape |= given.pop("model", {}) if not args.model else {}
    unit = given.pop("unit", "line")
    shape |= {key.removeprefix("model."): given.pop(key) for key in list(given) if key.startswith("model.")}
    shape |= {"max_position_embeddings": 512}
    steps = args.tokens // given["batch_tokens"]
    recipe = given | {"model_config_file": "model.json", "max_steps": steps, "seed": args.seed}
    recipe |= {"eval_steps": max(1, steps // 20), "eval_tokens": args.eval_tokens, "logging_steps": max(1, steps // 20)}
    key = hashlib.sha256(json.dumps([recipe, shape, unit, args.vocab_size], sort_keys=True).encode()).hexdigest()[:12]
    folder = runs / key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    for file, content in ("recipe.json", recipe), ("model.json", shape):
        (folder / file).write_text(json.dumps(content, indent=2) + "\n")
    print(f"== {name}: {steps:,} steps of {recipe['batch_tokens']:,} tokens", file=sys.stderr, flush=True)
    bash(
        f"train-mlm {folder}/recipe.json --train {data}/{unit} --valid {data}/valid.safetensors"
        f" --tokenizer {data}/tokenizer --output {folder}/model 2> >(tail -3 >&2)"
    )
    lines = [json.loads(line) for line in (folder / "model/metrics.jsonl").read_text().splitlines()]
    curve = [(line["step"] * recipe["batch_tokens"], line["eval_loss"]) for line in lines if "eval_loss" in line]
    shard = Shard(f"{data}/{unit}/train-000.safetensors")
    squares = int((np.diff(shard.offsets) ** 2).sum()) * args.tokens // len(shard.tokens)
    masked = given.get("mlm_probability", 0.15)
    masked += (given.get("mlm_probability_tail", masked) - masked) * 0.1
    model = AutoModelForMaskedLM.from_pretrained(folder / "model")
    return folder, curve, flops(model, args.tokens, round(masked * args.tokens), squares)


def finetune(folder, args):
    """{task: its main metric, mean and deviation over the seeds} of a trained model."""
    found, key = {}, hashlib.sha256(args.finetune.encode()).hexdigest()[:12]
    for task in args.eval_tasks.split(","):
        result = folder / f"{task}-{key}.json"
        if not result.exists():
            bash(
                f"finetune {folder}/model {task} --tasks {args.tasks} {args.finetune} >{result}.part"
                f" && mv {result}.part {result}"
            )
        found[task] = next(iter(json.loads(result.read_text())["metrics"].values()))
    return found


def tokens_to_reach(curve, loss):
    """Where a curve [(tokens, loss)] first reaches `loss`, interpolated; None if never."""
    for (x0, y0), (x1, y1) in pairwise(curve):
        if y1 <= loss:
            return x1 if y0 <= y1 else x0 + (x1 - x0) * (y0 - max(loss, y1)) / (y0 - y1)
    return None


def table(results):
    """Markdown lines, the best loss first."""
    tokens, reference = results.get("tiny-plm", {"curve": [(1, 0.0)]})["curve"][-1]
    tasks = sorted({task for result in results.values() for task in result.get("tasks", {})})
    head = ["recipe", "validation loss", *tasks, "tokens to tiny-plm's loss", "work"]
    usual = results.get("suzuri", next(iter(results.values())))["flops"]
    yield f"| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}\n"
    for name, result in sorted(results.items(), key=lambda item: item[1]["curve"][-1][1]):
        reached = tokens_to_reach(result["curve"], reference)
        scores = []
        for task in tasks:
            metric = result.get("tasks", {}).get(task, {})
            figures = [metric.get(key) for key in ("mean", "deviation")]  # one seed has no deviation
            scores.append(" ± ".join(f"{figure:.3f}" for figure in figures if figure is not None))
        cells = [
            name,
            f"{result['curve'][-1][1]:.4f}",
            *scores,
            "never" if reached is None else f"{reached / tokens:.0%}",
            f"{result['flops'] / usual:.2f}",
        ]
        yield f"| {' | '.join(cells)} |\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=ROOT / "data/sweep", metavar="DIR", help="default data/sweep")
    p.add_argument("--tokens", type=count, default=1_500_000, metavar="N", help="for each recipe; default 1.5M")
    p.add_argument("--eval-tokens", type=count, default=50_000, metavar="N", help="of validation; default 50k")
    p.add_argument("--model", metavar="FILE", help="a model config; default: a small bert")
    p.add_argument("--vocab-size", type=count, default=8192, metavar="N", help="default 8192")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.add_argument("--only", action="append", choices=RECIPES, metavar="NAME", help="this recipe; may be given again")
    p.add_argument("--tasks", metavar="DIR", help="fine-tune on the tasks in DIR, too")
    p.add_argument("--eval-tasks", default="jsts,jcommonsenseqa", metavar="A,B", help="default jsts,jcommonsenseqa")
    p.add_argument("--finetune", default="", metavar="ARGS", help="options for bin/finetune; default: its own")
    args = p.parse_args()
    data = args.out / f"data-{args.vocab_size}"
    prepare(data, args.vocab_size)
    results = {}
    for name in args.only or RECIPES:
        folder, curve, work = train(name, args, data, args.out / "runs")
        results[name] = {"curve": curve, "flops": work}
        if args.tasks:
            results[name]["tasks"] = finetune(folder, args)
        text = "".join(table(results))
        (args.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        (args.out / "recipes.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
