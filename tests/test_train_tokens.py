"""The token axis and the masks: pure functions of the step."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import SPECIAL, write_shard, write_tokenizer
from suzuri.errors import DataError
from suzuri.shards.shard_file import Shard
from suzuri.training.masking import IGNORED, NEVER, Masker, mix64, smallest
from suzuri.training.token_axis import (
    Chunk,
    TokenAxis,
    assemble,
    by_length,
    mask_key,
    micro_batches,
    permuted,
    place_of,
)

PIECES = SPECIAL + [f"##p{i}" if i % 3 == 0 else f"w{i}" for i in range(94)]


def masker(probability=0.15, whole_words=False):
    return Masker(PIECES, range(5), 4, probability, whole_words)


def mask_one(mask, tokens, key):
    """One chunk masked: (inputs [n], rows, labels), the places that are left over taken out."""
    inputs, rows, labels = mask(tokens.astype(np.int64)[None], [len(tokens)], [key])
    real = labels != IGNORED
    assert (np.diff(real.astype(int)) <= 0).all(), "what is left over should be at the end"
    return inputs[0], rows[real], labels[real]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("axis")
    write_tokenizer(folder / "tokenizer")
    found = []
    for i, n in enumerate((70, 1, 33)):
        write_shard(folder / f"train-{i:03}.safetensors", folder / "tokenizer", n, seed=i)
        found.append(Shard(folder / f"train-{i:03}.safetensors"))
    return found


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_permutation_visits_each_once(n, key):
    order = [permuted(i, n, key) for i in range(n)]
    assert sorted(order) == list(range(n))
    assert [place_of(i, n, key) for i in order] == list(range(n))


def test_permutation_differs_by_key_and_mixes():
    orders = [[permuted(i, 1000, key) for i in range(1000)] for key in range(3)]
    assert orders[0] != orders[1] != orders[2]
    steps = np.diff(orders[0])
    assert len(set(steps.tolist())) > 500  # no constant stride
    assert abs(np.corrcoef(np.arange(1000), orders[0])[0, 1]) < 0.1


def test_every_token_once_an_epoch_in_another_order(shards):
    axis = TokenAxis(shards, 128)
    assert axis.num_tokens % 128, "the last chunk should be a short one here"
    whole = np.concatenate([s.tokens for s in shards])
    orders = []
    for epoch in range(2):
        visits = range(epoch * axis.num_chunks, (epoch + 1) * axis.num_chunks)
        order = [axis.visited(v, seed=3) for v in visits]
        parts = {c: axis.chunk(c).tokens for c in order}
        assert np.array_equal(np.concatenate([parts[c] for c in sorted(parts)]), whole)
        orders.append(order)
    assert sorted(orders[0]) == sorted(orders[1]) and orders[0] != orders[1]


@pytest.mark.parametrize("chunk_tokens", [128, 1000, 10_000])
def test_tokens_are_counted_without_filling(shards, chunk_tokens):
    axis, seen = TokenAxis(shards, chunk_tokens), 0
    for visit in range(3 * axis.num_chunks):
        assert axis.tokens_before(visit, seed=3) == seen
        seen += len(axis.chunk(axis.visited(visit, seed=3)).tokens)
    assert seen == 3 * axis.num_tokens


@pytest.mark.parametrize(
    ("array", "place", "value"),
    [("tokens", 200, 99), ("offsets", 5, 0), ("offsets", 5, 1 << 50), ("offsets", slice(1, -1), 0)],
)
def test_a_damaged_chunk_is_refused(shards, array, place, value):
    """No chunk of a damaged shard is trained on as if it were sound."""
    shard = Shard(shards[0].path)
    tokens, offsets = (np.array(a) for a in shard.arrays)
    {"tokens": tokens, "offsets": offsets}[array][place] = value
    shard.arrays = tokens, offsets
    axis, errors = TokenAxis([shard], 128), []
    for c in range(axis.num_chunks):
        try:
            assert axis.chunk(c).starts[0] == 0
        except DataError as error:
            errors.append(str(error))
    assert errors and all("train-000.safetensors: damaged: " in error for error in errors), errors


def test_chunks_cut_sequences_only_at_their_ends(shards):
    axis = TokenAxis(shards, 128)
    starts = np.concatenate([s.offsets[:-1] + base for s, base in zip(shards, [0, *axis.ends[:-1]], strict=True)])
    for c in range(axis.num_chunks):
        chunk, at = axis.chunk(c), c * 128
        inside = starts[(starts > at) & (starts < at + len(chunk.tokens))] - at
        assert chunk.starts.tolist() == [0, *inside]
        assert chunk.first == at - starts[starts <= at][-1]


def sequences(batch):
    """[(ids, positions, labels)] of a batch, each a list."""
    label = np.full(len(batch["input_ids"]), IGNORED)
    real = batch["labels"] != IGNORED
    label[batch["rows"][real]] = batch["labels"][real]
    edges = np.cumsum(batch["lengths"])[:-1]
    columns = (np.split(column, edges) for column in (batch["input_ids"], batch["position_ids"], label))
    return [tuple(part.tolist() for part in parts) for parts in zip(*columns, strict=True)]


def test_batches_keep_tokens_positions_and_sequences(shards):
    axis, quiet = TokenAxis(shards, 128), masker(0.001)  # nothing is masked: round(0.128) = 0
    pad = 0
    for flat in micro_batches(axis, quiet, 0, range(axis.num_chunks), 3, pad):
        batch = by_length(flat)
        assert sorted(sequences(flat)) == sorted(sequences(batch))
        assert batch["lengths"].sum() == len(batch["input_ids"]) == len(batch["position_ids"])
        assert (np.diff(batch["lengths"]) >= 0).all()
        edges = np.cumsum(batch["lengths"])[:-1]
        for ids, positions in zip(
            np.split(batch["input_ids"], edges), np.split(batch["position_ids"], edges), strict=True
        ):
            assert (np.diff(positions) == 1).all()
            assert positions[0] == 0 or ids[0] != 2  # only a sequence cut by the chunk's start begins later
            assert (ids[1:] != 2).all() and (ids[:-1] != 3).all()


@pytest.mark.parametrize("whole_words", [False, True])
def test_masks_are_exact_in_number_and_spare_special_tokens(shards, whole_words):
    axis, mask = TokenAxis(shards, 128), masker(whole_words=whole_words)
    for c in range(axis.num_chunks):
        tokens = axis.chunk(c).tokens
        inputs, rows, labels = mask_one(mask, tokens, mask_key(0, c))
        assert len(rows) == round(0.15 * len(tokens)) == len(set(rows.tolist()))
        assert (tokens[rows] >= 5).all() and np.array_equal(labels, tokens[rows])
        others = np.setdiff1d(np.arange(len(tokens)), rows)
        assert np.array_equal(inputs[others], tokens[others])
        assert not np.isin(inputs[rows], [0, 1, 2, 3]).any()


def test_whole_words_are_masked_whole(shards):
    axis, mask = TokenAxis(shards, 512), masker(whole_words=True)
    for c in range(axis.num_chunks):
        tokens = axis.chunk(c).tokens
        _, rows, _ = mask_one(mask, tokens, mask_key(0, c))
        continues = np.array([PIECES[t].startswith("##") for t in tokens])
        word = np.cumsum(~continues)
        masked = np.isin(np.arange(len(tokens)), rows)
        for w in np.unique(word[masked]):
            assert masked[(word == w) & (tokens >= 5)].all()


def test_eighty_ten_ten():
    """Over 150,000 predictions each share is within 4 standard deviations, each token is as likely as any other."""
    mask, rng = masker(), np.random.default_rng(0)
    kinds, random = np.zeros(3), np.zeros(99)
    position = np.zeros(8192)
    for visit in range(120):
        tokens = rng.integers(5, 99, 8192)
        inputs, rows, labels = mask_one(mask, tokens, mask_key(0, visit))
        masked, same = inputs[rows] == 4, inputs[rows] == labels
        kinds += [masked.sum(), same.sum(), (~masked & ~same).sum()]
        random += np.bincount(inputs[rows][~masked & ~same], minlength=99)
        position[rows] += 1
    n = kinds.sum()
    # a random token is by chance the old one in 1 of 94 cases
    for seen, share in zip(kinds, (0.8, 0.1 + 0.1 / 94, 0.1 - 0.1 / 94), strict=True):
        assert abs(seen - share * n) < 4 * np.sqrt(n * share * (1 - share))
    assert random[:5].sum() == 0
    expected = random.sum() / 94
    assert ((random[5:] - expected) ** 2 / expected).sum() < 94 + 5 * np.sqrt(2 * 94)  # chi-squared, 93 degrees
    assert abs(position[:4096].mean() - position[4096:].mean()) < 0.5  # 18 on average, no half preferred
    assert position.min() > 2 and position.max() < 45


def test_masks_follow_from_seed_and_visit_alone(shards):
    axis, tokens = TokenAxis(shards, 128), TokenAxis(shards, 128).chunk(3).tokens
    mask = masker()
    first = mask_one(mask, tokens, mask_key(0, 3))[1]
    assert np.array_equal(first, mask_one(mask, tokens, mask_key(0, 3))[1])
    assert not np.array_equal(first, mask_one(mask, tokens, mask_key(0, 3 + axis.num_chunks))[1])  # the next epoch
    assert not np.array_equal(first, mask_one(mask, tokens, mask_key(1, 3))[1])


def test_masks_of_two_visits_have_in_common_what_chance_gives():
    """Over 200 pairs of visits of a chunk: 1229 of 8192 are masked, 184.4 of them twice (hypergeometric)."""
    tokens, mask = np.full(8192, 50), masker()
    masks = [mask_one(mask, tokens, mask_key(0, visit))[1] for visit in range(400)]
    common = [len(np.intersect1d(a, b)) for a, b in zip(masks[::2], masks[1::2], strict=True)]
    k, n = 1229, 8192
    mean, variance = k * k / n, k * k / n * ((n - k) / n) ** 2 * n / (n - 1)
    assert abs(np.mean(common) - mean) < 4 * np.sqrt(variance / len(common))
    assert 0.6 < np.var(common) / variance < 1.5
    neighbours = np.concatenate([np.diff(rows) == 1 for rows in masks])
    assert abs(neighbours.mean() - k / n) < 0.003  # no pattern from one position to the next


@pytest.mark.parametrize("special", [0.0, 0.5, 0.86])
def test_the_quick_way_and_the_careful_one_choose_the_same(special):
    """Many special tokens (then the hashes below the limit are too few) or none."""
    rng, mask = np.random.default_rng(1), masker()
    tokens = np.where(rng.random((3, 2000)) < special, 3, rng.integers(5, 99, (3, 2000)))
    keys = [mask_key(7, visit) for visit in range(3)]
    _, rows, labels = mask(tokens, [2000] * 3, keys)
    alone = [mask_one(mask, row, key)[1] for row, key in zip(tokens, keys, strict=True)]
    careful = masker()
    careful.fast_choice = lambda *_: None
    assert np.array_equal(careful(tokens, [2000] * 3, keys)[1], rows)
    assert np.array_equal(rows[labels != IGNORED], np.concatenate([i * 2000 + found for i, found in enumerate(alone)]))
    wanted = [min(300, int((row >= 5).sum())) for row in tokens]
    assert [len(found) for found in alone] == wanted


def test_too_few_candidates_leave_slots_unused():
    tokens = np.array([2, 50, 3] + [0] * 61)
    _, rows, labels = mask_one(masker(0.5), tokens, mask_key(0, 0))
    assert rows.tolist() == [1] and labels.tolist() == [50]
    batch = assemble([Chunk(tokens, np.array([0, 3]), 0)], [mask_key(0, 0)], masker(0.5), 64, 0)
    assert (batch["labels"] != IGNORED).sum() == 1 and len(batch["rows"]) == 32


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.data())
def test_smallest_against_sorting(values, data):
    k = data.draw(st.integers(0, len(values)))
    found = smallest(np.array(values, np.uint32), k)
    assert found.tolist() == sorted(sorted(range(len(values)), key=lambda i: (values[i], i))[:k])


def test_smallest_never_takes_what_must_not_be_masked():
    assert smallest(np.array([NEVER, 3, NEVER], np.uint32), 2).tolist() == [1]


def test_same_batch_for_any_ranks_and_micro_batches(shards):
    """The ids and masks that 1, 2 and 4 ranks see together, at 1, 2 or 3 chunks at once, are the same."""
    axis, mask, visits = TokenAxis(shards, 128), masker(), range(8, 16)
    seen = set()
    for world in (1, 2, 4):
        for at_once in (1, 2, 3):
            found = []
            for rank in range(world):
                for batch in micro_batches(axis, mask, 5, visits[rank::world], at_once, 0):
                    found += sequences(batch)
            seen.add(str(sorted(found)))
    assert len(seen) == 1


def test_mix64_spreads_bits():
    bits = np.array([[mix64(0, i) >> b & 1 for b in range(64)] for i in range(2000)])
    assert (abs(bits.mean(0) - 0.5) < 0.06).all()


def test_loader_speed(tmp_path):
    """Far below the aim of 50M tokens/s, which bench-train measures: only that it has not become slow."""

    write_tokenizer(tmp_path / "tokenizer")
    write_shard(tmp_path / "train-000.safetensors", tmp_path / "tokenizer", 3000)
    axis, mask = TokenAxis([Shard(tmp_path / "train-000.safetensors")], 8192), masker()
    start = time.thread_time()
    count = sum(len(b["input_ids"]) for b in micro_batches(axis, mask, 0, range(40), 4, 0))
    assert count / (time.thread_time() - start) > 6e6
