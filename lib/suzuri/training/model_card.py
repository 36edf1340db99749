"""The card of a finished model, README.md in its folder: what the model is, how it was made, what was measured."""

import json
import os
from collections.abc import Iterator
from typing import Any

from huggingface_hub import ModelCardData

from suzuri import __version__
from suzuri.errors import DataError
from suzuri.files import read_json
from suzuri.manifest import MANIFEST, read_manifest
from suzuri.training.inputs import TrainingInputs
from suzuri.training.model import max_length

DICTIONARIES = {"unidic_lite": "unidic-lite", "unidic": "unidic", "ipadic": "ipadic"}  # mecab_dic: its package


def model_card(
    name: str,
    inputs: TrainingInputs,
    counts: dict[str, Any],
    before: dict[str, Any],
    after: dict[str, Any],
    changes: list[dict],
    license: str | None,
) -> str:
    """Markdown without times in it. `counts` are the manifest's; `before`, `after` are lines of metrics.jsonl;
    `changes` are OutputFolder's; `license` is an identifier of the Hub's.
    """
    recipe, tokenizer, config = inputs.recipe, inputs.tokenizer, inputs.model.config
    sentence = f"日本の首都は{tokenizer.pieces[tokenizer.special_ids['mask_token']]}です。"
    local = inputs.origin and os.path.isdir(inputs.origin)
    front = ModelCardData(
        language="ja",
        license=license,
        library_name="transformers",
        pipeline_tag="fill-mask",
        base_model=None if local else inputs.origin,
        mask_token=tokenizer.pieces[tokenizer.special_ids["mask_token"]],
        widget=[{"text": sentence}],
    ).to_yaml()
    how = f"from scratch with suzuri {__version__}"
    if inputs.origin:
        how = f"with suzuri {__version__}, starting from the weights of `{name_of(inputs.origin)}`"
    sizes = {
        "parameters": f"{counts['parameters']:,} ({4 * counts['parameters'] / 1e6:,.1f} MB in fp32)",
        "layers": getattr(config, "num_hidden_layers", None),
        "width": getattr(config, "hidden_size", None),
        "attention heads": getattr(config, "num_attention_heads", None),
        "vocabulary": f"{len(tokenizer.pieces):,}",
        "longest input, in tokens": max_length(inputs.model),
    }
    folders = dict.fromkeys(os.path.dirname(os.path.realpath(shard.path)) for shard in inputs.train_shards)
    shards = [
        (
            os.path.basename(shard.path),
            f"{len(shard):,}",
            f"{shard.metadata['num_tokens']:,}",
            f"`{shard.metadata['source_sha256'][:16]}…`",
        )
        for shard in inputs.train_shards
    ]
    sources = list(dict.fromkeys(row for folder in folders for row in sources_of(folder)))
    measured = [
        ("validation loss", f"{before['eval_loss']:.4f}", f"{after['eval_loss']:.4f}"),
        ("validation accuracy of masked tokens", f"{before['eval_accuracy']:.4f}", f"{after['eval_accuracy']:.4f}"),
    ]
    first = "before" if before["step"] == 0 else f"after {before['step']:,} steps"
    shown = {k: v for k, v in recipe.items() if v is not None and not k.startswith("model_")}
    parts = [
        f"---\n{front}\n---",
        f"# {name}",
        f"A Japanese masked language model of the architecture {config.model_type}, pre-trained {how}."
        + (f" Licence: {license}." if license else ""),
        table(("size", ""), [(what, str(n)) for what, n in sizes.items() if n is not None]),
        "## Use",
        f"```sh\npip install {' '.join(packages(tokenizer.config))}\n```",
        f"```python\n{example(name, tokenizer.config, config.model_type, sentence)}\n```",
        "## Measured",
        table(("", first, "at the end"), measured),
        f"On the first {after['eval_tokens']:,} tokens of `{os.path.basename(inputs.valid_shard.path)}`, 15 % of them "
        "masked.",
        "## Training text",
        f"{counts['steps']:,} steps, {counts['tokens seen']:,} tokens: {counts['epochs']} epochs of the "
        f"{inputs.axis.num_tokens:,} tokens in {inputs.axis.num_sequences:,} sequences (unit: "
        f"{unit(inputs.train_shards[0].metadata)}) of these shards.",
        table(("source", "from", "sha256"), sources) if sources else "",
        table(("shard", "sequences", "tokens", "sha256 of its text"), shards),
        "## Recipe",
        f"```json\n{json.dumps(shown, indent=2)}\n```",
        "\n".join(
            f"- Until step {change['after step']:,} {key} was {json.dumps(old)}, then {json.dumps(now)}."
            for change in changes
            for key, (old, now) in change["changed"].items()
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def unit(shard: dict[str, Any]) -> str:
    """What a sequence is, by the metadata of a shard."""
    pairs = shard.get("crop_pairs")
    return shard["unit"] + (f"; of the lines {pairs} are pairs of their parts" if pairs else "")


def name_of(origin: str) -> str:
    """The name of a model's folder, or the model's name on the Hub."""
    return os.path.basename(os.path.normpath(origin)) if os.path.isdir(origin) else origin


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ("---",) * len(header), *rows])


