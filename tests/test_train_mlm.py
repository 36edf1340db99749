"""bin/train-mlm as a black box: what it writes, how it resumes, what it refuses."""

import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_runs import (
    environment,
    in_process,
    make_inputs,
    run,
    start,
    stderr_of,
    wait_for,
    write_shard,
    write_tokenizer,
)
from suzuri.manifest import verify
from suzuri.shards.shard_file import Shard
from suzuri.training.loop import TrainingLoop


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_speed(lines):
    return [{k: v for k, v in line.items() if k not in ("tokens_per_second", "mfu")} for line in lines]


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, bin_dir):
    """An uninterrupted run of the real command on two cores, one chunk per core: (its folder, stderr)."""
    folder = tmp_path_factory.mktemp("whole")
    command = [bin_dir / "train-mlm", *map(str, make_inputs(folder))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(OMP_NUM_THREADS="2"))
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def test_folder_and_summary(finished):
    folder, stderr = finished
    out = folder / "out"
    assert not (folder / "out.part").exists()
    modes = {path.stat().st_mode for path in (folder / "out").rglob("*") if path.is_file()}
    assert modes == {(folder / "recipe.json").stat().st_mode}  # the umask's, also of files that safetensors makes
    names = {"README.md", "config.json", "manifest.json", "metrics.jsonl", "model.safetensors", "vocab.txt"}
    assert names < {p.name for p in out.iterdir()}
    manifest = json.loads((out / "manifest.json").read_text())
    assert {"model.safetensors", "config.json", "README.md", "vocab.txt"} <= set(manifest["outputs"])
    assert not any(name.startswith(("runs", "metrics", "checkpoints")) for name in manifest["outputs"])
    assert len(os.listdir(out / "checkpoints")) == 2 and len(os.listdir(out / "runs")) == 1
    before, after = re.search(r"validation loss (\S+) -> (\S+),", stderr.splitlines()[-1]).groups()
    assert float(after) < float(before) - 0.1
    card = (out / "README.md").read_text()
    assert before in card and after in card


def test_metrics_have_every_step_once(finished):
    lines = lines_of(finished[0] / "out")
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in lines if "eval_loss" in line] == [0, 5, 10, 12]
    rates = [line["learning_rate"] for line in lines if "loss" in line]
    assert rates == sorted(rates, reverse=True) and rates[-1] > 0


def test_same_run_same_bytes(finished, tmp_path):
    folder, _ = finished
    args = make_inputs(tmp_path)
    run(*args)
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "out" / name).read_bytes(), name
    run(*args[:-1], tmp_path / "other", "--set", "seed=1")
    assert weights(tmp_path / "other") != weights(folder / "out")


def test_transformers_loads_it_and_has_the_same_loss(finished, run_tool):
    """AutoModelForMaskedLM on the folder, eval-mlm and the run's last evaluation agree."""
    from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
    from suzuri.training.masking import IGNORED
    from suzuri.training.validation import masked_batches
    from transformers import AutoModelForMaskedLM

    folder, _ = finished
    model = AutoModelForMaskedLM.from_pretrained(folder / "out").eval()
    assert model.config._attn_implementation == "sdpa"
    shard, total, count = Shard(folder / "valid.safetensors"), 0.0, 0
    for batch, _ in masked_batches(shard.tokens, shard.offsets, TokenizerFolder(folder / "out"), 1000):
        labels = np.full(len(batch["input_ids"]), IGNORED)
        real = batch["labels"] != IGNORED
        labels[batch["rows"][real]] = batch["labels"][real]
        edges = np.cumsum(batch["lengths"])[:-1]
        for ids, label in zip(np.split(batch["input_ids"], edges), np.split(labels, edges), strict=True):
            n = int((label != IGNORED).sum())
            if n:
                with torch.no_grad():
                    loss = model(input_ids=torch.from_numpy(ids)[None], labels=torch.from_numpy(label)[None]).loss
                total, count = total + loss.item() * n, count + n
    last = lines_of(folder / "out")[-1]
    assert abs(total / count - last["eval_loss"]) < 1e-5
    found = run_tool("eval-mlm", folder / "out", folder / "valid.safetensors", "--max-tokens", 1000, "--json").stdout
    assert abs(json.loads(found)["loss"] - last["eval_loss"]) < 1e-5


