"""Pseudo-perplexity per character: a figure that compares masked language models with different tokenizers.

Salazar, Liang, Nguyen, Kirchhoff, 2020, "Masked Language Model Scoring": mask each token of a text in turn and sum
the -log p of what was there. Here the sum is divided by the text's characters, not its tokens, before exp.

Predicting [UNK] does not predict the text behind it: each character there costs an extra log of the number of Unicode's
characters, as if the model spelled it out by chance. So a tokenizer with few characters gains nothing.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F

from suzuri.evaluation.random_weights import load_or_draw
from suzuri.tokenizer.offsets import Encoder
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
from suzuri.training.model import FlatModel, max_length
from suzuri.training.ranks import Ranks

CHARACTERS = 0x110000 - 0x800  # Unicode's code points without the surrogates
UNKNOWN_COST = math.log(CHARACTERS)  # 13.9 nats
TOKENS_AT_ONCE = 8192


@dataclass
class PseudoScore:
    """Sums over lines; `nats` is the pseudo-log-likelihood with the sign changed."""

    nats: float = 0.0
    characters: int = 0
    tokens: int = 0
    unknown: int = 0  # characters that became [UNK]
    lines: int = 0

    def add(self, other: "PseudoScore") -> None:
        self.nats += other.nats
        self.characters += other.characters
        self.tokens += other.tokens
        self.unknown += other.unknown
        self.lines += other.lines

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.nats / self.characters, 700))

    def as_dict(self) -> dict:
        return {
            "pseudo_perplexity": round(self.perplexity, 3),
            "pseudo_perplexity_lines": self.lines,
            "pseudo_perplexity_characters": self.characters,
            "pseudo_perplexity_tokens": self.tokens,
            "pseudo_perplexity_unknown_characters": self.unknown,
        }


class PseudoScorer:
    """Scores lines with a FlatModel and the tokenizer in `folder`, in sequences of at most `longest` tokens."""

    def __init__(self, flat: FlatModel, folder: str, longest: int, device="cpu"):
        self.flat = flat.eval()
        self.encoder, self.special = Encoder(folder), TokenizerFolder(folder).special_ids
        self.room = longest - 2  # [CLS] and [SEP]
        self.device = device

    def score(self, line: str) -> PseudoScore:
        ids, spans = self.encoder.encode(line)
        # A line that is too long is cut into sequences, as in pack-tokens.
        parts = [ids[i : i + self.room] for i in range(0, len(ids), self.room)]
        nats = sum(sum(self.nats_of(part)) for part in parts)
        unknown_id = self.special["unk_token"]
        unknown = sum(end - start for i, (start, end) in zip(ids, spans, strict=True) if i == unknown_id)
        return PseudoScore(nats + unknown * UNKNOWN_COST, len(line), len(ids), unknown, 1)

    def score_all(self, lines: Iterable[str], each: Callable[[int], None] | None = None) -> PseudoScore:
        """The sum over lines; calls `each(1)` after each line."""
        total = PseudoScore()
        for line in lines:
            total.add(self.score(line))
            if each:
                each(1)
        return total

    @torch.no_grad()
    def nats_of(self, ids: list[int]) -> list[float]:
        """[-log p of each of `ids` when it alone is masked], in `[CLS] ids [SEP]`.

        The copies, one per token, have the same length, so they need no padding.
        """
        whole = torch.tensor([self.special["cls_token"], *ids, self.special["sep_token"]], device=self.device)
        length, found = len(whole), []
        for part in torch.arange(1, length - 1, device=self.device).split(max(1, TOKENS_AT_ONCE // length)):
            copies = whole.repeat(len(part), 1)
            at = torch.arange(len(part), device=self.device)
            copies[at, part] = self.special["mask_token"]
            logits = self.flat(
                input_ids=copies.flatten(),
                position_ids=torch.arange(length, device=self.device).repeat(len(part)),
                rows=at * length + part,
                groups=[(len(part), length)],
            )
            found += F.cross_entropy(logits.float(), whole[part], reduction="none").tolist()
        return found


def open_scorer(folder: str, random_weights: bool = False) -> PseudoScorer:
    """A PseudoScorer for a model folder."""
    model, device = load_or_draw(folder, TokenizerFolder(folder), random_weights), Ranks().device
    return PseudoScorer(
        FlatModel(model.to(device)), folder, min(TokenizerFolder(folder).max_seq_length, max_length(model)), device
    )


def first_lines(blocks: Iterable[bytes], n: int) -> list[str]:
    """The first n lines that are not blank; each of `blocks` holds whole lines."""
    lines = (line for block in blocks for line in block.decode("utf-8", "replace").split("\n"))
    return list(islice((line for line in lines if line and not line.isspace()), n))
