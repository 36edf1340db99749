"""Estimates for --dry-run: sizes, steps, memory and time of a run, measured on one micro-batch per CPU thread."""

import time

import torch

from suzuri.training.batches import Tensors
from suzuri.training.model import activation_bytes, parameter_counts
from suzuri.training.step import StepRunner
from suzuri.training.throughput import duration


def estimates(runner: StepRunner) -> list[tuple[str, str]]:
    """[(what, value in words), …], as train-mlm --dry-run prints them."""
    inputs, recipe, ranks = runner.inputs, runner.recipe, runner.ranks
    total, body, head = parameter_counts(runner.model)
    workers = runner.workers.count if runner.workers else 1
    sample = [tensors for tensors, _ in runner.batches.of_step(0)[:workers]]
    seconds = min(seconds_of(runner, sample) for _ in range(2))
    sample_tokens, rows = (sum(len(tensors[key]) for tensors in sample) for key in ("input_ids", "rows"))
    run_tokens = inputs.tokens(inputs.steps)
    # The sample's chunks may be filled up, like those of the run.
    seconds *= inputs.steps * recipe["batch_tokens"] / sample_tokens / ranks.world
    if ranks.device.type == "cuda":
        activations = torch.cuda.max_memory_allocated(ranks.device) - 8 * total
    else:
        activations = activation_bytes(runner.model, sample_tokens, rows, runner.dtype)
    memory = 16 * total + activations  # weights, gradients, two moments, 4 bytes each
    kind, axis = runner.model.config.model_type, inputs.axis
    return [
        ("model", f"{kind}, {total:,} parameters ({body:,} in layers, {head:,} in the head)"),
        ("tokens", f"{axis.num_tokens:,} in {axis.num_sequences:,} sequences, {axis.num_chunks:,} chunks per epoch"),
        ("steps", f"{inputs.steps:,} of {recipe['batch_tokens']:,} tokens, {inputs.epochs(inputs.steps):.2f} epochs"),
        ("machine", runner.machine),
        ("memory", f"about {memory / 1e9:.1f} GB with {sample_tokens:,} tokens at once"),
        ("time", f"about {duration(seconds)} at {run_tokens / seconds:,.0f} tokens/s, measured"),
    ]


def seconds_of(runner: StepRunner, sample: list[Tensors]) -> float:
    """The seconds that some micro-batches take, forward and backward."""
    start = time.perf_counter()
    for _ in runner.in_turn(runner.gradients, sample):
        pass
    if runner.ranks.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
