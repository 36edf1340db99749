"""Tokenizers: the same bytes for the same lines, transformers loads them, and the merges are the right ones."""

import itertools
import json
import random
import subprocess
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suzuri.tokenizer import counting, tokenizer_folder, unigram_training, wordpiece_training
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
from suzuri.tokenizer.wordpiece import continues_word, cut, letters
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from trained import KINDS, SIZE, sample, trained  # noqa: F401  (fixtures)
from transformers import AutoTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
RESERVED = SPECIAL + [f"<unused{i}>" for i in range(10)]


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_same_bytes_for_the_same_lines(run_tool, tmp_path, trained, sample, kind):  # noqa: F811
    """Reordered, with other blank lines, in other blocks, by another number of workers."""
    lines = [line for line in sample.split(b"\n") if line]
    random.Random(1).shuffle(lines)
    text = b"\n\n" + b"\n\n\n".join(lines)
    run_tool("train-tokenizer", "--type", kind, "--vocab-size", SIZE[kind], "--jobs", 1, tmp_path / "t", stdin=text)
    assert contents(tmp_path / "t") == contents(trained[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_and_blocks_do_not_matter(monkeypatch, sample, kind):  # noqa: F811
    want, _ = counting.count_blocks(counting.TextBlocks([sample]), kind, 1)
    monkeypatch.setattr(counting, "BLOCK", 5000)
    blocks = list(counting.TextBlocks([sample[i : i + 777] for i in range(0, len(sample), 777)]))
    assert len(blocks) > 50
    assert counting.count_blocks(blocks, kind, 3)[0] == want


@pytest.mark.parametrize("kind", KINDS)
def test_counted_file_by_file(tmp_path, sample, kind):  # noqa: F811
    lines = sample.split(b"\n")
    (tmp_path / "counts").mkdir()
    whole = b""
    for i, part in enumerate((lines[:500], [], [*lines[500:900], b"\xff"], lines[900:])):
        text = b"".join(line + b"\n" for line in part)
        (tmp_path / "text").write_bytes(text)
        counts = counting.count_file(str(tmp_path / "text"), kind, jobs=1 + i % 2)
        with open(tmp_path / f"counts/{i + 1}-of-4.json", "w") as f:
            counts.write(f, i, 4)
        whole += text
    (tmp_path / "counts/.1-of-4.json.17.part.part").touch()  # of an attempt that was killed
    (tmp_path / "counts/1-of-4.json.17.part").touch()
    found = counting.read_counts(str(tmp_path / "counts"), kind)
    wanted = counting.TextBlocks([whole])
    assert (found.found, found.invalid) == counting.count_blocks(wanted, kind, 1)
    assert (found.lines, found.bytes) == (wanted.lines, wanted.bytes)


def test_counts_that_do_not_fit_together(run_tool, tmp_path):
    for name, kind, which in (
        ("a", "char", (0, 2)),
        ("b", "char", (1, 2)),
        ("c", "unigram", (1, 2)),
        ("d", "char", (1, 3)),
    ):
        with open(tmp_path / name, "w") as f:
            counting.FileCounts(kind, Counter("硯と墨"), 1).write(f, *which)
    (tmp_path / "e").write_text("[]")
    (tmp_path / "f").write_text('{"format": "suzuri-counts/1", "kind": "char"}')
    for names, said in (
        ("", "no counts in it"),
        ("a", "does not hold the counts of each of 2 files once"),
        ("aab", "does not hold the counts of each of 2 files once"),
        ("ac", "c.json: made with kind unigram, not char; remove it and count again"),
        ("ad", "d.json: made with of 3, not 2"),
        ("abe", "e.json: not a file of counts"),
        ("abf", "f.json: not a file of counts"),
        ("ab", None),
    ):
        folder = tmp_path / f"counts-{names}"
        folder.mkdir()
        for i, name in enumerate(names):
            (folder / f"{i}{name}.json").write_bytes((tmp_path / name).read_bytes())
        args = ["--type", "char", "--counts", folder, tmp_path / "out"]
        done = run_tool("train-tokenizer", *args, status=1 if said else 0)
        assert not said or (said in done.stderr.decode() and done.stderr.count(b"\n") == 1)
    assert "硯" in TokenizerFolder(str(tmp_path / "out")).pieces
    run_tool("train-tokenizer", "--max-lines", 5, *args, status=2)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_it(trained, kind):  # noqa: F811
    auto = AutoTokenizer.from_pretrained(trained[kind], local_files_only=True)
    pieces = TokenizerFolder(trained[kind]).pieces
    assert pieces[:15] == RESERVED and len(set(pieces)) == len(pieces) == len(auto) <= SIZE[kind]
    assert auto.get_vocab() == {piece: i for i, piece in enumerate(pieces)}
    assert [auto.pad_token_id, auto.unk_token_id, auto.cls_token_id, auto.sep_token_id, auto.mask_token_id] == [
        *range(5)
    ]
    assert list(TokenizerFolder(trained[kind]).special_ids.values()) == [*range(5)]
    assert auto.model_max_length == TokenizerFolder(trained[kind]).max_seq_length == 512
    ids = auto("富士山は[MASK]の山です。")["input_ids"]
    assert ids[0] == 2 and ids[-1] == 3 and ids.count(4) == 1 and 1 not in ids
    assert auto.decode(ids, skip_special_tokens=True).replace(" ", "") == "富士山はの山です。"
    assert type(tokenizer_folder.load(trained[kind])) is type(auto)
    assert TokenizerFolder(trained[kind]).kind == kind


def test_vocabulary_in_order(trained):  # noqa: F811
    """Reserved pieces, characters by code point, their ## forms by code point, merges."""
    pieces = TokenizerFolder(trained["wordpiece"]).pieces[15:]
    singles = [p for p in pieces if len(p) == 1]
    inner = [p for p in pieces if len(p) == 3 and p.startswith("##")]
    assert pieces[: len(singles)] == sorted(singles)
    assert pieces[len(singles) : len(singles) + len(inner)] == sorted(inner)
    assert "東京" in pieces[len(singles) + len(inner) :]


@pytest.mark.parametrize(("kind", "least"), [("wordpiece", 1.3), ("char", 0.95), ("unigram", 1.4)])
def test_pieces_fit_the_text_they_were_learned_from(trained, sample, kind, least):  # noqa: F811
    """Few unknown pieces, more than one character per piece."""
    auto = AutoTokenizer.from_pretrained(trained[kind], local_files_only=True)
    lines = [line for line in sample.decode().split("\n") if line][::10]
    ids = [i for line in lines for i in auto(line)["input_ids"][1:-1]]
    assert ids.count(1) / len(ids) < 0.005
    assert least < sum(map(len, lines)) / len(ids) < 2.5


# --- merges ---------------------------------------------------------------------------------------------------


def textbook(words, reserved, size):
    """Byte-pair encoding by counting everything again at each step: slow, and short enough to believe."""
    split = {word: [c if i == 0 else "##" + c for i, c in enumerate(word)] for word in words}
    pieces = list(reserved) + sorted({c for w in words for c in w})
    pieces += sorted({p for parts in split.values() for p in parts[1:]})
    while len(pieces) < size:
        counts = Counter()
        for word, parts in split.items():
            for pair in itertools.pairwise(parts):
                counts[pair] += words[word]
        if not counts or max(counts.values()) < 2:
            break
        a, b = min(counts, key=lambda pair: (-counts[pair], pieces.index(pair[0]), pieces.index(pair[1])))
        new = a + b[2:]
        if new not in pieces:
            pieces.append(new)
        for parts in split.values():
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == (a, b):
                    parts[i : i + 2] = [new]
                i += 1
    return pieces


def shuffled(words, seed=0):
    items = list(words.items())
    random.Random(seed).shuffle(items)
    return dict(items)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text("abあ", min_size=1, max_size=9), st.integers(1, 5), max_size=8), st.integers(5, 40))
