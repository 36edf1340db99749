"""The report on shards and tokenizer: how long sequences are, how the text is cut and what is not known."""

import random

import numpy as np

from suzuri.errors import DataError
from suzuri.report import data_reader as facts
from suzuri.report.blocks import (
    Beside,
    Heading,
    Missing,
    Pieces,
    Plots,
    Right,
    Sentence,
    Table,
    Text,
    figure,
    percent,
    setting,
    with_share,
)
from suzuri.report.corpus import histogram, quantiles
from suzuri.shards import display
from suzuri.shards.shard_file import tokenizer_sha256
from suzuri.tokenizer import tokenizer_folder

PIECES, STRANGERS = 50, 20  # examples of each


def token_blocks(data, names):
    """How many sequences and tokens there are, by their headers; how long the first of them are."""
    packed = {name: found for name in names if (found := facts.shards(data, name))}
    if not packed:
        return [Missing("No shards yet: make shards.")]
    rows = []
    for name, found in packed.items():
        for part in ("train", "valid"):
            some = [shard for file, shard in found.items() if file.startswith(part)]
            sequences, tokens = sum(map(len, some)), sum(len(shard.tokens) for shard in some)
            rows.append([name, part, len(some), sequences, tokens, tokens / sequences if sequences else None])
    lengths = {name: np.diff(facts.Beginning(next(iter(found.values()))).offsets) for name, found in packed.items()}
    lengths = {name: found for name, found in lengths.items() if len(found)}
    blocks = [Table(["dataset", "part", "shards", "sequences", "tokens", "tokens a sequence"], rows)]
    if lengths:
        sizes = ", ".join(f"{figure(len(found))} of {name}" for name, found in lengths.items())
        blocks += [
            Heading("Length of a sequence"),
            Text(f"In tokens, [CLS] and [SEP] among them, over the first sequences of the first shard: {sizes}."),
            Beside(
                [[quantiles(lengths)], [Plots([histogram("Sequences by length", "tokens", "sequences, %", lengths)])]]
            ),
        ]
    return blocks


def tokenizer_blocks(data, names, seed):
    """Its settings, how it does on held-out text, what it cannot spell, and pieces of it."""
    folder = f"{data}/tokenizer"
    made = facts.manifest(folder)
    if not made:
        return [Missing("No tokenizer yet: make tokenizer.")]
    pieces, ids, kind = (
        tokenizer_folder.read_vocabulary(folder),
        tokenizer_folder.special_ids(folder),
        tokenizer_folder.kind(folder),
    )
    reserved = {*ids.values(), *(i for i, piece in enumerate(pieces) if piece in tokenizer_folder.UNUSED)}
    ours = [i for i in range(len(pieces)) if i not in reserved]
    alphabet = facts.characters(pieces[i] for i in ours)
    settled = {**made["settings"], **{k.replace("_", " "): v for k, v in made["counts"].items()}}
    about = [Heading("Settings"), Table(["", "value"], [[k, Right(setting(v))] for k, v in settled.items()])]

    sha, blocks, columns, strangers, seen = tokenizer_sha256(folder), [], {}, {}, np.zeros(len(pieces), np.int64)
    for name in names:
        found = facts.shards(data, name)
        try:
            for shard in found.values():
                shard.check(tokenizer_sha256=sha)
        except DataError as e:
            blocks.append(Missing(str(e)))
            found = {}
        column = {}
        if "valid.safetensors" in found:
            column = display.pieces_table(facts.Beginning(found["valid.safetensors"]), pieces, ids, kind)
        if found:
            seen += facts.piece_counts([facts.Beginning(next(iter(found.values())))], len(pieces))
        whole, spelt, strangers[name] = facts.coverage(facts.sentences(data, name, "valid.txt"), alphabet)
        if whole:
            column |= {"characters of text": whole, "of them in the alphabet": with_share(spelt, whole)}
        if column:
            columns[name] = column
    blocks += [Beside([held_out_blocks(columns), about])] if columns else about
    return [*blocks, *stranger_blocks(strangers), *piece_blocks(pieces, ours, seen, seed)]


def held_out_blocks(columns):
    """`columns`: {dataset: {what: figure}}"""
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    return [
        Heading("On text held out for validation"),
        Text("Over the beginning of valid. Pieces a word is what is often called fertility."),
        Table(["", *columns], [[key, *(column.get(key) for column in columns.values())] for key in keys]),
    ]


def stranger_blocks(strangers):
    """`strangers`: {dataset: Counter of characters that the vocabulary cannot spell}"""
    blocks = []
    for name, found in strangers.items():
        if found:
            most = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:STRANGERS]
            blocks += [
                Heading(f"Characters outside the alphabet: {name}"),
                Text(f"{figure(len(found))} different ones; the most frequent with how often they occur."),
                Pieces([(Sentence(c), n) for c, n in most]),
            ]
    return blocks


def piece_blocks(pieces, ours, seen, seed):
    """The most frequent of the pieces with ids `ours`, and some at random; `seen` counts each, int64 [vocabulary]."""
    blocks = []
    used = sorted((i for i in ours if seen[i]), key=lambda i: (-seen[i], i))[:PIECES]
    if used:
        total = int(seen[ours].sum())
        blocks += [
            Heading(f"The {len(used)} most frequent pieces"),
            Text("With their shares of all pieces at the beginning of the train shards."),
            Pieces([(Sentence(pieces[i]), percent(int(seen[i]), total)) for i in used]),
        ]
    chosen = sorted(random.Random(f"{seed} pieces").sample(ours, min(PIECES, len(ours))))
    return [
        *blocks,
        Heading(f"{len(chosen)} random pieces"),
        Text(f"In the order of the vocabulary{', with how often they occur there' if used else ''}."),
        Pieces([(Sentence(pieces[i]), figure(int(seen[i])) if used else "") for i in chosen]),
    ]
