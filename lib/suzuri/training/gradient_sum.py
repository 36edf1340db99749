"""The sum of a step's gradients over its micro-batches and over the ranks.

The ranks send their sums in buckets, as DistributedDataParallel does, and during the last backward pass: a bucket is on
its way as soon as its gradients are made, while the layers before it are still at work. A tied embedding is the last
to be ready, because the input's share of its gradient comes at the end of the backward pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from suzuri.training.ranks import Ranks

BUCKET = 25 << 20  # bytes of gradients that are sent together: as in DistributedDataParallel


class GradientSum:
    """Of each step: restart(), add() for its micro-batches, then send_all() and received().

    In place of the last add(), a backward pass inside sending() sends early. Gradients are sent as bf16 if that is
    `dtype`: half of the bytes. fp16 could overflow, so it is sent as fp32.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], ranks: Ranks, dtype: torch.dtype):
        self.parameters, self.ranks = parameters, ranks
        self.dtype = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
        self.used: list[torch.nn.Parameter] = []  # those that get gradients; known after the first micro-batch
        self.buckets: list[list[int]] = []  # places in `used`, from the last layer to the first
        self.known = False  # whether all ranks know the buckets: they have finished a step
        self.sums: list[Tensor] = []  # in the order of `used`
        self.sent: list[tuple[Tensor, object]] = []  # per bucket: what was sent, and the operation

    @property
    def sends_early(self) -> bool:
        """Whether a backward pass inside sending() sends something: the same on all ranks."""
        return self.ranks.world > 1 and self.known

    def restart(self) -> None:
        """Forget the micro-batches so far. What was sent stays sent: a bucket is complete when it is sent."""
        self.sums = []

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """Add a micro-batch's gradients, one per parameter, None for those that the model does not use."""
        found = [g for g in gradients if g is not None]
        if not self.used:
            self.used = [p for p, g in zip(self.parameters, gradients, strict=True) if g is not None]
            self.buckets = list(buckets(self.used))
        if self.sums:
            torch._foreach_add_(self.sums, found)
        else:  # copies: autograd may return one tensor for two parameters, a CUDA graph its own
            self.sums = [torch.empty_like(g, memory_format=torch.contiguous_format) for g in found]
            torch._foreach_copy_(self.sums, found)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Inside this context torch.autograd.grad adds the last micro-batch, and sends each bucket when it is complete.

        Buckets are sent in their order, which is the same on all ranks, also if one is complete before an earlier one.
        """
        if not self.sums:
            self.sums = [torch.zeros_like(p) for p in self.used]
        waiting = [len(bucket) for bucket in self.buckets]

        def add(place, bucket, gradient):
            self.sums[place].add_(gradient)
            waiting[bucket] -= 1
            while len(self.sent) < len(waiting) and not waiting[len(self.sent)]:
                self.send(self.buckets[len(self.sent)])

        hooks = [
            self.used[place].register_hook(lambda gradient, place=place, number=number: add(place, number, gradient))
            for number, bucket in enumerate(self.buckets)
            for place in bucket
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def send(self, bucket: list[int]) -> None:
        flat = torch.cat([self.sums[place].reshape(-1) for place in bucket]).to(self.dtype)
        self.sent.append((flat, self.ranks.start_sum(flat)))

    def send_early(self) -> None:
        """Send the buckets that were not sent yet, if the others send theirs before the ranks agree to go on.

        A rank that has stopped or failed sends any values, so that no other one waits for it; those are never used.
        """
        if self.sends_early:
            self.send_all()

    def send_all(self) -> None:
        """Send the buckets that were not sent yet."""
        if self.ranks.world == 1:
            return
        if not self.sums:
            self.sums = [torch.zeros_like(p) for p in self.used]
        for bucket in self.buckets[len(self.sent) :]:
            self.send(bucket)

    def settle(self) -> None:
        """Wait until what was sent has been received everywhere. Then a rank may end, and takes nothing with it."""
        for _, operation in self.sent:
            self.ranks.collective(operation.wait)
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize(self.ranks.device)

    def received(self) -> tuple[list[torch.nn.Parameter], list[Tensor]]:
        """(the parameters that have gradients, the sums over all ranks), which are then forgotten here."""
        for bucket, (flat, operation) in zip(self.buckets, self.sent, strict=True) if self.ranks.world > 1 else ():
            self.ranks.collective(operation.wait)
            sums = [self.sums[place] for place in bucket]
            parts = flat.split([s.numel() for s in sums])
            torch._foreach_copy_(sums, [part.view_as(s) for part, s in zip(parts, sums, strict=True)])
        sums = self.sums
        self.sums, self.sent, self.known = [], [], True
        return self.used, sums


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[int]]:
    """Their places, from the last to the first, in lists of at most BUCKET bytes or of one tensor."""
    some, size = [], 0
    for place in reversed(range(len(tensors))):
        if some and size + tensors[place].nbytes > BUCKET:
            yield some
            some, size = [], 0
        some.append(place)
        size += tensors[place].nbytes
    yield some
