"""Models with random weights, as before training: a baseline that shows what was learned."""

import os

import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from suzuri.errors import DataError
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
from suzuri.tokenizer.untrusted import SAFE
from suzuri.training.attention import GROUPED
from suzuri.training.model import load_model


def load_or_draw(
    folder: str, tokenizer: TokenizerFolder | None = None, random_weights: bool = False, encoder_only: bool = False
):
    """The model in `folder`, or its architecture with random weights, those with which training with seed 0 begins.

    With `encoder_only` its head is not used, and may be missing.
    """
    if not os.path.isdir(folder):  # from_pretrained would look for a model of that name on the Hub
        raise DataError(folder, "no such folder")
    model = load_model(folder, tokenizer, encoder_only=encoder_only)
    if random_weights:
        torch.manual_seed(0)
        config = AutoConfig.from_pretrained(folder, **SAFE)
        model = AutoModelForMaskedLM.from_config(config, attn_implementation=GROUPED, dtype=torch.float32)
    return model
