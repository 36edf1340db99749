"""Similarity without training: the cosine of two texts' mean vectors beside what people said (Spearman's correlation,
as for sentence embeddings). It shows what a model's representation holds before any fine-tuning.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from suzuri.evaluation.heads import mean_of_tokens
from suzuri.evaluation.random_weights import load_or_draw
from suzuri.tokenizer.offsets import Encoder
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
from suzuri.training.model import max_length
from suzuri.training.ranks import Ranks

AT_ONCE = 64  # texts that go through the model together


@torch.no_grad()
def mean_vectors(
    folder: str, texts: list[str], random_weights: bool = False, each: Callable[[int], None] | None = None
) -> torch.Tensor:
    """The mean of the last layer's vectors of each text, [n, hidden size], on the CPU; calls each(texts done)."""
    device, encoder = Ranks().device, Encoder(folder)
    model = load_or_draw(folder, TokenizerFolder(folder), random_weights, encoder_only=True)
    model.set_attn_implementation("sdpa")
    base, longest = model.base_model.eval().to(device), max_length(model)
    inputs = [encoder.join(encoder.encode(text)[0], max_length=longest)["input_ids"] for text in texts]
    order = sorted(range(len(texts)), key=lambda i: len(inputs[i]))  # less padding
    found = torch.empty(len(texts), model.config.hidden_size)
    for first in range(0, len(order), AT_ONCE):
        some = order[first : first + AT_ONCE]
        rows = [torch.tensor(inputs[i], device=device) for i in some]
        ids = pad_sequence(rows, batch_first=True, padding_value=encoder.tokenizer.pad_token_id)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        found[some] = mean_of_tokens(base(input_ids=ids, attention_mask=mask).last_hidden_state, mask).float().cpu()
        if each:
            each(len(some))
    return found


def cosines(vectors: torch.Tensor) -> list[float]:
    """The cosine of each two rows that follow one another: [n / 2] of [n, d].

    >>> cosines(torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    [1.0, 0.0]
    """
    return F.cosine_similarity(vectors[::2], vectors[1::2]).tolist()
