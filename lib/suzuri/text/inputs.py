"""The text of a dataset's files: plain text, JSON lines or Parquet, whose records are documents."""

import io
import json
from collections.abc import Iterable, Iterator

from suzuri import content
from suzuri.environment import install
from suzuri.errors import DataError
from suzuri.progress import note
from suzuri.sources import archives
from suzuri.sources.own_folders import kind
from suzuri.streams import BLOCK, MAX_LINE, LineReader
from suzuri.text.characters import REMOVED_RUN

try:
    from orjson import loads
except ImportError:  # the same records at two thirds of the speed
    from json import loads

NO_FIELD = object()


def text_blocks(path: str, field: str | None, max_line: int = MAX_LINE) -> Iterator[bytes]:
    """Blocks of the text of a file; of JSON lines and Parquet, if a `field` is named, the documents in it.

    A `path` of "-" is standard input, with a `field` JSON lines.

    Raises DataError as archives.unpacked does, and for records without that field.
    """
    found = None if field is None else ".jsonl" if path == "-" else kind(path)
    if found == ".parquet":
        yield from joined(parquet_values(path, field))
        return
    with open(0, "rb", 0, closefd=False) if path == "-" else open(path, "rb", 0) as f:
        blocks = archives.unpacked(f, path)
        yield from joined(json_values(blocks, path, field, max_line)) if found == ".jsonl" else blocks


def joined(values: Iterable[list[str]]) -> Iterator[bytes]:
    """Lists of documents -> blocks of text with an empty line between two documents, and none within one."""
    gap = ""
    for texts in values:
        lines = ([line for line in text.split("\n") if is_seen(line)] for text in texts)
        if documents := ["\n".join(found) for found in lines if found]:
            # Halves of surrogate pairs are left out.
            text = "".join([gap, "\n\n".join(documents), "\n"]).encode(errors="ignore")
            yield from (text[at : at + BLOCK] for at in range(0, len(text), BLOCK))
            gap = "\n"


def is_seen(line: str) -> bool:
    """Whether a line has more than white space and characters without a visible form."""
    return bool(line and not line.isspace() and (line.isprintable() or REMOVED_RUN.sub("", line).strip()))


def json_values(blocks: Iterable[bytes], path: str, field: str, max_line: int) -> Iterator[list[str]]:
    """The texts in a field of JSON lines, a list per block; null is no text.

    A line that is not a JSON object is skipped. Two such lines or more are an error if they are more than 1 in 1,000.
    """
    lines = broken = invalid = 0
    for block in LineReader(max_line, source=iter(blocks), name=path).raw():
        found = []
        for line in io.BytesIO(block):
            lines += 1
            try:
                record, replaced = parse_json(line.removeprefix(b"\xef\xbb\xbf"))
                text = record.get(field, NO_FIELD)
            except (ValueError, AttributeError, RecursionError):
                broken += not line.isspace()
                continue
            invalid += replaced
            found += checked(text, record, field, f"{path}: line {lines:,}")
        yield found
    if broken > max(1, lines / 1000) or 0 < broken == lines:
        share = f"{broken:,} of {lines:,} lines are not JSON objects"
        raise DataError(path, f"{share}, more than 1 in 1,000; mend the file")
    if invalid:
        note(f"{path}: {invalid:,} invalid bytes replaced")
    if broken:
        note(f"{path}: skipped {broken:,} of {lines:,} lines, which are not JSON objects")


def checked(text: object, fields: Iterable[str], field: str, where: str) -> list[str]:
    """[text], or [] for null. Raises DataError if it is something else, or if there is no such field."""
    if text is None:
        return []
    if not isinstance(text, str):
        what = f"has no field {field}" if text is NO_FIELD else f"the field {field} is not text"
        raise DataError(where, f"{what}; its fields are {', '.join(fields)}: name the right one (TEXT_FIELD=…)")
    return [text]


def parse_json(line: bytes) -> tuple[object, int]:
    """(the value, the number of bytes that are not UTF-8, each replaced by U+FFFD). Raises ValueError."""
    try:
        return loads(line), 0
    except ValueError:
        text, invalid = content.decode(line)
        return json.loads(text), invalid  # which accepts half a surrogate pair ("\\ud83d"); orjson does not


def parquet_values(path: str, field: str) -> Iterator[list[str]]:
    """The texts in a column of a Parquet file, a list per batch of rows."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        what = f"pyarrow is needed to read it and is not installed: {install('requirements-parquet.txt')}"
        raise DataError(path, what) from None
    row = 0
    try:
        with parquet.ParquetFile(path, buffer_size=1 << 20) as f:
            names = f.schema_arrow.names
            if field not in names:
                checked(NO_FIELD, names, field, path)
            for batch in f.iter_batches(100, columns=[field], use_threads=False):
                values = batch.column(0).to_pylist()
                texts = [checked(v, names, field, f"{path}: row {i:,}") for i, v in enumerate(values, row + 1)]
                row += len(values)
                yield [text for found in texts for text in found]
    except (pa.ArrowException, OSError) as e:
        raise DataError(path, f"damaged, or not a Parquet file ({str(e).splitlines()[0]}); fetch it again") from None
