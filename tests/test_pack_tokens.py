"""Packing: always the ids of transformers, with nothing dropped; and show-shard."""

import functools
import gzip
import hashlib
import itertools
import json
import lzma
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suzuri.shards import crop_pairs, packing, shard_file
from suzuri.shards.shard_file import Shard
from suzuri.tokenizer import encoding, tokenizer_folder, words
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
from suzuri.tokenizer.wordpiece import cut
from trained import KINDS, NASTY, sample, trained  # noqa: F401  (fixtures)
from transformers import AutoTokenizer
from transformers.models.bert_japanese.tokenization_bert_japanese import WordpieceTokenizer

LETTERS = "東京はがか\u3099、。 \u3000\t\x0b\x0c\r\x1c\x85\u2028\0aZ09（●´ー｀）[]MASK<unsed>##▁㍻Åé😀"


@functools.cache
def auto(folder):
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@functools.cache
def encoder(folder):
    return encoding.encoder(TokenizerFolder(folder))


def wanted(folder, lines):
    """transformers' ids of each line, without [CLS] and [SEP]."""
    return [auto(folder)(line, split_special_tokens=True)["input_ids"][1:-1] for line in lines]


def found(folder, lines):
    ids, lengths = encoder(folder)(lines)
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


@pytest.fixture(scope="module")
def real_lines(shared_data):
    """3,000 lines of the real corpora, and all odd ones: with controls, blanks at the ends, or very long."""
    with lzma.open(shared_data / "cc100/ja-mini.txt.xz", "rt", encoding="utf-8", newline="\n") as f:
        lines = f.read().split("\n")
    with gzip.open(shared_data / "jawiki/jawiki-20240701-cirrussearch-content.json.gz", "rt", encoding="utf-8") as f:
        lines += [record["text"] for record in map(json.loads, f) if record.get("text")]
    lines = [line.replace("\n", "") for line in lines if line.strip()]
    odd = [s for s in lines if len(s) > 3000 or s != s.strip() or not s.isprintable()]
    return random.Random(0).sample(lines, 3000) + odd[:300]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_real_text(run_tool, tmp_path, trained, real_lines, kind):  # noqa: F811
    run_tool("pack-tokens", "--tokenizer", trained[kind], tmp_path / "s", stdin="\n".join(real_lines))
    shard = Shard(tmp_path / "s")
    want = []
    for ids in wanted(trained[kind], real_lines):
        want += [[2, *ids[i : i + 510], 3] for i in range(0, len(ids), 510)]
    assert len(want) > len(real_lines)  # some were cut
    assert [shard[i].tolist() for i in range(len(shard))] == want


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_nasty_text(trained, kind):  # noqa: F811
    assert found(trained[kind], NASTY) == wanted(trained[kind], NASTY)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_any_text(trained, kind):  # noqa: F811
    @settings(max_examples=250, deadline=None)
    @given(st.lists(st.text() | st.text(LETTERS), min_size=1, max_size=5))
    def check(texts):
        texts = [text.replace("\n", "") for text in texts]
        assert found(trained[kind], texts) == wanted(trained[kind], texts)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_spelled_out_are_text(trained, kind):  # noqa: F811
    text = "[PAD][UNK][CLS][SEP][MASK]<unused0><unused9>"
    ids = found(trained[kind], [text, text.replace("[", " [")])
    assert not {0, 2, 3, 4, *range(5, 15)} & {i for line in ids for i in line}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab#"), min_size=1), st.lists(st.text("ab#x\x85\u3000", min_size=1), max_size=9))
