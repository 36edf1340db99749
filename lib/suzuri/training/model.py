"""The model: transformers' own, unmodified. It is made from a config or loaded, checked, and run on flat batches
(attention.py).
"""

import difflib
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel

from suzuri.errors import DataError
from suzuri.files import read_settings
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder
from suzuri.tokenizer.untrusted import SAFE, SAFE_WEIGHTS, refuse_code, refuse_unsafe
from suzuri.training.attention import GROUPED, VARLEN, groups_of
from suzuri.training.masking import IGNORED


def new_model(path: str, overrides: dict[str, Any], tokenizer: TokenizerFolder, seed: int) -> PreTrainedModel:
    """A model with fresh weights (a function of `seed`) from the config in the JSON file `path`."""
    given = read_settings(path) | overrides
    for key, value in tokenizer.model_config.items():
        if key == "vocab_size" and isinstance(given.get(key), int) and given[key] > value:
            continue  # unused rows do no harm
        if given.get(key, value) != value:
            raise DataError(
                path, f"{key} is {given[key]}, but {value} in {tokenizer.path}; remove {key} from this file"
            )
    kind = given.pop("model_type", "bert")
    try:
        known = AutoConfig.for_model(kind).to_dict()
        for key in unknown_keys(kind, given):
            near = difflib.get_close_matches(key, known, 1, 0.9)
            if near:
                raise DataError(path, f"unknown key {key!r} for a {kind} model; did you mean {near[0]!r}?")
        config = AutoConfig.for_model(kind, **(tokenizer.model_config | given))
    except (ValueError, TypeError):
        raise DataError(path, f"model_type {kind!r} is unknown to transformers {transformers.__version__}") from None
    except StrictDataclassError as e:
        raise unusable(path, e) from None
    torch.manual_seed(seed)
    try:
        return AutoModelForMaskedLM.from_config(config, attn_implementation=GROUPED)
    except (ValueError, TypeError, KeyError, ArithmeticError, RuntimeError) as e:
        raise unusable(path, e) from None


def unknown_keys(kind: str, given: Iterable[str]) -> list[str]:
    """Those of the keys `given` that a transformers config of a model_type does not have; one with _ is a comment."""
    default = AutoConfig.for_model(kind)
    return [key for key in given if not key.startswith("_") and not hasattr(default, key)]


def load_model(
    name: str,
    tokenizer: TokenizerFolder | None = None,
    where: str | None = None,
    remarks: list[str] | None = None,
    encoder_only: bool = False,
) -> PreTrainedModel:
    """A trained model, from a folder or the Hub, checked against a tokenizer if one is given.

    No weights are random: those that are not in the folder are a DataError. But a head, which an encoder that was saved
    by itself does not have, may be new with `encoder_only` (it is not used), or with `remarks`, which get a line then.
    """
    if os.path.isdir(name) and not os.path.exists(os.path.join(name, "config.json")):
        raise DataError(name, "is not a model folder: it has no config.json")
    refuse_unsafe(name)
    try:
        config = AutoConfig.from_pretrained(name, **SAFE)
        refuse_code(name, config.to_dict())
        model, loaded = AutoModelForMaskedLM.from_pretrained(
            name, attn_implementation=GROUPED, dtype=torch.float32, output_loading_info=True, **SAFE_WEIGHTS
        )
    except DataError:
        raise
    except Exception as e:  # of any kind: the folder may hold anything
        raise unusable(where or name, e) from None
    refuse_missing_weights(name, model, loaded["missing_keys"])
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise DataError(name, "some of its weights are not finite numbers: its training has diverged; take another")
    if loaded["missing_keys"] and not encoder_only:
        said = "has no masked-language-model head (it was saved without one)"
        if remarks is None:
            raise DataError(name, f"{said}; take the folder that train-mlm wrote, or train one: train-mlm --init")
        remarks.append(f"{name} {said}: training begins with a random one")
    if tokenizer:
        if len(tokenizer.pieces) > config.vocab_size:
            raise DataError(
                name,
                f"its vocabulary has {config.vocab_size} rows, but {tokenizer.path} has {len(tokenizer.pieces)} "
                "tokens; continue a model with its own tokenizer",
            )
        refuse_other_pieces(name, tokenizer, remarks)
        for key in ("pad_token_id", "mask_token_id", "cls_token_id", "sep_token_id"):
            have, want = getattr(config, key, None), tokenizer.model_config[key]
            if have is not None and have != want:
                raise DataError(
                    name, f"{key} is {have}, but {want} in {tokenizer.path}; continue it with its own tokenizer"
                )
    return model


