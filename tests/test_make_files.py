"""The make files, and what compose.yaml and the help say about their variables."""

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
MAKE_FILES = [ROOT / "Makefile", *sorted(ROOT.glob("configs/*.mk")), *sorted(ROOT.glob("configs/make/*.mk"))]
VARIABLES = {name for path in MAKE_FILES for name in re.findall(r"^(\w+) \?=", path.read_text(), re.MULTILINE)}


def test_compose_passes_every_variable():
    """All but the folders, which are the image's."""
    services = yaml.safe_load((ROOT / "configs/compose.yaml").read_text())["services"]
    for name, service in services.items():
        passed = {entry for entry in service["environment"] if "=" not in entry}
        assert passed == VARIABLES - {"DATA", "SAMPLE"}, name


def test_a_variable_of_a_profile_is_one_of_the_makefile():
    defined = set(re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert defined == VARIABLES


def test_help_variables():
    """Each variable once, with the value that it would have."""
    command = ["make", "-C", ROOT, "--no-print-directory", "help-variables", "PROFILE=demo", "TRAIN_SET=a=1 b='x'"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    listed = dict(line.strip().split("=", 1) for line in lines if line.startswith("  "))
    assert listed.keys() == VARIABLES and sum(line.startswith("  ") for line in lines) == len(VARIABLES)
    assert listed["VOCAB_SIZE"].split()[0] == "4096"
    assert listed["TRAIN_SET"].startswith("a=1 b='x' ")
    assert not any(line.startswith((" ", "#")) and not line.startswith("  ") for line in lines)


def test_no_default_ends_with_a_blank():
    """make takes a blank before a comment as part of the value, and would pass it to tools and stamps."""
    for path in MAKE_FILES:
        assert not re.search(r"^\w+ \?=.*\S[ \t]+(#|$)", path.read_text(), re.MULTILINE), path


def test_lines_are_short():
    for path in MAKE_FILES:
        assert [line for line in path.read_text().splitlines() if len(line) > 120] == [], path


def test_a_corpus_may_have_any_name(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("own", "ja", "text"):
        (tmp_path / f"raw/{name}.txt").write_text("硯で墨をする。\n")
    command = ["make", "-C", ROOT, "-n", f"DATA={tmp_path}", "NUM_FILES=2", "shards-own", "shards-ja", "shards-text"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in ("own", "ja", "text"):
        assert f"cat-text {tmp_path}/raw/{name}.txt" in done.stdout
        assert f"VALIDATION_FRACTION=0.01 NUM_FILES=2' >{tmp_path}/.stamps/text-{name}.part" in done.stdout
