"""The bag-of-words baseline: a model that does not beat it has learned little about a task.

It is MeCab's words, tf-idf and regressions (scikit-learn), nothing else. Each function takes the examples of train and
of valid and returns its predictions for valid, in the form that tasks.score() takes.
"""

import re
from collections import Counter, defaultdict

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from suzuri.evaluation.entity_tags import entities_of, tag
from suzuri.evaluation.tasks import MARKER, Task
from suzuri.tokenizer.offsets import normalize
from suzuri.tokenizer.words import segment


def predict(task: Task, train: list[dict], valid: list[dict]) -> list:
    """Predictions for `valid`, the same every time."""
    return {
        "regression": similarity,
        "classes": relation,
        "choices": choice,
        "answers": answer,
        "entities": entities,
    }[task.kind](train, valid)


def words_of(texts: list[str]) -> list[str]:
    """The words of each text, joined by blanks."""
    return segment([text.replace("\n", " ") for text in texts])


class Similarities:
    """Cosines of tf-idf vectors, of words and of runs of one to three characters."""

    def __init__(self, texts: list[str]):
        self.words = TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True).fit(words_of(texts))
        self.runs = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True).fit(texts)

    def __call__(self, first: list[str], second: list[str]) -> np.ndarray:
        """[n, 2]: the cosines of n pairs of texts."""
        both = []
        for vectors, a, b in ((self.words, words_of(first), words_of(second)), (self.runs, first, second)):
            # The vectors have length 1, so the product is the cosine.
            both.append(np.asarray(vectors.transform(a).multiply(vectors.transform(b)).sum(1)).ravel())
        return np.stack(both, 1)


def split_pairs(examples: list[dict]) -> tuple[list[str], list[str]]:
    """([first texts], [second texts])"""
    return [e["texts"][0] for e in examples], [e["texts"][1] for e in examples]


def similarity(train: list[dict], valid: list[dict]) -> list[float]:
    """A linear regression over the two cosines, their squares and the difference in length."""
    cosines = Similarities([text for e in train for text in e["texts"]])

    def features(examples):
        first, second = split_pairs(examples)
        found = cosines(first, second)
        gap = [[abs(len(a) - len(b)) / max(len(a), len(b), 1)] for a, b in zip(first, second, strict=True)]
        return np.hstack([found, found**2, gap])

    model = Ridge(1e-3).fit(features(train), [e["label"] for e in train])
    return model.predict(features(valid)).tolist()


def relation(train: list[dict], valid: list[dict]) -> list[str]:
    """A logistic regression over the cosines and the words: in both texts, only in the first, only in the second."""
    cosines = Similarities([text for e in train for text in e["texts"]])
    bag = TfidfVectorizer(token_pattern=r"\S+")

    def parts(examples):
        for first, second in zip(*map(words_of, split_pairs(examples)), strict=True):
            a, b = set(first.split()), set(second.split())
            for name, words in (("both", a & b), ("first", a - b), ("second", b - a)):
                yield " ".join(f"{name}:{word}" for word in sorted(words))

    def features(examples):
        joined = list(parts(examples))
        bags = [" ".join(joined[i : i + 3]) for i in range(0, len(joined), 3)]
        found = bag.transform(bags) if hasattr(bag, "vocabulary_") else bag.fit_transform(bags)
        return hstack([found, csr_matrix(cosines(*split_pairs(examples)))]).tocsr()

    model = LogisticRegression(C=3, max_iter=1000).fit(features(train), [e["label"] for e in train])
    return model.predict(features(valid)).tolist()


def choice(train: list[dict], valid: list[dict]) -> list[int]:
    """The choice with the highest value in a logistic regression over its cosines to the question, its words, and pairs
    of a word of the question and a word of the choice."""
    cosines = Similarities([text for e in train for text in (e["text"], *e["choices"])])
    bag = TfidfVectorizer(token_pattern=r"\S+", min_df=2)

    def features(examples):
        questions, choices = (
            [e["text"] for e in examples for _ in e["choices"]],
            [c for e in examples for c in e["choices"]],
        )
        bags = [
            " ".join(c.split() + [f"{v}|{w}" for v in set(q.split()) for w in c.split()])
            for q, c in zip(words_of(questions), words_of(choices), strict=True)
        ]
        found = bag.transform(bags) if hasattr(bag, "vocabulary_") else bag.fit_transform(bags)
        return hstack([found, csr_matrix(cosines(questions, choices))]).tocsr()

    right = [i == e["label"] for e in train for i in range(len(e["choices"]))]
    model = LogisticRegression(C=1, max_iter=1000).fit(features(train), right)
    values = model.decision_function(features(valid)).reshape(len(valid), -1)
    return values.argmax(1).tolist()


def answer(train: list[dict], valid: list[dict]) -> list[str]:
    """The longest run without hiragana and punctuation that is not in the question, from the sentence nearest to the
    question (tf-idf); `train` is not used."""
    sentences = {e["context"]: re.findall("[^。]+", e["context"].replace(MARKER, "。")) for e in valid}
    cosines = Similarities([s for found in sentences.values() for s in found])
    pairs = [(e["text"], s) for e in valid for s in sentences[e["context"]]]
    values = iter(cosines(*map(list, zip(*pairs, strict=True))).sum(1).tolist())
    answers = []
    for e in valid:
        nearest = max(sentences[e["context"]], key=lambda _: next(values))
        runs = [
            run for run in re.findall(r"[^\s\u3040-\u309f、．，,「」『』（）()・…]+", nearest) if run not in e["text"]
        ]
        answers.append(max(runs, key=len, default=nearest))
    return answers


def entities(train: list[dict], valid: list[dict]) -> list[set]:
    """Each word gets the type that it has most often in train; neighbours of one type are one entity."""
    seen = defaultdict(Counter)
    for e in train:
        spans, words = word_spans(e["text"])
        for word, t in zip(words, tag(spans, e["entities"]), strict=True):
            seen[word][t.replace("B-", "I-")] += 1
    usual = {word: min(tags, key=lambda t: (-tags[t], t)) for word, tags in seen.items()}
    found = []
    for e in valid:
        spans, words = word_spans(e["text"])
        found.append(entities_of(spans, [usual.get(word, "O") for word in words]))
    return found


def word_spans(text: str) -> tuple[list[tuple[int, int]], list[str]]:
    """([(start, end), …], [word, …]): MeCab's words in a text."""
    normal, starts, ends = normalize(text)
    spans, words, at = [], [], 0
    for word in filter(None, segment([text])[0].split(" ")):
        at = normal.find(word, at)
        spans.append((starts[at], ends[at + len(word) - 1]))
        words.append(word)
        at += len(word)
    return spans, words
