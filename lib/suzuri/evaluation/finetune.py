"""Fine-tuning with transformers' own Trainer: examples to features, logits to answers.

A text longer than a model's input goes through it in windows that overlap by a quarter, as BERT does it for
SQuAD (Devlin et al., 2019): an answer is the best over all windows, a token's label that of the window in
which it is farthest from an edge.
"""

import math
import tempfile
from itertools import groupby
from statistics import fmean

import numpy as np
import torch
import transformers
from transformers import AutoConfig, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_pt_utils import LengthGroupedSampler

from suzuri.errors import DataError
from suzuri.evaluation import tasks
from suzuri.evaluation.entity_tags import entities_of, tag
from suzuri.progress import note
from suzuri.tokenizer.offsets import Encoder

BEST = 20  # starts and ends of answers that are looked at
MAX_ANSWER = 30  # tokens, as in JGLUE's runs
IGNORED = -100


AUTO_CLASS = {
    "regression": transformers.AutoModelForSequenceClassification,
    "classes": transformers.AutoModelForSequenceClassification,
    "choices": transformers.AutoModelForMultipleChoice,
    "answers": transformers.AutoModelForQuestionAnswering,
    "entities": transformers.AutoModelForTokenClassification,
}


WARMUP, WEIGHT_DECAY = 0.1, 0.0  # JGLUE's; nothing to choose in fine-tuning this short


def run(task, folder, train, valid, settings, seeds, random_weights, bar):
    """([{metric: value} of `valid`, one a seed], settings as used).

    settings: learning_rates (the best on a held-out tenth of `train` is taken), epochs, batch_size,
    max_length (at most what the model takes), precision ("auto", "fp32" or "bf16"; auto: bf16 where a GPU has it).
    """
    encoder = Encoder(folder)
    max_length = min(settings["max_length"], longest_input(folder))
    features = Features(task, encoder, max_length, train)
    settings = {**settings, "max_length": max_length, "warmup_ratio": WARMUP, "weight_decay": WEIGHT_DECAY}

    def scored(rate, seed, train, valid):
        trainer = fit(features, folder, train, settings | {"learning_rate": rate}, seed, random_weights, bar)
        return evaluate(trainer, features, valid)

    tried = {}
    rates = settings["learning_rates"]
    if len(rates) > 1:
        most, held = tasks.hold_out(train)
        for rate in rates:
            tried[rate] = scored(rate, 0, most, held)[task.metrics[0]]
            note(f"{task.name}: learning rate {rate:g}: {task.metrics[0]} {tried[rate]:.4f} on held-out examples")
        tried = {rate: None if math.isnan(value) else value for rate, value in tried.items()}  # NaN is no JSON
    best = max(rates, key=lambda rate: -2 if tried.get(rate) is None else tried[rate])
    runs = []
    for seed in range(seeds):
        runs.append(scored(best, seed, train, valid))
        if any(map(math.isnan, runs[-1].values())):
            raise DataError(task.name, f"seed {seed} diverged at a learning rate of {best:g}; try lower ones")
        told = ", ".join(f"{name} {value:.4f}" for name, value in runs[-1].items())
        note(f"{task.name}: seed {seed}, learning rate {best:g}: {told}")
    return runs, {**settings, "learning_rate": best, "held_out": tried}


# --- examples to features -----------------------------------------------------------------------------------------


def windows(length, room):
    """[(start, end), …] that cover `length` tokens by windows of at most `room`.

    >>> windows(12, 8)
    [(0, 8), (6, 12)]
    """
    if length <= room:
        return [(0, length)]
    step = room - room // 4
    return [(start, min(start + room, length)) for start in range(0, length - room + step, step)]


