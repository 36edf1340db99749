"""The examples in the docstrings of lib/suzuri hold."""

import doctest
import importlib
import pkgutil

import pytest
import suzuri

MODULES = sorted(module.name for module in pkgutil.walk_packages(suzuri.__path__, "suzuri."))


def test_all_examples_hold():
    pytest.importorskip("matplotlib", reason="needs configs/requirements-eval.txt")
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [example for name in MODULES for example in finder.find(importlib.import_module(name)) if example.examples]
    assert len(found) > 25
    runner = doctest.DocTestRunner()
    for example in found:
        runner.run(example)
    assert runner.summarize().failed == 0
