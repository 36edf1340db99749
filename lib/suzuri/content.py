"""Kinds of content: UTF-8 text, text in another encoding, packed data, documents of other formats."""

import re

from suzuri.errors import DataError

PACKED = {  # what unpacks to something else, by its first bytes; cat-text unpacks these
    "xz": rb"\xfd7zXZ\x00",
    "bzip2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
    "gzip": rb"\x1f\x8b",
    "zstd": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
}
HTML = "an HTML page"
EXTRACT = "unpack it and give the text files in it"
EXPORT = "export its text as UTF-8"
# What else people have given to tools for text: (first bytes, its name, what to do).
OTHERS = (
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", "a zip archive (or .docx, .xlsx, .epub)", EXTRACT),
    (rb".{257}ustar", "a tar archive", EXTRACT),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", EXTRACT),
    (rb"Rar!\x1a\x07", "a rar archive", EXTRACT),
    (rb"\x04\x22\x4d\x18", "lz4 data", "unpack it: lz4 -dc"),
    (rb"LZIP\x01", "lzip data", "unpack it: lzip -dc"),
    (rb"\x5d\x00\x00.{2}", "lzma data", "unpack it: xz -dc --format=lzma"),
    (rb"\x1f\x9d", "data of compress (.Z)", "unpack it: gzip -dc"),
    (rb"PAR1", "a Parquet file", EXPORT),
    (rb"ARROW1\x00\x00|\xff\xff\xff\xff.{3}\x00\x10\x00\x00\x00", "an Arrow file", EXPORT),
    (rb"Obj\x01", "an Avro file", EXPORT),
    (rb"SQLite format 3\x00", "an SQLite database", EXPORT),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", EXPORT),
    (rb"%PDF-", "a PDF document", "extract its text: pdftotext"),
    (rb"\{\\rtf", "an RTF document", EXPORT),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (.doc, .xls)", EXPORT),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP", "a picture", "give text"),
    (rb"\x7fELF", "a program", "give text"),
    (rb"\x80[\x02-\x05](?:\x95|[\]}(c])", "a Python pickle", EXPORT),
    (rb"version https://git-lfs\.github\.com/spec/", "a Git LFS pointer, not the file itself", "git lfs pull"),
)
HTML_START = rb"(?:\xef\xbb\xbf)?(?:\s|<!--.{0,300}?-->|<\?xml[^>]{0,100}\?>)*<(?:!doctype\s+html|html|head|body)\b"
SUFFIXES = {"xz": "xz", "bz2": "bzip2", "gz": "gzip", "tgz": "gzip", "zst": "zstd", "zstd": "zstd"}
PLAIN_SUFFIXES = ("txt", "json", "jsonl", "ndjson", "tsv", "csv")
HEAD = 512  # bytes that are enough to recognize all of these

# Encodings of Japanese text: Python's name, iconv's name.
ENCODINGS = {
    "cp932": "CP932",  # Shift_JIS as it is found
    "euc_jp": "EUC-JP",
    "iso2022_jp": "ISO-2022-JP",
    "utf_16_le": "UTF-16LE",
    "utf_16_be": "UTF-16BE",
}
RARE_ENCODINGS = {"shift_jis_2004": "SHIFT_JISX0213", "euc_jis_2004": "EUC-JISX0213"}
BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r")) + b"\x7f"
JIS = re.compile(rb"\x1b\$[@B][^\x1b\n]*")  # kanji in ISO-2022-JP
# CC-100 and Wikipedia hold next to no such bytes; of Japanese text in another encoding 10 % (UTF-16) to 90 % are.
FOREIGN_SHARE = 0.05
FEW = 4  # a character cut in two at the end, and a little more
STRETCH = 1 << 15  # such bytes: a book in another encoding, which is no accident; a page of a web crawl may be one


def packed_kind(head: bytes) -> str | None:
    """Which of PACKED begins with these bytes."""
    return next((kind for kind, start in PACKED.items() if re.match(start, head, re.DOTALL)), None)


def describe(head: bytes) -> tuple[str, str] | None:
    """(what it is, what to do) of data that are not text and begin with `head`, of HEAD bytes; None for others."""
    if kind := packed_kind(head):
        return f"{kind} data", "unpack it with cat-text"
    return next((other[1:] for other in OTHERS if re.match(other[0], head, re.DOTALL)), None)


def is_html(head: bytes) -> bool:
    return bool(re.match(HTML_START, head, re.DOTALL | re.IGNORECASE))


def suffix(name: str) -> str:
    """What a file's name, or the path of an address, ends with: "ja.txt.XZ" -> "xz"."""
    return name.lower().rpartition(".")[2]


