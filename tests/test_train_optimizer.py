"""Muon together with AdamW, and a masking rate that changes for the end of a run."""

import json

import pytest
from small_runs import in_process, make_inputs, run, run_ranks
from suzuri.training.optimizer import hidden_matrices, make_optimizers
from suzuri.training.recipe import DEFAULTS
from test_train_mlm import lines_of, weights, without_speed
from test_train_model import ARCHITECTURES, make
from torch import nn

BOTH = ["--set", "optim=muon", "--set", "mlm_probability=0.3", "--set", "mlm_probability_tail=0.15"]
TAIL = ["--set", "mlm_tail_ratio=0.5"]


def names(model, optimizer):
    of = {id(p): name for name, p in model.named_parameters()}
    return {of[id(p)] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_muon_has_the_matrices_of_the_layers_and_nothing_else(kind, tmp_path):
    model = make(kind, tmp_path)
    adamw, muon = (names(model, o) for o in make_optimizers(model, DEFAULTS | {"optim": "muon"}))
    assert not adamw & muon and adamw | muon == {name for name, _ in model.named_parameters()}
    body = model.base_model_prefix + "."
    layers = {
        f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.startswith(body)
    }
    assert muon == layers and len(layers) >= 8
    for name, parameter in model.named_parameters():
        small = parameter.dim() < 2 or "Embedding" in type(model.get_submodule(name.rpartition(".")[0])).__name__
        assert not small or name in adamw, name
    tied = [id(p) for p in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)]
    assert not set(tied) & {id(p) for p in hidden_matrices(model)}


def test_adamw_alone_has_everything_and_does_not_decay_biases(tmp_path):
    model = make("bert", tmp_path)
    (adamw,) = make_optimizers(model, DEFAULTS)
    assert names(model, adamw) == {name for name, _ in model.named_parameters()}
    for group in adamw.param_groups:
        assert {p.dim() >= 2 for p in group["params"]} == {group["weight_decay"] > 0}


def test_muon_steps_are_as_large_as_adamws(tmp_path):
    """At the same learning_rate: the mean square of a layer's update is within a factor of 3 (0.2² · lr² by design)."""
    moved = {}
    for optim in ("adamw", "muon"):
        runner = in_process(make_inputs(tmp_path / optim), [f"optim={optim}", "warmup_steps=0", "weight_decay=0"])
        before = [p.detach().clone() for p in hidden_matrices(runner.model)]
        for step in range(3):
            runner.train_step(step, runner.batches.of_step(step))
        after = hidden_matrices(runner.model)
        moved[optim] = sum(((a - b) ** 2).mean().item() for a, b in zip(after, before, strict=True)) ** 0.5
    assert 1 / 5 < moved["muon"] / moved["adamw"] < 1.5


def test_resumes_to_the_bit_with_muon_and_a_tail(tmp_path):
    """Killed before, at and after the step (6) at which the masking rate changes."""
    whole, killed = make_inputs(tmp_path / "whole"), make_inputs(tmp_path / "killed")
    run(*whole, *BOTH, *TAIL)
    for n in (5, 7):
        run(*killed, *BOTH, *TAIL, f"DIE_AFTER={n}", status=-9)
    run(*killed, *BOTH, *TAIL)
    assert weights(tmp_path / "killed/out") == weights(tmp_path / "whole/out")
    lines = lines_of(tmp_path / "whole/out")
    assert without_speed(lines_of(tmp_path / "killed/out")) == without_speed(lines)
    rates = [line["mlm_probability"] for line in lines if "loss" in line]
    assert rates == [0.3, 0.3, 0.3, 0.15, 0.15, 0.15]
    losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert losses[-1] < losses[0] - 0.1
    settings = json.loads((tmp_path / "whole/out/manifest.json").read_text())["settings"]
    assert settings["optim"] == "muon" and settings["mlm_probability_tail"] == 0.15
    assert "optim ('muon', now 'adamw')" in run(*whole, *BOTH[2:], *TAIL, "--set", "max_steps=14", status=1)


def test_shapes_are_static_within_each_masking_rate(tmp_path):
    settings = [s for s in BOTH + TAIL if s != "--set"]
    runner = in_process(make_inputs(tmp_path), settings)
    for step, rate in ((0, 0.3), (5, 0.3), (6, 0.15), (11, 0.15)):
        for inputs, _ in runner.batches.of_step(step):
            assert len(inputs["rows"]) == len(inputs["labels"]) == round(rate * 128)
        assert runner.predictions(step) == 4 * round(rate * 128)
    assert runner.inputs.largest_masker.probability == 0.3


@pytest.mark.parametrize(
    "setting, message",
    [
        ("optim=adamw_torch_fused", 'optim is "adamw_torch_fused", but must be one of adamw, muon'),
        ("mlm_probability_tail=1.5", "must be a number between 0 and 1 or null"),
        ("mlm_tail_ratio=-1", "must be a number from 0 to 1"),
    ],
)
def test_errors(tmp_path, setting, message):
    assert message in run(*make_inputs(tmp_path), "--set", setting, status=1)


def test_initializer_range_can_be_set(tmp_path):
    stds = {}
    for value in ("0.02", "0.3"):
        runner = in_process(make_inputs(tmp_path / value))
        assert runner.model.config.initializer_range == 0.02
        from suzuri.training.model import new_model

        words = runner.inputs.tokenizer
        model = new_model(tmp_path / value / "model.json", {"initializer_range": float(value)}, words, 0)
        stds[value] = model.get_input_embeddings().weight.std().item()
    assert stds["0.3"] == pytest.approx(15 * stds["0.02"], rel=0.01)


def test_muon_on_two_ranks_follows_one_process(tmp_path):
    """Sums in another order, rounded to bf16 inside Muon: close, not equal."""
    run(*make_inputs(tmp_path / "one"), *BOTH)
    run_ranks(2, *make_inputs(tmp_path / "two"), *BOTH)
    one, two = ([line["loss"] for line in lines_of(tmp_path / n / "out") if "loss" in line] for n in ("one", "two"))
    assert one[0] == pytest.approx(two[0], abs=1e-2) and one == pytest.approx(two, abs=3e-2)