def test_merges_are_those_of_the_textbook(words, size):
    alphabet = {c for w in words for c in w}
    want = textbook(words, ["[UNK]"], size)
    assert wordpiece_training.learn(shuffled(words), alphabet, ["[UNK]"], size) == want


def test_merges_are_those_of_the_textbook_on_real_words(sample):  # noqa: F811
    words = dict(sorted(counting.count_words(sample.decode().split("\n")).items())[::30])
    alphabet = {c for w in words for c in w}
    size = len(wordpiece_training.learn(words, alphabet, RESERVED, 0)) + 100
    assert wordpiece_training.learn(shuffled(words), alphabet, RESERVED, size) == textbook(words, RESERVED, size)


def test_alphabet():
    characters = Counter({"い": 3, "あ": 3, "う": 3, "え": 1, " ": 9, "\r": 9, "\x85": 9, "\ufffd": 9, "\0": 9})
    assert counting.choose_alphabet(characters, 2) == {"あ", "い"}
    assert counting.choose_alphabet(characters, 9) == set("あいうえ")
    words = {"あxい": 4, "xあ": 4, "い": 1}  # x is passed over
    assert wordpiece_training.learn(words, {"あ", "い"}, [], 9) == ["あ", "い", "##い", "あい"]


def test_overlap_with_tokenizers(sample):  # noqa: F811
    """The outside implementation agrees on the same words, apart from its random order of ties."""
    words = counting.count_words(sample.decode().split("\n"))
    alphabet = counting.choose_alphabet(counting.sum_characters(words), 6129)
    ours = wordpiece_training.learn(words, alphabet, RESERVED, 6000)
    peer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    peer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=6000, min_frequency=2, limit_alphabet=6129, special_tokens=RESERVED, show_progress=False
    )
    peer.train_from_iterator([" ".join([word] * n) for word, n in words.items()], trainer)
    theirs = set(peer.get_vocab())
    assert len(ours) == len(theirs) == 6000
    assert len(theirs & set(ours)) / 6000 > 0.97


