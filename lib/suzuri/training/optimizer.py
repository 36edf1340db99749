"""The optimizers: AdamW for everything, or Muon for the matrices of the layers and AdamW for the rest."""

from typing import Any

import torch
from torch import nn

from suzuri.errors import DataError


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon updates: those of linear layers, without the embeddings and the head."""
    return [m.weight for m in model.base_model.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad]


def make_optimizers(model: nn.Module, recipe: dict[str, Any]) -> list[torch.optim.Optimizer]:
    """[AdamW] or [AdamW, Muon] for the recipe's `optim`; biases and normalizations are not decayed.

    Muon (Jordan 2024) steps along the orthogonal matrix nearest to its momentum, scaled so that the update is about as
    large as AdamW's (Liu et al. 2025, "Muon is scalable"), so one learning_rate serves both.
    """
    matrices = hidden_matrices(model) if recipe["optim"] == "muon" else []
    taken = {id(parameter) for parameter in matrices}
    groups = {True: [], False: []}
    for parameter in model.parameters():
        if parameter.requires_grad and id(parameter) not in taken:
            groups[parameter.dim() >= 2].append(parameter)
    optimizers = [
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
    ]
    if matrices:
        if not hasattr(torch.optim, "Muon"):
            raise DataError(
                "optim", f"torch {torch.__version__} does not have Muon (2.9 and later do); set it to adamw"
            )
        optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=recipe["learning_rate"],
                weight_decay=recipe["weight_decay"],
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers
