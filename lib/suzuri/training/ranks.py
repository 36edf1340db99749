"""The ranks: one process, or several started by torchrun; their devices and how they communicate."""

import os
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.distributed as dist

from suzuri.errors import DataError


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
        if self.world > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def collective(self, operation: Callable, *args, **kwargs) -> None:
        """Run an operation of torch.distributed; if a rank has died, raise a DataError that says so."""
        if self.world == 1:
            return
        try:
            operation(*args, **kwargs)
        except (RuntimeError, dist.DistBackendError) as e:
            why = str(e).splitlines()[0][:200]
            raise DataError(
                f"rank {self.rank} of {self.world}", f"lost another rank ({why}); start all of them again to resume"
            ) from None

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor with its sum over all ranks, through one flat buffer."""
        if self.world == 1:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        self.collective(dist.all_reduce, flat)
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def min(self, number: int) -> int:
        """The smallest of the ranks' numbers."""
        tensor = torch.tensor(number, device=self.device)
        self.collective(dist.all_reduce, tensor, op=dist.ReduceOp.MIN)
        return int(tensor)

    def of_first(self, yes: bool) -> bool:
        """The first rank's `yes`; that of the others is ignored."""
        return bool(self.min(int(bool(yes)) if self.is_first else 1))

    def copy_from_first(self, parameters: Iterable[torch.Tensor]) -> None:
        """Give every rank the first one's parameters."""
        for parameter in parameters if self.world > 1 else ():
            self.collective(dist.broadcast, parameter.data, 0)

    def wait(self) -> None:
        """Wait until every rank has called this."""
        self.collective(dist.barrier)

    def close(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()
