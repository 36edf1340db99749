"""The micro-batches of a step, prepared as tensors in the background.

Each rank takes its share of the step's chunks (token_axis.py).
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from suzuri.training.attention import GROUPED, NESTED, VARLEN
from suzuri.training.inputs import TrainingInputs
from suzuri.training.masking import Masker
from suzuri.training.model import sequence_arguments
from suzuri.training.ranks import Ranks
from suzuri.training.token_axis import by_length, micro_batches

Tensors = dict[str, Any]  # the model's keyword arguments and "labels"


class Batches:
    """Makes micro-batches of `chunks_at_once` chunks; this number never changes the result."""

    def __init__(self, inputs: TrainingInputs, ranks: Ranks, attention: str):
        self.inputs, self.ranks, self.attention = inputs, ranks, attention
        self.chunks_at_once = 1
        self.sequences = inputs.axis.sequences_per_chunk() if attention == VARLEN else (0, 0)  # mean and deviation

    def visits(self, step: int) -> range:
        """The visits of a whole step, over all ranks."""
        return range(step * self.inputs.chunks_per_step, (step + 1) * self.inputs.chunks_per_step)

    def own_visits(self, step: int) -> range:
        """This rank's part of the visits of a step; together the ranks take all of them."""
        return self.visits(step)[self.ranks.rank :: self.ranks.world]

    def of_step(self, step: int) -> list[tuple[Tensors, int]]:
        """The micro-batches of this rank in a step, ready for the model: [(tensors, sum of length²)]."""
        return list(self.over(self.own_visits(step), self.inputs.masker(step), self.chunks_at_once))

    def over(self, visits: Sequence[int], masker: Masker, chunks_at_once: int) -> Iterator[tuple[Tensors, int]]:
        """The same for any visits."""
        inputs = self.inputs
        pad = inputs.tokenizer.special_ids["pad_token"]
        seed, pad_length = inputs.recipe["seed"], None
        if self.attention == VARLEN:  # all of one shape, for torch.compile
            pad_length = min(inputs.longest, math.ceil(inputs.axis.chunk_tokens / self.sequences[0]))
        for batch in micro_batches(inputs.axis, masker, seed, visits, chunks_at_once, pad, pad_length):
            yield self.tensors(by_length(batch) if self.attention == GROUPED else batch)

    def tensors(self, batch: dict[str, np.ndarray]) -> tuple[Tensors, int]:
        """assemble()'s or by_length()'s arrays -> (tensors, sum of length²), in pinned memory if there is a GPU."""
        pin = self.ranks.device.type == "cuda"
        tensors = {k: torch.from_numpy(batch[k]) for k in ("input_ids", "position_ids", "rows", "labels")}
        longest, slots = self.inputs.longest, self.slots(len(batch["input_ids"]) // self.inputs.axis.chunk_tokens)
        if self.attention == NESTED:
            longest = int(batch["lengths"].max())
        tensors |= sequence_arguments(batch["lengths"], self.attention, longest, slots)
        squares = int((batch["lengths"] ** 2).sum())
        return {k: v.pin_memory() if pin and torch.is_tensor(v) else v for k, v in tensors.items()}, squares

    def slots(self, chunks: int) -> int:
        """How many sequences a micro-batch of `chunks` chunks has room for: enough for nearly every one of them."""
        mean, deviation = self.sequences
        return 64 + int(chunks * mean + 6 * deviation * chunks**0.5)


def on_device(tensors: Tensors, device: torch.device) -> Tensors:
    return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in tensors.items()}


def ahead(items: Iterable[Any], depth: int = 2) -> Iterator[Any]:
    """The items of an iterator, made up to `depth` in advance by a thread."""
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item


def largest_fitting(attempt: Callable[[int], int | None], chunks: int, most: int, budget: int) -> int:
    """How many of a step's `chunks` chunks go through a GPU at once, at most `most`: as few micro-batches as fit, all
    equally large. Memory is measured at 1 and 2 chunks, taken to grow linearly, and must stay within `budget` bytes.

    `attempt(n)` runs n chunks forward and backward and returns the peak bytes, or None if memory ran out.
    """
    one = attempt(1)
    two = attempt(2) if one is not None and most > 1 else None
    if two is None:
        return 1  # if not even one fits, the first real step will say so
    n = max(1, min(most, 1 + (budget - one) // max(two - one, 1)))
    while n > 1:
        n = -(-chunks // -(-chunks // n))  # 16 chunks, of which 6 fit: 3 micro-batches, of 6 each
        if n <= 2 or attempt(n) is not None:
            return n
        n //= 2
    return 1
