"""Candidates for [MASK], as transformers' fill-mask pipeline gives them."""

import torch

from suzuri.errors import DataError
from suzuri.tokenizer.tokenizer_folder import load
from suzuri.training.model import load_model

LINES_AT_ONCE = 32


class Filler:
    """The model and tokenizer of `folder`; `top_k` candidates a mask."""

    def __init__(self, folder, top_k):
        self.model = load_model(folder).eval()
        self.model.set_attn_implementation("sdpa")
        self.tokenizer = load(folder)
        self.top_k = min(top_k, len(self.tokenizer))
        if self.tokenizer.mask_token is None:
            raise DataError(folder, "its tokenizer has no mask token")

    @torch.no_grad()
    def fill(self, lines):
        """For each line a list, of each of its masks a list of (token, probability), likeliest first."""
        found = []
        for start in range(0, len(lines), LINES_AT_ONCE):
            inputs = self.tokenizer(
                lines[start : start + LINES_AT_ONCE],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=min(self.model.config.max_position_embeddings - 2, 512),
                return_token_type_ids=False,
            )
            masks = inputs["input_ids"] == self.tokenizer.mask_token_id
            logits = self.model(**inputs).logits[masks][:, : len(self.tokenizer)]
            best = logits.softmax(-1).topk(self.top_k)
            rows = [
                list(zip(self.tokenizer.convert_ids_to_tokens(ids), probabilities, strict=True))
                for ids, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
            for n in masks.sum(1).tolist():
                found.append(rows[:n])
                rows = rows[n:]
        return found