@pytest.mark.parametrize(
    ("word", "ids"),
    [
        ("東京都", [0, 3]),
        ("都東", [2, 1]),
        ("東x", [9]),
        ("", []),
        ("東" * 101, [9]),
        ("東" * 100, [1] * 100),
        ("東 京\x85都", [1, 9, 2]),
    ],
)
def test_pieces_of_a_word(word, ids):
    vocab = {"東京": 0, "東": 1, "都": 2, "##都": 3, "##東": 1, "##京": 4}
    assert cut(word, vocab, 9) == ids


@pytest.mark.parametrize(
    ("piece", "text"), [("##都", "都"), ("都", "都"), ("都##", "都##"), ("##", "##"), ("###", "#")]
)
def test_the_text_of_a_piece(piece, text):
    assert letters(piece) == text and continues_word(piece) == (piece != text)


def test_long_runs_are_cut():
    """sentencepiece took 34 s for this line. Ordinary runs, of up to a thousand characters, are counted whole."""
    counts = counting.count_runs(["墨は黒い" * 25_000, "あ" * 1000, "a" * 1000])
    assert max(map(len, counts)) == 1000 and counts["あ" * 1000] == counts["a" * 1000] == 1
    assert sum(len(run) * n for run, n in counts.items()) == 102_000
    start = time.process_time()
    unigram_training.learn(counts, set("墨は黒いあa"), RESERVED, 128, None)
    assert time.process_time() - start < 10


# --- the tool -------------------------------------------------------------------------------------------------


