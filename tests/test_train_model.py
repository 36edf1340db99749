"""Parity with plain transformers: logits, loss, gradients; what does not work is refused."""

import json
import threading
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_runs import SPECIAL, in_process, make_inputs, write_shard, write_tokenizer
from suzuri.errors import DataError
from suzuri.shards.shard_file import Shard
from suzuri.training.attention import GROUPED, attention_dropout
from suzuri.training.cpu_threads import CpuWorkers
from suzuri.training.masking import IGNORED, Masker, mix64
from suzuri.training.model import (
    FlatModel,
    check_isolation,
    flops,
    max_length,
    new_model,
    parameter_counts,
    position_offset,
    sequence_arguments,
    set_dropout,
)
from suzuri.training.schedule import learning_rate
from suzuri.training.step import StopRequested
from suzuri.training.token_axis import TokenAxis, by_length, micro_batches

PIECES = SPECIAL + [f"w{i}" for i in range(94)]
# Odd sizes on purpose.
ARCHITECTURES = {
    "bert": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 41},
    "roberta": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 41},
    "electra": {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 41,
        "embedding_size": 20,
    },
    "distilbert": {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 41},
    "nomic_bert": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 41},
    "modernbert": {
        "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 41,
        "local_attention": 10, "global_attn_every_n_layers": 2,
    },
}  # fmt: skip


class Words:
    """What new_model asks of a TokenizerFolder."""

    path, model_config = "tokenizer", {
        "vocab_size": 99, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "mask_token_id": 4,
        "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip


def make(kind, tmp_path, **more):
    config = {"model_type": kind, "max_position_embeddings": 38, **ARCHITECTURES.get(kind, {}), **more}
    (tmp_path / "model.json").write_text(json.dumps(config))
    model = new_model(tmp_path / "model.json", {}, Words, seed=1)
    with torch.no_grad():
        for p in model.parameters():  # the usual 0.02 makes every logit look alike
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    write_tokenizer(folder / "tokenizer")
    write_shard(folder / "train-000.safetensors", folder / "tokenizer", 60)
    axis = TokenAxis([Shard(folder / "train-000.safetensors")], 257)
    return by_length(next(micro_batches(axis, Masker(PIECES, range(5), 4), 0, range(3), 3, 0)))


def forward(model, batch):
    inputs = {k: torch.from_numpy(batch[k]) for k in ("input_ids", "position_ids", "rows")}
    return FlatModel(model)(**inputs, **sequence_arguments(batch["lengths"], GROUPED, 37))


def alone(model, batch, **kwargs):
    """Each sequence run by itself through the model as transformers has it: [logits]."""
    model.set_attn_implementation("sdpa")
    edges = np.cumsum(batch["lengths"])[:-1]
    logits = []
    for ids, positions in zip(np.split(batch["input_ids"], edges), np.split(batch["position_ids"], edges), strict=True):
        given = {"position_ids": torch.from_numpy(positions)[None] + position_offset(model)} if positions[0] else {}
        logits.append(model(input_ids=torch.from_numpy(ids)[None], **given, **kwargs).logits[0])
    return torch.cat(logits)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_logits_are_those_of_each_sequence_alone(kind, tmp_path, batch):
    model = make(kind, tmp_path)
    check_isolation(model, kind)
    with torch.no_grad():
        want = alone(model, batch)[torch.from_numpy(batch["rows"])]
        have = forward(model, batch)
    assert want.std() > 0.1
    assert (have - want).abs().max() < 1e-4
    longest = int(batch["lengths"].max())
    assert longest > 20, "sequences should be longer than the sliding window of modernbert"


def test_loss_and_gradients_are_those_of_transformers_labels(tmp_path, batch):
    model = make("bert", tmp_path)
    rows, labels = torch.from_numpy(batch["rows"]), torch.from_numpy(batch["labels"])
    F.cross_entropy(forward(model, batch), labels, ignore_index=IGNORED).backward()
    have = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()

    wide = torch.full((len(batch["input_ids"]),), IGNORED)
    wide[rows[labels != IGNORED]] = labels[labels != IGNORED]
    model.set_attn_implementation("sdpa")
    edges, most = np.cumsum(batch["lengths"])[:-1], int(batch["lengths"].max())
    padded = {k: [] for k in ("input_ids", "attention_mask", "position_ids", "labels")}
    arrays = (batch["input_ids"], batch["position_ids"], wide.numpy())
    for ids, positions, label in zip(*(np.split(a, edges) for a in arrays), strict=True):
        gap = (0, most - len(ids))
        padded["input_ids"].append(np.pad(ids, gap))
        padded["attention_mask"].append(np.pad(np.ones(len(ids), int), gap))
        padded["position_ids"].append(np.pad(positions, gap))
        padded["labels"].append(np.pad(label, gap, constant_values=IGNORED))
    loss = model(**{k: torch.from_numpy(np.stack(v)) for k, v in padded.items()}).loss
    loss.backward()
    assert abs(loss.item() - F.cross_entropy(forward(model, batch), labels, ignore_index=IGNORED).item()) < 1e-5
    for name, p in model.named_parameters():
        assert torch.allclose(have[name], p.grad, atol=1e-5), name


@pytest.mark.parametrize("kind", ["deberta-v2", "nonsense", "t5"])
def test_other_architectures_are_refused(kind, tmp_path):
    with pytest.raises(DataError, match=kind):
        model = make(kind, tmp_path, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=41)
        check_isolation(model, "model.json")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_size": "abc"}, "expected int, got str"),
        ({"hidden_size": -4}, "negative dimension"),
        ({"num_attention_heads": 0}, "ZeroDivisionError"),
        ({"num_attention_heads": 5, "hidden_size": 12}, "not a multiple"),
        ({"hidden_act": "nope"}, "KeyError: 'nope'"),
        ({"model_type": ["bert"]}, "unknown to transformers"),
    ],
)
def test_senseless_settings_are_refused(settings, said, tmp_path):
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(DataError, match=said):
        new_model(tmp_path / "model.json", settings, Words, 1)
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(DataError, match="not a JSON object"):
        new_model(tmp_path / "model.json", settings, Words, 1)