def packages(tokenizer: dict[str, Any]) -> list[str]:
    """What to install for a model, by its tokenizer_config.json."""
    found = ["transformers", "torch"]
    if tokenizer.get("tokenizer_class") == "BertJapaneseTokenizer":
        dictionary = (tokenizer.get("mecab_kwargs") or {}).get("mecab_dic", "unidic_lite")
        found += ["fugashi", *([DICTIONARIES[dictionary]] if dictionary in DICTIONARIES else [])]
    return found


def example(name: str, tokenizer: dict[str, Any], model_type: str, sentence: str) -> str:
    """Python that fills a mask, for the folder of the model."""
    kind = tokenizer.get("tokenizer_class") or "AutoTokenizer"
    # Without this, a pipeline takes the tokenizer of the model's architecture, not the one of this folder.
    named = kind != "PreTrainedTokenizerFast" and model_type not in ("bert", "nomic_bert")
    return "\n".join(
        [
            f"from transformers import {f'{kind}, ' if named else ''}pipeline",
            "",
            f'folder = "."  # {name}, or its name on the Hub',
            f'fill = pipeline("fill-mask", folder{f", tokenizer={kind}.from_pretrained(folder)" if named else ""})',
            f"print(fill({json.dumps(sentence, ensure_ascii=False)}))",
        ]
    )


def sources_of(folder: str) -> Iterator[tuple[str, str, str]]:
    """(name, where it is from, sha256) of the raw files behind a folder, as far as manifests lead to them."""
    if not os.path.exists(os.path.join(folder, MANIFEST)):
        return
    try:
        made = read_manifest(folder)
    except DataError:  # the training does not need it
        return
    if source := made["settings"].get("source"):
        yield f"`{os.path.basename(folder)}`", public(source), ""
        return
    for name, digest in made["inputs"].items() if made["tool"] != "train-tokenizer" else ():
        path = os.path.normpath(os.path.join(folder, name))
        if os.path.isdir(path):
            yield from sources_of(path)
        else:
            yield f"`{os.path.basename(path)}`", public(recorded_url(path)), f"`{digest[:16]}…`"


def recorded_url(path: str) -> str:
    """The URL in fetch-url's record beside a file; empty if there is none, or another file of that name."""
    try:
        return str(read_json(f"{os.path.realpath(path)}.json")["url"])
    except (DataError, OSError, KeyError, TypeError):
        return ""


def public(url: str) -> str:
    """A URL; nothing for a path, which means nothing elsewhere."""
    return url if "://" in url and not url.startswith("file:") else ""
