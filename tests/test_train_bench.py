"""tests/bench/bench_train.py runs: both sides, on a model of one small layer. Its figures are not checked."""

import json
import subprocess
import sys

from conftest import ROOT
from test_train_mlm import SLOW


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