def test_pieces_are_those_of_transformers(vocabulary, words):
    """Any pieces, with or without `##` alone, and any words."""
    ids = {piece: i for i, piece in enumerate(["[UNK]", *dict.fromkeys(vocabulary)])}
    theirs = WordpieceTokenizer(ids, unk_token="[UNK]")
    for word in words:
        assert cut(word, ids, 0) == [ids[piece] for piece in theirs.tokenize(word)]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_do_not_depend_on_what_is_remembered(monkeypatch, trained, real_lines, kind):  # noqa: F811
    monkeypatch.setattr(encoding, "REMEMBERED", 50)
    encode = encoding.encoder(TokenizerFolder(trained[kind]))
    lines = real_lines[:300]
    forgetful = [encode(lines[i : i + 9])[0].tolist() for i in range(0, len(lines), 9)]
    assert [i for ids in forgetful for i in ids] == encoder(trained[kind])(lines)[0].tolist()


@pytest.mark.parametrize("kind", ["wordpiece", "char"])
def test_ids_of_lines_beyond_mecab(trained, kind):  # noqa: F811
    """Such a line is cut for MeCab after 。: its ids are those of the parts."""
    line = "富士山は日本でいちばん高い山です。" * 9
    repeated = words.LONGEST // len(line) + 1
    ids, lengths = encoder(trained[kind])([line * repeated, line])
    assert lengths[0] == repeated * lengths[1] and ids.tolist() == ids[-lengths[1] :].tolist() * (repeated + 1)


# --- sequences ------------------------------------------------------------------------------------------------


def letters(lines):
    """An encoder for tests: a character is its code point."""
    return np.array([ord(c) for line in lines for c in line], encoding.ID), np.array([*map(len, lines)], np.int64)


def packed(text, unit, length, cuts=()):
    """The sequences of a text as strings, [CLS] and [SEP] as < and >; `cuts` splits the text into blocks."""
    packer = packing.Packer(letters, ord("<"), ord(">"), unit, length)
    lines = text.split("\n")
    edges = [0, *cuts, len(lines)]
    blocks = [packer.pack(lines[a:b]) for a, b in itertools.pairwise(edges)] + [packer.finish()]
    out = []
    for ids, lengths in blocks:
        assert len(ids) == lengths.sum()
        out += ["".join(map(chr, part)) for part in np.split(ids, np.cumsum(lengths)[:-1])] if len(lengths) else []
    return " ".join(out), packer


@pytest.mark.parametrize(
    ("text", "unit", "length", "want"),
    [
        ("ab\ncd\n\n\nef\n", "line", 8, "<ab> <cd> <ef>"),
        ("abcdef\nghi", "line", 5, "<abc> <def> <ghi>"),
        ("abcdefg\nh", "line", 5, "<abc> <def> <g> <h>"),
        ("a", "line", 3, "<a>"),
        ("abc", "line", 3, "<a> <b> <c>"),
        (" \n\t\n\u3000", "line", 8, ""),
        ("", "line", 8, ""),
        ("ab\ncd\n\n\nef\n", "document", 8, "<abcd> <ef>"),
        ("ab\ncd\nef\ngh\n\nij", "document", 6, "<abcd> <efgh> <ij>"),
        ("ab\ncd\nef", "document", 7, "<abcd> <ef>"),  # whole lines, though cde would fit
        ("ab\ncdefghijkl\nm\n\nn", "document", 6, "<ab> <cdef> <ghij> <klm> <n>"),  # a tail takes what follows
        ("abcd\nef", "document", 6, "<abcd> <ef>"),
        ("\n\nab\n\n", "document", 6, "<ab>"),
        ("", "document", 6, ""),
        ("ab\ncd\n\n\nef\n", "window", 8, "<ab>cd> <ef>"),
        ("ab\ncd\nef\ngh\n\nij", "window", 7, "<ab>cd> <ef>gh> <ij>"),
        ("ab\ncd\nef", "window", 6, "<ab> <cd> <ef>"),  # two lines would take 7
        ("ab\ncdefghijkl\nm\n\nn", "window", 6, "<ab> <cdef> <ghij> <kl>m> <n>"),
        ("abcd\nef", "window", 6, "<abcd> <ef>"),
        ("\n\nab\n\n", "window", 3, "<a> <b>"),
        ("", "window", 6, ""),
    ],
)
def test_sequences(text, unit, length, want):
    lines = text.count("\n") + 1
    for cuts in [(), tuple(range(1, lines))]:  # in one block, and a line at a time
        got, packer = packed(text, unit, length, cuts)
        assert got == want
    assert packer.lines == sum(1 for line in text.split("\n") if line.strip())
    assert packer.lines_cut == sum(len(line) > length - 2 for line in text.split("\n"))