class Features:
    """Makes the inputs of a task's model from examples; `labels` are the classes or tags seen in training.

    A regression's targets are counted from their mean in training, `mean`: a new head starts at 0, and a small model
    that has to find the mean first spends its short training on that.
    """

    def __init__(self, task, encoder, max_length, train):
        self.task, self.encoder, self.max_length = task, encoder, max_length
        self.mean = fmean(e["label"] for e in train) if task.kind == "regression" else 0
        self.known = {}  # texts come again and again: a question with each of its choices, a context
        if task.kind == "classes":
            self.labels = sorted({e["label"] for e in train})
        elif task.kind == "entities":
            types = sorted({t for e in train for _, _, t in e["entities"]})
            self.labels = ["O"] + [f"{mark}-{t}" for t in types for mark in "BI"]
        else:
            self.labels = ["start", "end"] if task.kind == "answers" else ["score"]
        self.number = {label: i for i, label in enumerate(self.labels)}

    def encode(self, text):
        if text not in self.known:
            self.known[text] = self.encoder.encode(text)
        return self.known[text]

    def encode_context(self, text):
        """A title before JSQuAD's marker belongs to the context (some answers are only there); the marker becomes
        the token that separates texts, as in JGLUE's own runs."""
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

    def __call__(self, example, n=0):
        """The features of one example: dicts of what the model takes, and of what `read` needs under "_…"."""
        return getattr(self, self.task.kind)(example, n)

    def classes(self, example, n):
        a, b = (self.encode(text)[0] for text in example["texts"])
        label = example["label"]
        label = self.number.get(label, IGNORED) if self.task.kind == "classes" else label - self.mean
        return [{**self.encoder.join(a, b, self.max_length), "labels": label, "_example": n}]

    regression = classes

    def choices(self, example, n):
        question = self.encode(example["text"])[0]
        joined = [self.encoder.join(question, self.encode(c)[0], self.max_length) for c in example["choices"]]
        return [{**{k: [j[k] for j in joined] for k in joined[0]}, "labels": example["label"], "_example": n}]

    def answers(self, example, n):
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
                    # No answer in this window: its first token, [CLS], says so.
                    "start_positions": offset + inside[0] - first if whole else 0,
                    "end_positions": offset + inside[-1] - first if whole else 0,
                    "_example": n,
                    "_context": (offset, offset + end - first),
                    "_spans": spans[first:end],
                }
            )
        return features

    def entities(self, example, n):
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


def predictions_of(features, examples, inputs, logits):
    """What the model says of each example, in the terms of downstream.score().

    inputs: the features of all examples; logits: for each its array, for answers a pair (start [t], end [t]).
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
            # The two ends of the text are no edges: nothing is missing there.
            left = at - first + len(spans) * (first == 0)
            right = end - 1 - at + len(spans) * (end == len(spans))
            here = np.minimum(left, right)
            better = here > margin[first:end]
            tags[first:end][better] = rows[lead : lead + end - first].argmax(-1)[better]
            margin[first:end][better] = here[better]
        found.append(entities_of(spans, [features.labels[t] for t in tags]))
    return found


def best_answer(starts, ends, first, end):
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


# --- the model ----------------------------------------------------------------------------------------------------


def make_model(task, folder, num_labels, random_weights):
    """The task's model: the encoder's weights from `folder` (or fresh ones) and a fresh head."""
    try:
        config = AutoConfig.from_pretrained(folder)
        config.num_labels = num_labels
        if task.kind == "regression":
            config.problem_type = "regression"
        kind = AUTO_CLASS[task.kind]
        if random_weights:
            return kind.from_config(config)
        return kind.from_pretrained(folder, config=config, dtype=torch.float32)
    except (ValueError, KeyError, OSError) as e:
        raise DataError(folder, f"no model for {task.name} can be made of it ({str(e).splitlines()[0]})") from None


def longest_input(folder):
    """The tokens that a model takes; RoBERTa's positions start after its padding id."""
    try:
        config = AutoConfig.from_pretrained(folder)
    except (ValueError, OSError) as e:
        raise DataError(folder, f"no model ({str(e).splitlines()[0]})") from None
    offset = config.pad_token_id + 1 if "roberta" in config.model_type else 0
    return getattr(config, "max_position_embeddings", 512) - offset


