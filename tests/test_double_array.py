"""The trie: every key is found, and nothing else."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suzuri import double_array
from suzuri.double_array import BASE, PARENT, VALUE


def find(labels, trie, text):
    unit = 0
    for c in text:
        label = int(labels[ord(c)])
        child = int(trie[unit, BASE]) + label
        if not label or trie[child, PARENT] != unit:
            return None
        unit = child
    return int(trie[unit, VALUE]) if trie[unit, VALUE] >= 0 else None


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("abc東😀", max_size=5), st.integers(0, 1 << 30)), st.lists(st.text("abcd東京")))
def test_any_keys(keys, others):
    labels, trie = double_array.from_keys(keys)
    for text in [*keys, *others, *(key + "a" for key in keys), *(key[:-1] for key in keys)]:
        assert find(labels, trie, text) == keys.get(text)


@pytest.mark.parametrize(("n", "patience"), [(50_000, None), (3_000, 1)])
def test_many_keys(monkeypatch, n, patience):
    """Crowded, and given up early: still every key, in an array that is not much longer than there are nodes."""
    if patience:  # a constant of the compiled function
        monkeypatch.setattr(double_array, "PATIENCE", patience)
        monkeypatch.setattr(double_array, "lay_out", double_array.lay_out.__wrapped__)
    draw = random.Random(0)
    letters = [chr(0x4E00 + int(draw.expovariate(0.002))) for _ in range(200_000)]
    keys = {"".join(draw.choices(letters, k=draw.randint(1, 4))): i for i in range(n)}
    labels, trie = double_array.from_keys(keys)
    assert all(find(labels, trie, key) == value for key, value in keys.items())
    assert find(labels, trie, "鑿鑿鑿鑿鑿") is None
    nodes = {key[:i] for key in keys for i in range(len(key) + 1)}
    assert (trie[:, PARENT] >= 0).sum() == len(nodes) - 1
    assert len(trie) - double_array.LABELS < 3 * len(nodes) + double_array.LABELS