def test_finished_has_nothing_to_do_and_can_be_extended(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "copy")
    copy = tmp_path / "copy"
    args = [str(a).replace(str(finished[0]), str(copy)) for a in make_inputs(copy)]
    before = weights(copy / "out")
    assert "all 12 steps are done" in run(*args) and weights(copy / "out") == before
    stderr = run(*args, "--set", "max_steps=16")
    assert "continues after step 12 of 16" in stderr and weights(copy / "out") != before
    lines = lines_of(copy / "out")
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert without_speed(lines)[:10] == without_speed(lines_of(finished[0] / "out"))


def test_fewer_steps_than_are_done(finished, tmp_path):
    """It is an error for an unfinished run. If a finished one has that many steps, nothing is done."""
    copy = tmp_path / "copy"
    shutil.copytree(finished[0], copy)
    args = [str(a).replace(str(finished[0]), str(copy)) for a in make_inputs(copy)]
    shutil.copytree(copy / "out", copy / "out.part")
    assert "all 12 steps are done" in run(*args)
    shutil.rmtree(copy / "out")
    assert "has done 12 steps, and only 7 are wanted" in run(*args, "--set", "max_steps=7", status=1)


def test_killed_when_all_but_renamed(finished, tmp_path):
    """The settings stay with the checkpoints to the end, so others are refused there too."""
    copy = tmp_path / "copy"
    shutil.copytree(finished[0], copy)
    args = [str(a).replace(str(finished[0]), str(copy)) for a in make_inputs(copy)]
    (copy / "out").rename(copy / "out.part")
    assert "another learning_rate" in run(*args, "--set", "learning_rate=9e-3", status=1)
    run(*args)
    assert weights(copy / "out") == weights(finished[0] / "out")


SLOW = pytest.mark.skipif(not os.environ.get("SUZURI_SLOW"), reason="takes long; set SUZURI_SLOW=1")
KILLS = int(os.environ.get("SUZURI_KILLS", 2))


def test_kill_9_changes_nothing(finished, tmp_path):
    """Killed at random moments, in steps, evaluations and checkpoint writes, the run ends with the same bits.

    SUZURI_KILLS=20 for the long version.
    """
    rng, args = random.Random(0), make_inputs(tmp_path)
    for kill in range(KILLS):
        if (tmp_path / "out").exists():  # it finished before the kill: once more
            shutil.rmtree(tmp_path / "out")
        process = start(*args, f"THREADS={1 + kill % 2}")
        wait_for(process, "step")
        time.sleep(rng.random() * 0.5)
        process.kill()
        process.join()
    if not (tmp_path / "out").exists():
        run(*args)
    assert weights(tmp_path / "out") == weights(finished[0] / "out")
    assert without_speed(lines_of(tmp_path / "out")) == without_speed(lines_of(finished[0] / "out"))


def test_kill_9_right_after_a_step(finished, tmp_path):
    """The same without chance: it dies after step n, for some n at and between checkpoints and evaluations."""
    args = make_inputs(tmp_path)
    for n in (2, 4, 5, 7, 11):
        run(*args, f"DIE_AFTER={n}", status=-9)
    run(*args)
    assert weights(tmp_path / "out") == weights(finished[0] / "out")
    assert without_speed(lines_of(tmp_path / "out")) == without_speed(lines_of(finished[0] / "out"))


