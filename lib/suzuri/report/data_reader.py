"""What lies under DATA, read for the report: a little of each file, however large it is.

The text files and shards are shuffled, so the beginning of one is a random sample of all.
"""

import json
import os
from collections import Counter

import numpy as np

from suzuri.errors import DataError
from suzuri.manifest import MANIFEST, folders_with_manifest, read_counts, read_manifest
from suzuri.shards.shard_file import Shard
from suzuri.tokenizer.wordpiece_training import CONTINUES
from suzuri.training import metrics

TEXT_BYTES = 1 << 23  # of a text file: some 60,000 sentences
TOKENS = 1 << 22  # of a shard


def names(folder):
    """What is in a folder, sorted; nothing for a folder that is not there. Unfinished and hidden things aside."""
    try:
        found = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(n for n in found if not n.startswith(".") and not n.endswith(".part"))


def datasets(data):
    """Names of the datasets that have counts, text or shards."""
    found = {name for room in (".stats", "text", "shards") for name in names(os.path.join(data, room))}
    return sorted(
        n for n in found if any(os.path.isdir(os.path.join(data, r, n)) for r in (".stats", "text", "shards"))
    )


def manifest(folder):
    """A folder's manifest; None where there is none yet."""
    return read_manifest(folder) if os.path.exists(os.path.join(folder, MANIFEST)) else None


def counts(data, name):
    """{tool: {what: number}} of a dataset, in the order of the flow; without a manifest yet, what the filters left."""
    made = manifest(os.path.join(data, "text", name))
    if made:
        return made["counts"]
    stats = os.path.join(data, ".stats", name)
    found = read_counts(os.path.join(stats, file) for file in names(stats) if file.endswith(".json"))
    return {tool: found[tool] for tool in ("extract-wiki", "split-sentences", "filter-sentences") if tool in found}


def sentences(data, name, file="train-000.txt"):
    """The sentences at the beginning of a text file of a dataset: TEXT_BYTES of it, whole lines, no empty ones."""
    try:
        with open(os.path.join(data, "text", name, file), "rb") as f:
            block = f.read(TEXT_BYTES)
            if f.read(1):
                block = block[: block.rfind(b"\n") + 1]
    except FileNotFoundError:
        return []
    return [line for line in block.decode("utf-8", "replace").split("\n") if line]


def dropped(data, name):
    """{reason: [sentence, …]}, the first of each kind that filter-sentences met."""
    found = {}
    try:
        with open(
            os.path.join(data, ".stats", name, "dropped.tsv"), encoding="utf-8", errors="replace", newline="\n"
        ) as f:
            for line in f:
                reason, _, sentence = line.rstrip("\n").partition("\t")
                found.setdefault(reason, []).append(sentence)
    except FileNotFoundError:
        pass
    return found


class Beginning:
    """The first whole sequences of a shard, TOKENS at most: what show's tables ask of a Shard."""

    def __init__(self, shard):
        n = max(min(1, len(shard)), int(np.searchsorted(shard.offsets, TOKENS, "right")) - 1)
        self.offsets = shard.offsets[: n + 1]
        self.tokens = shard.tokens[: self.offsets[n]]

    def __len__(self):
        return len(self.offsets) - 1


def shards(data, name):
    """{file: Shard} of a dataset, its train shards first."""
    folder = os.path.join(data, "shards", name)
    return {n: Shard(os.path.join(folder, n)) for n in names(folder) if n.endswith(".safetensors")}


def piece_counts(parts, size):
    """How often each of `size` pieces occurs in the tokens of `parts`: int64 [size]. Ids beyond are left out."""
    seen = np.zeros(size, np.int64)
    for part in parts:
        seen += np.bincount(part.tokens, minlength=size)[:size]
    return seen


def characters(pieces):
    """The characters that a vocabulary can spell, as a set."""
    return {c for piece in pieces for c in (piece.removeprefix(CONTINUES) or piece)}


