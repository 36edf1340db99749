import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lib"))


@pytest.fixture(scope="session")
def bin_dir():
    return ROOT / "bin"


@pytest.fixture(scope="session")
def shared_data():
    """Real texts for tests: $SUZURI_DATA, by default ../shared/data beside the checkout."""
    path = Path(os.environ.get("SUZURI_DATA", ROOT.parent / "shared/data"))
    if not (path / "README.md").exists():
        pytest.skip(f"no development data at {path} (set SUZURI_DATA)")
    return path


@pytest.fixture(scope="session")
def run_tool(bin_dir):
    """run_tool("split-sentences", "--jobs", 2, stdin=b"…") -> CompletedProcess with bytes; checks exit 0 by default."""

    def run(tool, *args, stdin=b"", status=0, cwd=None, env=None, timeout=300):
        if isinstance(stdin, str):
            stdin = stdin.encode()
        done = subprocess.run(
            [bin_dir / tool, *map(str, args)],
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            timeout=timeout,
        )
        if status is not None:
            assert done.returncode == status, done.stderr.decode(errors="replace")
        return done

    return run