def refuse_missing_weights(name: str, model: nn.Module, missing: Iterable[str]) -> None:
    """Raise DataError if there are weights of the encoder among `missing`: transformers has drawn them at random.

    The keys are those of from_pretrained's loading info. A pooler belongs to fine-tuning, and is new there.
    """
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    if lost := sorted(key for key in missing if key.startswith(prefix) and "pooler." not in key):
        raise DataError(name, f"{len(lost):,} of its model's weights are missing, such as {lost[0]}; copy it again")


def refuse_other_pieces(name: str, tokenizer: TokenizerFolder, remarks: list[str] | None) -> None:
    """Raise DataError if a model folder has a tokenizer whose pieces are not those of `tokenizer`: each row of the
    embeddings would mean another piece. Where there is nothing to compare with, `remarks` get a line.
    """
    own = TokenizerFolder(name)
    if not any(os.path.exists(os.path.join(name, file)) for file in ("vocab.txt", "tokenizer.json")):
        if remarks is not None:
            remarks.append(
                f"{name}: no tokenizer to compare {tokenizer.path} with; make sure that it is the model's own"
            )
        return
    for i, (have, want) in enumerate(zip(own.pieces, tokenizer.pieces, strict=False)):
        if have != want:
            why = (
                f"its piece {i} is {have!r}, but {want!r} in {tokenizer.path}; continue a model with its own tokenizer"
            )
            raise DataError(name, why)


def unusable(where: str, error: Exception) -> DataError:
    why = " ".join(str(error).split())
    return DataError(where, f"does not give a masked language model ({type(error).__name__}: {why[:200]})")


def refused(where: str, kind: str, why: str) -> DataError:
    return DataError(
        where, f"model_type {kind} does not work here: its attention must go through AttentionInterface ({why})"
    )