@pytest.mark.parametrize("signum, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_and_ends(finished, tmp_path, signum, status):
    args = make_inputs(tmp_path, {"save_steps": 10_000})
    process = start(*args, "THREADS=2")
    wait_for(process, "step 2 of")
    os.kill(process.pid, signum)
    process.join(120)
    assert process.exitcode == status
    saved = [name for name in os.listdir(tmp_path / "out.part/checkpoints") if name.startswith("step-")]
    assert len(saved) == 1 and "the same command continues" in stderr_of(process)
    assert "continues after step" in run(*args)
    assert weights(tmp_path / "out") == weights(finished[0] / "out")


def test_truncated_checkpoint_is_passed_over(finished, tmp_path):
    args = make_inputs(tmp_path)
    run(*args, "DIE_AFTER=8", status=-9)
    newest = max((tmp_path / "out.part/checkpoints").glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:-1000])
    stderr = run(*args)
    assert f"{newest.name}: damaged" in stderr and "continues after step 3 of 12" in stderr
    assert weights(tmp_path / "out") == weights(finished[0] / "out")


@pytest.mark.parametrize(
    "change, named",
    [
        (["--set", "seed=1"], "seed (0, now 1)"),
        (["--set", "batch_tokens=256"], "batch_tokens (512, now 256)"),
        (["--set", "learning_rate=1"], "learning_rate"),
        (["--set", "model.hidden_size=27"], "model (hidden_size)"),
        ("data", "train shards"),
    ],
)
def test_changed_settings_are_refused(finished, tmp_path, change, named):
    shutil.copytree(finished[0], tmp_path / "copy")
    args = [str(a).replace(str(finished[0]), str(tmp_path / "copy")) for a in make_inputs(tmp_path / "copy")]
    if change == "data":
        write_shard(tmp_path / "copy/shards/train-002.safetensors", tmp_path / "copy/tokenizer", 9)
        change = []
    stderr = run(*args, "--set", "max_steps=14", *change, status=1)
    assert f"was begun with another {named}" in stderr and "make clean-model-out" in stderr
    assert len(stderr.splitlines()) == 1


def test_init_continues_with_the_weights_only(finished, tmp_path):
    args = make_inputs(tmp_path)
    stderr = run(*args, "--init", finished[0] / "out", "--set", "max_steps=2", "--set", "learning_rate=1e-9")
    start_loss = lines_of(tmp_path / "out")[0]["eval_loss"]
    assert abs(start_loss - lines_of(finished[0] / "out")[-1]["eval_loss"]) < 1e-6, stderr
    assert "continued from `out`" in (tmp_path / "out/README.md").read_text()


def other_tokenizer(folder):
    write_tokenizer(folder / "tokenizer", 98)


def larger_vocabulary(folder):
    (folder / "model.json").write_text(json.dumps({"vocab_size": 50}))


def long_sequences(folder):
    write_shard(folder / "valid.safetensors", folder / "tokenizer", 5, max_seq_length=60)


