"""Model and tokenizer folders from anywhere: what is refused before transformers reads one, so that it runs no code."""

import os
import stat

from suzuri.errors import DataError
from suzuri.files import read_json

SAFE = {"trust_remote_code": False}  # for every from_pretrained: without it transformers asks, and takes yes from stdin
SAFE_WEIGHTS = {**SAFE, "use_safetensors": True}
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
INDEX = "model.safetensors.index.json"  # of a model in several files: {"weight_map": {tensor: file}}


def refuse_unsafe(folder: str) -> None:
    """Raise DataError if a model or tokenizer folder wants code of its own to be run, has only pickled weights (which
    are code, too), or has something in it that is not a file. The name of a model on the Hub is not a folder: SAFE and
    refuse_code() are for it.
    """
    if not os.path.isdir(folder):
        return
    names = sorted(os.listdir(folder))
    for name in names:
        path = os.path.join(folder, name)
        if os.path.exists(path) and not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode):
            raise DataError(path, "is not a file, so this is not a model's folder; remove it")
    for name in ("config.json", "tokenizer_config.json"):
        if name in names:
            refuse_code(os.path.join(folder, name), read_json(os.path.join(folder, name)))
    weights_files(folder)
    pickled = [name for name in names if name.endswith(PICKLED) and not name.startswith(("training_args", "optimizer"))]
    if pickled and not any(name.endswith(".safetensors") for name in names):
        raise DataError(
            os.path.join(folder, pickled[0]),
            "pickled weights, which can run any code when they are loaded; save the model as safetensors "
            "(save_pretrained of transformers does) on a machine where you trust it",
        )


def refuse_code(where: str, config: object) -> None:
    """Raise DataError if a configuration, a dict, names code to be run."""
    if isinstance(config, dict) and config.get("auto_map"):
        raise DataError(where, "needs code of its own (auto_map), which suzuri never runs; use another model")


def weights_files(folder: str) -> list[str]:
    """The paths of a folder's weights: [model.safetensors], or those that its index names; [] if there are none.

    Raises DataError if the index is not one, or names a file outside the folder.
    """
    whole, index = (os.path.join(folder, name) for name in ("model.safetensors", INDEX))
    if os.path.exists(whole) or not os.path.exists(index):
        return [whole] if os.path.exists(whole) else []
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (TypeError, KeyError, AttributeError):
        raise DataError(index, "not an index of weights: it has no weight_map of names") from None
    for name in names:
        inside = isinstance(name, str) and os.path.basename(name) == name
        if not inside or not os.path.isfile(os.path.join(folder, name)):
            raise DataError(index, f"names {name!r}, which is not a file in this folder")
    return [os.path.join(folder, name) for name in names]