def test_contradiction_with_the_tokenizer_is_refused(tmp_path):
    with pytest.raises(DataError, match="vocab_size is 50, but 99"):
        make("bert", tmp_path, vocab_size=50)
    with pytest.raises(DataError, match="pad_token_id is 1, but 0"):
        make("bert", tmp_path, pad_token_id=1)
    assert make("bert", tmp_path, vocab_size=128).config.vocab_size == 128  # unused rows do no harm


def test_fresh_weights_follow_from_the_seed(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({"max_position_embeddings": 8, **ARCHITECTURES["bert"]}))
    a, b, c = (new_model(tmp_path / "model.json", {}, Words, seed).get_input_embeddings().weight for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_dropout_is_set_everywhere(kind, tmp_path, batch):
    model = make(kind, tmp_path)
    set_dropout(model, 0.5)
    assert kind == "modernbert" or attention_dropout(model) == 0.5
    set_dropout(model, 0.0)
    assert attention_dropout(model) == 0
    model.train()
    assert torch.equal(forward(model, batch), forward(model, batch))


def test_parameters_and_flops(tmp_path):
    model = make("bert", tmp_path)
    total, body, head = parameter_counts(model)
    h, f, v = 24, 41, 99
    layer = 4 * (h * h + h) + (h * f + f) + (f * h + h) + 2 * 2 * h
    assert body == 2 * layer + 2 * h  # and the LayerNorm of the embeddings
    assert head == v * h + v + h * h + h + 2 * h
    assert total == sum(p.numel() for p in model.parameters()) == body + (v + 38 + 2) * h + head - v * h
    assert flops(model, 100, 15, 900) == 6 * body * 100 + 12 * 2 * h * 900 + 6 * head * 15


def test_roberta_positions_start_after_the_padding_id(tmp_path):
    model = make("roberta", tmp_path)
    assert position_offset(model) == 1 and max_length(model) == 37
    assert position_offset(make("bert", tmp_path)) == 0


@pytest.mark.parametrize("at_once", [256, 512])
def test_micro_batches_change_neither_loss_nor_gradients(tmp_path, at_once):
    """A whole step at 128, 256 and 512 tokens at once; chunk 5 is the short one, so a smaller divisor counts, too."""
    results = []
    for tokens in (128, at_once):
        runner = in_process(make_inputs(tmp_path / str(tokens)), [f"micro_batch_tokens={tokens}", "max_grad_norm=1e9"])
        kept = {}
        step = runner.optimizers[0].step
        runner.optimizers[0].step = lambda *a, t=runner, k=kept, s=step: (
            k.update({n: p.grad.clone() for n, p in t.model.named_parameters()}), s(*a),
        )  # fmt: skip
        for s in range(
            runner.inputs.axis.num_chunks // 4 + 1
        ):  # past the end of an epoch: the short chunk is among them
            loss, _ = runner.train_step(s, runner.batches.of_step(s))
        results.append((loss.item(), kept))
    (loss_a, a), (loss_b, b) = results
    assert abs(loss_a - loss_b) < 1e-6
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-6), name