@settings(deadline=None)
@given(
    st.lists(st.text("ab-", min_size=0, max_size=60), max_size=8),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(3, 80),
)
def test_crop_pairs(lines, share, length):
    """A `-` continues a word. Lines stay as they are or become two parts; it does not matter what is in one block."""
    starts = np.arange(128) != ord("-")
    blocks = [lines, *([line] for line in lines)]
    found = []
    for block in blocks:
        crops = crop_pairs.CropPairs(share, starts, ord(">"), length - 2)
        ids, lengths = crops(block, *letters(block))
        edges = [0, *np.cumsum(lengths)]
        found.append(["".join(map(chr, ids[a:b])) for a, b in itertools.pairwise(edges)])
        assert crops.pairs == sum(">" in part for part in found[-1])
    assert found[0] == [part for parts in found[1:] for part in parts]
    for line, part in zip(lines, found[0], strict=True):
        words = len(line.replace("-", ""))
        if ">" not in part:
            assert part == line and (share < 1 or words < 8 or 2 * len(line) + 1 > length - 2)
            continue
        assert share and words >= 8 and len(part) <= length - 2
        for half in part.split(">"):
            assert half in line and half[0] != "-" and len(half.replace("-", "")) >= 0.6 * words


def test_a_share_of_the_lines_becomes_pairs(run_tool, tmp_path, trained, sample):  # noqa: F811
    """The other lines stay as they are; a pair is two parts of its line, each from the beginning of a word on."""
    text = b"".join(line + b"\n" for line in sample.splitlines() if line.strip())
    found = []
    for share in ("0", "1/4"):
        path = tmp_path / f"{share[0]}.safetensors"
        options = ("--tokenizer", trained["wordpiece"], "--max-seq-length", 512, "--crop-pairs", share, path)
        summary = run_tool("pack-tokens", *options, stdin=text).stderr.decode()
        shard = Shard(str(path))
        assert shard.metadata.get("crop_pairs", "0") == share
        found.append([ids.tolist() for ids in np.split(shard.tokens, shard.offsets[1:-1])])
    pieces = TokenizerFolder(trained["wordpiece"]).pieces
    pairs = [(line, pair) for line, pair in zip(*found, strict=True) if line != pair]
    assert f" {len(pairs):,} crop pairs," in summary and 0.15 < len(pairs) / text.count(b"\n") < 0.3
    for line, pair in pairs:
        cls, sep = pair[0], pair[-1]
        middle = pair.index(sep)
        for half in (pair[1:middle], pair[middle + 1 : -1]):
            assert any(half == line[i : i + len(half)] for i in range(len(line))) and {cls, sep}.isdisjoint(half)
            assert not pieces[half[0]].startswith("##")


def test_crop_pairs_are_of_lines(run_tool, tmp_path):
    done = run_tool("pack-tokens", "--tokenizer", "x", "--unit", "window", "--crop-pairs", "0.5", "y", status=2)
    assert b"only with --unit line" in done.stderr


@settings(max_examples=200, deadline=None)
@given(
    st.text("ab\n", max_size=60),
    st.integers(3, 12),
    st.sets(st.integers(0, 60)),
    st.sampled_from(["line", "document", "window"]),
)
def test_nothing_is_lost_and_blocks_do_not_matter(text, length, cuts, unit):
    lines = text.count("\n") + 1
    got, _ = packed(text, unit, length)
    assert got == packed(text, unit, length, sorted(c for c in cuts if c < lines))[0]
    assert got.translate({ord(c): "" for c in "<> "}) == text.replace("\n", "")
    assert all(3 <= len(s) <= length for s in got.split(" ") if s)


