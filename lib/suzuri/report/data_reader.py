"""Readers of the files under DATA for the report; of a large file they read only the beginning.

Text files and shards are shuffled, so the beginning of one is a random sample of all.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from suzuri.errors import DataError
from suzuri.manifest import MANIFEST, folders_with_manifest, read_counts, read_manifest
from suzuri.shards.shard_file import Shard
from suzuri.tokenizer.wordpiece import letters
from suzuri.training import metrics

TEXT_BYTES = 1 << 23  # read from a text file: some 60,000 sentences
TOKENS = 1 << 22  # read from a shard
FLOW = ("extract-wiki", "split-sentences", "filter-sentences", "shuffle-split")


def datasets(data: str) -> list[str]:
    """Names of the datasets that have counts, text or shards."""
    folders = [path for room in (".stats", "text", "shards") for path in Path(data, room).glob("[!.]*/")]
    return sorted({path.name for path in folders if path.suffix != ".part"})


def manifest(folder: str) -> dict | None:
    """A folder's manifest; None if there is none yet."""
    return read_manifest(folder) if os.path.exists(os.path.join(folder, MANIFEST)) else None


def counts(data: str, name: str) -> dict[str, dict]:
    """{tool: {what: number}} of a dataset, in the order of the flow; without a manifest, those written so far."""
    made = manifest(os.path.join(data, "text", name))
    found = made["counts"] if made else read_counts(sorted(Path(data, ".stats", name).glob("*.json")))
    return {tool: found[tool] for tool in (*FLOW, *sorted({*found} - {*FLOW})) if tool in found}


def sentences(data: str, name: str, file: str = "train-000.txt") -> list[str]:
    """The complete lines in the first TEXT_BYTES of a dataset's text file, without empty ones."""
    path = os.path.join(data, "text", name, file)
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        *lines, _ = f.read(TEXT_BYTES).decode("utf-8", "replace").split("\n")
    return [line for line in lines if line]


def dropped(data: str, name: str) -> dict[str, list[str]]:
    """{reason: [sentence, …]}: the first sentences that filter-sentences dropped for each reason."""
    path, found = os.path.join(data, ".stats", name, "dropped.tsv"), {}
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8", errors="replace", newline="\n") as f:
        for line in f:
            reason, _, sentence = line.rstrip("\n").partition("\t")
            found.setdefault(reason, []).append(sentence)
    return found


def shards(data: str, name: str) -> dict[str, Shard]:
    """{file: Shard} of a dataset, its train shards first."""
    return {path.name: Shard(str(path)) for path in sorted(Path(data, "shards", name).glob("[!.]*.safetensors"))}


def beginning(shard: Shard) -> SimpleNamespace:
    """`tokens` and `offsets` of a shard's first whole sequences, at most TOKENS tokens."""
    n = max(min(1, len(shard)), int(np.searchsorted(shard.offsets, TOKENS, "right")) - 1)
    shard.check_body(0, n)
    return SimpleNamespace(offsets=shard.offsets[: n + 1], tokens=shard.tokens[: shard.offsets[n]])


def unknown_characters(lines: list[str], pieces: list[str]) -> tuple[int, Counter]:
    """(number of characters in lines, Counter of those that are in no piece); white space does not count."""
    alphabet = {c for piece in pieces for c in letters(piece)}
    seen = Counter("".join("".join(lines).split()))
    return seen.total(), Counter({c: n for c, n in seen.items() if c not in alphabet})


@dataclass
class Model:
    """A model's folder in models/; `manifest` is None until its training is finished."""

    name: str
    folder: str
    manifest: dict | None
    config: dict
    lines: list[dict]  # of metrics.jsonl
    init: str | None  # the model that it continues
    counts: dict
    chain: list["Model"] = field(default_factory=list, repr=False, compare=False)  # from scratch to this one

    @property
    def tokens(self) -> int:
        """Tokens seen in its own training."""
        return self.counts.get("tokens seen", 0)

    def curve(self, key: str) -> tuple[list, list]:
        """([step, …], [value, …]) of the lines that have a finite number for `key`."""
        points = [(line["step"], line[key]) for line in self.lines if isinstance(line.get(key), int | float)]
        points = [(x, y) for x, y in points if np.isfinite(y)]
        return [x for x, _ in points], [y for _, y in points]