def check_packed(name: str, head: bytes, where: str, remedy: str) -> None:
    """Raise DataError if a file's name ends with .xz, .gz, .bz2 or .zst, but its beginning is not that."""
    promised = SUFFIXES.get(suffix(name))
    if promised and packed_kind(head) != promised:
        found = describe(head) or ((HTML, "") if is_html(head) else None)
        what = found[0] if found else f"something else: {head[:24]!r}" if head else "empty"
        raise DataError(where, f"its name says {promised}, but it is {what}; {remedy}")


def check_fetched(name: str, head: bytes, where: str) -> None:
    """Raise DataError if a fetched file is empty, or not what its name says; .txt, .json, … say: text, not HTML."""
    if not head:
        raise DataError(where, "is empty (0 bytes); is this the right address?")
    check_packed(name, head, where, "is this the right address?")
    found = describe(head) or ((HTML, "") if is_html(head) else None)
    if found and suffix(name) in PLAIN_SUFFIXES:
        raise DataError(where, f"its name says text, but it is {found[0]}; is this the right address?")


def decode(data: bytes) -> tuple[str, int]:
    """UTF-8 -> (text, number of invalid bytes); each invalid sequence becomes one U+FFFD."""
    try:
        return data.decode(), 0
    except UnicodeDecodeError:
        # each invalid byte as one of U+DC80 to U+DCFF, which valid UTF-8 cannot hold
        by_byte = data.decode(errors="surrogateescape")
        return data.decode(errors="replace"), len(re.findall("[\udc80-\udcff]", by_byte))


class EncodingCheck:
    """Stops a tool whose input is not UTF-8, as soon as that is certain, wherever it begins.

    Foreign bytes are counted: invalid ones and, in blocks that hold what only other encodings do (NUL, ESC $), control
    characters and what is between the escapes. FOREIGN_SHARE of all bytes are forgiven, and beyond that a few in a
    small input, FOREIGN_SHARE of a larger one, and STRETCH in the largest. So a damaged line is reported by the tool's
    own count, and a file in Shift_JIS among others is an error.
    """

    def __init__(self, where: str = "standard input", mend: str = "iconv -f {} -t UTF-8 <FILE >NEW"):
        self.where, self.mend = where, mend
        self.excess = 0.0

    def add(self, data: bytes, invalid: int, before: int) -> None:
        """Take a block, after `before` bytes of input, of which `invalid` bytes are not UTF-8. Raises DataError."""
        foreign = invalid
        if invalid or b"\0" in data:
            foreign += len(data) - len(data.translate(None, CONTROLS))
        if b"\x1b" in data:
            foreign += sum(map(len, JIS.findall(data)))
        self.excess = max(0.0, self.excess + foreign - FOREIGN_SHARE * len(data))
        marked = not before and data.startswith((b"\xff\xfe", b"\xfe\xff"))
        if marked or self.excess > min(max(FEW, FOREIGN_SHARE * (before + len(data))), STRETCH):
            raise DataError(self.where, refuse_encoding(data, before, self.mend))


def refuse_encoding(data: bytes, before: int, mend: str) -> str:
    """What to say of a block that is not UTF-8: where that begins, its encoding, as it looks, and how to mend it.

    before: bytes of input before the block; mend: a command with {} for the encoding.
    """
    wrong = re.search("[\udc80-\udcff]|\0|\x1b\\$", data.decode(errors="surrogateescape"))
    first = len(wrong.string[: wrong.start()].encode(errors="surrogateescape")) if wrong else 0
    line = data.rfind(b"\n", 0, max(first - 1, 0)) + 1  # in UTF-16, the first such byte may be half of a line feed
    if data.startswith(tuple(BYTE_ORDER_MARKS), first):
        line = first
    # The line in which it begins may hold the end of a text in UTF-8, too.
    encoding = guess_encoding(data[line:]) or guess_encoding(data[data.find(b"\n", line) + 1 :])
    where = f"at byte {before + line:,} it is" if before else "is"
    if encoding:
        return f"{where} not UTF-8; it looks like {encoding}: convert it with {mend.format(encoding)}"
    return f"{where} not UTF-8 text, nor text in another encoding of Japanese; is it the right file, and whole?"


def guess_encoding(data: bytes) -> str | None:
    """iconv's name of the encoding that these bytes, the beginning of a text, are likely to be in."""
    for mark, name in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return name
    from charset_normalizer import from_bytes

    little = data.count(b"\n\0") > data.count(b"\0\n")
    if little:
        data = data.lstrip(b"\0")  # the rest of a line feed
    for names in ENCODINGS, RARE_ENCODINGS:
        for size in (1 << 14, 1 << 12, 1 << 10, 1 << 8):  # one character that is damaged must not decide
            part = data[:size]
            for end in (len(part), len(part) - 1):  # nor one that is cut in two
                found = from_bytes(part[:end], cp_isolation=list(names)).best()
                if found and found.encoding in (
                    "utf_16_le",
                    "utf_16_be",
                ):
                    return "UTF-16LE" if little else names[found.encoding]
                if found and found.encoding in names:
                    return names[found.encoding]
    return None
