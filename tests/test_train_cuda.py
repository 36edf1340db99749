"""Tests that need a GPU: the varlen kernel, half precisions, torch.compile and the probing of memory."""

import json
import math

import numpy as np
import pytest
import torch
from small_runs import in_process, make_inputs, run, write_shard, write_tokenizer
from suzuri.training.attention import NESTED, VARLEN
from suzuri.training.batches import largest_fitting
from suzuri.training.model import FlatModel, check_isolation, new_model, position_offset, sequence_arguments
from test_train_mlm import lines_of
from test_train_model import PIECES, Words

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
# Heads of 16 values: the kernel needs multiples of 8. ModernBERT's window is shorter than most sequences here.
SIZES = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 80}
ARCHITECTURES = {
    "bert": {"attention_probs_dropout_prob": 0.0},
    "roberta": {"attention_probs_dropout_prob": 0.0},
    "nomic_bert": {},
    "modernbert": {"local_attention": 10, "global_attn_every_n_layers": 2},
}
GPU_TASK = {"model": SIZES | {"attention_probs_dropout_prob": 0.0, "max_position_embeddings": 40}}
STEPS = {"max_steps": 20, "batch_tokens": 1024, "chunk_tokens": 256, "eval_steps": 20, "save_steps": 10}


def losses(folder):
    return [line["loss"] for line in lines_of(folder) if "loss" in line]


@needs_gpu
@pytest.mark.parametrize("attention, dtype", [(VARLEN, torch.bfloat16), (NESTED, torch.float16), (NESTED, None)])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_logits_are_those_of_each_sequence_alone(kind, attention, dtype, tmp_path):
    """Varlen and nested attention on a flat batch against plain transformers in fp32, sequence by sequence."""
    from suzuri.shards.shard_file import Shard
    from suzuri.training.masking import Masker
    from suzuri.training.token_axis import TokenAxis, micro_batches

    if attention == NESTED and kind == "modernbert":
        pytest.skip("nested attention has no sliding window")
    write_tokenizer(tmp_path / "tokenizer")
    write_shard(tmp_path / "train-000.safetensors", tmp_path / "tokenizer", 60)
    axis = TokenAxis([Shard(tmp_path / "train-000.safetensors")], 256)
    batch = next(micro_batches(axis, Masker(PIECES, range(5), 4), 0, range(3), 3, 0))
    config = {"model_type": kind, "max_position_embeddings": 40, **SIZES, **ARCHITECTURES[kind]}
    (tmp_path / "model.json").write_text(json.dumps(config))
    model = new_model(tmp_path / "model.json", {}, Words, seed=1)
    check_isolation(model, kind)
    model.cuda().eval()

    model.set_attn_implementation("sdpa")
    edges, reference = np.cumsum(batch["lengths"])[:-1], []
    with torch.no_grad():
        for ids, at in zip(*(np.split(batch[k], edges) for k in ("input_ids", "position_ids")), strict=True):
            positions = torch.from_numpy(at).cuda()[None] + position_offset(model)
            reference.append(model(input_ids=torch.from_numpy(ids).cuda()[None], position_ids=positions).logits[0])
        rows = torch.from_numpy(batch["rows"]).cuda()
        reference = torch.cat(reference)[rows]
        inputs = {k: torch.from_numpy(batch[k]).cuda() for k in ("input_ids", "position_ids", "rows")}
        where = sequence_arguments(batch["lengths"], attention, 37)
        where["cu_seqlens"] = where["cu_seqlens"].cuda()
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
            found = FlatModel(model, attention)(**inputs, **where)
    assert reference.std() > 0
    assert ((found.float() - reference).norm() / reference.norm()).item() < (2e-2 if dtype else 1e-3)


@needs_gpu
def test_bf16_and_fp16_follow_fp32(tmp_path):
    """Twenty steps each: bf16 with varlen attention, fp16 with loss scaling, fp32 with nested attention."""
    found = {}
    for precision in ("fp32", "bf16", "fp16"):
        stderr = run(
            *make_inputs(tmp_path / precision, STEPS, **GPU_TASK),
            *("--set", f"precision={precision}", "--set", "torch_compile=false"),
        )
        assert ("nested attention" in stderr) == (precision == "fp32")
        found[precision] = losses(tmp_path / precision / "out")
    assert found["fp32"][-1] < found["fp32"][0] - 0.1
    for precision in ("bf16", "fp16"):
        assert found[precision] != found["fp32"]
        assert max(abs(a - b) for a, b in zip(found[precision], found["fp32"], strict=True)) < 0.05


@needs_gpu
def test_fp16_scale_grows_and_shrinks_and_is_resumed(tmp_path):
    """A scale far too large makes infinite gradients: those steps are skipped, the scale halves, the run continues."""
    runner = in_process(make_inputs(tmp_path, STEPS, **GPU_TASK), ["precision=fp16", "torch_compile=false"])
    runner.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    before = [p.detach().clone() for p in runner.parameters]
    runner.train_step(0, runner.batches.of_step(0))
    assert runner.scaler.get_scale() == 2.0**39
    assert all(torch.equal(a, b) for a, b in zip(before, runner.parameters, strict=True))
    for step in range(1, 40):
        loss, _ = runner.train_step(step, runner.batches.of_step(step))
    assert math.isfinite(loss.item()) and runner.scaler.get_scale() < 2.0**39
    assert not all(torch.equal(a, b) for a, b in zip(before, runner.parameters, strict=True))


@needs_gpu
def test_compiled_is_eager_and_compiles_once(tmp_path):
    from torch._dynamo.utils import counters

    found = {}
    for compiled in ("false", "true"):
        torch._dynamo.reset()
        counters.clear()
        args = make_inputs(tmp_path / compiled, STEPS, **GPU_TASK)
        runner = in_process(args, ["precision=bf16", f"torch_compile={compiled}", "micro_batch_tokens=256"])
        assert runner.flat.attention == VARLEN
        found[compiled] = [runner.train_step(s, runner.batches.of_step(s))[0].item() for s in range(6)]
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    assert found["true"] == pytest.approx(found["false"], abs=2e-2)


@needs_gpu
def test_probing_finds_what_fits_and_does_not_change_the_result(tmp_path):
    found = {}
    for at_once in ("auto", "256"):
        args = make_inputs(tmp_path / at_once, STEPS, **GPU_TASK)
        runner = in_process(args, ["precision=bf16", "torch_compile=false", f"micro_batch_tokens={at_once}"])
        assert runner.batches.chunks_at_once == (4 if at_once == "auto" else 1)
        found[at_once] = [runner.train_step(s, runner.batches.of_step(s))[0].item() for s in range(4)]
    assert found["auto"] == pytest.approx(found["256"], abs=1e-2)


@pytest.mark.parametrize(
    "fixed, each, budget, chunks, found",
    [
        (10, 5, 100, 16, 16),
        (10, 5, 50, 16, 8),
        (10, 5, 40, 16, 6),  # three micro-batches of 6, one of them filled up
        (10, 5, 29, 16, 3),
        (10, 5, 5, 16, 1),
        (10, 5, 45, 12, 6),
        (0, 1, 9, 7, 7),
        (10, 5, 50, 11, 6),
    ],
)
def test_largest_fitting(fixed, each, budget, chunks, found):
    """Memory grows by `each` per chunk and runs out at 3 above the budget; the fewest micro-batches that fit."""
    tried = []

    def attempt(n):
        tried.append(n)
        return fixed + each * n if fixed + each * n <= budget + 3 else None

    assert largest_fitting(attempt, chunks, chunks, budget) == found
    assert len(tried) <= 4