def test_a_window_is_what_transformers_makes_of_its_lines(run_tool, tmp_path, trained):  # noqa: F811
    folder, path = trained["wordpiece"], tmp_path / "w.safetensors"
    text = "硯で墨をする。\n紙に書く。\n\n水を飲む。\n"
    run_tool("pack-tokens", "--unit", "window", "--tokenizer", folder, path, stdin=text.encode())
    shard, pair = Shard(path), tokenizer_folder.load(str(folder))
    first = pair("硯で墨をする。", "紙に書く。")["input_ids"]
    assert [shard.tokens[a:b].tolist() for a, b in itertools.pairwise(shard.offsets)] == [
        first,
        pair("水を飲む。")["input_ids"],
    ]
    assert shard.metadata["unit"] == "window"


def test_the_shard(run_tool, tmp_path, trained, sample):  # noqa: F811
    text = sample + "長い文です。".encode() * 100 + b"\n\xff\xfe\n"
    options = ["--tokenizer", trained["wordpiece"], "--max-seq-length", 64, "--stats", tmp_path / "s.json"]
    done = run_tool("pack-tokens", *options, tmp_path / "a.safetensors", stdin=text)
    run_tool("pack-tokens", *options, tmp_path / "b.safetensors", stdin=text)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    shard = Shard(tmp_path / "a.safetensors")
    counts = json.loads((tmp_path / "s.json").read_text())["pack-tokens"]
    assert shard.metadata == {
        "format": "suzuri-shard/1",
        "vocab_size": len(TokenizerFolder(trained["wordpiece"]).pieces),
        "unit": "line",
        "max_seq_length": 64,
        "num_sequences": counts["sequences"],
        "num_tokens": counts["tokens"],
        "source_sha256": hashlib.sha256(text).hexdigest(),
        "tokenizer_sha256": TokenizerFolder(trained["wordpiece"]).sha256,
    }
    lengths = np.diff(shard.offsets)
    assert shard.tokens.dtype == np.uint16 and lengths.max() == 64 and lengths.min() >= 3
    assert (shard.tokens[shard.offsets[:-1]] == 2).all() and (shard.tokens[shard.offsets[1:] - 1] == 3).all()
    assert counts["lines_longer_than_64_tokens_cut"] >= 1 and counts["invalid_bytes_replaced"] == 2
    assert counts["lines_in"] == sum(1 for line in text.split(b"\n") if line.strip())
    assert b"pack-tokens: " in done.stderr and sorted(p.name for p in tmp_path.iterdir()) == [
        "a.safetensors",
        "b.safetensors",
        "s.json",
    ]


