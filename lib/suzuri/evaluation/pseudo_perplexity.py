"""Pseudo-perplexity per character: a figure for masked language models whose tokenizers differ.

Salazar, Liang, Nguyen, Kirchhoff, 2020, "Masked Language Model Scoring": mask each token of a text in turn,
sum the -log p of what was there; here divided by the characters of the text, not its tokens, and exp.

What is predicted as [UNK] has not been predicted: for each character that it stands for the cost is log of
the number of Unicode's characters more, as if the model then spelled it out by chance. So a tokenizer that
knows few characters wins nothing.
"""

import math
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F

from suzuri.tokenizer.offsets import Encoder
from suzuri.tokenizer.tokenizer_folder import special_ids

CHARACTERS = 0x110000 - 0x800  # Unicode's code points without the surrogates
UNKNOWN_COST = math.log(CHARACTERS)  # 13.9 nats
TOKENS_AT_ONCE = 8192


@dataclass
class PseudoScore:
    nats: float = 0.0
    characters: int = 0
    tokens: int = 0
    unknown: int = 0  # characters behind unknown tokens
    lines: int = 0

    @property
    def perplexity(self):
        return math.exp(min(self.nats / self.characters, 700))

    def as_dict(self):
        return {
            "pseudo_perplexity": round(self.perplexity, 3),
            "pseudo_perplexity_lines": self.lines,
            "pseudo_perplexity_characters": self.characters,
            "pseudo_perplexity_tokens": self.tokens,
            "pseudo_perplexity_unknown_characters": self.unknown,
        }


def first_lines(blocks, n):
    """The first n lines (str) that are not blank, of blocks of bytes, each of whole lines."""
    lines = (line for block in blocks for line in block.decode("utf-8", "replace").split("\n"))
    return list(islice((line for line in lines if line and not line.isspace()), n))


def sequences(ids, room):
    """A text's ids in sequences of at most `room`, as pack-tokens cuts a long line: [[id, …], …]."""
    return [ids[i : i + room] for i in range(0, len(ids), room)]


@torch.no_grad()
def nats_of(flat, ids, special, device="cpu"):
    """[-log p of each of `ids`, masked alone]: `[CLS] ids [SEP]` through a FlatModel (lib/suzuri/model.py).

    The copies, one a token, are equally long, so they go side by side without padding.
    """
    whole = torch.tensor([special["cls_token"], *ids, special["sep_token"]], device=device)
    length, found = len(whole), []
    for part in torch.arange(1, length - 1, device=device).split(max(1, TOKENS_AT_ONCE // length)):
        copies = whole.repeat(len(part), 1)
        at = torch.arange(len(part), device=device)
        copies[at, part] = special["mask_token"]
        logits = flat(
            input_ids=copies.flatten(),
            position_ids=torch.arange(length, device=device).repeat(len(part)),
            rows=at * length + part,
            groups=[(len(part), length)],
        )
        found += F.cross_entropy(logits.float(), whole[part], reduction="none").tolist()
    return found


def score(flat, lines, folder, longest, device="cpu", each=None):
    """PseudoScore of lines (str) by a FlatModel and the tokenizer in `folder`; calls `each(1)` after each line."""
    encoder, special = Encoder(folder), special_ids(folder)
    flat.eval()
    total = PseudoScore()
    for line in lines:
        ids, spans = encoder.encode(line)
        for part in sequences(ids, longest - 2):
            total.nats += sum(nats_of(flat, part, special, device))
        unknown = sum(end - start for i, (start, end) in zip(ids, spans, strict=True) if i == special["unk_token"])
        total.nats += unknown * UNKNOWN_COST
        total.unknown += unknown
        total.characters += len(line)
        total.tokens += len(ids)
        total.lines += 1
        if each:
            each(1)
    return total