def test_the_cores_of_a_cpu_change_nothing(tmp_path):
    """Three steps with one chunk per core, and with one core: the same weights to the bit."""
    found, workers = [], []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            runner = in_process(make_inputs(tmp_path / str(threads)), [])
            workers.append(runner.workers.count)
            with runner.all_threads():
                assert torch.get_num_threads() == threads
            assert torch.get_num_threads() == 1
            for s in range(3):
                runner.train_step(s, runner.batches.of_step(s))
            found.append(runner.model.state_dict())
    finally:
        torch.set_num_threads(1)
    assert workers == [1, 3]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_signal_does_not_wait_for_the_cores():
    def stop():
        raise StopRequested

    cores, begun, release = CpuWorkers(2), time.monotonic(), threading.Event()
    with pytest.raises(StopRequested):
        list(cores.map(release.wait, [60, 60], lambda: time.monotonic() > begun + 0.3 and stop()))
    assert time.monotonic() - begun < 60
    release.set()


def test_dropout_is_reseeded_by_step(tmp_path):
    runner = in_process(make_inputs(tmp_path), ["dropout=0.3"])
    weights = {k: v.clone() for k, v in runner.model.state_dict().items()}
    losses = []
    for step in (0, 0, 1):
        runner.model.load_state_dict(weights)
        runner.optimizers[0].state.clear()
        torch.manual_seed(int(torch.randint(1 << 30, ())) + step)  # whatever else has drawn numbers
        losses.append(runner.train_step(step, runner.batches.of_step(0))[0].item())
    assert losses[0] == losses[1] != losses[2]


def test_remarks_are_for_the_caller_to_print(tmp_path, capfd):
    runner = in_process(make_inputs(tmp_path), ["torch_compile=true"])
    assert ["each batch has another shape" in remark for remark in runner.remarks] == [True]
    assert capfd.readouterr() == ("", "")


def test_learning_rates():
    def rates(steps=100, **recipe):
        base = {"learning_rate": 1.0, "warmup_steps": None, "warmup_ratio": 0.1, "decay_ratio": 0.2}
        return [learning_rate(s, base | recipe, steps) for s in range(steps)]

    linear, cosine, wsd = (rates(lr_scheduler_type=kind) for kind in ("linear", "cosine", "wsd"))
    for found in (linear, cosine, wsd):
        assert found[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
        assert found[10] == max(found) == 1 and 0 < found[-1] < 0.06
    assert linear[55] == pytest.approx(0.5) and cosine[55] == pytest.approx(0.5)
    assert linear[32] < cosine[32] and linear[77] > cosine[77]
    assert set(wsd[10:81]) == {1} and wsd[90] == pytest.approx(0.5)
    assert rates(lr_scheduler_type="linear", warmup_steps=0)[0] == 1


def test_mix64_is_not_python_hash():
    assert mix64(0) == 16294208416658607535  # splitmix64's first output for seed 0
