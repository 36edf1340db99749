"""The file of a shard: .safetensors, written as a stream, read as a memory map.

    offsets  int64 [n + 1]   sequence i is tokens[offsets[i]:offsets[i + 1]]
    tokens   uint16 or uint32 [num_tokens]   every sequence `[CLS] … [SEP]`, end to end

The header's metadata (strings, as safetensors wants them): format, vocab_size, unit, max_seq_length,
num_sequences, num_tokens, source_sha256, tokenizer_sha256; and crop_pairs, if lines have become pairs.
"""

import json
import os
import shutil
import struct
import tempfile
from array import array
from fractions import Fraction

import numpy as np

from suzuri.errors import DataError
from suzuri.files import check_output, named, replacing, scratch_folder

FORMAT = "suzuri-shard/1"
DTYPES = {"U16": np.dtype("<u2"), "U32": np.dtype("<u4"), "I64": np.dtype("<i8")}
INTEGERS = ("vocab_size", "max_seq_length", "num_sequences", "num_tokens")
TEXTS = ("unit", "source_sha256", "tokenizer_sha256")
SEQUENCES_AT_ONCE = 1 << 16


class ShardWriter:
    """Streams sequences to PATH, which appears only when `close` has been called.

    Memory: 8 bytes per sequence; the ids go to an unlinked scratch file beside PATH, because safetensors
    wants every length in its header. The offsets come before the tokens, so that both are aligned.
    """

    def __init__(
        self,
        path: str,
        *,
        vocab_size: int,
        unit: str,
        max_seq_length: int,
        tokenizer_sha256: str,
        crop_pairs: Fraction | None = None,
    ):
        self.path = check_output(path)
        self.metadata = {
            "format": FORMAT,
            "vocab_size": vocab_size,
            "unit": unit,
            "max_seq_length": max_seq_length,
            "tokenizer_sha256": tokenizer_sha256,
            **({"crop_pairs": crop_pairs} if crop_pairs else {}),
        }
        self.code = "U16" if vocab_size <= 1 << 16 else "U32"
        self.offsets = array("q", [0])
        self.scratch = None

    def __enter__(self):
        self.scratch = tempfile.TemporaryFile(dir=scratch_folder(self.path), buffering=1 << 20)
        return self

    def append(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        """Add sequences: `ids` all their ids end to end (any integers), `lengths` one per sequence."""
        ids = np.asarray(ids)
        lengths = np.asarray(lengths, dtype=np.int64)
        if lengths.sum() != len(ids):
            raise ValueError(f"{len(ids)} ids, but lengths that sum to {lengths.sum()}")
        with named(self.path):
            self.scratch.write(ids.astype(DTYPES[self.code]).tobytes())
        self.offsets.frombytes((self.offsets[-1] + np.cumsum(lengths)).tobytes())

    def close(self, source_sha256: str) -> None:
        """Write header, offsets and tokens to PATH. `source_sha256` is that of the text packed."""
        num_tokens, num_sequences = self.offsets[-1], len(self.offsets) - 1
        offsets_bytes, tokens_bytes = 8 * len(self.offsets), num_tokens * DTYPES[self.code].itemsize
        metadata = {
            **self.metadata,
            "num_sequences": num_sequences,
            "num_tokens": num_tokens,
            "source_sha256": source_sha256,
        }
        header = {
            "__metadata__": {k: str(v) for k, v in metadata.items()},
            "offsets": {"dtype": "I64", "shape": [num_sequences + 1], "data_offsets": [0, offsets_bytes]},
            "tokens": {
                "dtype": self.code,
                "shape": [num_tokens],
                "data_offsets": [offsets_bytes, offsets_bytes + tokens_bytes],
            },
        }
        text = json.dumps(header).encode()
        text += b" " * (-(8 + len(text)) % 8)
        with replacing(self.path) as f, named(self.path):
            self.scratch.flush()
            self.scratch.seek(0)
            f.write(struct.pack("<Q", len(text)) + text)
            f.write(np.frombuffer(self.offsets, dtype=np.int64).astype("<i8").tobytes())
            shutil.copyfileobj(self.scratch, f, 1 << 20)

    def __exit__(self, *exc):
        self.scratch.close()


class Shard:
    """A shard mapped read-only: `tokens`, `offsets` (NumPy arrays over the map, nothing copied), `metadata`.

    Raises DataError for a file that is not a shard, is of another version, or has another size than its header says.
    What its arrays hold is not read here: see check_body().
    """

    def __init__(self, path: str):
        self.path = path
        try:
            with open(path, "rb") as f:
                size = os.fstat(f.fileno()).st_size
                head = f.read(8)
                length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
                if 8 + length > size:
                    raise ValueError("it has no safetensors header")
                header = json.loads(f.read(length))
            meta = header["__metadata__"]
            if meta.get("format") != FORMAT:
                raise ValueError(f"format {meta.get('format')!r}, not {FORMAT!r}")
            self.metadata = meta | {key: int(meta[key]) for key in INTEGERS} | {key: meta[key] for key in TEXTS}
            spans = {name: header[name]["data_offsets"] for name in ("offsets", "tokens")}
            if 8 + length + max(end for _, end in spans.values()) != size:
                raise ValueError("cut short or longer than its header says; remove it and run make again")
            if header["offsets"]["dtype"] != "I64" or any(len(header[n]["shape"]) != 1 for n in spans):
                raise ValueError("its arrays have other types or shapes")
            self.offsets, self.tokens = (
                np.memmap(path, DTYPES[header[n]["dtype"]], "r", 8 + length + spans[n][0], tuple(header[n]["shape"]))
                if header[n]["shape"] != [0]
                else np.zeros(0, DTYPES[header[n]["dtype"]])
                for n in ("offsets", "tokens")
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as e:
            raise DataError(path, f"not a shard of suzuri: {e}") from None
        fits = len(self.offsets) == max(0, self.metadata["num_sequences"]) + 1
        if not fits or self.offsets[0] != 0 or self.offsets[-1] != len(self.tokens):
            raise DataError(path, "not a shard of suzuri: its offsets do not fit its tokens")
        self.arrays = np.asarray(self.tokens), np.asarray(self.offsets)  # the same, but faster to slice than a memmap

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        """Ids of sequence i, as a NumPy view."""
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    def check_body(self, first: int = 0, last: int | None = None) -> None:
        """Raise DataError unless each of the sequences `first` … `last` - 1 (by default, all) has from 2 to
        max_seq_length tokens, and ids below vocab_size.
        """
        tokens, offsets = self.arrays
        longest, size = self.metadata["max_seq_length"], self.metadata["vocab_size"]
        last = len(self) if last is None else last
        for start in range(first, last, SEQUENCES_AT_ONCE):
            some = offsets[start : min(start + SEQUENCES_AT_ONCE, last) + 1]
            lengths = some[1:] - some[:-1]
            if lengths.min() < 2 or lengths.max() > longest:
                i = int(((lengths < 2) | (lengths > longest)).argmax())
                raise self.damaged(f"sequence {start + i} has {lengths[i]} tokens, not 2 to {longest}")
            if some[0] < 0 or some[-1] > len(tokens):
                raise self.damaged(f"sequence {start} begins at token {some[0]} of {len(tokens)}")
            ids = tokens[some[0] : some[-1]]
            if ids.max() >= size:
                raise self.damaged(f"token {some[0] + ids.argmax()} is {ids.max()}, but the vocabulary has {size}")

    def damaged(self, what: str) -> DataError:
        return DataError(self.path, f"damaged: {what}; remove it and pack the text again (make shards)")

    def check(self, **wanted: str | int | None) -> None:
        """Raise DataError, saying what to do, when the shard was made for something else: `wanted` are values of its
        metadata; None: any.
        """
        for key, want in wanted.items():
            have = self.metadata[key]
            if want is not None and have != want:
                raise DataError(self.path, f"packed with {key} {have}, not {want}; pack the text again (make shards)")
