"""Fill-mask: the candidates for each [MASK], as transformers' pipeline gives them, and the rank of the right one."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from suzuri.errors import DataError
from suzuri.evaluation.random_weights import load_or_draw
from suzuri.tokenizer.tokenizer_folder import load
from suzuri.training.model import max_length

LINES_AT_ONCE = 32


class Ranked(NamedTuple):
    """The right piece for a [MASK] and its rank by probability: 1 is the likeliest; None: not in the vocabulary."""

    answer: str
    rank: int | None


class Filler:
    """Fills masks with the model and tokenizer in `folder`."""

    def __init__(self, folder: str, top_k: int, random_weights: bool = False):
        self.model = load_or_draw(folder, random_weights=random_weights).eval()
        self.model.set_attn_implementation("sdpa")
        self.tokenizer = load(folder)
        self.tokenizer.truncation_side = "right"
        self.top_k = min(top_k, len(self.tokenizer))
        self.ids = self.tokenizer.get_vocab()
        if self.tokenizer.mask_token is None:
            raise DataError(folder, "its tokenizer has no mask token")

    def count_masks(self, line: str) -> int:
        return line.count(self.tokenizer.mask_token)

    def fill(self, lines: list[str]) -> list[list[list[tuple[str, float]]]]:
        """For each line, for each of its masks: a list of `top_k` (piece, probability), the likeliest first."""
        return [[self._best(row) for row in rows] for rows in self._logits(lines)]

    def rank(self, lines: list[str], answers: list[list[str]]) -> list[list[Ranked]]:
        """For each line the ranks of its answers, one per mask; masks beyond the model's length are left out.

        An answer is one piece, spelled as in the vocabulary.
        """
        return [
            [self._rank(row, answer) for row, answer in zip(rows, theirs, strict=False)]
            for rows, theirs in zip(self._logits(lines), answers, strict=True)
        ]

    def _best(self, row: torch.Tensor) -> list[tuple[str, float]]:
        best = row.softmax(-1).topk(self.top_k)
        return list(zip(self.tokenizer.convert_ids_to_tokens(best.indices), best.values.tolist(), strict=True))

    def _rank(self, row: torch.Tensor, answer: str) -> Ranked:
        i = self.ids.get(answer)
        return Ranked(answer, None if i is None else int((row > row[i]).sum()) + 1)

    @torch.no_grad()
    def _logits(self, lines: list[str]) -> Iterator[torch.Tensor]:
        """For each line, the logits at its masks: [masks, vocabulary]."""
        for start in range(0, len(lines), LINES_AT_ONCE):
            inputs = self.tokenizer(
                lines[start : start + LINES_AT_ONCE],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=max_length(self.model),
                return_token_type_ids=False,
            )
            masks = inputs["input_ids"] == self.tokenizer.mask_token_id
            yield from self.model(**inputs).logits[masks][:, : len(self.tokenizer)].split(masks.sum(1).tolist())


def read_answers(lines: list[str], count_masks) -> tuple[list[str], list[list[str]]]:
    """(texts, answers) of lines `TEXT<TAB>ANSWER…`, one answer per [MASK].

    >>> read_answers(["日本の首都は[MASK]だ。\\t東京"], lambda text: text.count("[MASK]"))
    (['日本の首都は[MASK]だ。'], [['東京']])
    """
    texts, answers = [], []
    for line in lines:
        text, *theirs = line.split("\t")
        if len(theirs) != count_masks(text):
            raise DataError(text, f"{count_masks(text)} [MASK], but {len(theirs)} answers (TEXT, a tab, ANSWER)")
        texts.append(text)
        answers.append(theirs)
    return texts, answers
