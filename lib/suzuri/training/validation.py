"""The validation loss, with fixed masks on whole sequences: the same text gives the same figure every time."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from suzuri.tokenizer import encoding
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
from suzuri.training.masking import IGNORED, Masker, mix64
from suzuri.training.model import FlatModel, sequence_arguments
from suzuri.training.token_axis import Chunk, assemble, by_length

PROBABILITY = 0.15  # not the recipe's mlm_probability, so that recipes can be compared
TOKENS_AT_ONCE = 8192


@dataclass
class Score:
    """Sums over the predicted positions of `tokens` tokens."""

    loss: float = 0.0
    correct: int = 0
    predictions: int = 0
    tokens: int = 0

    def add(self, other: "Score") -> None:
        self.loss += other.loss
        self.correct += other.correct
        self.predictions += other.predictions
        self.tokens += other.tokens

    @property
    def mean_loss(self) -> float:
        return self.loss / self.predictions

    @property
    def accuracy(self) -> float:
        return self.correct / self.predictions

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.mean_loss, 700))


def whole_sequences(tokens: np.ndarray, offsets: np.ndarray, limit: int) -> Iterator[Chunk]:
    """Chunks of as many whole sequences as fit into `limit` tokens, in order."""
    i = 0
    while i < len(offsets) - 1:
        j = max(i + 1, int(np.searchsorted(offsets, offsets[i] + limit, "right")) - 1)
        yield Chunk(tokens[offsets[i] : offsets[j]].astype(np.int64), np.asarray(offsets[i:j]) - offsets[i], 0)
        i = j


def masked_batches(
    tokens: np.ndarray, offsets: np.ndarray, tokenizer: TokenizerFolder, max_tokens: int | None = None
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """The validation batches of a shard's arrays: (by_length()'s dict, tokens in it).

    The masks of chunk k are a function of k alone. With `max_tokens` the batches end before the chunk that would exceed
    it; the first one always comes.
    """
    longest = int(np.diff(offsets).max())
    limit = max(TOKENS_AT_ONCE, longest)
    masker = Masker(tokenizer.pieces, tokenizer.special_ids.values(), tokenizer.special_ids["mask_token"], PROBABILITY)
    seen = 0
    for k, chunk in enumerate(whole_sequences(tokens, offsets, limit)):
        seen += len(chunk.tokens)
        if max_tokens and k and seen > max_tokens:
            return
        batch = assemble([chunk], [mix64(k)], masker, limit, tokenizer.special_ids["pad_token"])
        yield by_length(batch), len(chunk.tokens)


@torch.no_grad()
def evaluate(
    flat: FlatModel,
    batches: Iterable[tuple[dict[str, np.ndarray], int]],
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
    each: Callable[[int], None] | None = None,
) -> Score:
    """The score of a model over masked_batches(); `each(tokens)` is called after each batch."""
    training = flat.training
    flat.eval()
    score = Score()
    for batch, num_tokens in batches:
        inputs = {k: torch.from_numpy(batch[k]).to(device) for k in ("input_ids", "position_ids", "rows")}
        where = sequence_arguments(batch["lengths"], flat.attention, int(batch["lengths"][-1]))
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


def encode_lines(blocks: Iterable[bytes], folder: str, max_seq_length: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, offsets) of a text, one sequence per line, as pack-tokens packs them; `blocks` hold whole lines."""
    from suzuri.shards import packing

    tokenizer = TokenizerFolder(folder)
    encode, special = encoding.encoder(tokenizer), tokenizer.special_ids
    packer = packing.Packer(encode, special["cls_token"], special["sep_token"], "line", max_seq_length)
    tokens, lengths = [], []
    for block in blocks:
        ids, found = packer.pack(block.decode("utf-8", "replace").removesuffix("\n").split("\n"))
        tokens.append(ids)
        lengths += found.tolist()
    return np.concatenate([np.zeros(0, np.int64), *tokens]), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
