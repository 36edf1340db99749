"""Damaged and generated input, many examples each, for what reads files: no crash, no wrong value, no change twice."""

import functools
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, seed, settings
from hypothesis import strategies as st
from subjects import ROOT, inputs

EXAMPLES = 150
# (where, as a part of the whole; what is done there; a byte)
changes = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["set", "cut", "insert", "repeat"]), st.binary(max_size=8))
)


def changed(data: bytes, steps: list) -> bytes:
    for part, how, new in steps:
        at = int(part * len(data))
        if how == "set":
            data = data[:at] + new + data[at + len(new) :]
        elif how == "cut":
            data = data[:at] + data[at + 1 + len(new) ** 2 :]
        elif how == "insert":
            data = data[:at] + new + data[at:]
        else:
            data = data[:at] + data[max(0, at - 50) : at] + data[at:]
    return data


def shard_reader(steps: list) -> None:
    """A damaged shard is refused, or every id in it is one of the vocabulary."""
    from suzuri.errors import DataError
    from suzuri.shards.shard_file import Shard

    path = Path(tempfile.gettempdir()) / f"fuzz-{id(steps)}.safetensors"
    path.write_bytes(changed(shard_bytes(), steps))
    try:
        shard = Shard(str(path))
        shard.check_body()
        assert all(int(i) < shard.metadata["vocab_size"] for n in range(len(shard)) for i in shard[n])
    except DataError:
        pass
    finally:
        path.unlink()


@functools.cache
def shard_bytes():
    return (inputs() / "shards/valid.safetensors").read_bytes()


def wiki_reader(steps: list) -> None:
    """Damaged records are counted or refused; what comes out is text."""
    from suzuri.errors import DataError
    from suzuri.text import wiki

    lines = changed(wiki_bytes(), steps).splitlines(keepends=True)
    try:
        for text, reason, _ in wiki.articles(lines, Counter()):
            assert reason or text.encode("utf-8", "replace")
    except DataError:
        pass


@functools.cache
def wiki_bytes():
    import bz2

    return b"".join(bz2.decompress((inputs() / "wiki.json.bz2").read_bytes()).splitlines(keepends=True)[:6])


# None that NFKC makes another mark of: a full-width point that ended a sentence is an ordinary point afterwards.
PARTS = [
    "。",
    "!",
    "?",
    "」",
    "「",
    "(",
    ")",
    "笑",
    "と",
    "硯で墨をする",
    "3",
    " ",
    "\n",
    "\r",
    "か",
    "♪",
    "、",
    "a",
]


def splitter(steps: list) -> None:
    """Sentences that are split again stay as they are."""
    from suzuri.streams import Block
    from suzuri.text.sentences import split_block

    text = "".join(PARTS[int(part * (len(PARTS) - 1))] for part, _, _ in steps).encode()
    once = split_block(Block(text + b"\n"))[0]
    assert split_block(Block(once))[0] == once, text
    once = split_block(Block(changed(sample(), steps) + b"\n"))[0]
    once.decode()


@functools.cache
def sample():
    return (ROOT / "data/sample/cc100/voices.txt").read_bytes()[:3000]


def fuzz(target: Callable[[list], None], number: int) -> str:
    """Many examples of one seed -> "survived"; what the target raises is passed on."""
    seed(number)(settings(max_examples=EXAMPLES, database=None)(given(changes)(target)))()
    return "survived"


TARGETS = {"the shard reader": shard_reader, "extract-wiki": wiki_reader, "split-sentences": splitter}
