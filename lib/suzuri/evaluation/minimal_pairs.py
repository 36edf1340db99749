"""Minimal pairs: two sentences that differ in one thing, which makes the second one wrong.

A model passes a pair if the right sentence is the likelier one, by the pseudo-log-likelihood of
pseudo_perplexity.py (Salazar et al., 2020). Chance is 50 %.
"""

import json
from collections.abc import Callable
from typing import NamedTuple

from suzuri.errors import DataError
from suzuri.evaluation.pseudo_perplexity import PseudoScorer
from suzuri.streams import read_text


class Pair(NamedTuple):
    """A right and a wrong sentence; `kind` names what the pair tests, "" if the file does not say."""

    right: str
    wrong: str
    kind: str = ""


class Passed(NamedTuple):
    """How many of `pairs` pairs a model passes."""

    right: int
    pairs: int

    @property
    def accuracy(self) -> float:
        return self.right / self.pairs

    @property
    def standard_error(self) -> float:
        """That of the accuracy, which comes from the choice of the pairs."""
        return (self.accuracy * (1 - self.accuracy) / self.pairs) ** 0.5


def read_pairs(path: str) -> list[Pair]:
    """The pairs of a file of lines `RIGHT<TAB>WRONG[<TAB>KIND]`, or of JSON objects with good_sentence, bad_sentence
    and phenomenon, as in JBLiMP (Someya and Oseki, 2023). Blank lines are skipped.
    """
    pairs = []
    for n, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        pair = pair_of_json(line) if line.startswith("{") else pair_of_cells(line)
        if pair is None:
            what = "not a pair: a line is RIGHT, a tab, WRONG, and optionally a tab and KIND, or JSON as in JBLiMP"
            raise DataError(f"{path}: line {n}", what)
        pairs.append(pair)
    if not pairs:
        raise DataError(path, "has no pairs")
    return pairs


def pair_of_cells(line: str) -> Pair | None:
    cells = line.split("\t")
    return Pair(*cells) if len(cells) in (2, 3) and cells[0].strip() and cells[1].strip() else None


def pair_of_json(line: str) -> Pair | None:
    try:
        record = json.loads(line)
        pair = Pair(record["good_sentence"], record["bad_sentence"], record.get("phenomenon") or "")
    except (ValueError, KeyError, RecursionError):
        return None
    return pair if all(isinstance(part, str) for part in pair) and pair.right.strip() and pair.wrong.strip() else None


def score_pairs(scorer: PseudoScorer, pairs: list[Pair], each: Callable[[int], None] | None = None) -> list[bool]:
    """For each pair whether the model passes it. A pair whose sentences have the same tokens is not passed."""
    passed = []
    for pair in pairs:
        passed.append(scorer.score(pair.right).nats < scorer.score(pair.wrong).nats)
        if each:
            each(1)
    return passed


def by_kind(pairs: list[Pair], passed: list[bool]) -> dict[str, Passed]:
    """{kind: Passed, …, "all": Passed}, the kinds in the order of their first pairs.

    >>> by_kind([Pair("水を飲む", "水が飲む", "particle"), Pair("紙が一枚", "紙が一匹", "counter")], [True, False])
    {'particle': Passed(right=1, pairs=1), 'counter': Passed(right=0, pairs=1), 'all': Passed(right=1, pairs=2)}
    """
    kinds = [kind for kind in dict.fromkeys(pair.kind for pair in pairs) if kind]
    found = {kind: [p for pair, p in zip(pairs, passed, strict=True) if pair.kind == kind] for kind in kinds}
    found["all"] = passed
    return {kind: Passed(sum(them), len(them)) for kind, them in found.items()}
