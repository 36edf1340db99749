"""What the make files say and what is said elsewhere about them: variables, compose.yaml, help."""

import re
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


def test_no_default_ends_with_a_blank():
    """make takes a blank before a comment as part of the value, and so the tools and the stamps would."""
    for path in MAKE_FILES:
        assert not re.search(r"^\w+ \?=.*\S[ \t]+(#|$)", path.read_text(), re.MULTILINE), path


def test_lines_are_short():
    for path in MAKE_FILES:
        assert [line for line in path.read_text().splitlines() if len(line) > 120] == [], path