def test_max_lines_reads_no_further(run_tool, bin_dir, tmp_path, sample):  # noqa: F811
    command = [bin_dir / "train-tokenizer", "--vocab-size", "300", "--max-lines", "1,000", tmp_path / "endless"]
    source = subprocess.Popen(["yes", "東京都は日本の首都です。"], stdout=subprocess.PIPE)
    done = subprocess.run(command, stdin=source.stdout, capture_output=True, timeout=300)
    source.stdout.close()
    assert source.wait(300) == -13 and done.returncode == 0
    assert done.stderr.decode().splitlines()[-1].startswith("train-tokenizer: 1,000 lines in, 8 distinct words")
    head = b"\n".join([line for line in sample.split(b"\n") if line][:500])
    run_tool("train-tokenizer", "--max-lines", 500, tmp_path / "a", stdin=sample)
    run_tool("train-tokenizer", "--max-lines", 500, tmp_path / "b", stdin=head + b"\n")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_manifest_and_stats(run_tool, tmp_path):
    (tmp_path / "text.txt").write_text("これは短い文です。\n" * 3, encoding="utf-8")
    options = ["--vocab-size", 200, "--max-seq-length", 64, "--source", tmp_path / "text.txt"]
    text = (tmp_path / "text.txt").read_bytes() + b"\xff\n"
    done = run_tool("train-tokenizer", *options, "--stats", tmp_path / "s.json", tmp_path / "t", stdin=text)
    manifest = json.loads((tmp_path / "t/manifest.json").read_text())
    assert manifest["inputs"].keys() == {"../text.txt"}
    assert manifest["outputs"].keys() == {"vocab.txt", "tokenizer_config.json"}
    assert manifest["settings"]["vocab_size"] == 200 and manifest["settings"]["unidic-lite"] == "1.0.8"
    assert manifest["counts"]["lines_in"] == 4 and manifest["counts"]["invalid_bytes_replaced"] == 1
    assert json.loads((tmp_path / "s.json").read_text())["train-tokenizer"] == manifest["counts"]
    assert b"instead of 200: there are no more in the text" in done.stderr
    assert TokenizerFolder(tmp_path / "t").max_seq_length == 64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["あ\n", "☃\n", "!\n", "東京 abc\n" * 5])
def test_hardly_any_text(run_tool, tmp_path, kind, text):
    """A smaller vocabulary, not an error."""
    run_tool("train-tokenizer", "--type", kind, tmp_path / "t", stdin=text)
    auto = AutoTokenizer.from_pretrained(tmp_path / "t", local_files_only=True)
    assert 1 not in auto(text.split("\n")[0])["input_ids"]


@pytest.mark.parametrize(
    ("args", "stdin", "status", "said"),
    [
        (["T"], b"", 1, "train-tokenizer: standard input: no text to learn from"),
        (["T"], b"\n \n\n", 1, "train-tokenizer: standard input: no text to learn from"),
        *(
            (
                ["T", "--type", kind],
                text.encode() + b"\n\xff\n",
                1,
                "standard input: no text to learn from: white space, ",
            )
            for kind in KINDS
            for text in ("\u3000\xa0", "\ufffd", "\x01\x7f", "\u200b\ue000")
        ),
        (["T", "--alphabet", "0"], "東京\n".encode(), 2, "argument --alphabet: at least 1"),
        (["T", "--vocab-size", "10"], "東京\n".encode(), 2, "--vocab-size: at least 128"),
        (["T", "--type", "bpe"], b"", 2, "invalid choice: 'bpe'"),
        (["theirs"], "東京\n".encode(), 1, "holds files but no manifest.json"),
        (["theirs/file"], "東京\n".encode(), 1, "is not a folder"),
    ],
)
def test_errors(run_tool, tmp_path, args, stdin, status, said):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/file").write_text("kept")
    done = run_tool("train-tokenizer", *args, stdin=stdin, status=status, cwd=tmp_path)
    assert said in done.stderr.decode() and "Traceback" not in done.stderr.decode()
    assert [p.name for p in tmp_path.iterdir()] == ["theirs"] and (tmp_path / "theirs/file").read_text() == "kept"


def test_folders_that_are_not_a_tokenizer(tmp_path):
    from suzuri.errors import DataError

    with pytest.raises(DataError, match=r"neither vocab\.txt nor tokenizer\.json"):
        _ = TokenizerFolder(tmp_path).pieces
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0, "b": 7}}}')
    with pytest.raises(DataError, match="ids from 0 on"):
        _ = TokenizerFolder(tmp_path).pieces
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        _ = TokenizerFolder(tmp_path).config