def coverage(lines, alphabet):
    """(characters in lines, those of them in the alphabet, Counter of the others); white space is not counted."""
    seen = Counter()
    for line in lines:
        seen.update(line)
    seen = Counter({c: n for c, n in seen.items() if not c.isspace()})
    missing = Counter({c: n for c, n in seen.items() if c not in alphabet})
    return seen.total(), seen.total() - missing.total(), missing


def models(data):
    """[{name, folder, manifest (None: still at work), config, lines of metrics.jsonl, init}], each after its init."""
    room = os.path.join(data, "models")
    found = {}
    for name in sorted(os.listdir(room)) if os.path.isdir(room) else ():
        folder, stem = os.path.join(room, name), name.removesuffix(".part")
        # A run at work is NAME.part; what is named so twice is the copy of a moment.
        if not os.path.isdir(folder) or stem.endswith((".part", ".old")) or (stem in found and name != stem):
            continue
        made = manifest(folder) if name == stem else None
        if made or os.path.exists(os.path.join(folder, metrics.FILE)):
            init = [os.path.basename(i) for i in (made or {}).get("inputs", ()) if os.path.dirname(i) == ".."]
            found[stem] = {
                "name": stem,
                "folder": folder,
                "manifest": made,
                "config": read_object(os.path.join(folder, "config.json")),
                "lines": metrics.read(os.path.join(folder, metrics.FILE)),
                "init": init[0] if init else None,
            }
    ordered = []

    def place(name):
        if name in found:
            model = found.pop(name)
            place(model["init"])
            ordered.append(model)

    while found:
        place(next(iter(found)))
    return ordered


def curve(lines, key):
    """([step, …], [value, …]) of the lines of a metrics.jsonl that have a number for `key`."""
    points = [(line["step"], line[key]) for line in lines if isinstance(line.get(key), int | float)]
    points = [(x, y) for x, y in points if np.isfinite(y)]
    return [x for x, _ in points], [y for _, y in points]


def read_object(path):
    """A JSON object; {} where there is none."""
    try:
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
    except FileNotFoundError:
        return {}
    except ValueError as e:
        raise DataError(path, f"not JSON ({e})") from None
    return found if isinstance(found, dict) else {}


def evaluations(data):
    """[(file without its .json, object), …] of DATA/eval: a file holds an object, a list of them, or one a line."""
    room, found = os.path.join(data, "eval"), []
    for folder, subfolders, files in os.walk(room):
        subfolders.sort()
        for name in sorted(files):
            stem, extension = os.path.splitext(os.path.relpath(os.path.join(folder, name), room))
            if extension in (".json", ".jsonl"):
                found += [(stem, thing) for thing in _objects(os.path.join(folder, name))]
    return found


def _objects(path):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    try:
        things = json.loads(text)
    except ValueError:
        try:
            things = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as e:
            raise DataError(path, f"not JSON ({e})") from None
    things = things if isinstance(things, list) else [things]
    return [thing for thing in things if isinstance(thing, dict)]


def sources(data):
    """[(file, url, bytes, sha256), …] of what was fetched: fetch-url's records and fetch-jawiki's manifest."""
    room, found = os.path.join(data, "raw"), []
    for folder, subfolders, _ in os.walk(room):
        subfolders.sort()
        made, here = manifest(folder), names(folder)
        if made:
            subfolders.clear()
            facts = {n: {"url": made["settings"].get("source"), **o} for n, o in made["outputs"].items()}
        else:
            files = [n for n in here if os.path.isfile(os.path.join(folder, n))]
            files = [n for n in files if not (n.endswith(".json") and n.removesuffix(".json") in here)]  # no records
            facts = {
                n: {"bytes": os.path.getsize(os.path.join(folder, n)), **read_object(os.path.join(folder, f"{n}.json"))}
                for n in files
            }
        where = os.path.relpath(folder, room)
        found += [
            (os.path.normpath(f"{where}/{n}"), f.get("url"), f["bytes"], f.get("sha256")) for n, f in facts.items()
        ]
    return found


def manifests(data):
    """[(folder relative to DATA, manifest), …] of every finished folder."""
    return [(os.path.relpath(folder, data), read_manifest(folder)) for folder in folders_with_manifest(data)]
