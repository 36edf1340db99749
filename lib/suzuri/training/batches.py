"""A step's batches on their way to the model: this rank's share, cut into micro-batches, as tensors, made ahead."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import torch

from suzuri.training.model import sequence_arguments
from suzuri.training.token_axis import by_length, micro_batches


class Batches:
    """Of a Task, for one of Ranks. `at_once` chunks go through the model together; it never changes the result."""

    def __init__(self, task, ranks, varlen):
        self.task, self.ranks, self.varlen = task, ranks, varlen
        self.at_once = 1

    def visits(self, step):
        """The visits of a whole step, over all ranks."""
        return range(step * self.task.chunks_per_step, (step + 1) * self.task.chunks_per_step)

    def mine(self, step):
        """The part of a step that this rank takes; all ranks together take all of it."""
        return self.visits(step)[self.ranks.rank :: self.ranks.world]

    def of_step(self, step):
        """The micro-batches of this rank in a step, ready for the model: [(tensors, sum of length²)]."""
        return list(self.over(self.mine(step), self.task.masker(step), self.at_once))

    def over(self, visits, masker, at_once):
        task = self.task
        pad = task.vocabulary.ids["pad_token"]
        for batch in micro_batches(task.axis, masker, task.recipe["seed"], visits, at_once, pad):
            yield self.tensors(batch if self.varlen else by_length(batch))

    def tensors(self, batch):
        pin = self.ranks.device.type == "cuda"
        tensors = {k: torch.from_numpy(batch[k]) for k in ("input_ids", "position_ids", "rows", "labels")}
        axis, total = self.task.axis, len(batch["input_ids"])
        slots = 64 + int(1.25 * total * axis.num_sequences / axis.num_tokens)  # as many sequences as will ever come
        tensors |= sequence_arguments(batch["lengths"], self.varlen, self.task.longest, slots)
        squares = int((batch["lengths"] ** 2).sum())
        return {k: v.pin_memory() if pin and torch.is_tensor(v) else v for k, v in tensors.items()}, squares


def on_device(tensors, device):
    return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in tensors.items()}


def ahead(items, depth=2):
    """The items of an iterator, made up to `depth` in advance by a thread."""
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item
