"""The map of a corpus of many files: one file to sorted runs of its sentences or documents.

What becomes of them is in `reducing`.
"""

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO

from suzuri.manifest import recorded_sha256
from suzuri.processes import ordered_map
from suzuri.streams import BLOCK, MAX_LINE, Block, LineReader
from suzuri.text import hashed_records as rec
from suzuri.text.documents import DocumentWriter, count_lines
from suzuri.text.filters import SentenceFilter
from suzuri.text.inputs import text_blocks
from suzuri.text.record_file import RecordWriter
from suzuri.text.sentences import split_block
from suzuri.text.shuffle import TextBuffer, sorted_runs
from suzuri.text.wiki import articles


def map_file(
    path: str,
    out: BinaryIO,
    *,
    field: str,
    unit: str,
    seed: int,
    min_chars: int,
    max_chars: int,
    memory: int,
    wiki: bool = False,
    max_lines: int | None = None,
    max_line: int = MAX_LINE,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda n: None,
) -> Counter:
    """Write the records of a file, its sentences or documents, split, filtered and sorted, to the open file `out`.

    The text is in a `field`, or in the articles of a dump of Wikipedia's search index (`wiki`). `max_lines` are for a
    corpus of one file; a line of more than `max_line` bytes is an error. Returns the counts, by the phrases that the
    tools of the single pipe use.
    """
    counts, of_wiki, written = Counter(), Counter(), io.BytesIO()
    documents = DocumentWriter(written)

    def blocks():
        source = article_blocks(path, of_wiki, max_line) if wiki else text_blocks(path, field, max_line)
        reader = LineReader(max_line, source=source, name=path)
        lines = (block.data for block in iter(reader.read, None))
        for text, found in ordered_map(partial(split_and_filter, SentenceFilter(min_chars, max_chars)), lines, jobs):
            counts.update(found)
            progress(found["bytes"])
            documents.write(text)
            yield written.getvalue()
            written.seek(0)
            written.truncate()

    writer, buffer = RecordWriter(out, rec.BUCKETS), TextBuffer(memory, unit, seed, max_lines, name=path)
    for run, _ in sorted_runs(blocks(), buffer):
        if len(run.starts):
            writer.append([run], rec.bucket_cuts(run))
    counts["sentences"] = buffer.lines
    source = {"source": os.path.basename(path), "source_sha256": recorded_sha256(path)}
    settings = {"unit": unit, "seed": seed, "max_lines": max_lines, "stopped": buffer.satisfied}
    writer.close(counts=counts, **settings, **source, **({"wiki": of_wiki} if wiki else {}))
    return counts


def article_blocks(path: str, counts: Counter, max_line: int = MAX_LINE) -> Iterator[bytes]:
    """Blocks of the text that extract-wiki makes of a shard of a dump."""
    lines = (
        line
        for block in LineReader(max_line, source=text_blocks(path, None), name=path).raw()
        for line in io.BytesIO(block)
    )
    held, size = [], 0
    for text, reason, _ in articles(lines, counts, path):
        if reason:
            continue
        held += [b"" if counts["documents"] == 1 else b"\n", text.encode("utf-8", "replace"), b"\n"]
        size += len(held[-2])
        if size >= BLOCK:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def split_and_filter(keep: SentenceFilter, data: bytes) -> tuple[bytes, Counter]:
    """Whole lines of text -> (the sentences that are kept, one per line; the counts of what was read and dropped)."""
    text, (nbytes, lines, found, invalid) = split_block(Block(data))
    kept, dropped = keep(text.decode())
    counts = {"bytes": nbytes, "lines in": lines, "sentences out": found, "invalid bytes replaced": invalid}
    counts |= {"sentences in": found, "kept": count_lines(kept)}
    return kept.encode(), Counter(counts) + Counter(reason for reason, _ in dropped)