def truncated_shard(folder):
    path = folder / "shards/train-001.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def misspelt_model(folder):
    path = folder / json.loads((folder / "recipe.json").read_text())["model_config_file"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layer": 3}))


def no_shards(folder):
    shutil.rmtree(folder / "shards")
    (folder / "shards").mkdir()


def recipe(**keys):
    def write(folder):
        given = json.loads((folder / "recipe.json").read_text())
        (folder / "recipe.json").write_text(json.dumps({k: v for k, v in (given | keys).items() if v != "-"}))

    return write


@pytest.mark.parametrize(
    "spoil, message",
    [
        (other_tokenizer, "packed with tokenizer_sha256"),
        (larger_vocabulary, "vocab_size is 50, but 99"),
        (long_sequences, "sequences of up to 60 tokens, the model takes 37; pack with a smaller --max-seq-length"),
        (truncated_shard, "cut short"),
        (no_shards, "has no train-*.safetensors"),
        (recipe(lerning_rate=1), "unknown key 'lerning_rate'; did you mean 'learning_rate'?"),
        (recipe(per_device_train_batch_size=8), "is a key of tiny-plm or run_mlm.py; in its place: batch_tokens"),
        (recipe(train_path="a.txt"), "in its place: the option --train DIR"),
        (recipe(model_type="bert"), "in its place: model_config_file"),
        (recipe(batch_tokens=100), "batch_tokens is 100, but must be a multiple of chunk_tokens (128)"),
        (recipe(precision="fp8"), "must be one of auto, fp32, bf16, fp16"),
        (recipe(num_train_epochs=float("inf")), "num_train_epochs is Infinity, but must be a number above 0"),
        (recipe(seed=1 << 64), "but must be a whole number of at least 0"),
        (misspelt_model, "unknown key 'num_hidden_layer' for a bert model; did you mean 'num_hidden_layers'?"),
        (recipe(model_config_file="-"), "needs model_config_file"),
        (recipe(model_config_file=3), "model_config_file is 3, but must be a path or null"),
        (recipe(model_config_file="nowhere.json"), "neither in the folder of the recipe nor in the current directory"),
        (recipe(chunk_tokens=32), "chunk_tokens is less than the longest sequence"),
    ],
)
def test_errors_are_one_line(tmp_path, spoil, message):
    args = make_inputs(tmp_path)
    spoil(tmp_path)
    stderr = run(*args, status=1)
    assert message in stderr and len(stderr.splitlines()) == 1 and stderr.startswith("train-mlm: ")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


@pytest.mark.parametrize(
    "output, why", [("file", "is not a folder"), ("shards", "is or holds the input"), (".", "is or holds the input")]
)
def test_an_output_that_cannot_be_is_noticed_before_training(tmp_path, output, why):
    *args, _ = make_inputs(tmp_path)
    (tmp_path / "file").touch()
    stderr = run(*args, tmp_path / output, status=1)
    assert why in stderr and len(stderr.splitlines()) == 1


def test_a_link_as_output_stays(tmp_path):
    args = make_inputs(tmp_path, {"max_steps": 2})
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk/model")
    run(*args)
    assert (tmp_path / "out").is_symlink() and os.listdir(tmp_path / "disk") == ["model"]
    run(*args, "--set", "max_steps=3")
    assert (tmp_path / "out").is_symlink() and os.listdir(tmp_path / "disk") == ["model"]
    assert lines_of(tmp_path / "disk/model")[-1]["step"] == 3
    assert not [problem for _, problem in verify(str(tmp_path / "out")) if problem]


def test_somebody_elses_unfinished_folder_is_spared(tmp_path):
    args = make_inputs(tmp_path)
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part/thesis.tex").write_text("years of work")
    assert "out.part: is not unfinished work of train-mlm" in run(*args, status=1)
    assert os.listdir(tmp_path / "out.part") == ["thesis.tex"]


def test_foreign_folder_is_spared(tmp_path):
    args = make_inputs(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    assert "train-mlm did not make it" in run(*args, status=1)
    assert (tmp_path / "out/thesis.tex").read_text() == "years of work"


def test_nan_names_step_batch_and_checkpoint(tmp_path):
    stderr = run(*make_inputs(tmp_path), "--set", "learning_rate=1e30", "--set", "warmup_steps=0", status=1)
    error = stderr.splitlines()[-1]
    assert re.search(r"step \d+: the loss is (nan|inf)", error) or "gradient's norm" in error
    assert "last good checkpoint" in error and "train-000.safetensors tokens" in error
    saved = sorted((tmp_path / "out.part/checkpoints").glob("step-*"))
    assert all(torch.isfinite(t).all() for path in saved for t in load_file(path).values())


def test_dry_run_trains_nothing(tmp_path):
    stderr = run(*make_inputs(tmp_path), "--dry-run")
    for word in ("parameters", "tokens", "steps", "memory", "time"):
        assert word in stderr
    assert not (tmp_path / "out.part").exists()


def test_bf16_follows_fp32(finished, tmp_path):
    run(*make_inputs(tmp_path), "--set", "precision=bf16")
    mine, theirs = ([line["loss"] for line in lines_of(p / "out") if "loss" in line] for p in (tmp_path, finished[0]))
    assert mine != theirs and max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) < 0.05


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=SLOW)])
def test_torchrun_matches_one_process(finished, tmp_path, bin_dir, world):
    args = make_inputs(tmp_path)
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world),
            bin_dir / "train-mlm", *map(str, args),
        ],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    mine, theirs = lines_of(tmp_path / "out"), lines_of(finished[0] / "out")
    assert [line["step"] for line in mine] == [line["step"] for line in theirs]
    for a, b in zip(mine, theirs, strict=True):
        for key in ("loss", "eval_loss", "grad_norm"):
            assert key not in a or abs(a[key] - b[key]) < 1e-4
    assert len([line for line in done.stderr.splitlines() if "validation loss" in line and "->" in line]) == 1


