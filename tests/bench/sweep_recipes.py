#!/usr/bin/env python3
"""A comparison of many recipes: one model trained by each, with equal tokens, and a table of the results.

--sweep loss compares them by the validation loss: each recipe differs from "baseline" in what its name says; "tiny-plm"
is tiny-plm's own. "tokens to tiny-plm's loss" is when a recipe reaches tiny-plm's final loss.

--sweep compare asks what makes a model learn to compare sentences: each recipe differs from "bert", Muon on single
sentences, and is also measured by minimal pairs and by the similarity of mean vectors (Spearman, JSTS), both
without any training on them.

All see the same number of tokens of $SUZURI_DATA's web text (by default ../shared/data next to the checkout) with one
tokenizer. The validation loss is at 15 % masking, with fixed masks, on sentences of documents that are not in the
training text. With --eval-tasks each model is also fine-tuned (bin/finetune). "work" is a run's arithmetic
(model.flops) relative to that of the first recipe, "time" that of its training.

Works in --out: data-*/ (shards, made once), runs/KEY/ (models, curves, results) and SWEEP.md, a table of all finished
runs. What exists is not made again, so a stopped sweep continues and --only NAME or --seed N adds to it. Give each
--model and --vocab-size an --out of its own: the table does not tell them apart.

The default models are small enough for two CPU cores, and say little about large ones. The second example is for a
GPU.

Example:
  tests/bench/sweep_recipes.py --out data/sweep
  tests/bench/sweep_recipes.py --out data/sweep --model configs/model-bert-tiny.json --tokens 300M --vocab-size 32768
  tests/bench/sweep_recipes.py --out data/sweep --sweep compare --eval-tasks jsick --only bert --only windows
"""

import argparse
import hashlib
import json
import os
import shlex
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SUZURI_DATA", ROOT.parent / "shared/data")).resolve()
sys.path.insert(0, str(ROOT / "lib"))

from suzuri.cli import count, enter_venv  # noqa: E402

enter_venv()

import numpy as np  # noqa: E402
from suzuri.evaluation.tasks import TASKS  # noqa: E402
from suzuri.shards.shard_file import Shard  # noqa: E402
from suzuri.training.model import flops  # noqa: E402
from transformers import AutoModelForMaskedLM  # noqa: E402

SMALL = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384}

BASELINE = {
    "chunk_tokens": 2048,  # at least two per step even for the smallest batch: one per core
    "batch_tokens": 8192,
    "learning_rate": 2e-3,
    "warmup_ratio": 0.05,
    "lr_scheduler_type": "linear",
    "weight_decay": 0.01,
}
LOSS = {
    # 256 sentences per step are about 8,192 tokens; the rest is run_mlm.py's default.
    "tiny-plm": {
        "learning_rate": 5e-5,
        "warmup_ratio": 0.0,
        "weight_decay": 0.0,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "dropout": None,
    },
    "baseline": {},
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
    "modernbert": {"gated": "modernbert"},
    "modernbert, Muon, learning rate 4e-3": {"gated": "modernbert", "optim": "muon", "learning_rate": 4e-3},
    "Muon, learning rate 4e-3, masking 30 %, the last tenth 15 %": {
        "optim": "muon",
        "learning_rate": 4e-3,
        "mlm_probability": 0.3,
        "mlm_probability_tail": 0.15,
    },
}

