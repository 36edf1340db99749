"""What a run would be (--dry-run): sizes, steps, memory and time, measured on a micro-batch, or one a core."""

import time

import torch

from suzuri.training.model import activation_bytes, parameter_counts
from suzuri.training.throughput import device_name, duration


def plan(trainer):
    """A list of (what, value in words)."""
    task, recipe, ranks = trainer.task, trainer.recipe, trainer.ranks
    total, body, head = parameter_counts(trainer.model)
    workers = trainer.cores.workers if trainer.cores else 1
    micro = [inputs for inputs, _ in trainer.batches.of_step(0)[:workers]]
    seconds = min(timed(trainer, micro) for _ in range(2))
    micro_tokens, rows = (sum(len(inputs[key]) for inputs in micro) for key in ("input_ids", "rows"))
    speed = micro_tokens / seconds * ranks.world
    if ranks.device.type == "cuda":
        activations = torch.cuda.max_memory_allocated(ranks.device) - 8 * total
    else:
        activations = activation_bytes(trainer.model, micro_tokens, rows, trainer.dtype)
    memory = 16 * total + activations  # weights, gradients, two moments, 4 bytes each
    kind, axis = trainer.model.config.model_type, task.axis
    with trainer.together():
        machine = f"{ranks.world} × {device_name(ranks.device)}, {str(trainer.dtype).removeprefix('torch.')}"
    return [
        ("model", f"{kind}, {total:,} parameters ({body:,} in layers, {head:,} in the head)"),
        ("tokens", f"{axis.num_tokens:,} in {axis.num_sequences:,} sequences, {axis.num_chunks:,} chunks an epoch"),
        ("steps", f"{task.steps:,} of {recipe['batch_tokens']:,} tokens, {task.epochs(task.steps):.2f} epochs"),
        ("machine", machine),
        ("memory", f"about {memory / 1e9:.1f} GB with {micro_tokens:,} tokens at once"),
        ("time", f"about {duration(task.steps * recipe['batch_tokens'] / speed)} at {speed:,.0f} tokens/s, measured"),
    ]


def timed(trainer, micro):
    """Seconds of some micro-batches, forward and backward."""
    start = time.perf_counter()
    for _ in trainer.in_turn(trainer.gradients, micro):
        pass
    if trainer.ranks.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
