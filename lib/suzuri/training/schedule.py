"""The learning rate and the masking rate as functions of the step, without scheduler state."""

import math
from typing import Any


def warmup_steps(recipe: dict[str, Any], steps: int) -> int:
    return recipe["warmup_steps"] if recipe["warmup_steps"] is not None else round(recipe["warmup_ratio"] * steps)


def decay_start(recipe: dict[str, Any], steps: int) -> int:
    """The step, from 0, at which the rate begins to fall: with linear and cosine, the end of the warm-up."""
    warmup = warmup_steps(recipe, steps)
    if recipe["lr_scheduler_type"] == "wsd":
        return max(warmup, steps - round(recipe["decay_ratio"] * steps))
    return warmup


def learning_rate(step: int, recipe: dict[str, Any], steps: int) -> float:
    """The rate of step `step` (from 0) of `steps`: linear warm-up, then linear, cosine or wsd, ending near 0.

    wsd (warm-up, stable, decay; Hu et al. 2024, MiniCPM) stays at the peak until the last decay_ratio of
    the steps, so that a run can be extended from a checkpoint taken before its decay.
    """
    peak, warmup, start = recipe["learning_rate"], warmup_steps(recipe, steps), decay_start(recipe, steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    left = (steps - step) / max(1, steps - start)  # 1 at the start of the decay, 1 / (steps - start) at the last step
    if left >= 1:
        return peak
    if recipe["lr_scheduler_type"] == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * (1 - left)))
    return peak * left


def mlm_probability(step: int, recipe: dict[str, Any], steps: int) -> float:
    """The share of positions predicted in step `step` (from 0) of `steps`: in the last mlm_tail_ratio of the steps
    mlm_probability_tail, if it is set.

    Many predictions give more to learn from; with few, at the end, the input is closer to unmasked text (Ankner et al.
    2024, "Dynamic masking rate schedules").
    """
    tail = recipe["mlm_probability_tail"]
    in_tail = tail is not None and step >= steps - round(recipe["mlm_tail_ratio"] * steps)
    return tail if in_tail else recipe["mlm_probability"]