# A plain BERT on single sentences; the learning rate falls to 0, as with every recipe here.
BERT = {"optim": "muon", "learning_rate": 4e-3, "batch_tokens": 8192, "warmup_ratio": 0.05}
BERT |= {"mlm_probability": 0.3, "mlm_probability_tail": 0.15}
WINDOWS = {"unit": "window", "chunk_tokens": 1024}
SMALL_STEPS = {"batch_tokens": 4096, "chunk_tokens": 2048, "learning_rate": 2.8e-3}
NOMIC = SMALL_STEPS | {"gated": "nomic_bert"}
HALF = NOMIC | {"crop_pairs": 0.5}
COMPARE = {
    "bert": {},
    "windows": WINDOWS,
    "windows, chunks of 8,192 tokens": {"unit": "window"},
    "windows of 4 sentences, shuffled": {"unit": "window-4"},
    "windows of 8 sentences, shuffled, of 256 tokens": {"unit": "window-8", "length": 256},
    "documents": {"unit": "document", "chunk_tokens": 1024},
    "embeddings not tied": {"model.tie_word_embeddings": False},
    "modernbert": {"gated": "modernbert"},
    "modernbert, windows": WINDOWS | {"gated": "modernbert"},
    "modernbert, batch 4,096 tokens": SMALL_STEPS | {"gated": "modernbert"},
    "modernbert, batch 4,096 tokens, half as pairs": SMALL_STEPS | {"gated": "modernbert", "crop_pairs": 0.5},
    "nomic_bert": NOMIC,
    "nomic_bert, windows": NOMIC | {"unit": "window"},
    "nomic_bert, windows of 256 tokens": NOMIC | {"unit": "window", "length": 256},
    "nomic_bert, a quarter as pairs": NOMIC | {"crop_pairs": 0.25},
    "nomic_bert, half as pairs": HALF,
    "nomic_bert, all as pairs": NOMIC | {"crop_pairs": 1},
    "nomic_bert, half as pairs, embeddings not tied": HALF | {"model.tie_word_embeddings": False},
    "nomic_bert, half as pairs, learning rate 2e-3": HALF | {"learning_rate": 2e-3},
    "nomic_bert, half as pairs, learning rate 4e-3": HALF | {"learning_rate": 4e-3},
    "nomic_bert, half as pairs, AdamW, learning rate 1e-3": HALF | {"optim": "adamw", "learning_rate": 1e-3},
    "nomic_bert, half as pairs, AdamW, learning rate 2e-3": HALF | {"optim": "adamw", "learning_rate": 2e-3},
    "nomic_bert, half as pairs, AdamW, learning rate 4e-3": HALF | {"optim": "adamw", "learning_rate": 4e-3},
    "nomic_bert, half as pairs, AdamW, learning rate 8e-3": HALF | {"optim": "adamw", "learning_rate": 8e-3},
    "nomic_bert, half as pairs, batch 8,192 tokens": HALF | {"batch_tokens": 8192, "learning_rate": 4e-3},
    "nomic_bert, half as pairs, batch 2,048 tokens": HALF
    | {"batch_tokens": 2048, "chunk_tokens": 1024, "learning_rate": 2e-3},
}
# The recipes, what they differ from, the shape of the model, tokens, pieces.
SWEEPS = {
    "loss": (LOSS, BASELINE, {"model_type": "bert"} | SMALL, 1_500_000, 8192),
    "compare": (COMPARE, BERT, {"model_type": "bert"} | SMALL, 10_000_000, 8192),
}


def bash(command, **options):
    env = {**os.environ, "PATH": path()}
    return subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True, env=env, **options)


def path():
    return f"{ROOT / 'bin'}:{os.environ['PATH']}"


def prepare_text(out, vocab_size):
    """OUT/text.txt and OUT/other.txt, the sentences of training and validation documents, and the folder that this
    returns, with a tokenizer."""
    folder = out / f"data-{vocab_size}"
    if not (folder / "tokenizer").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for path, file in (out / "text.txt", "ja.txt.xz"), (out / "other.txt", "ja-mini.txt.xz"):
            if not path.exists():
                bash(f"xzcat {DATA}/cc100/{file} | split-sentences --jobs 2 | filter-sentences >{path}.part")
                Path(f"{path}.part").rename(path)
        bash(f"train-tokenizer --vocab-size {vocab_size} {folder}/tokenizer <{out}/text.txt")
    return folder


# A blank line after every n lines: documents become windows that are shuffled one by one.
WINDOWS_OF = '!NF { k = 0 } NF && k == n { print ""; k = 0 } { print; k += NF > 0 }'


def prepare_shards(folder, unit, length, pairs=0):
    """A folder of shards, train-000 and valid, whose sequences hold `unit` in at most `length` tokens.

    A share `pairs` of the training lines become crop pairs.
    """
    shards = folder / f"{unit}-{length}{f'-pairs-{pairs}' if pairs else ''}"
    if not (shards / "valid.safetensors").exists():
        shards.mkdir(exist_ok=True)
        kind, _, lines = unit.partition("-")
        for name, text in ("train-000", "text"), ("valid", "other"):
            bash(
                f"{f'awk -v n={lines} {shlex.quote(WINDOWS_OF)}' if lines else 'cat'}"
                f" <{folder.parent}/{text}.txt"
                f" | shuffle-split --unit {'line' if kind == 'line' else 'document'} {shards}/{name}"
                f" && pack-tokens --tokenizer {folder}/tokenizer --unit {kind} --max-seq-length {length}"
                f" {f'--crop-pairs {pairs} ' if pairs and name != 'valid' else ''}"
                f"{shards}/{name}.safetensors <{shards}/{name}/train-000.txt && rm -r {shards}/{name}"
            )
    return shards


