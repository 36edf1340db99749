"""The benchmarks of training run, on models of one small layer. Their figures are not checked."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, SLOW
from small_runs import write_shard, write_tokenizer


@SLOW
def test_quick_benchmark(shared_data, tmp_path):
    command = [sys.executable, ROOT / "tests/bench/bench_train.py", "--out", tmp_path, "--quick", "--profile"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench_train.json").read_text())
    assert set(found["loader"]) == {"1 at once", "4 at once", "16 at once", "ahead"}
    (case,) = found["cases"]
    assert all(speed > 0 for speed in case["ours"] + case["peer"]["32"]) and 0 < case["mfu"] < 1
    assert case["first_step_seconds"] > 0 and case["chunks_at_once"] >= 1
    assert "mm" in (tmp_path / f"profile-{case['model']}-{case['precision']}.txt").read_text()


@SLOW
@pytest.mark.parametrize("stage, tables", [(1, 2), (2, 1), (3, 3), (4, 1), (5, 1)])
def test_rehearsal_of_the_first_gpu(stage, tables, tmp_path):
    data = tmp_path / "data"
    write_tokenizer(data / "tokenizer")
    for name, sequences in (("train-000", 2000), ("valid", 100)):
        write_shard(data / f"{name}.safetensors", data / "tokenizer", sequences)
    command = [sys.executable, ROOT / "tests/bench/first_gpu.py", "--rehearse", "--stage", str(stage)]
    done = subprocess.run([*command, "--data", data, "--out", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"stage-{stage}.md").read_text().count("|---|") and done.stdout.count("\n|---") == tables
