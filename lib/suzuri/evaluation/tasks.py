"""The tasks that a model is fine-tuned on: their files, their examples, their scores.

JGLUE (Kurihara, Kawahara, Shibata, 2022); JSICK, for use where JNLI is not available; and named entities in Wikipedia,
a kind of task that JGLUE does not have. A task's folder holds train.jsonl and valid.jsonl, or JGLUE's own
train-v1.3.json and valid-v1.3.json.
"""

import glob
import json
import math
import os
import random
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from suzuri.environment import install
from suzuri.errors import DataError

MARKER = " [SEP] "  # between the title and the text of a JSQuAD context


@dataclass(frozen=True)
class Task:
    """`max_length` is JGLUE's, in tokens; the first of `metrics` chooses the learning rate."""

    name: str
    kind: str  # regression, classes, choices, answers or entities
    metrics: tuple[str, ...]
    max_length: int
    epochs: int = 4


TASKS = {
    task.name: task
    for task in (
        Task("jsts", "regression", ("pearson", "spearman"), 128),
        Task("jnli", "classes", ("accuracy",), 128),
        Task("jsick", "classes", ("accuracy",), 128),
        Task("jsquad", "answers", ("f1", "em"), 384, epochs=3),
        Task("jcommonsenseqa", "choices", ("accuracy",), 64),
        Task("ner", "entities", ("f1",), 128),
    )
}


def version(path: str) -> list[int]:
    """By which files are sorted: v1.9 comes before v1.10."""
    return [int(number) for number in re.findall("[0-9]+", path)]


def find_file(task: Task, folder: str, split: str) -> str | None:
    """The newest file of a split, FOLDER/jsts/train.jsonl or FOLDER/jsts-v1.3/train-v1.3.json."""
    found = [
        path
        for name in (task.name, f"{task.name}-v*")
        for file in (f"{split}-v*[0-9].json", f"{split}.jsonl")  # not fetch-url's record, FILE.json
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), name, file)), key=version)
    ]
    return found[-1] if found else None


def read(task: Task, folder: str, split: str, limit: int | None = None) -> list[dict]:
    """The examples of a split: dicts whose keys depend on the kind of task.

        regression, classes   texts (a, b), label (float or str)
        choices               text, choices [str], label (its index)
        answers               text (the question), context, answers [(start, text)]
        entities              text, entities [(start, end, type)]

    `limit` is how many of them to take: at random, but always the same ones.
    """
    path = find_file(task, folder, split)
    if path is None:
        raise DataError(
            folder,
            f"no {split} split of {task.name} (looked for {task.name}/{split}.jsonl and {task.name}/{split}-v*.json): "
            + (
                "make download-jglue gets JGLUE's tasks; --tasks names another folder"
                if task.name.startswith("j") and task.name != "jsick"
                else "put it there, or name another folder with --tasks"
            ),
        )
    examples = read_file(task, path)
    if limit and limit < len(examples):
        examples = random.Random(0).sample(examples, limit)
    return examples


def read_file(task: Task, path: str) -> list[dict]:
    """All examples of a file, as read() gives them."""
    examples, where = [], path
    try:
        with open(path, encoding="utf-8") as f:
            if task.kind == "answers":
                records = ((path, record) for record in squad_records(json.load(f)))
            else:
                records = ((f"{path}: line {n}", line) for n, line in enumerate(f, 1) if line.strip())
            for where, record in records:  # noqa: B007 (for the error)
                examples.append(EXAMPLE[task.kind](json.loads(record) if isinstance(record, str) else record))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        what = f"{e}" if isinstance(e, Unfit) else f"{type(e).__name__}: {e}"
        raise DataError(where, f"not in the format of {task.name} ({what})") from None
    if not examples:
        raise DataError(path, "has no examples")
    if task.kind == "classes" and len({type(example["label"]) for example in examples}) > 1:
        raise DataError(path, "some labels are numbers, others are texts")
    return examples