def models(data: str) -> list[Model]:
    """The models, each after the one that it continues."""
    found = {}
    for folder in sorted(map(str, Path(data, "models").glob("[!.]*/"))):
        name = os.path.basename(folder).removesuffix(".part")  # that of a run in progress
        if name.endswith(".part") or name in found:
            continue
        made = None if folder.endswith(".part") else manifest(folder)
        log, inputs = os.path.join(folder, metrics.FILE), made["inputs"] if made else ()
        if made or os.path.exists(log):
            init = next((os.path.basename(i) for i in inputs if os.path.dirname(i) == ".."), None)
            config = read_object(os.path.join(folder, "config.json"))
            found[name] = Model(name, folder, made, config, metrics.read(log), init, made["counts"] if made else {})

    for model in found.values():
        earlier = model
        while earlier and earlier not in model.chain:
            model.chain.insert(0, earlier)
            earlier = found.get(earlier.init)
    return sorted(found.values(), key=lambda model: len(model.chain))


def read_object(path: str) -> dict:
    """The JSON object in a file; {} if there is none."""
    try:
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
    except FileNotFoundError:
        return {}
    except ValueError as e:
        raise DataError(path, f"not JSON ({e})") from None
    return found if isinstance(found, dict) else {}


def evaluations(data: str) -> tuple[dict[str, dict], list[str]]:
    """({path without .json: object} of the JSON files in DATA/eval and its folders, the paths of those that are older
    than their model).
    """
    room, found, old = Path(data, "eval"), {}, []
    for path in sorted(room.rglob("*.json")):
        name, result = str(path.relative_to(room).with_suffix("")), read_object(path)
        folder = Path(str(result.get("model") or Path(data, "models", name)))
        made = next((folder / file for file in (MANIFEST, "config.json") if (folder / file).is_file()), folder)
        if made.is_file() and made.stat().st_mtime > path.stat().st_mtime:
            old.append(name)
        else:
            found[name] = result
    return found, old


def sources(data: str) -> list[tuple]:
    """[(file or folder, url, bytes, sha256), …] of raw/, from fetch-url's records and fetch-jawiki's manifest.

    Of a folder with a manifest, or of files without records, there is one row.
    """
    found = []
    for folder, subfolders, files in os.walk(os.path.join(data, "raw")):
        subfolders.sort()
        where = os.path.relpath(folder, os.path.join(data, "raw"))
        if made := manifest(folder):
            subfolders.clear()
            size = sum(output["bytes"] for output in made["outputs"].values())
            found.append((where, made["settings"].get("source"), size, None))
            continue
        here = {name for name in files if not name.startswith(".") and not name.endswith(".part")}
        names = sorted(here - {f"{n}.json" for n in here})  # without the records
        if where != "." and len(names) > 1 and len(names) == len(here):
            size = sum(os.path.getsize(os.path.join(folder, name)) for name in names)
            found.append((f"{where} ({len(names):,} files)", None, size, None))
            continue
        for name in names:
            path = os.path.join(folder, name)
            record = read_object(f"{os.path.realpath(path)}.json")
            size = os.path.getsize(path)
            found.append((os.path.normpath(f"{where}/{name}"), record.get("url"), size, record.get("sha256")))
    return found


def manifests(data: str) -> list[tuple[str, dict]]:
    """[(folder relative to DATA, manifest), …] of every finished folder but reports."""
    found = [(os.path.relpath(folder, data), read_manifest(folder)) for folder in folders_with_manifest(data)]
    return [(folder, made) for folder, made in found if made["tool"] != "write-report"]
