"""The process that a test's train-mlm or eval-mlm is forked from, with the imports done (see small_runs.start)."""

import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORTED_IN = os.getpid()
if "pytest" not in sys.modules:  # in the process to fork from
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.argv = ["train-mlm"]
    sys.path.insert(0, str(ROOT / "lib"))
    import suzuri.training.dry_run
    import suzuri.training.inputs
    import suzuri.training.loop
    import suzuri.training.step
    import transformers.models.bert.modeling_bert  # noqa: F401


def main(tool, args, files, cwd=None, env=None):
    """bin/TOOL with `args`. `files`: {file descriptor: path}, for those of 0, 1, 2 that are not to be inherited.

    For train-mlm, an argument DIE_AFTER=n kills it right after step n, THREADS=n gives torch n threads instead of one.
    """
    assert os.getpid() != IMPORTED_IN, "not forked from the process that has imported torch"
    os.environ.update(env or {})
    if cwd:
        os.chdir(cwd)
    for fd, path in files.items():
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND if fd else os.O_RDONLY), fd)
    sys.stdin, sys.stdout, sys.stderr = (
        open(0, closefd=False),
        open(1, "w", closefd=False),
        open(2, "w", 1, closefd=False),
    )
    for module in list(sys.modules.values()):
        if module.__name__.startswith("suzuri.") and hasattr(module, "TOOL"):
            module.TOOL = tool
    orders = [a.split("=") for a in args if a.startswith(("DIE_AFTER=", "THREADS="))]
    deaths = [int(n) for what, n in orders if what == "DIE_AFTER"]
    suzuri.training.step.torch.set_num_threads(max([1, *(int(n) for what, n in orders if what == "THREADS")]))
    step = suzuri.training.step.StepRunner.train_step

    def dying(self, s, micro_batches):
        found = step(self, s, micro_batches)
        if s + 1 in deaths:
            os.kill(os.getpid(), 9)
        return found

    suzuri.training.step.StepRunner.train_step = dying
    sys.argv = [tool, *(a for a in args if a.split("=") not in orders)]
    runpy.run_path(str(ROOT / "bin" / tool), run_name="__main__")
    sys.stdout.flush()