def collator(pad_id):
    """A function: features -> a batch of tensors, padded on the right; keys that begin with _ stay behind."""
    fill = {"input_ids": pad_id, "attention_mask": 0, "token_type_ids": 0, "labels": IGNORED}

    def collate(features):
        batch = {}
        for key in features[0]:
            if key.startswith("_"):
                continue
            values = [f[key] for f in features]
            if isinstance(values[0], list):
                nested = isinstance(values[0][0], list)  # choices
                rows = [row for value in values for row in value] if nested else values
                longest = max(map(len, rows))
                padded = [row + [fill[key]] * (longest - len(row)) for row in rows]
                tensor = torch.tensor(padded)
                batch[key] = tensor.view(len(values), -1, longest) if nested else tensor
            else:
                batch[key] = torch.tensor(values)
        return batch

    return collate


class Bar(TrainerCallback):
    """The Trainer's steps on our own progress bar: its own would print to standard output."""

    def __init__(self, bar):
        self.bar = bar

    def on_step_end(self, args, state, control, **_):
        self.bar.update(1)


class GroupingTrainer(Trainer):
    """Batches of about equally long examples, so that half as much goes through the model: random ones are a third
    to three fifths padding on the tasks here. (`train_sampling_strategy="group_by_length"` would take five choices
    for an example of length 5.)
    """

    def _get_train_sampler(self, train_dataset=None):
        lengths = [longest_row(feature["input_ids"]) for feature in self.train_dataset]
        return LengthGroupedSampler(self.args.train_batch_size, lengths=lengths)


def longest_row(ids):
    """The length of an example's ids, or of the longest of its choices'."""
    return max(map(len, ids)) if isinstance(ids[0], list) else len(ids)


def fit(features, folder, train, settings, seed, random_weights, bar):
    """A model trained on the examples `train`, within its Trainer."""
    set_seed(seed)
    model = make_model(features.task, folder, len(features.labels), random_weights)
    inputs = [f for n, example in enumerate(train) for f in features(example, n)]
    steps = math.ceil(len(inputs) / settings["batch_size"]) * settings["epochs"]
    bar.expect(steps)
    on_gpu = torch.cuda.is_available()
    bf16 = settings["precision"] == "bf16" or (
        settings["precision"] == "auto" and on_gpu and torch.cuda.is_bf16_supported()
    )
    args = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # nothing is saved
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        num_train_epochs=settings["epochs"],
        learning_rate=settings["learning_rate"],
        per_device_train_batch_size=settings["batch_size"],
        per_device_eval_batch_size=2 * settings["batch_size"],
        warmup_steps=math.ceil(settings["warmup_ratio"] * steps),
        weight_decay=settings["weight_decay"],
        lr_scheduler_type="linear",
        bf16=bf16,
        use_cpu=bf16 and not on_gpu,  # without it the Trainer refuses bf16 there
        dataloader_pin_memory=on_gpu,
        seed=seed,
        data_seed=seed,
    )
    pad_id = features.encoder.tokenizer.pad_token_id
    trainer = GroupingTrainer(model, args, data_collator=collator(pad_id), train_dataset=inputs, callbacks=[Bar(bar)])
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return trainer


def evaluate(trainer, features, examples):
    """{metric: value} of a trained model on examples."""
    inputs = [f for n, example in enumerate(examples) for f in features(example, n)]
    order = sorted(range(len(inputs)), key=lambda i: longest_row(inputs[i]["input_ids"]))  # less padding
    targets = ("labels", "start_positions", "end_positions")
    found = trainer.predict([{k: v for k, v in inputs[i].items() if k not in targets} for i in order]).predictions
    found = list(zip(*found, strict=True)) if features.task.kind == "answers" else list(found)
    logits = [None] * len(inputs)
    for i, row in zip(order, found, strict=True):
        logits[i] = row
    return tasks.score(features.task, examples, predictions_of(features, examples, inputs, logits))
