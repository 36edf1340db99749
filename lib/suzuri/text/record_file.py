"""The file between map-text and reduce-text, and between that and shuffle-split: text in rows of slices.

    text      the records, row by row, and in a row slice by slice
    cuts      int64 [rows, 2, slices + 1], little-endian: where in the text each slice begins and ends, and how many
              records of the row are before it
    footer    JSON: format, text (its bytes), rows, slices, and what the writer adds
    length    uint64, of the footer

The rows of map-text are sorted runs, and their slices are the buckets of hashes. The rows of reduce-text follow one
another in the order of hashes; their slices are the share of valid.txt and those of the train files. The index comes
last, so that the text is written once, whatever its length.
"""

import json
import os
import struct
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from suzuri.errors import DataError
from suzuri.text import hashed_records as rec

FORMAT = "suzuri-records/1"


class RecordWriter:
    """Writes rows to an open file; `close` writes what follows them."""

    def __init__(self, file: BinaryIO, slices: int):
        self.file, self.slices, self.bytes, self.cuts = file, slices, 0, []

    def append(self, parts: Iterable[rec.Records], cuts: tuple[np.ndarray, np.ndarray]) -> None:
        """Add a row, the records in `parts`, cut at `cuts`: in bytes from the row's beginning, and in records."""
        for part in parts:
            for portion in rec.portions(part):
                self.file.write(rec.gather(portion))
        self.cuts.append((cuts[0] + self.bytes, cuts[1]))
        self.bytes += int(cuts[0][-1])

    def close(self, **metadata) -> None:
        counts = {"text": self.bytes, "rows": len(self.cuts), "slices": self.slices}
        footer = json.dumps({"format": FORMAT} | counts | metadata).encode()
        self.file.write(np.array(self.cuts, "<i8").tobytes() + footer + struct.pack("<Q", len(footer)))


class RecordFile:
    """A file of records: `path`, `metadata` (the footer), `cuts`. Raises DataError for anything else."""

    def __init__(self, path: str):
        self.path = path
        try:
            with open(path, "rb") as f:
                size = os.fstat(f.fileno()).st_size
                f.seek(max(0, size - 8))
                (length,) = struct.unpack("<Q", f.read(8))
                if length > size - 8:
                    raise ValueError("it is cut short")
                f.seek(size - 8 - length)
                self.metadata = json.loads(f.read(length))
            if self.metadata["format"] != FORMAT:
                raise ValueError(f"format {self.metadata['format']!r}, not {FORMAT!r}")
            text, rows, slices = (int(self.metadata[key]) for key in ("text", "rows", "slices"))
            if min(text, rows, slices) < 0 or text + 16 * rows * (slices + 1) + length + 8 != size:
                raise ValueError("it has another size than its footer says")
            self.shape = rows, 2, slices + 1
        except (ValueError, KeyError, TypeError, struct.error, RecursionError) as e:
            raise DataError(path, f"not a file of records of suzuri ({e}); remove it and run make again") from None

    @property
    def cuts(self) -> np.ndarray:
        """int64 [rows, 2, slices + 1], in the file."""
        if not self.shape[0]:
            return np.zeros(self.shape, np.int64)
        return np.memmap(self.path, "<i8", "r", self.metadata["text"], self.shape)

    def check(self, **wanted) -> None:
        """Raise DataError unless the metadata has these values."""
        for key, want in wanted.items():
            if self.metadata.get(key) != want:
                found = f"made with {key} {self.metadata.get(key)}, not {want}"
                raise DataError(self.path, f"{found}; remove it and run make again")


def record_files(folder: str) -> list[RecordFile]:
    """Those in a folder, in the order of their names. Raises DataError if there is none."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".records") and not name.startswith("."))
    if not names:
        raise DataError(folder, "no files of records (NAME.records) in it")
    return [RecordFile(os.path.join(folder, name)) for name in names]
