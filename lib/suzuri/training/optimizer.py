"""The optimizers: AdamW for everything, or Muon for the matrices of the layers and AdamW for the rest."""

from collections import defaultdict
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from suzuri.errors import DataError
from suzuri.training.device import multiplies
from suzuri.training.ranks import Ranks

try:
    from torch.optim import Muon
except ImportError:  # before torch 2.9
    Muon = None


class Optimizers(list):
    """Optimizers that step together: for GradScaler they are one, so that it skips a step for all of them or none."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return list(chain.from_iterable(optimizer.param_groups for optimizer in self))

    def step(self) -> None:
        for optimizer in self:
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self:
            optimizer.zero_grad()


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon updates: those of linear layers, without the embeddings and the head."""
    return [m.weight for m in model.base_model.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad]


def orthogonalized(stack: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """torch.optim.Muon's Newton-Schulz iteration on a stack of matrices [n, a, b] at once, in bf16.

    A CPU without instructions for bf16 multiplies in fp32 and rounds the products to bf16: 20 to 40 times as fast.
    """
    a, b, c = coefficients
    dtype = torch.bfloat16 if stack.device.type != "cpu" or multiplies(torch.bfloat16) else torch.float32

    def rounded(x):
        return x.bfloat16().to(dtype)

    x = stack.bfloat16()
    if flat := x.size(1) > x.size(2):
        x = x.mT
    x = (x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=eps)).to(dtype)
    for _ in range(steps):
        gram = rounded(x @ x.mT)
        update = rounded(torch.baddbmm(gram, gram, gram, beta=b, alpha=c))
        x = rounded(torch.baddbmm(x, update, x, beta=a))
    x = x.bfloat16()
    return x.mT if flat else x


class StackedMuon(Muon or object):
    """torch.optim.Muon with matrices of one shape in one operation, and each rank at work on its share of them."""

    def __init__(self, matrices: list[nn.Parameter], ranks: Ranks | None = None, **options):
        super().__init__(matrices, **options)
        self.ranks = ranks

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            gradients = [p.grad for p in parameters]
            momenta = [self.state[p]["momentum_buffer"] for p in parameters]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            by_shape = defaultdict(list)
            for p, update in zip(parameters, updates, strict=True):
                by_shape[p.shape].append((p, update))
            for shape, pairs in by_shape.items():
                found = self.shared_out(torch.stack([update for _, update in pairs]), group)
                rate = 0.2 * max(shape) ** 0.5 * group["lr"]  # match_rms_adamw
                torch._foreach_add_([p for p, _ in pairs], list(found.to(pairs[0][0].dtype)), alpha=-rate)

    def shared_out(self, stack: Tensor, group: dict[str, Any]) -> Tensor:
        """orthogonalized() of [n, a, b]; of several ranks each does a part, and all get the whole."""
        options = group["ns_coefficients"], group["ns_steps"], group["eps"]
        if not self.ranks or self.ranks.world == 1:
            return orthogonalized(stack, *options)
        share = -(-len(stack) // self.ranks.world)
        own = stack.new_zeros(share, *stack.shape[1:], dtype=torch.bfloat16)
        part = stack[self.ranks.rank * share :][:share]
        if len(part):
            own[: len(part)] = orthogonalized(part, *options)
        return self.ranks.gathered(own)[: len(stack)]


def make_optimizers(model: nn.Module, recipe: dict[str, Any], ranks: Ranks | None = None) -> Optimizers:
    """AdamW, or AdamW and Muon, for the recipe's `optim`; biases and normalizations are not decayed.

    Muon (Jordan 2024) steps along the orthogonal matrix nearest to its momentum, scaled so that the update is about as
    large as AdamW's (Liu et al. 2025, "Muon is scalable"), so one learning_rate serves both.
    """
    matrices = hidden_matrices(model) if recipe["optim"] == "muon" else []
    taken = {id(parameter) for parameter in matrices}
    groups = {True: [], False: []}
    for parameter in model.parameters():
        if parameter.requires_grad and id(parameter) not in taken:
            groups[parameter.dim() >= 2].append(parameter)
    optimizers = Optimizers()
    optimizers.append(
        torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": recipe["weight_decay"]},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=recipe["learning_rate"],
            betas=(recipe["adam_beta1"], recipe["adam_beta2"]),
            eps=recipe["adam_epsilon"],
            fused=True,
        )
    )
    if matrices:
        if not Muon:
            raise DataError(
                "optim", f"torch {torch.__version__} does not have Muon (2.9 and later do); set it to adamw"
            )
        optimizers.append(
            StackedMuon(
                matrices,
                ranks,
                lr=recipe["learning_rate"],
                weight_decay=recipe["weight_decay"],
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers
