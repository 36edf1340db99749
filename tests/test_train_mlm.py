"""bin/train-mlm as a black box: what it writes, how it resumes, what it refuses."""

import hashlib
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
import zlib

import numpy as np
import pytest
import torch
from conftest import SLOW
from huggingface_hub.repocard import REGEX_YAML_BLOCK, ModelCard
from safetensors.torch import load_file
from small_runs import (
    environment,
    in_process,
    make_inputs,
    run,
    run_warm,
    start,
    stderr_of,
    wait_for,
    write_shard,
    write_tokenizer,
)
from suzuri.errors import DataError
from suzuri.manifest import verify, write_manifest
from suzuri.shards.shard_file import Shard, ShardWriter
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
from suzuri.training import checkpoint, device, output_folder, step
from suzuri.training.loop import TrainingLoop
from suzuri.training.metrics import Metrics
from suzuri.training.output_folder import OutputFolder, weights_sha256
from suzuri.training.throughput import Throughput
from trained import sample, trained  # noqa: F401
from transformers import AutoModel, AutoModelForMaskedLM


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


def test_transformers_loads_it_and_has_the_same_loss(finished):
    """AutoModelForMaskedLM on the folder, eval-mlm and the run's last evaluation agree."""
    from suzuri.training.masking import IGNORED
    from suzuri.training.validation import masked_batches

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
    found = run_warm("eval-mlm", folder / "out", folder / "valid.safetensors", "--max-tokens", 1000, "--json").stdout
    assert abs(json.loads(found)["loss"] - last["eval_loss"]) < 1e-5


def test_finished_has_nothing_to_do_and_can_be_extended(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "copy")
    copy = tmp_path / "copy"
    args = [str(a).replace(str(finished[0]), str(copy)) for a in make_inputs(copy)]
    before = weights(copy / "out")
    assert "all 12 steps are done; raise" in run(*args) and weights(copy / "out") == before
    assert "all 9 steps are done, of 12; raise" in run(*args, "--set", "max_steps=9")
    stderr = run(*args, "--set", "max_steps=16")
    assert "continues after step 12 of 16" in stderr and weights(copy / "out") != before
    jump = r"the learning rate jumps from 8.33e-04 to 2.50e-03, because the run now has 16 steps instead of 12"
    assert jump in stderr
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


def test_a_snapshot_that_is_asked_for_too_late(tmp_path):
    """There is a line about it: for a finished run, and for one that is extended."""
    run(*make_inputs(tmp_path))
    late = "snapshot_tokens: there is no snapshot at 1,000, 3,000, which the run has passed"
    assert late in run(*make_inputs(tmp_path, {"snapshot_tokens": [1000, 3000]}))
    assert late in run(*make_inputs(tmp_path, {"snapshot_tokens": [1000, 3000], "max_steps": 14}))


def test_text_that_is_used_twice(tmp_path):
    args = make_inputs(tmp_path)
    shutil.copy(tmp_path / "valid.safetensors", tmp_path / "shards/train-002.safetensors")
    shutil.copy(tmp_path / "shards/train-000.safetensors", tmp_path / "shards/train-003.safetensors")
    said = run(*args)
    assert f"valid.safetensors: has the text of {tmp_path}/shards/train-002.safetensors, so validation is on" in said
    assert f"train-003.safetensors: has the text of {tmp_path}/shards/train-000.safetensors, so this is trained" in said


def test_a_checkpoint_that_is_not_there(tmp_path):
    """No folder is made."""
    args = make_inputs(tmp_path)
    before = sorted(os.listdir(tmp_path))
    assert "none: --from: not a checkpoint in" in run(*args, "--from", tmp_path / "none", status=1)
    assert sorted(os.listdir(tmp_path)) == before


def test_snapshots_are_models_and_survive_a_kill(tmp_path):
    """A snapshot holds the weights of that step's checkpoint, whether the run was killed on its way or not."""
    recipe = {"snapshot_tokens": [1500, 3000, 10**9], "save_total_limit": 9}  # 512 tokens per step: steps 3 and 6
    args = make_inputs(tmp_path / "whole", recipe)
    run(*args)
    whole, names = tmp_path / "whole/out", ["000000001536", "000000003072"]
    assert sorted(os.listdir(whole / "snapshots")) == names
    assert "snapshots/000000001536/model.safetensors" in json.loads((whole / "manifest.json").read_text())["outputs"]
    assert not [problem for _, problem in verify(whole) if problem]

    args = make_inputs(tmp_path / "killed", recipe)
    process = start(*args)
    wait_for(process, "step 8 of 12")
    process.kill()
    process.join()
    part = tmp_path / "killed/out.part"
    model = AutoModelForMaskedLM.from_pretrained(part / "snapshots" / names[0])
    assert (part / "snapshots" / names[0] / "vocab.txt").exists()
    (path,) = (part / "checkpoints").glob("step-00000003-*")
    kept = load_file(path)
    assert all(torch.equal(p, kept[f"model.{name}"]) for name, p in model.named_parameters())
    for path in (part / "checkpoints").glob("step-*"):  # as if nothing had been saved after step 3
        if checkpoint.step_of(str(path)) > 3:
            path.unlink()
    (part / "snapshots/000000002000.part").mkdir()
    (part / "snapshots/mine").write_text("notes")  # not ours: it stays
    run(*args)
    assert sorted(os.listdir(tmp_path / "killed/out/snapshots")) == [*names, "mine"]
    for name in names:
        for file in ("model.safetensors", "config.json"):
            found = tmp_path / "killed/out/snapshots" / name / file
            assert found.read_bytes() == (whole / "snapshots" / name / file).read_bytes()


@pytest.mark.parametrize(
    "signum, status",
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
)
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


def copy_of(finished, folder):
    """A copy of a finished run, and the arguments of train-mlm for it."""
    shutil.copytree(finished[0], folder)
    return [str(a).replace(str(finished[0]), str(folder)) for a in make_inputs(folder)]


def checkpoint_names(folder):
    return sorted(p.name for p in (folder / "checkpoints").glob("step-*"))


def test_garbage_among_the_checkpoints(finished, tmp_path):
    """It is passed over, does not count as one of those that are kept, and is not in the finished folder."""
    args = make_inputs(tmp_path)
    run(*args, "DIE_AFTER=4", status=-9)
    folder = tmp_path / "out.part/checkpoints"
    for i in range(3):
        (folder / f"step-0000009{i}-deadbeef.safetensors").write_bytes(b"garbage")
    (folder / f"step-00000099-{zlib.crc32(b'garbage'):08x}.safetensors").write_bytes(b"garbage")
    with open(tmp_path / "out.part/metrics.jsonl", "ab") as f:
        f.write(b'12\n{"step": "x"}\n\xff{"eval_loss"')
    assert "continues after step 3 of 12" in run(*args)
    assert checkpoint_names(tmp_path / "out") == checkpoint_names(finished[0] / "out")
    assert weights(tmp_path / "out") == weights(finished[0] / "out")
    assert without_speed(lines_of(tmp_path / "out")) == without_speed(lines_of(finished[0] / "out"))


@pytest.mark.parametrize("cut", ["metrics", "settings", "other run", "other model"])
def test_what_is_beside_the_checkpoints(finished, tmp_path, cut):
    """A damaged run.json or a checkpoint of another run is one line; metrics.jsonl loses what cannot be read."""
    args = copy_of(finished, tmp_path / "copy")
    out, part = tmp_path / "copy/out", tmp_path / "copy/out.part"
    out.rename(part)
    (part / "manifest.json").unlink()
    if cut == "metrics":
        (part / "metrics.jsonl").write_text('{"step": 0, "eval_l')
        stderr = run(*args)
        assert "validation loss" in stderr and weights(out) == weights(finished[0] / "out")
        assert "| after 12 steps | at the end |" in (out / "README.md").read_text()
        return
    if cut == "settings":
        (part / "checkpoints/run.json").write_text('{"optim": "ad')
        stderr = run(*args, "--set", "seed=1", status=1)
        assert "run.json: damaged, and the settings may not be those of this run; start again" in stderr
        assert "run.json: damaged; made again" in run(*args) and weights(out) == weights(finished[0] / "out")
        (checkpoint_path,) = (out / "checkpoints").glob("step-*")
        checkpoint_path.write_bytes(b"garbage")
        stderr = run(*args, "--set", "max_steps=14", status=1)
        assert "is finished and has no sound checkpoint to extend" in stderr
        return
    other = make_inputs(tmp_path / "other", model={"hidden_size": 27} if cut == "other model" else {})
    run(*other, "--set", "max_steps=14", *(["--set", "seed=1"] if cut == "other run" else []))
    (name,) = checkpoint_names(tmp_path / "other/out")
    shutil.copy(tmp_path / "other/out/checkpoints" / name, part / "checkpoints")
    said = f"{name}: is a checkpoint of another run; move it away"
    stderr = run(*args, "--set", "max_steps=14", status=1)
    assert said in stderr and len(stderr.splitlines()) == 1 and not out.exists()


def test_a_checkpoint_without_the_name_of_its_run_that_does_not_fit(tmp_path):
    """As versions before wrote them."""
    runner = in_process(make_inputs(tmp_path))
    other = in_process(make_inputs(tmp_path / "other", model={"hidden_size": 27}))
    state = {"step": 1, "losses": [], "scaler": {}}
    path = checkpoint.save(str(tmp_path), state, other.model, other.optimizers, 2)
    found, state = checkpoint.newest(str(tmp_path), "any")
    with pytest.raises(DataError, match="does not fit this model"):
        checkpoint.load(found, state, runner.model, runner.optimizers)
    assert found == path


@pytest.mark.parametrize(
    "change, named",
    [
        (["--set", "seed=1"], "seed (0, now 1)"),
        (["--set", "batch_tokens=256"], "batch_tokens (512, now 256)"),
        (["--set", "learning_rate=1"], "learning_rate"),
        (["--set", "model.hidden_size=27"], "model (hidden_size)"),
        ("data", "train shards"),
        ("validation", "validation shard"),
    ],
)
def test_changed_settings_are_refused(finished, tmp_path, change, named):
    shutil.copytree(finished[0], tmp_path / "copy")
    args = [str(a).replace(str(finished[0]), str(tmp_path / "copy")) for a in make_inputs(tmp_path / "copy")]
    if change == "data":
        write_shard(tmp_path / "copy/shards/train-002.safetensors", tmp_path / "copy/tokenizer", 9)
        change = []
    if change == "validation":
        write_shard(tmp_path / "copy/valid.safetensors", tmp_path / "copy/tokenizer", 50, seed=7)
        change = []
    stderr = run(*args, "--set", "max_steps=14", *change, status=1)
    assert f"was begun with another {named}" in stderr and "make clean-model-out" in stderr
    assert len(stderr.splitlines()) == 1


def test_init_continues_with_the_weights_only(finished, tmp_path):
    args = make_inputs(tmp_path)
    stderr = run(*args, "--init", finished[0] / "out", "--set", "max_steps=2", "--set", "learning_rate=1e-9")
    start_loss = lines_of(tmp_path / "out")[0]["eval_loss"]
    assert abs(start_loss - lines_of(finished[0] / "out")[-1]["eval_loss"]) < 1e-6, stderr
    assert "starting from the weights of `out`." in (tmp_path / "out/README.md").read_text()


