"""The sections on shards and the tokenizer: lengths of sequences, figures on held-out text, examples of pieces."""

import random

import numpy as np

from suzuri.errors import DataError
from suzuri.report import data_reader
from suzuri.report.formats import figure, percent, setting, table, table_of_columns, with_share
from suzuri.report.text_section import length_blocks
from suzuri.shards import display
from suzuri.tokenizer.tokenizer_folder import UNUSED, TokenizerFolder

PIECES, UNKNOWN = 50, 20  # examples


def sequence_blocks(data: str) -> list:
    """The numbers of sequences and tokens from the shards' headers, and the lengths of the first sequences."""
    packed = {name: found for name in data_reader.datasets(data) if (found := data_reader.shards(data, name))}
    if not packed:
        return [("missing", "No shards yet: make shards.")]
    rows = []
    for name, found in packed.items():
        for part in ("train", "valid"):
            some = [shard for file, shard in found.items() if file.startswith(part)]
            sequences, tokens = sum(map(len, some)), sum(len(shard.tokens) for shard in some)
            rows.append([name, part, len(some), sequences, tokens, tokens / sequences if sequences else None])
    first = {name: data_reader.beginning(next(iter(found.values()))) for name, found in packed.items()}
    lengths = {name: np.diff(shard.offsets) for name, shard in first.items() if len(shard.tokens)}
    over = "In tokens, [CLS] and [SEP] included, over the first sequences of the first shard"
    header = ["dataset", "part", "shards", "sequences", "tokens", "tokens per sequence"]
    counts = [("heading", "Counts"), table(header, rows, "llrrrr")]
    return [("beside", [counts, length_blocks("Sequence length", over, lengths, "tokens")])]


def tokenizer_blocks(data: str, seed: int) -> list:
    """The tokenizer's settings, figures on held-out text, the characters it does not know, and examples of pieces."""
    folder = f"{data}/tokenizer"
    made = data_reader.manifest(folder)
    if not made:
        return [("missing", "No tokenizer yet: make tokenizer.")]
    tokenizer = TokenizerFolder(folder)
    pieces = tokenizer.pieces
    reserved = {*tokenizer.special_ids.values(), *(i for i, piece in enumerate(pieces) if piece in UNUSED)}
    learned = [i for i in range(len(pieces)) if i not in reserved]
    blocks, columns, unknown, seen = [], {}, [], np.zeros(len(pieces), np.int64)
    for name in data_reader.datasets(data):
        shards, column = data_reader.shards(data, name), {}
        try:
            for shard in shards.values():
                shard.check(tokenizer_sha256=tokenizer.sha256)
        except DataError as e:
            blocks.append(("missing", str(e)))
            shards = {}
        if "valid.safetensors" in shards:
            column = display.pieces_table(data_reader.beginning(shards["valid.safetensors"]), tokenizer)
        if shards:
            first = data_reader.beginning(next(iter(shards.values())))
            seen += np.bincount(first.tokens, minlength=len(pieces))[: len(pieces)]
        lines = data_reader.sentences(data, name, "valid.txt")
        total, missing = data_reader.unknown_characters(lines, [pieces[i] for i in learned])
        if total:
            column |= {"characters of text": total, "in the alphabet": with_share(total - missing.total(), total)}
        columns |= {name: column} if column else {}
        if missing:
            unknown += [
                ("heading", f"Characters outside the alphabet: {name}"),
                ("text", f"{figure(len(missing))} different characters; the most frequent ones with their counts."),
                ("pieces", sorted(missing.items(), key=lambda item: (-item[1], item[0]))[:UNKNOWN]),
            ]
    settings = made["settings"] | {key.replace("_", " "): n for key, n in made["counts"].items()}
    held_out = [
        ("heading", "Validation text"),
        ("text", "Measured on the beginning of the validation text. Pieces per word are often called fertility."),
        table_of_columns(columns),
    ]
    about = [("heading", "Settings"), table(["", "value"], [[key, setting(value)] for key, value in settings.items()])]
    blocks.append(("beside", [held_out, about] if columns else [about]))
    return [*blocks, *unknown, *piece_blocks(pieces, learned, seen, seed)]


def piece_blocks(pieces: list[str], learned: list[int], seen: np.ndarray, seed: int) -> list:
    """The most frequent of the pieces with ids `learned`, and random ones. `seen` [vocabulary] counts each piece."""
    used = sorted((i for i in learned if seen[i]), key=lambda i: (-seen[i], i))
    drawn = sorted(random.Random(f"{seed} pieces").sample(learned, min(PIECES, len(learned))))
    frequent = [
        ("heading", "Most frequent pieces"),
        ("text", f"The top {PIECES}, with their shares of all pieces at the beginning of the train shards."),
        ("pieces", [(pieces[i], percent(seen[i], seen[learned].sum())) for i in used[:PIECES]]),
    ]
    return [
        *(frequent if used else []),
        ("heading", "Random pieces"),
        ("text", f"In the order of the vocabulary{', with their counts in the same text' if used else ''}."),
        ("pieces", [(pieces[i], seen[i] if used else "") for i in drawn]),
    ]