def squad_records(data: dict) -> Iterator[dict]:
    return (
        {"context": paragraph["context"], **question}
        for article in data["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    )


class Unfit(ValueError):
    """A value that an example cannot have."""


def of_type(kind: type, record: dict, key: str):
    """record[key], which must be a str, an int or a finite float."""
    value = record[key]
    fits = isinstance(value, int | float) and math.isfinite(value) if kind is float else isinstance(value, kind)
    if not fits or isinstance(value, bool):
        what = {str: "a text", int: "an integer", float: "a number"}[kind]
        raise Unfit(f"{key} is not {what}: {json.dumps(value, ensure_ascii=False)}")
    return kind(value)


def texts(record: dict) -> tuple[str, str]:
    return of_type(str, record, "sentence1"), of_type(str, record, "sentence2")


def choices(record: dict) -> dict:
    label, given = of_type(int, record, "label"), [of_type(str, record, f"choice{i}") for i in range(5)]
    if label not in range(5):
        raise Unfit(f"label is {label}, not one of 0 to 4")
    return {"text": of_type(str, record, "question"), "choices": given, "label": label}


def answers(record: dict) -> dict:
    context = of_type(str, record, "context")
    found = [(of_type(int, answer, "answer_start"), of_type(str, answer, "text")) for answer in record["answers"]]
    if not found:
        raise Unfit(f"the question {record['question']!r} has no answer, as in SQuAD 2.0")
    for start, text in found:
        if start < 0 or not text or not context.startswith(text, start):
            raise Unfit(f"the answer {text!r} is not in its context at answer_start, {start}")
    return {"text": of_type(str, record, "question"), "context": context, "answers": found}


def entities(record: dict) -> dict:
    text, found = of_type(str, record, "text"), []
    for entity in record["entities"]:
        start, end = of_type(int, entity, "start"), of_type(int, entity, "end")
        if not 0 <= start < end <= len(text):
            raise Unfit(f"an entity is at {start} to {end} in a text of {len(text)} characters")
        found.append((start, end, of_type(str, entity, "type")))
    return {"text": text, "entities": found}


EXAMPLE = {
    "regression": lambda record: {"texts": texts(record), "label": of_type(float, record, "label")},
    "classes": lambda record: {
        "texts": texts(record),
        "label": of_type(int if isinstance(record["label"], int) else str, record, "label"),
    },
    "choices": choices,
    "answers": answers,
    "entities": entities,
}


def hold_out(examples: list[dict], fraction: float = 0.1) -> tuple[list[dict], list[dict]]:
    """(rest, held out), at random but always the same: for choosing settings without looking at valid."""
    shuffled = random.Random(1).sample(examples, len(examples))
    held = max(1, round(len(examples) * fraction))
    return shuffled[held:], shuffled[:held]


def unseen(task: Task, train: list[dict], valid: list[dict]) -> Counter:
    """{label: how often} of the classes or entity types in `valid` that `train` never shows: no model can find them."""
    if task.kind == "classes":
        of = [[example["label"] for example in examples] for examples in (train, valid)]
    elif task.kind == "entities":
        of = [[t for example in examples for _, _, t in example["entities"]] for examples in (train, valid)]
    else:
        return Counter()
    return Counter(label for label in of[1] if label not in set(of[0]))


# --- scores ---------------------------------------------------------------------------------------------------


def score(task: Task, examples: list[dict], predictions: list) -> dict[str, float]:
    """{metric: value} of predictions, each a float, label, index, answer text, or set of (start, end, type)."""
    if task.kind == "entities":
        return {"f1": entity_f1([set(e["entities"]) for e in examples], predictions)}
    if task.kind == "answers":
        pairs = [([text for _, text in e["answers"]], p) for e, p in zip(examples, predictions, strict=True)]
        return {
            "f1": sum(max(character_f1(gold, p) for gold in golds) for golds, p in pairs) / len(pairs),
            "em": sum(bare(p) in map(bare, golds) for golds, p in pairs) / len(pairs),
        }
    labels = [e["label"] for e in examples]
    if task.kind == "regression":
        return correlations(labels, predictions)
    return {"accuracy": sum(a == b for a, b in zip(labels, predictions, strict=True)) / len(labels)}


def correlations(labels: list[float], predictions: list[float]) -> dict[str, float]:
    """Pearson's and Spearman's; 0 if all predictions, or all labels, are the same."""
    try:
        from scipy.stats import pearsonr, spearmanr
    except ModuleNotFoundError:
        raise DataError("scipy", f"not installed: {install('requirements-eval.txt')}") from None

    if len(set(predictions)) < 2 or len(set(labels)) < 2:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(labels, predictions).statistic),
        "spearman": float(spearmanr(labels, predictions).statistic),
    }


def bare(answer: str) -> str:
    """An answer in the form that JGLUE compares: lower case, single blanks, no 。 at the end."""
    return " ".join(answer.lower().rstrip("。").split())


def character_f1(gold: str, answer: str) -> float:
    """JGLUE's F1 of an answer, over its characters; a repeated character counts each time.

    >>> character_f1("東京都", "東京")
    0.8
    """
    gold, answer = bare(gold), bare(answer)
    if not gold or not answer:
        return float(gold == answer)
    same = (Counter(gold) & Counter(answer)).total()
    return 2 * same / (len(gold) + len(answer))


def entity_f1(gold: list[set], found: list[set]) -> float:
    """Micro F1 over entities; an entity is right if its type and its first and last characters are."""
    right = sum(len(a & b) for a, b in zip(gold, found, strict=True))
    total = sum(map(len, gold)) + sum(map(len, found))
    return 2 * right / total if total else 0.0


def standard_errors(task: Task, examples: list[dict], runs: list[list], resamples: int = 200) -> dict[str, float]:
    """{metric: the standard error of its mean over the runs} that comes from the choice of the examples.

    It is a bootstrap: the deviation over resamples of the examples. `runs` are the predictions of one run each.
    """
    choose = random.Random(0)
    means = []
    for _ in range(resamples):
        some = choose.choices(range(len(examples)), k=len(examples))
        scores = [score(task, [examples[i] for i in some], [run[i] for i in some]) for run in runs]
        means.append({metric: statistics.fmean(s[metric] for s in scores) for metric in task.metrics})
    return {metric: statistics.stdev(mean[metric] for mean in means) for metric in task.metrics}


def spread(values: list[float], standard_error: float | None = None) -> dict:
    """{mean, deviation, standard_error, values}: the deviation is that of a sample, None if there is only one value."""
    return {
        "mean": round(statistics.fmean(values), 6),
        "deviation": round(statistics.stdev(values), 6) if len(values) > 1 else None,
        "standard_error": None if standard_error is None else round(standard_error, 6),
        "values": [round(v, 6) for v in values],
    }


def show(found: dict) -> str:
    """A spread as text: 0.712 ± 0.003, SE 0.012"""
    text = f"{found['mean']:.3f}"
    if found["deviation"] is not None:
        text += f" ± {found['deviation']:.3f}"
    return text + (f", SE {found['standard_error']:.3f}" if found.get("standard_error") is not None else "")
