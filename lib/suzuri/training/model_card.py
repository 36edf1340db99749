"""The card of a finished model, README.md in its folder: what the model is, how it was made, what was measured."""

import json
import os
from typing import Any

from suzuri import __version__
from suzuri.training.inputs import TrainingInputs


def model_card(
    name: str, inputs: TrainingInputs, counts: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> str:
    """Markdown without times in it. `counts` are the manifest's; `before`, `after` are lines of metrics.jsonl."""
    recipe, tokenizer = inputs.recipe, inputs.tokenizer
    shown = {k: v for k, v in recipe.items() if v is not None and not k.startswith("model_")}
    origin = (
        f"continued from `{os.path.basename(os.path.normpath(inputs.origin))}`" if inputs.origin else "from scratch"
    )
    sources = "\n".join(
        f"| `{os.path.basename(shard.path)}` | {len(shard):,} | {shard.metadata['num_tokens']:,} "
        f"| `{shard.metadata['source_sha256'][:16]}…` |"
        for shard in inputs.train_shards
    )
    return f"""---
language: ja
library_name: transformers
pipeline_tag: fill-mask
mask_token: "{tokenizer.pieces[tokenizer.special_ids["mask_token"]]}"
---

# {name}

A Japanese masked language model ({inputs.model.config.model_type}, {counts["parameters"]:,} parameters, vocabulary of
{len(tokenizer.pieces):,}), pre-trained {origin} with suzuri {__version__}.

```python
from transformers import pipeline

print(pipeline("fill-mask", model="PATH/TO/{name}")("日本の首都は[MASK]です。"))
```

## Measured

| | before | after |
|---|---|---|
| validation loss | {before["eval_loss"]:.4f} | {after["eval_loss"]:.4f} |
| validation accuracy of masked tokens | {before["eval_accuracy"]:.4f} | {after["eval_accuracy"]:.4f} |

On the first {after["eval_tokens"]:,} tokens of `{os.path.basename(inputs.valid_shard.path)}`, 15 % of them masked.

## Training text

{counts["steps"]:,} steps of {recipe["batch_tokens"]:,} tokens: {counts["epochs"]} epochs.

| shard | sequences | tokens | sha256 of its text |
|---|---|---|---|
{sources}

## Recipe

```json
{json.dumps(shown, indent=2)}
```
"""
