"""Golden cases: each folder tests/TOOL/CASE/ holds one run of a tool and its expected results.

    args      what follows the tool's name on the command line. bash reads it, with bin/ in PATH, so another
              command can show what was made: `--vocab-size 200 tok && cat tok/vocab.txt`
    input     standard input
    files/    the working directory in which the tool starts
    expected  standard output; or, as a folder, the files that the tool makes (no others but manifest.json, which
              is compared if it is there), with standard output as the file `stdout`
    stderr    standard error, without a speed at its end (`, 92 MB/s`)
    status    the exit status, if it is not 0. The last line of standard error then begins with the tool's name,
              and with status 1 it is the only one

All of them are optional: what is missing counts as empty, except that a missing `stderr` is not compared.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

HERE = Path(__file__).parent
TOOLS = sorted(p.name for p in (ROOT / "bin").iterdir())
CASES = sorted(case for tool in TOOLS for case in (HERE / tool).glob("*/"))


def content(path):
    return path.read_bytes() if path.exists() else b""


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_golden(case, tmp_path):
    given, expected, tool = case / "files", case / "expected", case.parent.name
    if given.exists():
        shutil.copytree(given, tmp_path, dirs_exist_ok=True)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{tool} {content(case / 'args').decode()}"],
        input=content(case / "input"),
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{ROOT}/bin:{os.environ['PATH']}"},
        timeout=300,
    )
    stderr = re.sub(r", [\d,]+ MB/s$", "", done.stderr.decode(), flags=re.MULTILINE)
    status = int(content(case / "status") or 0)
    assert done.returncode == status, stderr
    if (case / "stderr").exists():
        assert stderr == (case / "stderr").read_text()
    elif status:
        assert stderr.splitlines()[-1].startswith(f"{tool}: ")
        assert status != 1 or stderr.count("\n") == 1
    if expected.is_dir():
        wanted, made = files(expected), files(tmp_path)
        assert done.stdout == wanted.pop("stdout", b"")
        unknown = {name for name in made if Path(name).name == "manifest.json"} - wanted.keys()
        given = files(given)
        assert wanted == {name: made[name] for name in made if name not in unknown and made[name] != given.get(name)}
    else:
        assert done.stdout == content(expected)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_has_a_case_and_one_of_an_error(tool):
    assert [case for case in CASES if case.parent.name == tool and (case / "status").exists()]
