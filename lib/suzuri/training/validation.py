"""The validation loss: fixed masks, whole sequences, so that the same text gives the same figure every time."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from suzuri.tokenizer import encoding
from suzuri.training.masking import IGNORED, Masker, mix64
from suzuri.training.model import sequence_arguments
from suzuri.training.token_axis import Chunk, assemble, by_length

PROBABILITY = 0.15  # whatever the recipe's mlm_probability: figures of different recipes are to be compared
TOKENS_AT_ONCE = 8192


@dataclass
class Score:
    """Sums over predicted positions."""

    loss: float = 0.0
    correct: int = 0
    predictions: int = 0
    tokens: int = 0

    def add(self, other):
        self.loss += other.loss
        self.correct += other.correct
        self.predictions += other.predictions
        self.tokens += other.tokens

    @property
    def mean_loss(self):
        return self.loss / self.predictions

    @property
    def accuracy(self):
        return self.correct / self.predictions

    @property
    def perplexity(self):
        return math.exp(min(self.mean_loss, 700))


def whole_sequences(tokens, offsets, limit):
    """Chunks of as many whole sequences as fit into `limit` tokens, in order: an iterator over Chunks."""
    i = 0
    while i < len(offsets) - 1:
        j = max(i + 1, int(np.searchsorted(offsets, offsets[i] + limit, "right")) - 1)
        yield Chunk(tokens[offsets[i] : offsets[j]].astype(np.int64), np.asarray(offsets[i:j]) - offsets[i], 0)
        i = j


def masked_batches(tokens, offsets, vocabulary, max_tokens=None):
    """The validation batches of a shard's arrays: an iterator over (assemble()'s dict, tokens in it).

    The k-th chunk's masks are a function of k alone. `max_tokens` stops before the chunk that would pass it
    (never before the first).
    """
    longest = int(np.diff(offsets).max())
    limit = max(TOKENS_AT_ONCE, longest)
    masker = Masker(vocabulary.pieces, vocabulary.ids.values(), vocabulary.ids["mask_token"], PROBABILITY)
    seen = 0
    for k, chunk in enumerate(whole_sequences(tokens, offsets, limit)):
        seen += len(chunk.tokens)
        if max_tokens and k and seen > max_tokens:
            return
        yield by_length(assemble([chunk], [mix64(k)], masker, limit, vocabulary.ids["pad_token"])), len(chunk.tokens)


@torch.no_grad()
def evaluate(flat, batches, device="cpu", autocast=None, each=None):
    """Score of a FlatModel over masked_batches(); `each(tokens)` is called after each batch."""
    training = flat.training
    flat.eval()
    score = Score()
    for batch, num_tokens in batches:
        inputs = {k: torch.from_numpy(batch[k]).to(device) for k in ("input_ids", "position_ids", "rows")}
        where = sequence_arguments(batch["lengths"], flat.varlen, int(batch["lengths"][-1]))
        where = {k: v.to(device) if torch.is_tensor(v) else v for k, v in where.items()}
        labels = torch.from_numpy(batch["labels"]).to(device)
        with torch.autocast(torch.device(device).type, dtype=autocast, enabled=autocast is not None):
            logits = flat(**inputs, **where)
        loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
        correct = (logits.argmax(-1) == labels).sum()
        score.add(Score(loss.item(), int(correct), int((batch["labels"] != IGNORED).sum()), num_tokens))
        if each:
            each(num_tokens)
    flat.train(training)
    return score


def encode_lines(blocks, folder, max_seq_length):
    """(tokens, offsets) of a text, one sequence a line, as pack-tokens makes them; `blocks`: bytes, whole lines."""
    from suzuri.shards import packing
    from suzuri.tokenizer import tokenizer_folder

    special = tokenizer_folder.special_ids(folder)
    encode = encoding.encoder(folder)
    packer = packing.Packer(encode, special["cls_token"], special["sep_token"], "line", max_seq_length)
    tokens, lengths = [], []
    for block in blocks:
        ids, found = packer.pack(block.decode("utf-8", "replace").removesuffix("\n").split("\n"))
        tokens.append(ids)
        lengths += found.tolist()
    return np.concatenate([np.zeros(0, np.int64), *tokens]), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
