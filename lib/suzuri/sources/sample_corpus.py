"""The embedded sample corpus, packed in the layouts of CC-100 and of Wikimedia's search-index dumps."""

import bz2
import json
import lzma
import os

from suzuri.errors import DataError


def read_documents(folder: str) -> list[list[str]]:
    """The documents of FOLDER/*.txt in the order of the file names, each a list of lines."""
    found = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".txt"):
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                found += [document.split("\n") for document in f.read().strip("\n").split("\n\n")]
    if not found:
        raise DataError(folder, "no .txt files with documents in it")
    return found


def write_cc100(documents: list[list[str]], path: str) -> None:
    """FILE.txt.xz: a paragraph per line, a blank line between documents."""
    with lzma.open(path, "wt", encoding="utf-8", newline="\n") as f:
        f.write("\n\n".join("\n".join(lines) for lines in documents) + "\n")


def write_cirrus(documents: list[list[str]], folder: str, date: str) -> None:
    """A finished dump of one shard. A document is [`# title`, paragraph, …]; page ids count from 1."""
    folder = os.path.join(folder, date, "index_name=jawiki_content")
    os.makedirs(folder)
    with bz2.open(os.path.join(folder, f"jawiki_content-{date}-00000.json.bz2"), "wt", encoding="utf-8") as f:
        for page_id, (title, *paragraphs) in enumerate(documents, 1):
            if not title.startswith("# "):
                raise DataError("sample", f"a document without a `# title` line: {title[:40]!r}")
            text = " ".join(paragraphs)
            page = {
                "page_id": page_id,
                "namespace": 0,
                "title": title[2:],
                "redirect": [],
                "opening_text": paragraphs[0],
                "text_bytes": len(text.encode()),
                "text": text,
            }
            for record in ({"index": {"_id": str(page_id)}}, page):
                f.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
    open(os.path.join(folder, "_SUCCESS"), "w").close()