def test_documents(run_tool, tmp_path, trained, sample):  # noqa: F811
    """The same ids in the same order as by lines, in fewer and longer sequences, none across two documents."""
    options = ["--tokenizer", trained["unigram"], "--max-seq-length", 128]
    run_tool("pack-tokens", *options, tmp_path / "lines", stdin=sample)
    run_tool("pack-tokens", *options, "--unit", "document", "--stats", tmp_path / "s", tmp_path / "docs", stdin=sample)
    by_line, by_document = Shard(tmp_path / "lines"), Shard(tmp_path / "docs")
    inner = [s.tokens[~np.isin(s.tokens, [2, 3])].tolist() for s in (by_line, by_document)]
    assert inner[0] == inner[1] and len(by_document) < len(by_line)
    documents = [d for d in sample.decode().split("\n\n") if d.strip()]
    assert json.loads((tmp_path / "s").read_text())["pack-tokens"]["documents"] == len(documents)
    assert by_document.metadata["unit"] == "document"


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["OUT", "--tokenizer", "nowhere"], 1, "nowhere/tokenizer_config.json: not found"),
        (["OUT", "--tokenizer", "ipadic"], 1, "ipadic: cannot pack text"),
        (["OUT"], 2, "required: --tokenizer"),
        (["OUT", "--tokenizer", "good", "--max-seq-length", "2"], 2, "at least 3"),
        (["no/such/OUT", "--tokenizer", "good"], 1, "no/such"),
    ],
)
def test_errors(run_tool, tmp_path, trained, args, status, said):  # noqa: F811
    (tmp_path / "good").symlink_to(trained["wordpiece"])
    (tmp_path / "ipadic").mkdir()
    config = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}
    config |= {"mecab_kwargs": {"mecab_dic": "ipadic"}}
    (tmp_path / "ipadic/tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "ipadic/vocab.txt").write_text("\n".join(tokenizer_folder.SPECIAL))
    done = run_tool("pack-tokens", *args, stdin="東京\n", status=status, cwd=tmp_path)
    assert said in done.stderr.decode() and "Traceback" not in done.stderr.decode()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good", "ipadic"]


def test_the_tokenizer_is_the_one_that_transformers_makes(run_tool, tmp_path):
    """It makes a fast tokenizer anew, by the settings in tokenizer_config.json, not by tokenizer.json alone."""
    import transformers

    pieces = [*tokenizer_folder.SPECIAL, "が", "か", "##が", "##か", "い", "##い", "ab", "Ab"]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    made = transformers.BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt"), do_lower_case=True)
    made.save_pretrained(tmp_path / "tok")
    path = tmp_path / "tok/tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_lower_case": False}))
    lines = ["Ab が", "ab がい", "[MASK] が"]
    run_tool("pack-tokens", "--tokenizer", tmp_path / "tok", tmp_path / "s", stdin="\n".join(lines))
    shard = Shard(tmp_path / "s")
    words = tokenizer_folder.load(str(tmp_path / "tok"))
    for i, line in enumerate(lines):
        want = words(line, split_special_tokens=True)["input_ids"]
        assert shard.tokens[shard.offsets[i] : shard.offsets[i + 1]].tolist() == want, line


def test_added_pieces(run_tool, tmp_path, trained):  # noqa: F811
    """A MeCab tokenizer whose vocab.txt does not have all pieces: their ids would be none of the model's."""
    words = tokenizer_folder.load(str(trained["wordpiece"]))
    words.add_tokens(["硯箱", "青い鳥"])
    words.save_pretrained(tmp_path / "tok")
    done = run_tool("pack-tokens", "--tokenizer", tmp_path / "tok", tmp_path / "s", stdin="硯箱\n", status=1)
    assert "cannot pack text: neither a MeCab tokenizer (unidic_lite, cased, no added tokens)" in done.stderr.decode()


# --- show-shard -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_text_comes_back(run_tool, tmp_path, trained, kind):  # noqa: F811
    text = "富士山は日本でいちばん高い山です。\nBach は 1685 年に生まれた。\n"
    run_tool("pack-tokens", "--tokenizer", trained[kind], tmp_path / "s", stdin=text)
    done = run_tool("show-shard", "--tokenizer", trained[kind], tmp_path / "s")
    assert done.stdout.decode() == (text if kind == "unigram" else text.replace(" ", ""))
    ids = run_tool("show-shard", "--ids", "--head", 1, tmp_path / "s").stdout.split()
    pieces = run_tool("show-shard", "--pieces", "--head", 1, "--tokenizer", trained[kind], tmp_path / "s").stdout
    vocabulary = TokenizerFolder(trained[kind]).pieces
    assert pieces.decode().split() == [vocabulary[int(i)] for i in ids]
    assert ids[0] == b"2" and ids[-1] == b"3"


def test_blanks_between_latin_words_come_back(run_tool, tmp_path):
    run_tool("train-tokenizer", tmp_path / "t", stdin="Red Hat 8 を使う Red Hat 8 を使う\n")
    run_tool("pack-tokens", "--tokenizer", tmp_path / "t", tmp_path / "s", stdin="Red Hat 8 を 使う\n")
    assert run_tool("show-shard", "--tokenizer", tmp_path / "t", tmp_path / "s").stdout.decode() == "Red Hat 8を使う\n"


