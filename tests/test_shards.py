"""The shard format: safetensors reads what the writer writes; errors name files that are not shards."""

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from suzuri.errors import DataError
from suzuri.manifest import MANIFEST, write_manifest
from suzuri.shards import checksums
from suzuri.shards.checksums import check_sums, refuse_missing
from suzuri.shards.shard_file import Shard, ShardWriter
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder

SEQUENCES = [[2, 5, 3], [2, 3], [2, 98, 97, 96, 3]]


def write(path, sequences=SEQUENCES, vocab_size=99, **changes):
    settings = {"unit": "line", "max_seq_length": 7, "tokenizer_sha256": "t" * 64, **changes}
    with ShardWriter(path, vocab_size=vocab_size, **settings) as writer:
        for s in sequences:
            writer.append(s, [len(s)])
        writer.close("s" * 64)
    return path


@pytest.mark.parametrize(("vocab_size", "dtype"), [(99, "uint16"), (1 << 16, "uint16"), ((1 << 16) + 1, "uint32")])
def test_round_trip(tmp_path, vocab_size, dtype):
    sequences = [*SEQUENCES, [2, vocab_size - 1, 3]]
    shard = Shard(write(tmp_path / "s", sequences, vocab_size))
    assert shard.tokens.dtype == dtype and shard.offsets.dtype == np.int64
    assert [shard[i].tolist() for i in range(len(shard))] == sequences
    assert shard.metadata["num_sequences"] == 4 and shard.metadata["num_tokens"] == 13
    with safe_open(tmp_path / "s", "np") as theirs:
        assert theirs.get_tensor("tokens").tolist() == [i for s in sequences for i in s]
        assert theirs.get_tensor("offsets").tolist() == [0, 3, 5, 10, 13]
        assert theirs.metadata()["source_sha256"] == "s" * 64
    assert (8 + struct.unpack("<Q", (tmp_path / "s").read_bytes()[:8])[0]) % 8 == 0  # offsets are aligned


def test_nothing_copied(tmp_path):
    shard = Shard(write(tmp_path / "s"))
    assert isinstance(shard.tokens, np.memmap) and np.shares_memory(shard[2], shard.tokens)


def test_nothing_left_without_close(tmp_path):
    with (
        pytest.raises(RuntimeError),
        ShardWriter(tmp_path / "s", vocab_size=9, unit="line", max_seq_length=9, tokenizer_sha256="") as writer,
    ):
        writer.append([2, 3], [2])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_lengths_must_fit(tmp_path):
    with pytest.raises(ValueError, match="3 ids, but lengths that sum to 4"):
        ShardWriter(tmp_path / "s", vocab_size=9, unit="line", max_seq_length=9, tokenizer_sha256="").append(
            [1, 2, 3], [2, 2]
        )