def train(name, args, given, shape, data):
    """Train by a recipe, or continue -> (its folder, {name, seed, curve [(tokens, validation loss)], flops, …})."""
    unit, length, pairs = given.pop("unit", "line"), given.pop("length", 128), given.pop("crop_pairs", 0)
    if gated := given.pop("gated", None):  # as many parameters: a gated MLP has three matrices where bert's has two
        shape |= {"model_type": gated, "intermediate_size": shape["intermediate_size"] * 2 // 3}
        shape |= {"global_attn_every_n_layers": 2} if gated == "modernbert" else {}
    shape |= {key.removeprefix("model."): given.pop(key) for key in list(given) if key.startswith("model.")}
    shards = prepare_shards(data, unit, length, pairs)
    steps = args.tokens // given["batch_tokens"]
    recipe = given | {"model_config_file": "model.json", "max_steps": steps, "seed": args.seed}
    recipe |= {"precision": args.precision} if args.precision else {}
    recipe |= {"eval_steps": max(1, steps // 20), "eval_tokens": args.eval_tokens, "logging_steps": max(1, steps // 20)}
    settings = [args.sweep, name, recipe, shape, unit, length, pairs, args.vocab_size]
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    folder = args.out / "runs" / key
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in ("recipe.json", recipe), ("model.json", shape):
        (folder / file).write_text(json.dumps(content, indent=2) + "\n")
    print(f"== {name}: {steps:,} steps of {recipe['batch_tokens']:,} tokens: {folder}", file=sys.stderr, flush=True)
    bash(
        f"train-mlm {folder}/recipe.json --train {shards} --valid {shards}/valid.safetensors"
        f" --tokenizer {data}/tokenizer --output {folder}/model 2> >(tail -3 >&2)"
    )
    lines = [json.loads(line) for line in (folder / "model/metrics.jsonl").read_text().splitlines()]
    curve = [(line["step"] * recipe["batch_tokens"], line["eval_loss"]) for line in lines if "eval_loss" in line]
    speeds = [line["tokens_per_second"] for line in lines if "tokens_per_second" in line]
    shard = Shard(f"{shards}/train-000.safetensors")
    squares = int((np.diff(shard.offsets) ** 2).sum()) * args.tokens // len(shard.tokens)
    masked = given.get("mlm_probability", 0.15)
    masked += ((given.get("mlm_probability_tail") or masked) - masked) * 0.1
    model = AutoModelForMaskedLM.from_pretrained(folder / "model")
    work = flops(model, args.tokens, round(masked * args.tokens), squares)
    result = {
        "sweep": args.sweep,
        "name": name,
        "seed": args.seed,
        "tokens": args.tokens,
        "curve": curve,
        "flops": work,
    }
    return folder, result | {"seconds": args.tokens / statistics.median(speeds)}


def evaluate(folder, args, data, found):
    """{column: figure} of a trained model; those in `found` are not made again."""
    model = folder / "model"
    valid = prepare_shards(data, "line", 128) / "valid.safetensors"
    pairs, similar = f"--pairs {ROOT}/data/sample/minimal-pairs.tsv", f"--similarity {args.tasks}/jsts/valid.jsonl"
    columns = {"validation loss": (f"eval-mlm --json {model} {valid} --max-tokens {args.eval_tokens}", "loss")}
    if args.sweep == "compare":
        columns |= {"minimal pairs": (f"eval-mlm --json {model} {pairs}", "accuracy")}
        columns |= {"similarity": (f"eval-mlm --json {model} {similar}", "spearman")}
    for task in filter(None, args.eval_tasks.split(",")):
        command = f"finetune {model} {task} --tasks {args.tasks} {args.finetune}"
        columns[f"{task} {args.finetune}".strip()] = command, TASKS[task].metrics[0]
    for column, (command, figure) in columns.items():
        if column not in found:
            made = tool(command)
            found |= {column: made[figure] if figure in made else made["metrics"][figure]["mean"]}
    return found


def tool(command):
    """The JSON object that a command prints."""
    return json.loads(bash(command, stdout=subprocess.PIPE).stdout)


def tokens_to_reach(curve, loss):
    """Where a curve [(tokens, loss)] first reaches `loss`, interpolated; None if never."""
    for (x0, y0), (x1, y1) in pairwise(curve):
        if y1 <= loss:
            return x1 if y0 <= y1 else x0 + (x1 - x0) * (y0 - max(loss, y1)) / (y0 - y1)
    return None


def table(results, recipes):
    """Markdown lines, in the order of the recipes; figures of several seeds stand side by side."""
    runs = {name: [r for r in results if r["name"] == name] for name in recipes}
    runs = {name: sorted(them, key=lambda r: (r["tokens"], r["seed"])) for name, them in runs.items() if them}
    columns = list(dict.fromkeys(column for r in results for column in r["scores"]))
    target = runs["tiny-plm"][0]["curve"][-1] if "tiny-plm" in runs else None
    head = ["recipe", "tokens", *columns, *(["tokens to tiny-plm's loss"] if target else []), "work", "time"]
    yield f"| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}\n"
    usual = next(iter(runs.values()))[0]
    for name, them in runs.items():
        cells = [name, " / ".join(f"{r['tokens'] / 1e6:.1f}M" for r in them)]
        cells += [
            " / ".join(f"{r['scores'][column]:.4g}" if column in r["scores"] else "-" for r in them)
            for column in columns
        ]
        if target:
            reached = tokens_to_reach(them[0]["curve"], target[1])
            cells.append("never" if reached is None else f"{reached / target[0]:.0%}")
        cells.append(f"{them[0]['flops'] / usual['flops'] * usual['tokens'] / them[0]['tokens']:.2f}")
        cells.append(" / ".join(f"{r['seconds']:,.0f} s" for r in them))
        yield f"| {' | '.join(cells)} |\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=ROOT / "data/sweep", metavar="DIR", help="default data/sweep")
    p.add_argument("--sweep", choices=SWEEPS, default="loss", help="what is compared; default loss")
    p.add_argument("--tokens", type=count, metavar="N", help="for each recipe; default 1.5M (loss), 10M (compare)")
    p.add_argument("--eval-tokens", type=count, default=50_000, metavar="N", help="of validation; default 50k")
    p.add_argument("--model", metavar="FILE", help="a model config; default: that of the sweep")
    p.add_argument("--vocab-size", type=count, metavar="N", help="default 8192")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.add_argument("--precision", metavar="P", help="of training: fp32, bf16; default: the trainer's")
    p.add_argument("--only", action="append", metavar="NAME", help="this recipe; may be given again")
    p.add_argument("--tasks", metavar="DIR", default=DATA / "tasks", help="default: those of SUZURI_DATA")
    p.add_argument("--eval-tasks", default="", metavar="A,B", help="fine-tune on these tasks, too")
    p.add_argument("--finetune", default="", metavar="ARGS", help="options for bin/finetune; default: its own")
    args = p.parse_args()
    recipes, base, shape, tokens, vocab_size = SWEEPS[args.sweep]
    args.tokens, args.vocab_size = args.tokens or tokens, args.vocab_size or vocab_size
    args.out = args.out.resolve()
    if unknown := set(args.only or ()) - recipes.keys():
        p.error(f"--only: {', '.join(sorted(unknown))}: not in the sweep {args.sweep} ({', '.join(recipes)})")
    shape = shape | {"max_position_embeddings": 512}
    if args.model:
        shape = json.loads(Path(args.model).read_text())
    data = prepare_text(args.out, args.vocab_size)
    for name in args.only or recipes:
        folder, result = train(name, args, base | recipes[name], dict(shape), data)
        made = folder / "result.json"
        known = json.loads(made.read_text())["scores"] if made.exists() else {}
        made.write_text(json.dumps(result | {"scores": evaluate(folder, args, data, known)}) + "\n")
        results = [json.loads(path.read_text()) for path in sorted(args.out.glob("runs/*/result.json"))]
        text = "".join(table([r for r in results if r["sweep"] == args.sweep], recipes))
        (args.out / f"{args.sweep}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