def test_a_dying_rank_ends_all_and_the_next_start_resumes(finished, tmp_path, bin_dir):
    args = make_inputs(tmp_path)
    process = subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            bin_dir / "train-mlm", *map(str, args), "--set", "max_steps=100000", "--set", "eval_steps=100000",
        ],
        stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    for line in process.stderr:
        if "step 6 of" in line:
            break
    ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(ranks) == 2
    os.kill(int(ranks[1]), signal.SIGKILL)
    _, stderr = process.communicate(timeout=300)
    # torchrun tells the other rank to stop, which may be before that one has noticed by itself.
    assert process.returncode != 0 and ("lost another rank" in stderr or "the same command continues" in stderr)
    saved = max(int(p.name[5:13]) for p in (tmp_path / "out.part/checkpoints").glob("step-*"))
    assert f"continues after step {saved} of {saved + 2}" in run(*args, "--set", f"max_steps={saved + 2}")


def write_sparse_shard(path, tokens, length=500):
    """A shard of `tokens` ids 0 in sequences of `length`, by its header and offsets alone: the ids take no disk."""
    n = tokens // length
    meta = {**Shard(path).metadata, "num_tokens": tokens, "num_sequences": n, "max_seq_length": length}
    header = json.dumps({
        "__metadata__": {k: str(v) for k, v in meta.items()},
        "offsets": {"dtype": "I64", "shape": [n + 1], "data_offsets": [0, 8 * (n + 1)]},
        "tokens": {"dtype": "U16", "shape": [tokens], "data_offsets": [8 * (n + 1), 8 * (n + 1) + 2 * tokens]},
    }).encode()  # fmt: skip
    header += b" " * (-(8 + len(header)) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header)
        np.arange(0, tokens + 1, length, dtype="<i8").tofile(f)
        f.truncate(f.tell() + 2 * tokens)


def test_start_and_resume_do_not_grow_with_the_data(tmp_path):
    """To the first step, and from a checkpoint to the last step of the epoch, with 0.05 and with 5 billion tokens."""
    seconds = {}
    for tokens in (50_000_000, 5_000_000_000):
        folder = tmp_path / str(tokens)
        settings = [f"{k}={v}" for k, v in {"chunk_tokens": 8192, "batch_tokens": 32768, "max_steps": 100_000}.items()]
        args = make_inputs(folder, model={"max_position_embeddings": 512}, pieces_before=["w"])  # id 0 is a word
        write_sparse_shard(folder / "shards/train-000.safetensors", tokens)
        assert (folder / "shards/train-000.safetensors").stat().st_size > 2 * tokens
        begun = time.process_time()
        runner = in_process(args, settings)
        loop = TrainingLoop(runner, str(folder / "out"))
        loop.folder.begin()
        loop.resume()
        loss, _ = runner.train_step(0, runner.batches.of_step(0))
        first = time.process_time() - begun
        assert torch.isfinite(loss)
        loop.step, loop.losses = 1, [loss.item()]
        loop.save()
        loop.folder.new.close()

        begun = time.process_time()
        runner = in_process(args, settings)
        loop = TrainingLoop(runner, str(folder / "out"))
        loop.folder.begin()
        loop.resume()
        assert loop.step == 1
        last = runner.inputs.axis.num_chunks // 4 - 1
        assert len(runner.batches.of_step(last)) == 4
        seconds[tokens] = first, time.process_time() - begun
    print("CPU seconds to the first step, and to resume:", seconds)
    small, large = seconds.values()
    assert large[0] < 20 and large[1] < 5
    for a, b in zip(small, large, strict=True):
        assert b < 2 * a + 1