def write_shard(path, sequences, folder, vocab_size):
    sha = TokenizerFolder(folder).sha256
    with shard_file.ShardWriter(path, vocab_size=vocab_size, unit="line", max_seq_length=9, tokenizer_sha256=sha) as w:
        w.append([i for s in sequences for i in s], [len(s) for s in sequences])
        w.close("0" * 64)


def test_stats(run_tool, tmp_path, monkeypatch):
    folder = tmp_path / "t"
    folder.mkdir()
    pieces = [*tokenizer_folder.SPECIAL, "東京", "##都", "は", "##"]
    tokenizer_folder.write_folder(folder, "wordpiece", pieces, 512)
    sequences = [[2, 5, 6, 7, 3], [2, 1, 5, 3], [2, 7, 6, 6, 8, 3], [2, 7, 3]]
    write_shard(tmp_path / "s", sequences, folder, len(pieces))
    monkeypatch.setattr("suzuri.shards.display.CHUNK", 4)
    done = run_tool("show-shard", "--stats", "--tokenizer", folder, tmp_path / "s")
    rows = dict(line.split("\t") for line in done.stdout.decode().splitlines())
    assert {k: float(v) for k, v in rows.items()} == {
        "sequences": 4,
        "tokens": 18,
        "mean length": 4.5,
        "shortest": 3,
        "5 percent up to": 3,
        "median": 4,
        "95 percent up to": 5,
        "longest": 6,
        "length 1 to 8": 4,
        "tokens of text": 10,
        "unknown": 1,
        "unknown rate": 0.1,
        "characters per piece": round((2 + 1 + 1 + 2 + 1 + 1 + 1 + 2 + 1) / 9, 4),
        "words": 7,  # 東京都 は [UNK] 東京 は都都 ## は
        "pieces per word": round(10 / 7, 4),
        "whole-word rate": round(4 / 7, 4),
        "pieces used": 4,
        "pieces in the vocabulary": 9,
    }
    from suzuri.shards import display

    shard = Shard(tmp_path / "s")
    in_small_chunks = display.pieces_table(shard, TokenizerFolder(folder))
    assert {k: float(v) for k, v in in_small_chunks.items()} == {k: float(rows[k]) for k in in_small_chunks}
    without = run_tool("show-shard", "--stats", tmp_path / "s").stdout.decode()
    assert done.stdout.decode().startswith(without) and "unknown" not in without


def test_empty_shard(run_tool, tmp_path, trained):  # noqa: F811
    run_tool("pack-tokens", "--tokenizer", trained["char"], tmp_path / "s", stdin="\n\n")
    assert len(Shard(tmp_path / "s")) == 0
    assert run_tool("show-shard", "--ids", tmp_path / "s").stdout == b""
    stats = run_tool("show-shard", "--stats", "--tokenizer", trained["char"], tmp_path / "s").stdout.decode()
    assert stats == "sequences\t0\ntokens\t0\ntokens of text\t0\nunknown\t0\n"


def test_show_shard_errors(run_tool, tmp_path, trained):  # noqa: F811
    run_tool("pack-tokens", "--tokenizer", trained["char"], tmp_path / "s", stdin="東京\n")
    done = run_tool("show-shard", "--tokenizer", trained["unigram"], tmp_path / "s", status=1)
    assert b"packed with tokenizer_sha256" in done.stderr and b"pack the text again" in done.stderr
    assert b"text and pieces need --tokenizer" in run_tool("show-shard", tmp_path / "s", status=2).stderr
    (tmp_path / "cut").write_bytes((tmp_path / "s").read_bytes()[:-1])
    assert b"cut short" in run_tool("show-shard", "--ids", tmp_path / "cut", status=1).stderr
