"""What a run would be (--dry-run): sizes, steps, memory and time, measured on one micro-batch."""

import time

import torch

from suzuri.meter import device_name, duration
from suzuri.model import parameter_counts


def plan(trainer):
    """A list of (what, value in words)."""
    task, recipe, ranks = trainer.task, trainer.recipe, trainer.ranks
    total, body, head = parameter_counts(trainer.model)
    inputs, _ = trainer.batches.of_step(0)[0]
    seconds = min(timed(trainer, inputs) for _ in range(2))
    micro_tokens = len(inputs["input_ids"])
    speed = micro_tokens / seconds * ranks.world
    if ranks.device.type == "cuda":
        activations = torch.cuda.max_memory_allocated(ranks.device) - 8 * total
    else:
        activations = activation_bytes(trainer.model, micro_tokens, len(inputs["rows"]), trainer.dtype)
    memory = 16 * total + activations  # weights, gradients, two moments, 4 bytes each
    kind, axis = trainer.model.config.model_type, task.axis
    return [
        ("model", f"{kind}, {total:,} parameters ({body:,} in layers, {head:,} in the head)"),
        ("tokens", f"{axis.num_tokens:,} in {axis.num_sequences:,} sequences, {axis.num_chunks:,} chunks an epoch"),
        ("steps", f"{task.steps:,} of {recipe['batch_tokens']:,} tokens, {task.epochs(task.steps):.2f} epochs"),
        ("machine", f"{ranks.world} × {device_name(ranks.device)}, {str(trainer.dtype).removeprefix('torch.')}"),
        ("memory", f"about {memory / 1e9:.1f} GB with {micro_tokens:,} tokens at once"),
        ("time", f"about {duration(task.steps * recipe['batch_tokens'] / speed)} at {speed:,.0f} tokens/s, measured"),
    ]


def timed(trainer, inputs):
    """Seconds of a micro-batch, forward and backward."""
    start = time.perf_counter()
    trainer.loss_sum(inputs).backward()
    if trainer.ranks.device.type == "cuda":
        torch.cuda.synchronize()
    trainer.zero_grad()
    return time.perf_counter() - start


def activation_bytes(model, tokens, predictions, dtype):
    """A rough guess at what a forward pass keeps for the backward pass, from the widths of a BERT layer."""
    config, size = model.config, 4 if dtype == torch.float32 else 2
    hidden, inner = config.hidden_size, getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", 0)
    layer = 10 * hidden + 2 * inner  # inputs of the projections, normalizations and of the activation function
    return tokens * config.num_hidden_layers * layer * size + predictions * config.vocab_size * (8 + size)