def header_changed(data, change):
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: d[:-1], "cut short"),
        (lambda d: d + b"\0", "longer than its header says"),
        (lambda d: b"", "no safetensors header"),
        (lambda d: b"not a shard, but long enough to have a header", "no safetensors header"),
        (lambda d: header_changed(d, lambda h: h["__metadata__"].update(format="suzuri-shard/2")), "suzuri-shard/2"),
        (lambda d: header_changed(d, lambda h: h.pop("__metadata__")), "not a shard of suzuri"),
        (lambda d: header_changed(d, lambda h: h["__metadata__"].update(num_sequences="7")), "do not fit"),
    ],
)
def test_damage_is_reported(tmp_path, damage, said):
    path = write(tmp_path / "s")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=said) as error:
        Shard(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def body_changed(path, array, index, value):
    """Write a number into an array of a shard on disk."""
    shard = Shard(path)
    numbers = np.memmap(path, getattr(shard, array).dtype, "r+", getattr(shard, array).offset, (index + 1,))
    numbers[index] = value
    numbers.flush()


@pytest.mark.parametrize(
    ("array", "index", "value", "said"),
    [
        ("tokens", 4, 99, "token 4 is 99, but the vocabulary has 99"),
        ("tokens", 9, 65535, "token 9 is 65535"),
        ("offsets", 1, 6, "sequence 1 has -1 tokens"),
        ("offsets", 1, -2, "sequence 0 has -2 tokens, not 2 to 7"),
        ("offsets", 2, 10, "sequence 2 has 0 tokens"),
        ("offsets", 2, 1 << 40, "sequence 1 has 1099511627773 tokens"),
    ],
)
def test_damage_in_the_body_is_reported(tmp_path, run_tool, array, index, value, said):
    path = write(tmp_path / "s")
    Shard(path).check_body()
    body_changed(path, array, index, value)
    with pytest.raises(DataError, match=f"damaged: {said}.*; remove it and pack the text again"):
        Shard(path).check_body()
    assert said in run_tool("show-shard", "--ids", path, status=1).stderr.decode()


def test_offsets_that_do_not_begin_at_0(tmp_path):
    path = write(tmp_path / "s")
    body_changed(path, "offsets", 0, 1)
    with pytest.raises(DataError, match="its offsets do not fit its tokens"):
        Shard(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write(tmp_path_factory.mktemp("shard") / "s", SEQUENCES * 20).read_bytes()


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 3000))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_one_error_or_none(tmp_path, sound, changes, end):
    """Bytes changed, or the end cut off: a DataError, or sequences whose ids are all below the vocabulary's size."""
    data = bytearray(sound)
    for at, value in changes:
        data[at % len(data)] = value
    (tmp_path / "s").write_bytes(data[:end])
    try:
        shard = Shard(tmp_path / "s")
        shard.check_body()
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert all(max(shard[i]) < shard.metadata["vocab_size"] for i in range(len(shard)))


def test_a_bit_that_differs_from_the_manifest(tmp_path, monkeypatch):
    paths = [str(write(tmp_path / name)) for name in ("train-000.safetensors", "valid.safetensors")]
    write_manifest(str(tmp_path))
    known = check_sums(paths, {})
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "sha256", None)  # what has not changed is not read again
        assert check_sums(paths, known) == known
    body_changed(paths[0], "tokens", 3, 98)
    with pytest.raises(DataError, match=r"train-000.*damaged: its sha256 is not the one in the manifest.json"):
        check_sums(paths, {})
    (tmp_path / MANIFEST).unlink()
    check_sums(paths, {})
    with pytest.raises(DataError, match=r"train-000.*has changed since this run began"):
        check_sums(paths, known)


def test_shards_that_are_not_those_of_the_manifest(tmp_path):
    paths = [str(write(tmp_path / f"train-00{i}.safetensors")) for i in range(2)]
    refuse_missing(str(tmp_path), [], "train-*.safetensors")  # packed by hand
    write_manifest(str(tmp_path))
    with pytest.raises(DataError, match=r"train-001.safetensors: missing; pack the text again"):
        refuse_missing(str(tmp_path), ["train-000.safetensors"], "train-*.safetensors")
    with pytest.raises(DataError, match=r"train-002.*is not in the manifest.json of its folder"):
        check_sums([*paths, str(write(tmp_path / "train-002.safetensors"))], {})


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"tokenizer_sha256": "t" * 64, "max_seq_length": 7, "unit": "line"}, None),
        ({"tokenizer_sha256": "u" * 64}, "packed with tokenizer_sha256 ttt"),
        ({"max_seq_length": 8}, "packed with max_seq_length 7, not 8; pack the text again"),
        ({"unit": "document"}, "packed with unit line"),
    ],
)
def test_made_for_something_else(tmp_path, wanted, said):
    shard = Shard(write(tmp_path / "s"))
    if said is None:
        shard.check(**wanted)
    else:
        with pytest.raises(DataError, match=said):
            shard.check(**wanted)


def test_tokenizer_sha256(tmp_path):
    (tmp_path / "b").write_text("2")
    (tmp_path / "a").write_text("1")
    first = TokenizerFolder(tmp_path).sha256
    (tmp_path / MANIFEST).write_text("{}")
    assert TokenizerFolder(tmp_path).sha256 == first
    (tmp_path / "a").write_text("3")
    assert TokenizerFolder(tmp_path).sha256 != first
