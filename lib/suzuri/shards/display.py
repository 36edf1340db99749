"""A shard as text, and its statistics: counts, lengths, how often tokens occur."""

import numpy as np

from suzuri.shards.shard_file import Shard
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
from suzuri.tokenizer.wordpiece import continues_word, letters

CHUNK = 1 << 22  # tokens counted at a time
QUANTILES = {"shortest": 0, "5 percent up to": 0.05, "median": 0.5, "95 percent up to": 0.95, "longest": 1}


def to_text(pieces: list[str], kind: str) -> str:
    """The text of a sequence's pieces: ["東", "##京", "で", "Red", "Hat"] -> "東京でRed Hat".

    The MeCab types keep no blanks; one is put back between two words of Latin letters or digits. Unknown
    words stay [UNK].
    """
    if kind == "unigram":
        return "".join(pieces).replace("▁", " ")
    if kind == "char":
        return "".join(pieces)
    text = ""
    for piece in pieces:
        if continues_word(piece):
            text += letters(piece)
        else:
            text += " " + piece if _is_latin(text[-1:]) and _is_latin(piece[0]) else piece
    return text


def _is_latin(c):
    return c.isascii() and c.isalnum()


def lengths_table(shard: Shard) -> dict[str, float]:
    """{name: number} of sequences, tokens and lengths; lengths count [CLS] and [SEP]."""
    lengths = np.diff(shard.offsets)
    rows = {"sequences": len(shard), "tokens": len(shard.tokens)}
    if len(shard):
        rows["mean length"] = round(float(lengths.mean()), 2)
        rows |= {name: int(np.quantile(lengths, q, method="lower")) for name, q in QUANTILES.items()}
        low = 0
        while low < lengths.max():
            high = max(8, 2 * low)
            rows[f"length {low + 1} to {high}"] = int(((lengths > low) & (lengths <= high)).sum())
            low = high
    return rows


def pieces_table(shard: Shard, tokenizer: TokenizerFolder) -> dict[str, float]:
    """{name: number} of how the tokenizer cut the text of a shard; [CLS] and [SEP] are never counted.

    Pieces per word and the whole words (known, and one piece each) are only given for `wordpiece`: the others
    do not mark where words begin.
    """
    pieces, ids, kind = tokenizer.pieces, tokenizer.special_ids, tokenizer.kind
    characters = np.array([len(letters(piece) if kind == "wordpiece" else piece) for piece in pieces])
    inner = np.array([kind == "wordpiece" and continues_word(piece) for piece in pieces])
    unknown = ids["unk_token"]
    special = np.zeros(len(pieces), bool)
    special[[i for role, i in ids.items() if role != "unk_token"]] = True
    seen, whole = np.zeros(len(pieces), np.int64), 0
    for start in range(0, len(shard.tokens), CHUNK):
        tokens = shard.tokens[start : start + CHUNK + 1]  # and the first of the next chunk
        seen += np.bincount(tokens[:CHUNK], minlength=len(pieces))
        begins = ~inner[tokens]
        known = ~special & (np.arange(len(pieces)) != unknown)
        whole += int((begins[:-1] & begins[1:] & known[tokens[:-1]]).sum())  # the last token is a [SEP]
    text = int(seen[~special].sum())
    rows = {"tokens of text": text, "unknown": int(seen[unknown])}
    if not text:
        return rows
    known_tokens = text - rows["unknown"]
    rows["unknown rate"] = round(rows["unknown"] / text, 6)
    seen_text = np.where(special, 0, seen)
    seen_text[unknown] = 0
    rows["characters per piece"] = round(float(seen_text @ characters) / max(1, known_tokens), 4)
    if kind == "wordpiece":
        words = text - int(seen[inner].sum())
        rows["words"] = words
        rows["pieces per word"] = round(text / words, 4)
        rows["whole-word rate"] = round(whole / words, 4)
    rows["pieces used"] = int((seen_text > 0).sum())
    rows["pieces in the vocabulary"] = len(pieces)
    return rows
