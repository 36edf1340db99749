"""The report on where everything is from: addresses, sums, versions, settings."""

from suzuri.report import data_reader as facts
from suzuri.report.blocks import Details, Heading, Missing, Right, Table, Text, nbytes, setting


def provenance_blocks(data):
    """Sources, versions, and every manifest, folded."""
    found, sources = facts.manifests(data), facts.sources(data)
    if not found and not sources:
        return [Missing("Nothing is finished yet.")]
    blocks = []
    if sources:
        rows = [[name, url, Right(nbytes(size)), sha] for name, url, size, sha in sources]
        blocks += [Heading("Sources"), Table(["file", "from", "size", "sha256"], rows)]
    versions = {item for _, made in found for item in made["versions"].items()}
    loaded = {m["config"].get("transformers_version") for m in facts.models(data)} - {None}
    versions |= {("transformers", version) for version in loaded}
    blocks += [
        Heading("Versions"),
        Text(", ".join(f"{tool} {version}" for tool, version in sorted(versions)) + "."),
        Heading("Every folder's manifest"),
        Text("make verify checks the files against these sums again."),
    ]
    rooms = ("sample", "raw", "text", "tokenizer", "shards", "models")
    found.sort(key=lambda item: next((i for i, room in enumerate(rooms) if item[0].startswith(room)), len(rooms)))
    return blocks + [Details(name, folder_blocks(made)) for name, made in found]


def folder_blocks(made):
    """A manifest as tables."""
    blocks = [Text(f"Made by {made['tool']}, suzuri {made['versions'].get('suzuri')}.")]
    settings = list(flat({**made["settings"], **made["counts"]}))
    if settings:
        blocks.append(Table(["setting or count", "value"], settings))
    if made["inputs"]:
        blocks.append(Table(["made from", "sha256"], [list(item) for item in made["inputs"].items()]))
    if made["outputs"]:
        rows = [[name, Right(nbytes(o["bytes"])), o["sha256"]] for name, o in made["outputs"].items()]
        blocks.append(Table(["file", "size", "sha256"], rows))
    return blocks


def flat(tree, above=""):
    """Yield [name, value] of nested settings: {"model": {"layers": 2}} -> ["model.layers", "2"]."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{above}{name}.")
        else:
            yield [f"{above}{name}", setting(value) if not isinstance(value, float) else repr(value)]