def test_init_from_an_encoder_without_a_head(finished, tmp_path):
    """Another program's folder, too: it has no manifest, so ours records its files."""
    args = make_inputs(tmp_path)
    shutil.copytree(finished[0] / "out", tmp_path / "encoder", ignore=shutil.ignore_patterns("manifest.json"))
    AutoModel.from_pretrained(finished[0] / "out").save_pretrained(tmp_path / "encoder")
    stderr = run(*args, "--init", tmp_path / "encoder", "--set", "max_steps=2", "--set", "learning_rate=1e-9")
    assert "encoder has no masked-language-model head (it was saved without one): training begins with a" in stderr
    assert lines_of(tmp_path / "out")[0]["eval_loss"] > lines_of(finished[0] / "out")[-1]["eval_loss"]
    recorded = json.loads((tmp_path / "out/manifest.json").read_text())["inputs"]
    weights = (tmp_path / "encoder/model.safetensors").read_bytes()
    assert recorded["../encoder/model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert "../encoder" not in recorded and "../encoder/config.json" in recorded
    assert not [path for path, problem in verify(tmp_path / "out") if problem]
    (tmp_path / "encoder/manifest.json").write_text("{}")  # known before the training, not after it
    stderr = run(*args, "--init", tmp_path / "encoder", "--set", "max_steps=2", "--set", "seed=3", status=1)
    assert "encoder/manifest.json: not a manifest of suzuri" in stderr.splitlines()[-1] and "step 0" not in stderr


def model_and_tokenizer(tmp_path, finished):
    """A model's folder from elsewhere, with its tokenizer in it, and train-mlm's arguments with shards packed by it."""
    args, folder = make_inputs(tmp_path), tmp_path / "downloaded"
    shutil.copytree(finished[0] / "out", folder, ignore=shutil.ignore_patterns("manifest.json", "checkpoints", "runs"))
    (folder / ".gitattributes").write_text("x\n")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    for i, path in enumerate([*sorted((tmp_path / "shards").iterdir()), tmp_path / "valid.safetensors"]):
        write_shard(path, folder, 80, seed=i)
    args[args.index("--tokenizer") + 1] = folder
    return args, folder


@pytest.mark.parametrize("init", [True, False])
def test_the_tokenizer_of_a_model_folder(finished, tmp_path, init):
    """Its weights and its card are not the tokenizer's: what was trained is what is written."""
    args, folder = model_and_tokenizer(tmp_path, finished)
    run(*args, *(("--init", folder) if init else ()), "--set", "snapshot_tokens=[1500]", "--set", "max_steps=5")
    out = tmp_path / "out"
    before = without_speed(lines_of(folder))
    assert weights(out) != weights(folder) and without_speed(lines_of(out)) != before
    (kept,) = checkpoint.checkpoints(str(out / "checkpoints"))
    for name, weight in load_file(out / "model.safetensors").items():
        assert torch.equal(weight, load_file(kept)[f"model.{name}"])
    (snapshot,) = (out / "snapshots").iterdir()
    assert weights(snapshot) not in (weights(folder), weights(out))
    assert not {".gitattributes", "model.safetensors.index.json"} & {path.name for path in out.iterdir()}
    assert (out / "vocab.txt").read_bytes() == (folder / "vocab.txt").read_bytes()
    assert output_folder.trained_with(snapshot) == TokenizerFolder(folder).sha256
    (tmp_path / "other").mkdir()
    write_tokenizer(tmp_path / "other")
    with open(tmp_path / "other/vocab.txt", "a") as f:
        f.write("another\n")
    write_shard(tmp_path / "other.safetensors", tmp_path / "other", 9)
    said = run_warm("eval-mlm", snapshot, tmp_path / "other.safetensors", status=1).stderr.decode()
    assert "packed with tokenizer_sha256" in said


def test_init_with_another_tokenizer_of_the_same_size(finished, tmp_path):
    args = make_inputs(tmp_path)
    pieces = (tmp_path / "tokenizer/vocab.txt").read_text().split("\n")
    pieces[40:42] = pieces[41], pieces[40]
    (tmp_path / "tokenizer/vocab.txt").write_text("\n".join(pieces))
    for path in (*(tmp_path / "shards").iterdir(), tmp_path / "valid.safetensors"):
        write_shard(path, tmp_path / "tokenizer", 80)
    stderr = run(*args, "--init", finished[0] / "out", status=1)
    assert f"its piece 40 is {pieces[41]!r}, but {pieces[40]!r} in" in stderr and len(stderr.splitlines()) == 1


def test_what_happens_to_the_inputs_after_the_start(tmp_path):
    """The manifest has the recipe with which the run began; neither that file nor the history of its shards is needed
    at the end."""
    args = make_inputs(tmp_path, recipe={"max_steps": 400, "model_config_file": str(tmp_path / "model.json")})
    recipe = (tmp_path / "recipe.json").read_bytes()
    (tmp_path / "text").mkdir()
    write_manifest(tmp_path / "text", files=[])
    write_manifest(tmp_path / "shards", inputs=[tmp_path / "text"])
    (tmp_path / "text/manifest.json").write_text("{")
    process = start(*args)
    wait_for(process, "step 20 ")
    (tmp_path / "recipe.json").unlink()
    process.join()
    assert process.exitcode == 0, stderr_of(process)
    recorded = json.loads((tmp_path / "out/manifest.json").read_text())["inputs"]
    assert recorded["../recipe.json"] == hashlib.sha256(recipe).hexdigest()


def test_settings_without_effect(finished, tmp_path):
    args = make_inputs(tmp_path, recipe={"model_name_or_path": "nowhere", "max_steps": 2})
    stderr = run(*args, "--init", finished[0] / "out", "--set", "snapshot_tokens=[500, 5000]")
    assert "recipe.json: model_name_or_path has no effect: the model is the one in " in stderr
    assert "snapshot_tokens: no snapshot at 5,000: the run ends after " in stderr
    again = ("--init", finished[0] / "out", "--set", "snapshot_tokens=[500]")
    assert "--license has no effect on a finished model" in run(*args, *again, "--license", "mit")
    nowhere = run(*args, *again, "--from", tmp_path / "step-00000009-00000000.safetensors", status=1)
    assert "--from: not a checkpoint in" in nowhere


def other_tokenizer(folder):
    write_tokenizer(folder / "tokenizer", 98)


def larger_vocabulary(folder):
    (folder / "model.json").write_text(json.dumps({"vocab_size": 50}))


def long_sequences(folder):
    for path in (folder / "valid.safetensors", *(folder / "shards").iterdir()):
        write_shard(path, folder / "tokenizer", 9, max_seq_length=60)


def another_length(folder):
    write_shard(folder / "valid.safetensors", folder / "tokenizer", 9, max_seq_length=36)


def another_unit(folder):
    write_shard(folder / "shards/train-001.safetensors", folder / "tokenizer", 9, unit="document")


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
        (long_sequences, "sequences have up to 60 tokens, the model takes 37; pack with a smaller --max-seq-length"),
        (another_length, "valid.safetensors: packed with max_seq_length 36, not 37; pack the text again (make shards)"),
        (another_unit, "train-001.safetensors: packed with unit document, not line; pack the text again (make shards)"),
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
        (
            recipe(model_config_file="nowhere.json"),
            "is neither a file beside the recipe nor one in the current directory",
        ),
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


def test_a_last_chunk_in_which_nothing_can_be_predicted(tmp_path):
    """4,269 tokens in chunks of 1,422: the last has 3, of which 15 % are none. Its steps are left out."""
    keys = {"chunk_tokens": 1422, "batch_tokens": 1422, "max_steps": 9, "logging_steps": 1, "eval_steps": 100}
    stderr = run(*make_inputs(tmp_path, keys))
    lines = [line for line in lines_of(tmp_path / "out") if "loss" in line]
    skipped = set(range(1, 10)) - {line["step"] for line in lines}
    assert len(skipped) >= 2 and all(np.isfinite(line["loss"]) for line in lines)
    assert stderr.count("no token of it can be predicted; such steps are left out") == 1
    assert lines[-1]["tokens"] < 9 * 1422 - 1419  # filling is not counted


def short_validation(folder, sequences=1):
    with ShardWriter(
        folder / "valid.safetensors", vocab_size=99, unit="line", max_seq_length=37,
        tokenizer_sha256=TokenizerFolder(folder / "tokenizer").sha256,
    ) as writer:  # fmt: skip
        for _ in range(sequences):
            writer.append([2, 9, 3], [3])
        writer.close("0" * 64)


def test_too_little_validation_text(tmp_path):
    args = make_inputs(tmp_path)
    short_validation(tmp_path)
    for dry in ([], ["--dry-run"]):
        stderr = run(*args, *dry, status=1)
        assert "valid.safetensors: too short to validate with: none of its tokens is masked" in stderr
        assert len(stderr.splitlines()) == 1
    short_validation(tmp_path, 20)
    assert "valid.safetensors: only 9 of its tokens are masked, so its loss says little" in run(*args, "--dry-run")


def test_remarks_before_training(tmp_path):
    args = make_inputs(tmp_path, {"num_train_epochs": 2, "warmup_steps": 12}, model={"num_layers": 3, "_comment": ""})
    stderr = run(*args, "--dry-run")
    assert "train-mlm: num_train_epochs has no effect: max_steps is set (null unsets it)\n" in stderr
    assert "train-mlm: learning_rate is never reached: the warm-up has 12 steps, the run 12\n" in stderr
    assert "model.json: num_layers has no effect: a bert model has no such key" in stderr


def test_a_bit_of_a_shard_that_changed(finished, tmp_path):
    """Before the first step it differs from the manifest; in the course of a run, from what it was before."""
    args = make_inputs(tmp_path)
    write_manifest(str(tmp_path / "shards"))
    run(*args, "DIE_AFTER=4", status=-9)
    path = tmp_path / "shards/train-001.safetensors"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    assert "train-001.safetensors: has changed since this run began" in run(*args, status=1)
    (tmp_path / "out.part").rename(tmp_path / "elsewhere")
    assert "train-001.safetensors: damaged: its sha256 is not the one in the manifest.json" in run(*args, status=1)
    assert not (tmp_path / "out.part/metrics.jsonl").exists()


def test_a_token_beyond_the_vocabulary(tmp_path):
    args = make_inputs(tmp_path)
    path = tmp_path / "shards/train-001.safetensors"
    path.write_bytes(path.read_bytes()[:-2] + b"\xff\xff")
    stderr = run(*args, status=1)
    assert "train-001.safetensors: damaged: token 1174 is 65535, but the vocabulary has 99" in stderr
    assert "Traceback" not in stderr


def test_going_back_after_a_nan(tmp_path):
    """--from goes back once, may be repeated, and the model card tells what was changed."""
    args = make_inputs(tmp_path, {"warmup_steps": 0, "lr_scheduler_type": "wsd", "decay_ratio": 0.5})
    run(*args, "--set", "max_steps=4")
    (tmp_path / "out").rename(tmp_path / "out.part")
    changes = ["--set", "adam_epsilon=1e-9"]
    assert (
        "was begun with another adam_epsilon (1e-06, now 1e-09); set it back, go back to a checkpoint with --from"
        in (run(*args, *changes, status=1))
    )
    first, last = sorted((tmp_path / "out.part/checkpoints").glob("step-*"))
    back = [*args, *changes, "--from", first]
    run(*back, "DIE_AFTER=5", status=-9)
    assert not last.exists() and "continues after step" in run(*back)
    assert [line["step"] for line in lines_of(tmp_path / "out") if "loss" in line] == [2, 4, 6, 8, 10, 12]
    card = (tmp_path / "out/README.md").read_text()
    assert "- Until step 2 adam_epsilon was 1e-06, then 1e-09." in card
    assert "all 12 steps are done" in run(*back)
    assert "was begun with another seed" in run(*args, *changes, "--set", "seed=7", "--from", first, status=1)


def test_wsd_is_extended_from_before_its_decay(tmp_path):
    """To the bit: as if the longer run had been asked for at once. Another schedule says that its rate jumps."""
    keys = {"lr_scheduler_type": "wsd", "decay_ratio": 0.5, "warmup_steps": 2, "eval_steps": 100, "save_steps": 100}
    args, whole = make_inputs(tmp_path / "a", keys), make_inputs(tmp_path / "b", keys)
    run(*args, "--set", "max_steps=10")
    assert [name[:13] for name in checkpoint_names(tmp_path / "a/out")] == ["step-00000005", "step-00000010"]
    stderr = run(*args, "--set", "max_steps=16")
    assert "continues after step 5 of 16" in stderr and "jumps" not in stderr
    run(*whole, "--set", "max_steps=16")
    assert weights(tmp_path / "a/out") == weights(tmp_path / "b/out")
    assert without_speed(lines_of(tmp_path / "a/out")) == without_speed(lines_of(tmp_path / "b/out"))


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
    assert re.search(r"last good checkpoint: none|--set learning_rate=5e\+29 --from \S+/step-", error)
    assert "train-000.safetensors tokens" in error
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


@SLOW
@pytest.mark.parametrize("world", [2, 4])
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


@SLOW
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
    """To the first step, and from a checkpoint to the last step of the epoch, with 0.05 and with 5 billion tokens.

    Without the sums of the shards, for which they are read once, when a run begins.
    """
    seconds = {}
    for tokens in (50_000_000, 5_000_000_000):
        folder = tmp_path / str(tokens)
        settings = [f"{k}={v}" for k, v in {"chunk_tokens": 8192, "batch_tokens": 32768, "max_steps": 100_000}.items()]
        args = make_inputs(folder, model={"max_position_embeddings": 512}, pieces_before=["w"])  # id 0 is a word
        for path in (folder / "shards/train-001.safetensors", folder / "valid.safetensors"):
            write_shard(path, folder / "tokenizer", 40, max_seq_length=500)
        write_sparse_shard(folder / "shards/train-000.safetensors", tokens)
        assert (folder / "shards/train-000.safetensors").stat().st_size > 2 * tokens
        begun = time.process_time()
        runner = in_process(args, settings)
        loop = TrainingLoop(runner, str(folder / "out"))
        loop.folder.inputs = []
        loop.folder.begin([])
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
        loop.folder.inputs = []
        loop.folder.begin([])
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


def test_the_same_initial_weights(finished, tmp_path):
    """A folder's name does not matter, nor how it is written; weights in several files are compared by their bytes."""
    one = finished[0] / "out"
    assert weights_sha256(str(one)) == weights_sha256(f"{one}/")
    AutoModelForMaskedLM.from_pretrained(one).save_pretrained(tmp_path / "several", max_shard_size="20kB")
    path, *others = sorted((tmp_path / "several").glob("*.safetensors"))
    shutil.copytree(tmp_path / "several", tmp_path / "moved")
    before = weights_sha256(str(tmp_path / "several"))
    assert others and before == weights_sha256(f"{tmp_path}/moved/")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert weights_sha256(str(tmp_path / "several")) != before


def test_settings_that_did_not_exist_before(finished, tmp_path):
    """A key that a newer transformers or suzuri adds changes nothing unless its value is not the default."""
    manifest = json.loads((finished[0] / "out/manifest.json").read_text())["settings"]
    folder = OutputFolder(str(tmp_path / "out"), manifest, 12)
    old = {key: value for key, value in manifest.items() if key not in ("dropout", "validation shard")}
    old["model"] = {k: v for k, v in manifest["model"].items() if k not in ("hidden_act", "hidden_size")} | {"gone": 1}
    assert folder.differences(manifest) == {}
    assert folder.differences(old) == {"model": [{"hidden_size": 768}, {"hidden_size": 24}]}
    with pytest.raises(DataError, match=r"another model \(hidden_size\)"):
        folder.refuse_changes(old, "out")


@pytest.mark.parametrize("fault", ["vanished", "full"])
def test_tensorboard_is_only_a_copy(tmp_path, capsys, fault):
    """It reads our events; when their file vanishes or its disk is full, there is one warning, and no thread."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    from tensorboard.summary.writer.record_writer import RecordWriter

    log = Metrics(str(tmp_path), 0)
    log.write({"step": 1, "loss": 2.5, "mfu": None})
    (path,) = (tmp_path / "runs").iterdir()
    events = list(loader.LegacyEventFileLoader(str(path)).Load())
    (value,) = events[-1].summary.value
    assert (events[-1].step, value.tag, value.simple_value) == (1, "loss", 2.5)
    if fault == "vanished":
        shutil.rmtree(tmp_path / "runs")
    else:
        log.board.records = RecordWriter(open("/dev/full", "wb", buffering=0))
    log.write({"step": 2, "loss": 2.0})
    log.write({"step": 3, "loss": 1.5})
    log.close()
    error = capsys.readouterr().err
    assert (
        "TensorBoard's events are no longer written" in error
        and "; metrics.jsonl still is" in error
        and error.count("\n") == 1
    )
    assert [line["loss"] for line in lines_of(tmp_path)] == [2.5, 2.0, 1.5]


def test_a_precision_without_instructions(tmp_path, monkeypatch):
    """It is said; MFU refers to the faster fp32, and is unknown where it would be above 100 %."""
    speeds = {torch.bfloat16: 1e9, torch.float32: 12e9}
    monkeypatch.setattr(device, "measured_flops", lambda device, dtype: speeds[dtype])
    for module in (step, device):
        monkeypatch.setattr(module, "multiplies", lambda dtype: dtype == torch.float32)
    runner = in_process(make_inputs(tmp_path), ["precision=bf16"])
    assert any("bf16 is many times slower than fp32 on this CPU" in remark for remark in runner.remarks)
    speed = Throughput(runner)
    assert speed.peak == 12e9
    speed.flops, speed.start = 6e9, time.monotonic() - 1
    assert speed.mfu_in_words == "MFU 50%"
    speed.flops *= 100
    assert speed.mfu is None and speed.mfu_in_words == "MFU unknown"
    assert not in_process(make_inputs(tmp_path)).remarks


def test_speed_is_that_of_training_alone(tmp_path):
    """The time of checkpoints and evaluations does not count, nor does what fills up the last chunk."""
    loop = TrainingLoop(
        in_process(make_inputs(tmp_path), ["chunk_tokens=1422", "batch_tokens=1422"]), str(tmp_path / "o")
    )
    loop.throughput = Throughput(loop.runner)
    last = next(s for s in range(4) if loop.inputs.tokens(s + 1) - loop.inputs.tokens(s) == 3)
    loop.throughput.add(last, 9)
    assert loop.throughput.tokens == 3
    loop.throughput.start -= 10
    loop.throughput.pause(9)
    assert loop.throughput.tokens_per_second == pytest.approx(3, abs=1)


@pytest.mark.parametrize(
    "model, kind",
    [("bert", "wordpiece"), ("nomic_bert", "wordpiece"), ("modernbert", "char"), ("roberta", "unigram")],
)
def test_the_card_of_a_model(tmp_path, trained, run_tool, model, kind, monkeypatch, capsys):  # noqa: F811
    """Its front matter is the Hub's, its sources are those of the manifests, and its example works when pasted."""
    text = "硯で墨をする。\n日本の首都は東京である。\n" * 40
    folder = tmp_path / "text"
    args = make_inputs(tmp_path, {"max_steps": 1}, {"model_type": model, "max_position_embeddings": 64})
    shutil.rmtree(tmp_path / "tokenizer")
    shutil.copytree(trained[kind], tmp_path / "tokenizer")
    raw = tmp_path / "raw.txt"
    raw.write_text(text)
    (tmp_path / "raw.txt.json").write_text(json.dumps({"url": "https://example.org/raw.txt"}))
    folder.mkdir()
    write_manifest(str(folder), inputs=[str(raw)])
    for path in (*(tmp_path / "shards").iterdir(), tmp_path / "valid.safetensors"):
        run_tool("pack-tokens", "--tokenizer", tmp_path / "tokenizer", "--max-seq-length", 37, path, stdin=text)
    write_manifest(str(tmp_path / "shards"), inputs=[str(folder), str(tmp_path / "tokenizer")])
    run(*args, "--license", "cc-by-sa-4.0")
    content = (tmp_path / "out/README.md").read_text()
    assert "https://example.org/raw.txt" in content and hashlib.sha256(text.encode()).hexdigest()[:16] in content
    assert ("fugashi unidic-lite" in content) == (kind != "unigram") and "from scratch with suzuri" in content
    card = ModelCard(content)
    found = card.data.to_dict()
    assert found["license"] == "cc-by-sa-4.0" and found["language"] == "ja" and found["mask_token"] == "[MASK]"
    assert REGEX_YAML_BLOCK.search(content) and ModelCard(str(card)).data.to_dict() == found
    (code,) = re.findall(r"```python\n(.*?)```", content, re.S)
    monkeypatch.chdir(tmp_path / "out")
    exec(code, {})
    assert "'token_str'" in capsys.readouterr().out
