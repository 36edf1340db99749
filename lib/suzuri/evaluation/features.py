"""Conversion of a task's examples to inputs of its model, and of the model's logits to predictions.

A text longer than the model's input goes through it in windows that overlap by a quarter, as in BERT for SQuAD (Devlin
et al., 2019). The answer is the best one over all windows; a token's tag comes from the window in which the token is
farthest from an edge.
"""

import math
from itertools import groupby
from statistics import fmean

import numpy as np

from suzuri.evaluation import tasks
from suzuri.evaluation.entity_tags import entities_of, tag
from suzuri.tokenizer.offsets import Encoder

BEST = 20  # candidates for the start and for the end of an answer
MAX_ANSWER = 30  # tokens, as in JGLUE's runs
IGNORED = -100  # a label that the loss ignores


def windows(length: int, room: int) -> list[tuple[int, int]]:
    """[(start, end), …]: windows of at most `room` tokens that cover `length` tokens.

    >>> windows(12, 8)
    [(0, 8), (6, 12)]
    """
    if length <= room:
        return [(0, length)]
    step = room - room // 4
    return [(start, min(start + room, length)) for start in range(0, length - room + step, step)]


class Features:
    """The inputs of a task's model, made from examples; `labels` are the classes or tags seen in training.

    A regression's targets have their training mean, `mean`, subtracted: a new head starts at 0, and a small model would
    otherwise spend its short training on finding the mean.
    """

    def __init__(self, task: tasks.Task, encoder: Encoder, max_length: int, train: list[dict]):
        self.task, self.encoder, self.max_length = task, encoder, max_length
        self.mean = fmean(e["label"] for e in train) if task.kind == "regression" else 0
        self.known = {}  # {text: (ids, spans)}: each question and each context is encoded only once
        if task.kind == "classes":
            self.labels = sorted({e["label"] for e in train})
        elif task.kind == "entities":
            types = sorted({t for e in train for _, _, t in e["entities"]})
            self.labels = ["O"] + [f"{mark}-{t}" for t in types for mark in "BI"]
        else:
            self.labels = ["start", "end"] if task.kind == "answers" else ["score"]
        self.number = {label: i for i, label in enumerate(self.labels)}

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        if text not in self.known:
            self.known[text] = self.encoder.encode(text)
        return self.known[text]

    def encode_context(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """`encode` for a JSQuAD context: the marker after its title becomes the token that separates texts, as in
        JGLUE's own runs. The title stays, because some answers are only there."""
        if text not in self.known:
            title, marker, body = text.partition(tasks.MARKER)
            if marker:
                shift = len(title) + len(marker)
                (a, a_spans), (b, b_spans) = self.encoder.encode(title), self.encoder.encode(body)
                b_spans = [(s + shift, e + shift) for s, e in b_spans]
                separator = self.encoder.tokenizer.sep_token_id
                self.known[text] = [*a, separator, *b], [*a_spans, (len(title), shift), *b_spans]
            else:
                self.known[text] = self.encoder.encode(text)
        return self.known[text]

    def __call__(self, example: dict, n: int = 0) -> list[dict]:
        """The inputs made from example number n: dicts. Keys "_…" are for predictions_of(), not for the model."""
        return getattr(self, self.task.kind)(example, n)

    def classes(self, example: dict, n: int):
        a, b = (self.encode(text)[0] for text in example["texts"])
        label = example["label"]
        label = self.number.get(label, IGNORED) if self.task.kind == "classes" else label - self.mean
        return [{**self.encoder.join(a, b, self.max_length), "labels": label, "_example": n}]

    regression = classes

    def choices(self, example: dict, n: int):
        question = self.encode(example["text"])[0]
        joined = [self.encoder.join(question, self.encode(c)[0], self.max_length) for c in example["choices"]]
        return [{**{k: [j[k] for j in joined] for k in joined[0]}, "labels": example["label"], "_example": n}]

    def answers(self, example: dict, n: int):
        question = self.encode(example["text"])[0][: self.max_length // 2]
        context, spans = self.encode_context(example["context"])
        start, text = example["answers"][0]
        inside = [i for i, (a, b) in enumerate(spans) if a < start + len(text) and b > start]
        offset = self.encoder.start_of_second(question)
        features = []
        for first, end in windows(len(context), self.max_length - self.encoder.special - len(question)):
            whole = inside and first <= inside[0] and inside[-1] < end
            features.append(
                {
                    **self.encoder.join(question, context[first:end]),
                    # Position 0, [CLS], means that the answer is not in this window.
                    "start_positions": offset + inside[0] - first if whole else 0,
                    "end_positions": offset + inside[-1] - first if whole else 0,
                    "_example": n,
                    "_context": (offset, offset + end - first),
                    "_spans": spans[first:end],
                }
            )
        return features

    def entities(self, example: dict, n: int):
        ids, spans = self.encode(example["text"])
        tags = tag(spans, example["entities"])
        lead = len(self.encoder.before)
        features = []
        for first, end in windows(len(ids), self.max_length - lead - len(self.encoder.after)):
            joined = self.encoder.join(ids[first:end])
            labels = [IGNORED] * len(joined["input_ids"])
            labels[lead : lead + end - first] = [self.number.get(t, 0) for t in tags[first:end]]
            features.append({**joined, "labels": labels, "_example": n, "_window": (first, end)})
        return features


# --- logits to predictions ----------------------------------------------------------------------------------------


def predictions_of(features: Features, examples: list[dict], inputs: list[dict], logits: list) -> list:
    """What the model predicts for each example, as tasks.score() takes it.

    inputs: the features of all examples; logits: an array for each of them, or for answers a pair (start [t], end [t]).
    """
    task = features.task
    if task.kind == "regression":
        return [float(row[0]) + features.mean for row in logits]
    if task.kind == "classes":
        return [features.labels[int(row.argmax())] for row in logits]
    if task.kind == "choices":
        return [int(row.argmax()) for row in logits]
    if task.kind == "answers":
        best = [(-math.inf, "")] * len(examples)
        for feature, (starts, ends) in zip(inputs, logits, strict=True):
            n = feature["_example"]
            value, span = best_answer(starts, ends, *feature["_context"])
            if span and value > best[n][0]:
                (start, _), (_, end) = (feature["_spans"][i] for i in span)
                best[n] = value, examples[n]["context"][start:end]
        return [answer for _, answer in best]
    lead = len(features.encoder.before)
    found = []
    for n, its_windows in groupby(zip(inputs, logits, strict=True), key=lambda pair: pair[0]["_example"]):
        _, spans = features.encode(examples[n]["text"])
        tags, margin = np.zeros(len(spans), int), np.full(len(spans), -1)
        for feature, rows in its_windows:
            first, end = feature["_window"]
            at = np.arange(first, end)
            # The two ends of the text do not count as edges: nothing is missing there.
            left = at - first + len(spans) * (first == 0)
            right = end - 1 - at + len(spans) * (end == len(spans))
            here = np.minimum(left, right)
            better = here > margin[first:end]
            tags[first:end][better] = rows[lead : lead + end - first].argmax(-1)[better]
            margin[first:end][better] = here[better]
        found.append(entities_of(spans, [features.labels[t] for t in tags]))
    return found


def best_answer(starts: np.ndarray, ends: np.ndarray, first: int, end: int) -> tuple[float, tuple[int, int] | None]:
    """(value, (start, end)) of the best answer among the context's tokens, first … end - 1, counted from there."""
    top_starts = np.argsort(-starts[first:end], kind="stable")[:BEST]
    top_ends = np.argsort(-ends[first:end], kind="stable")[:BEST]
    best = -math.inf, None
    for a in top_starts.tolist():
        for b in top_ends.tolist():
            value = float(starts[first + a] + ends[first + b])
            if a <= b < a + MAX_ANSWER and value > best[0]:
                best = value, (a, b)
    return best
