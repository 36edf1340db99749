"""Minimal pairs: two sentences that differ in one thing, which makes the second one wrong.

A model passes a pair if the right sentence is the likelier one, by the pseudo-log-likelihood of
pseudo_perplexity.py (Salazar et al., 2020). Chance is 50 %.
"""

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


def read_pairs(path: str) -> list[Pair]:
    """The pairs of a file of lines `RIGHT<TAB>WRONG[<TAB>KIND]`; blank lines are skipped."""
    pairs = []
    for n, line in enumerate(read_text(path).split("\n"), 1):
        cells = line.split("\t")
        if not line.strip():
            continue
        if len(cells) not in (2, 3) or not (cells[0].strip() and cells[1].strip()):
            what = "not a pair: a line is RIGHT, a tab, WRONG, and optionally a tab and KIND"
            raise DataError(f"{path}: line {n}", what)
        pairs.append(Pair(*cells))
    if not pairs:
        raise DataError(path, "has no pairs")
    return pairs


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
