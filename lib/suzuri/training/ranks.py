"""The ranks: one process, or several started by torchrun; their devices and how they communicate.

Gradients and updates go through NCCL, or gloo on CPUs. What the hosts must know (signals, errors, counts) goes through
gloo: an operation of NCCL returns before it has happened, so a rank that stops would leave the others waiting for ever.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from suzuri.errors import DataError

ALL_GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its older name
EXCHANGED = 5  # numbers in a message between the hosts
PATIENCE = timedelta(minutes=30)


class RankLost(DataError):
    """Another rank has died or failed; the weights are those of the last whole step."""


class Ranks:
    """`rank` of `world` processes on `device`. With one process every operation is a no-op."""

    def __init__(self):
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        local = int(os.environ.get("LOCAL_RANK", 0))
        self.device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        if self.device.type == "cuda":
            if local >= torch.cuda.device_count():
                raise DataError(
                    f"rank {self.rank}", f"there is no GPU {local}; start as many processes as there are GPUs"
                )
            torch.cuda.set_device(self.device)
        self.hosts = None  # the process group for what the hosts must know
        if self.world > 1:
            # A rank that is ahead waits while the first one saves.
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", timeout=PATIENCE)
            self.hosts = dist.new_group(backend="gloo", timeout=PATIENCE)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def collective(self, operation: Callable, *args, **kwargs) -> Any:
        """Run an operation of torch.distributed and return its result; raises RankLost if a rank has died."""
        if self.world == 1:
            return None
        try:
            return operation(*args, **kwargs)
        except (RuntimeError, dist.DistBackendError) as e:
            why = str(e).splitlines()[0][:200]
            raise RankLost(
                f"rank {self.rank} of {self.world}", f"lost another rank ({why}); start all of them again to resume"
            ) from None

    def exchange(self, *numbers: float, failed: bool = False) -> list[list[float]]:
        """[the numbers of rank 0, …], at most EXCHANGED each; raises RankLost if a rank has died or says `failed`.

        All ranks must call it equally often, but a rank that fails calls it in place of whatever comes next.
        """
        if self.world == 1:
            return [list(numbers)]
        own = torch.tensor([float(failed), *numbers, *[0.0] * (EXCHANGED - len(numbers))], dtype=torch.float64)
        found = [torch.empty_like(own) for _ in range(self.world)]
        self.collective(dist.all_gather, found, own, group=self.hosts)
        for rank, (there, *_) in enumerate(row.tolist() for row in found):
            if there and not failed:
                raise RankLost(
                    f"rank {self.rank} of {self.world}",
                    f"rank {rank} has failed, see its message; start all of them again to resume",
                )
        return [row[1 : 1 + len(numbers)].tolist() for row in found]

    def gathered(self, part: torch.Tensor) -> torch.Tensor:
        """The equally large parts [n, …] of all ranks as one tensor [world × n, …]."""
        whole = part.new_empty(self.world * len(part), *part.shape[1:])
        self.collective(ALL_GATHER, whole, part)
        return whole

    def start_sum(self, tensor: torch.Tensor) -> dist.Work:
        """Begin to replace a tensor with its sum over all ranks, which it holds after collective(found.wait)."""
        return self.collective(dist.all_reduce, tensor, async_op=True)

    def sum(self, tensor: torch.Tensor) -> None:
        """Replace a tensor with its sum over all ranks."""
        self.collective(dist.all_reduce, tensor)

    def min(self, number: int) -> int:
        """The smallest of the ranks' numbers."""
        return int(min(row[0] for row in self.exchange(number)))

    def of_first(self, yes: bool) -> bool:
        """The first rank's `yes`; that of the others is ignored."""
        return bool(self.exchange(bool(yes))[0][0])

    def copy_from_first(self, parameters: Iterable[torch.Tensor]) -> None:
        """Give every rank the first one's parameters."""
        for parameter in parameters if self.world > 1 else ():
            self.collective(dist.broadcast, parameter.data, 0)

    def wait(self) -> None:
        """Wait until every rank has called this."""
        self.exchange()

    def abandon(self) -> None:
        """Give up what is on its way to or from a rank that is lost: NCCL would end this process for it."""
        if self.world > 1 and self.device.type == "cuda":
            with suppress(Exception):  # not public, and without it there is only a risk
                dist.group.WORLD._get_backend(self.device).abort()

    def close(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()
