"""Fine-tuning on a task with transformers' own Trainer, once per seed, and the resulting predictions."""

import math
import tempfile
from collections.abc import Callable

import accelerate  # noqa: F401 (the Trainer needs it, and says so late)
import numpy as np
import scipy  # noqa: F401 (for the scores, after training)
import torch
import transformers
from transformers import (
    MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoConfig,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from suzuri.errors import DataError
from suzuri.evaluation import tasks
from suzuri.evaluation.features import IGNORED, Features, predictions_of
from suzuri.evaluation.heads import AnswerHead, TextHead
from suzuri.progress import Progress
from suzuri.tokenizer.offsets import Encoder
from suzuri.tokenizer.untrusted import SAFE, SAFE_WEIGHTS, refuse_code, refuse_unsafe
from suzuri.training.model import refuse_missing_weights

# transformers' heads for each kind of task, and which configs have one.
HEADS = {
    "regression": (transformers.AutoModelForSequenceClassification, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING),
    "classes": (transformers.AutoModelForSequenceClassification, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING),
    "choices": (transformers.AutoModelForMultipleChoice, MODEL_FOR_MULTIPLE_CHOICE_MAPPING),
    "answers": (transformers.AutoModelForQuestionAnswering, MODEL_FOR_QUESTION_ANSWERING_MAPPING),
    "entities": (transformers.AutoModelForTokenClassification, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING),
}

WARMUP, WEIGHT_DECAY = 0.1, 0.0  # JGLUE's; not worth tuning in training this short


def predictions_of_seeds(
    task: tasks.Task,
    folder: str,
    train: list[dict],
    valid: list[dict],
    settings: dict,
    seeds: int,
    random_weights: bool,
    bar: Progress,
) -> tuple[list[list], dict]:
    """(for each seed, the predictions for `valid` as tasks.score() takes them; settings as used).

    settings: learning_rates (the one that is best on a held-out tenth of `train` is used), epochs, batch_size,
    max_length (never more than the model takes), precision ("auto", "fp32" or "bf16"; auto: bf16 if a GPU has it),
    pooling ("cls" or "mean"; None for a task whose head is on each token).
    """
    if len(settings["learning_rates"]) > 1 and len(train) < 2:
        raise DataError(task.name, "one example cannot train and choose a learning rate: give more, or one rate")
    encoder = Encoder(folder)
    max_length = min(settings["max_length"], longest_input(folder))
    features = Features(task, encoder, max_length, train)
    if task.kind in ("classes", "entities") and len(features.labels) < 2:
        raise DataError(task.name, f"nothing to learn: every training example says {features.labels[0]}; use more")
    settings = {**settings, "max_length": max_length, "warmup_ratio": WARMUP, "weight_decay": WEIGHT_DECAY}

    def predicted(rate, seed, train, valid):
        """The predictions, or None if training diverged."""
        trainer = fit(features, folder, train, settings | {"learning_rate": rate}, seed, random_weights, bar)
        return predict(trainer, features, valid)

    tried = {}
    rates = settings["learning_rates"]
    if len(rates) > 1:
        most, held = tasks.hold_out(train)
        for rate in rates:
            guesses = predicted(rate, 0, most, held)
            tried[rate] = math.nan if guesses is None else tasks.score(task, held, guesses)[task.metrics[0]]
            bar.say(f"{task.name}: learning rate {rate:g}: {task.metrics[0]} {tried[rate]:.4f} on held-out examples")
        tried = {rate: None if math.isnan(value) else value for rate, value in tried.items()}  # JSON has no NaN
    best = max(rates, key=lambda rate: -2 if tried.get(rate) is None else tried[rate])
    runs = []
    for seed in range(seeds):
        runs.append(predicted(best, seed, train, valid))
        scores = {} if runs[-1] is None else tasks.score(task, valid, runs[-1])
        if not scores or any(map(math.isnan, scores.values())):
            raise DataError(task.name, f"seed {seed} diverged at a learning rate of {best:g}; try lower ones")
        figures = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        bar.say(f"{task.name}: seed {seed}, learning rate {best:g}: {figures}")
    return runs, {**settings, "learning_rate": best, "held_out": tried}


def make_model(
    task: tasks.Task, folder: str, num_labels: int, random_weights: bool, pooling: str, attention: str | None = None
):
    """The task's model: the encoder with the weights in `folder` or random ones, and a new head. `attention` is
    transformers' attn_implementation."""
    refuse_unsafe(folder)
    try:
        config = AutoConfig.from_pretrained(folder, **SAFE)
        refuse_code(folder, config.to_dict())
        config.num_labels = num_labels
        if task.kind == "regression":
            config.problem_type = "regression"
        kind, supported = HEADS[task.kind]
        has_head = pooling != "mean" and type(config) in supported
        if not has_head:
            kind = transformers.AutoModel
        if random_weights:
            model = kind.from_config(config, attn_implementation=attention)
        else:
            how = {"dtype": torch.float32, "attn_implementation": attention, "output_loading_info": True}
            model, loaded = kind.from_pretrained(folder, config=config, **how, **SAFE_WEIGHTS)
            refuse_missing_weights(folder, model, loaded["missing_keys"])
        if has_head:
            return model
        return AnswerHead(model) if task.kind == "answers" else TextHead(model, task.kind, num_labels, pooling)
    except DataError:
        raise
    except Exception as e:  # of any kind: the folder may hold anything
        why = " ".join(str(e).split())[:200]
        raise DataError(folder, f"not a model that {task.name} can be trained on ({type(e).__name__}: {why})") from None


def longest_input(folder: str) -> int:
    """The most tokens that a model takes; RoBERTa's positions start after its padding id."""
    refuse_unsafe(folder)
    try:
        config = AutoConfig.from_pretrained(folder, **SAFE)
    except (ValueError, OSError) as e:
        raise DataError(folder, f"not a model ({str(e).splitlines()[0]})") from None
    offset = config.pad_token_id + 1 if "roberta" in config.model_type else 0
    return getattr(config, "max_position_embeddings", 512) - offset


def collator(pad_id: int) -> Callable[[list[dict]], dict[str, torch.Tensor]]:
    """A function: features -> a batch of tensors, padded on the right, without the keys that begin with _."""
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


class Steps(TrainerCallback):
    """Shows the Trainer's steps on our progress bar: its own prints to standard output."""

    def __init__(self, bar):
        self.bar = bar

    def on_step_end(self, args, state, control, **_):
        self.bar.update(1)


class GroupingTrainer(Trainer):
    """A Trainer with batches of about equally long examples, so that half as much goes through the model: random
    batches are a third to three fifths padding on these tasks. (`train_sampling_strategy="group_by_length"` would take
    five choices for an example of length 5.)
    """

    def _get_train_sampler(self, train_dataset=None):
        lengths = [longest_row(feature["input_ids"]) for feature in self.train_dataset]
        return LengthGroupedSampler(self.args.train_batch_size, lengths=lengths)


def longest_row(ids: list) -> int:
    """The number of an example's ids, or of its longest choice's."""
    return max(map(len, ids)) if isinstance(ids[0], list) else len(ids)


def fit(
    features: Features, folder: str, train: list[dict], settings: dict, seed: int, random_weights: bool, bar: Progress
) -> Trainer:
    """Train a model on the examples `train`; returns the Trainer that holds it."""
    set_seed(seed)
    on_gpu = torch.cuda.is_available()
    bf16 = settings["precision"] == "bf16" or (
        settings["precision"] == "auto" and on_gpu and torch.cuda.is_bf16_supported()
    )
    # On a CPU, the bf16 backward pass of scaled_dot_product_attention takes half of a step (torch 2.13, AVX-512 BF16).
    attention = "eager" if bf16 and not on_gpu else None
    model = make_model(features.task, folder, len(features.labels), random_weights, settings["pooling"], attention)
    inputs = [f for n, example in enumerate(train) for f in features(example, n)]
    steps = math.ceil(len(inputs) / settings["batch_size"]) * settings["epochs"]
    bar.expect(steps)
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
        warmup_steps=min(math.ceil(settings["warmup_ratio"] * steps), steps - 1),  # its first step has the rate 0
        weight_decay=settings["weight_decay"],
        lr_scheduler_type="linear",
        bf16=bf16,
        use_cpu=bf16 and not on_gpu,  # without this the Trainer refuses bf16 on a CPU
        dataloader_pin_memory=on_gpu,
        seed=seed,
        data_seed=seed,
    )
    pad_id = features.encoder.tokenizer.pad_token_id
    trainer = GroupingTrainer(model, args, data_collator=collator(pad_id), train_dataset=inputs, callbacks=[Steps(bar)])
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return trainer


def predict(trainer: Trainer, features: Features, examples: list[dict]) -> list | None:
    """What a trained model predicts for `examples`, as tasks.score() takes it; None if a logit is NaN or infinite."""
    inputs = [f for n, example in enumerate(examples) for f in features(example, n)]
    order = sorted(range(len(inputs)), key=lambda i: longest_row(inputs[i]["input_ids"]))  # less padding
    targets = ("labels", "start_positions", "end_positions")
    found = trainer.predict([{k: v for k, v in inputs[i].items() if k not in targets} for i in order]).predictions
    answers = features.task.kind == "answers"
    if not all(np.isfinite(logits).all() for logits in (found if answers else [found])):
        return None
    found = list(zip(*found, strict=True)) if answers else list(found)
    logits = [None] * len(inputs)
    for i, row in zip(order, found, strict=True):
        logits[i] = row
    return predictions_of(features, examples, inputs, logits)
