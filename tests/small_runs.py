"""Small runs of train-mlm: random shards, tokenizers and recipes, and the process that trains on them."""

import functools
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

import conftest
import numpy as np
import pytest
import torch
import warm
from suzuri.shards.shard_file import ShardWriter
from suzuri.tokenizer.tokenizer_folder import TokenizerFolder

torch.set_num_threads(1)  # models as small as these gain nothing from more
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MODEL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 37,
}
RECIPE = {
    "model_config_file": "model.json", "batch_tokens": 512, "chunk_tokens": 128, "max_steps": 12, "learning_rate": 1e-2,
    "logging_steps": 2, "eval_steps": 5, "save_steps": 3, "eval_tokens": 1000,
}  # fmt: skip


def write_tokenizer(folder, size=99, before=()):
    """A vocab.txt of `size` pieces: `before`, the special ones, then words, every third a ## piece.

    Training needs nothing else of a tokenizer.
    """
    os.makedirs(folder, exist_ok=True)
    pieces = [*before, *SPECIAL]
    pieces += [f"##p{i}" if i % 3 == 0 else f"w{i}" for i in range(size - len(pieces))]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')


def write_shard(path, tokenizer, sequences, vocab_size=99, max_seq_length=37, seed=0, unit="line"):
    """Random sequences [CLS] … [SEP] in which some tokens are far more frequent than others, which is learned fast."""
    rng = np.random.default_rng(seed)
    with ShardWriter(
        path,
        vocab_size=vocab_size,
        unit=unit,
        max_seq_length=max_seq_length,
        tokenizer_sha256=TokenizerFolder(tokenizer).sha256,
    ) as writer:
        for _ in range(sequences):
            n = int(rng.integers(1, max_seq_length - 1))
            body = 5 + rng.geometric(0.1, n) % (vocab_size - 5)
            writer.append([2, *body, 3], [n + 2])
        writer.close(f"{seed:064}")


def make_inputs(folder, recipe=None, model=None, sequences=(150, 60), pieces_before=()):
    """A folder with tokenizer/, shards/, valid.safetensors, model.json, recipe.json; returns train-mlm's arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / "tokenizer", before=pieces_before)
    (folder / "shards").mkdir(exist_ok=True)
    for i, n in enumerate(sequences):
        write_shard(folder / f"shards/train-{i:03}.safetensors", folder / "tokenizer", n, seed=i)
    write_shard(folder / "valid.safetensors", folder / "tokenizer", 40, seed=1000)
    (folder / "model.json").write_text(json.dumps(MODEL | (model or {})))
    (folder / "recipe.json").write_text(json.dumps(RECIPE | (recipe or {})))
    return [
        folder / "recipe.json", "--train", folder / "shards", "--valid", folder / "valid.safetensors",
        "--tokenizer", folder / "tokenizer", "--output", folder / "out",
    ]  # fmt: skip


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


@functools.cache
def fork_server():
    """The context of a process that has imported `warm`.

    It finds `warm` by PYTHONPATH, as it does not get our sys.path, and says nothing if it does not find it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["warm"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.path.dirname(warm.__file__))
        forkserver.ensure_running()
    return context


def start(*args, env=None):
    """train-mlm with these arguments in its own process, forked from one that has imported torch already.

    Returns the process; its stderr goes to the file `process.stderr_path`.
    """
    context = fork_server()
    fd, path = tempfile.mkstemp(prefix="stderr-", dir=os.path.dirname(args[0]))
    os.close(fd)
    process = context.Process(target=warm.main, args=("train-mlm", [str(a) for a in args], {2: path}, None, env))
    process.stderr_path = path
    process.start()
    return process


def stderr_of(process):
    with open(process.stderr_path, encoding="utf-8") as f:
        return f.read()


def wait_for(process, text):
    """Wait until `text` is on the process's stderr; it is an error if the process ends first."""
    conftest.wait_for(lambda: text in stderr_of(process) or process.exitcode is not None)
    assert text in stderr_of(process), stderr_of(process)


def run(*args, status=0):
    """Run train-mlm to its end; returns its stderr."""
    process = start(*args)
    process.join()
    stderr = stderr_of(process)
    os.unlink(process.stderr_path)
    assert process.exitcode == status, stderr
    return stderr


def run_ranks(world, *args):
    """Run train-mlm to its end as `world` ranks, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    env = {"WORLD_SIZE": str(world), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    ranks = [start(*args, env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(world)]
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0] * world, "\n".join(map(stderr_of, ranks))


def run_warm(tool, *args, stdin=b"", status=0, cwd=None):
    """conftest's run_tool, for a tool that imports torch: forked like train-mlm above."""
    with tempfile.TemporaryDirectory() as folder:
        files = {fd: os.path.join(folder, str(fd)) for fd in range(3)}
        for fd, path in files.items():
            Path(path).write_bytes(b"" if fd else stdin.encode() if isinstance(stdin, str) else stdin)
        process = fork_server().Process(target=warm.main, args=(tool, [str(a) for a in args], files, cwd))
        process.start()
        process.join()
        out, err = (Path(files[fd]).read_bytes() for fd in (1, 2))
    assert process.exitcode == status, err.decode(errors="replace")
    return subprocess.CompletedProcess([tool, *args], status, out, err)


def in_process(args, overrides=()):
    """A StepRunner in this process for make_inputs()'s arguments, for tests that look inside."""
    sys.argv[0] = "train-mlm"
    from suzuri.training.inputs import TrainingInputs
    from suzuri.training.recipe import read_recipe
    from suzuri.training.step import StepRunner

    recipe, _, shards, _, valid, _, tokenizer, *_ = map(str, args)
    inputs = TrainingInputs(recipe, *read_recipe(recipe, overrides), train=[shards], valid=valid, tokenizer=tokenizer)
    return StepRunner(inputs)
