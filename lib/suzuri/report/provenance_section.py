"""The section on provenance: URLs, checksums, versions, settings."""

from suzuri.report import data_reader
from suzuri.report.formats import setting, table

ROOMS = ("sample", "raw", "text", "tokenizer", "shards", "models")  # in the order of the flow


def provenance_blocks(data: str) -> list:
    """Sources, versions, and every manifest."""
    found, sources = data_reader.manifests(data), data_reader.sources(data)
    if not found and not sources:
        return [("missing", "Nothing is finished yet.")]
    versions = {item for _, made in found for item in made["versions"].items()}
    loaded = {model.config.get("transformers_version") for model in data_reader.models(data)} - {None}
    versions |= {("transformers", version) for version in loaded}
    rows = [[name, url, size, sha] for name, url, size, sha in sources]
    found.sort(key=lambda item: next((i for i, room in enumerate(ROOMS) if item[0].startswith(room)), len(ROOMS)))
    return [
        *([("heading", "Sources"), table(["file", "from", "bytes", "sha256"], rows, "llrc")] if rows else []),
        ("heading", "Versions"),
        ("text", ", ".join(f"{name} {version}" for name, version in sorted(versions)) + "."),
        ("heading", "Manifests"),
        ("text", "make verify checks the files against these sums."),
        *(("details", (name, manifest_blocks(made))) for name, made in found),
    ]


def manifest_blocks(made: dict) -> list:
    """A manifest as tables."""
    settings = list(flat({**made["settings"], **made["counts"]}))
    inputs, outputs = list(made["inputs"].items()), made["outputs"].items()
    files = [[name, output["bytes"], output["sha256"]] for name, output in outputs]
    return [
        ("text", f"Made by {made['tool']}, suzuri {made['versions'].get('suzuri')}."),
        *([table(["setting or count", "value"], settings, "ll")] if settings else []),
        *([table(["made from", "sha256"], inputs, "lc")] if inputs else []),
        *([table(["file", "bytes", "sha256"], files, "lrc")] if files else []),
    ]


def flat(tree: dict, above: str = ""):
    """Yield [name, value] of nested settings: {"model": {"layers": 2}} -> ["model.layers", 2]."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{above}{name}.")
        else:
            yield [f"{above}{name}", setting(value)]