def set_dropout(model: nn.Module, rate: float) -> None:
    """Set every dropout of the model. Its config, which is saved, keeps its rates for fine-tuning."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = rate


def position_offset(model: PreTrainedModel) -> int:
    """0, or pad_token_id + 1 for RoBERTa and its relatives, whose positions start there."""
    embeddings = getattr(model.base_model, "embeddings", None)
    if hasattr(embeddings, "create_position_ids_from_input_ids"):
        return embeddings.padding_idx + 1
    return 0


def max_length(model: PreTrainedModel) -> int:
    """The longest sequence that the model takes."""
    return model.config.max_position_embeddings - position_offset(model)


def gather_rows(module, args, kwargs, output):
    """Forward hook of the base model: passes only the hidden states at `rows` to the head."""
    if kwargs.get("rows") is not None:
        output["last_hidden_state"] = output["last_hidden_state"][:, kwargs["rows"]]
    return output


class FlatModel(nn.Module):
    """A masked-LM model on assemble()'s batches: logits [p, vocabulary] at the predicted rows only.

    With `labels` [p] it gives the sum of their cross-entropy, made in here so that torch.compile need not keep the
    logits in fp32.
    """

    def __init__(self, model: PreTrainedModel, attention: str = GROUPED):
        super().__init__()
        self.model, self.attention = model, attention
        self.offset = position_offset(model)
        if gather_rows not in model.base_model._forward_hooks.values():
            model.base_model.register_forward_hook(gather_rows, with_kwargs=True)
        model.set_attn_implementation(attention)

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        rows: torch.Tensor,
        labels: torch.Tensor | None = None,
        **where,
    ) -> torch.Tensor:
        logits = self.model(
            input_ids=input_ids[None],
            position_ids=position_ids[None] + self.offset,
            rows=rows,
            use_cache=False,
            **where,
        ).logits.squeeze(0)
        if labels is None:
            return logits
        return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")


def sequence_arguments(lengths: np.ndarray, attention: str, longest: int, slots: int = 64) -> dict[str, Any]:
    """The attention's arguments for sequences of `lengths`, of at most `longest` tokens: cu_seqlens, or groups for
    grouped attention, whose lengths ascend.

    For varlen attention empty sequences are added at the end: if `slots` is large enough, the length is always the
    same, and torch.compile compiles only once.
    """
    if attention == GROUPED:
        return {"groups": groups_of(lengths)}
    slots = -(-len(lengths) // slots) * slots if attention == VARLEN else len(lengths)
    ends = np.full(slots + 1, lengths.sum(), np.int32)
    ends[0] = 0
    ends[1 : len(lengths) + 1] = np.cumsum(lengths)
    return {"cu_seqlens": torch.from_numpy(ends), "max_length": longest}


@torch.no_grad()
def check_isolation(model: PreTrainedModel, where: str) -> None:
    """Raise DataError unless each sequence of a flat batch gets the logits that transformers gives it alone."""
    training = model.training
    model.eval()
    try:
        ordinary = torch.arange(9) % (model.config.vocab_size - 5) + 5
        sequences = [ordinary[:4], ordinary.flip(0)]
        model.set_attn_implementation("sdpa")
        reference = torch.cat([model(input_ids=ids[None]).logits[0] for ids in sequences])
        model.set_attn_implementation(GROUPED)
        flat = model(
            input_ids=torch.cat(sequences)[None],
            position_ids=torch.cat([torch.arange(len(ids)) for ids in sequences])[None] + position_offset(model),
            groups=[(1, len(ids)) for ids in sequences],
        ).logits[0]
        if not torch.allclose(flat, reference, atol=1e-3, rtol=1e-3):
            raise refused(where, model.config.model_type, "sequences of one batch see each other")
    except (TypeError, ValueError, KeyError) as e:
        raise refused(where, model.config.model_type, str(e).splitlines()[0]) from None
    finally:
        model.train(training)


def parameter_counts(model: PreTrainedModel) -> tuple[int, int, int]:
    """(all parameters, those of the layers, those of the head).

    The second is the N of 6·N·T: without embeddings, and without the head, which only predicted positions go through.
    """
    total = sum(p.numel() for p in model.parameters())
    base = sum(p.numel() for p in model.base_model.parameters())
    embeddings = sum(m.weight.numel() for m in model.base_model.modules() if isinstance(m, nn.Embedding))
    body = base - embeddings
    head = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(model.base_model_prefix + "."))
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return total, body, head + (model.get_input_embeddings().weight.numel() if tied else 0)


def flops(
    model: PreTrainedModel, tokens: int, predictions: int, squares: int, counts: tuple[int, int, int] | None = None
) -> int:
    """Floating-point operations of a step's forward and backward pass; recomputation does not count:

      6 · N · tokens                     N: parameters outside the embeddings and the head
    + 12 · layers · hidden · squares     attention: squares = the sum of length² over the sequences
    + 6 · H · predictions                H: the head, vocabulary projection included, on predicted positions only

    `counts` are parameter_counts(model), if they are known.
    """
    _, body, head = counts or parameter_counts(model)
    config = model.config
    return 6 * body * tokens + 12 * config.num_hidden_layers * config.hidden_size * squares + 6 * head * predictions


def activation_bytes(model: PreTrainedModel, tokens: int, predictions: int, dtype: torch.dtype) -> int:
    """A rough estimate of the bytes a forward pass keeps for the backward pass, from the widths of a BERT layer."""
    config, size = model.config, 4 if dtype == torch.float32 else 2
    hidden, inner = config.hidden_size, getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", 0)
    layer = 10 * hidden + 2 * inner  # inputs of the projections, the normalizations and the activation function
    return tokens * config.num_hidden_layers * layer * size + predictions * config.vocab_size * (8 + size)
