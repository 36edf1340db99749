"""eval-mlm: the same figures over a text and its shard; pseudo-perplexity beside a plain loop over transformers."""

import json
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
import transformers
from suzuri.evaluation.pseudo_perplexity import CHARACTERS, score
from suzuri.tokenizer import tokenizer_folder
from suzuri.training.model import FlatModel, load_model
from trained import KINDS, sample, trained  # noqa: F401

LINES = [
    "硯で墨をする。",
    "  ",
    "㍿の①番は、ｶﾞﾗｽの1,000枚である。",
    "𠮷野家🇯🇵では[MASK]と書いた。",  # characters that no vocabulary here has; and no mask
    "東京の" * 40,  # longer than the model: several sequences
]
ODD = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 41}


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory):  # noqa: F811
    """{tokenizer type: a folder with a model of odd size}, its weights loud enough to tell tokens apart."""
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp("models") / kind
        shutil.copytree(trained[kind], folders[kind], ignore=shutil.ignore_patterns("manifest.json"))
        size = len(tokenizer_folder.read_vocabulary(folders[kind]))
        name = {"wordpiece": "bert", "char": "roberta", "unigram": "modernbert"}[kind]
        config = transformers.AutoConfig.for_model(
            name, vocab_size=size, max_position_embeddings=49, pad_token_id=0, bos_token_id=2, eos_token_id=3,
            cls_token_id=2, sep_token_id=3, **ODD, **({"local_attention": 10} if name == "modernbert" else {}),
        )  # fmt: skip
        torch.manual_seed(3)
        model = transformers.AutoModelForMaskedLM.from_config(config)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape) * 0.2)
        model.save_pretrained(folders[kind])
    return folders


def naive(folder, lines, longest):
    """(nats, characters, unknown characters): one masked sentence at a time through transformers' own classes."""
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    words = tokenizer_folder.load(str(folder))
    nats = characters = 0
    for line in lines:
        ids = words(line, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        characters += len(line)
        for start in range(0, len(ids), longest - 2):
            whole = torch.tensor([[2, *ids[start : start + longest - 2], 3]])
            for i in range(1, whole.shape[1] - 1):
                masked = whole.clone()
                masked[0, i] = words.mask_token_id
                with torch.no_grad():
                    logits = model(input_ids=masked).logits
                nats -= F.log_softmax(logits[0, i], -1)[whole[0, i]].item()
    return nats, characters


def scored(folder, lines, longest):
    return score(FlatModel(load_model(str(folder))), lines, str(folder), longest)


@pytest.mark.parametrize("kind", KINDS)
def test_pseudo_perplexity_is_that_of_a_plain_loop(kind, models):
    longest = 48 if kind == "char" else 49
    lines = [line for line in LINES if line.strip()]
    found = scored(models[kind], lines, longest)
    nats, characters = naive(models[kind], lines, longest)
    assert (found.lines, found.characters) == (len(lines), characters)
    assert found.unknown >= 3
    assert found.nats == pytest.approx(nats + found.unknown * math.log(CHARACTERS), rel=1e-4)
    assert found.perplexity == pytest.approx(math.exp(found.nats / characters))
    assert nats / characters > 2  # the model is no constant: its figure has something to tell


def test_an_unknown_character_costs_one_out_of_all(models):
    """The character type has one token a character, so the unknown ones can be counted by hand."""
    found = scored(models["char"], ["𠮷と🇯🇵"], 48)
    assert (found.unknown, found.characters, found.tokens) == (3, 4, 4)
    wordpiece = scored(models["wordpiece"], ["🇯🇵🇯🇵"], 49)  # one unknown token is not one character
    assert wordpiece.unknown == wordpiece.characters == 4


def test_text_and_shard_give_the_same_figures(models, run_tool, tmp_path):
    folder, text = models["char"], ("\n".join(LINES) + "\n") * 5
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    shard = tmp_path / "valid.safetensors"
    run_tool("pack-tokens", "--tokenizer", folder, "--max-seq-length", 48, shard, stdin=text)
    options = ("--pseudo-perplexity", 2, "--json")
    by_text = run_tool("eval-mlm", folder, *options, stdin=text).stdout
    by_shard = run_tool("eval-mlm", folder, shard, *options, "--text", tmp_path / "text.txt").stdout
    assert by_text == by_shard
    found = json.loads(by_text)
    assert found["predictions"] > 10 and found["pseudo_perplexity_lines"] == 2
    direct = scored(folder, [LINES[0], LINES[2]], 48)
    assert found["pseudo_perplexity"] == pytest.approx(direct.perplexity, abs=1e-3, rel=1e-4)


def test_too_short_and_too_long(models, run_tool, tmp_path):
    folder = models["wordpiece"]
    assert b"none of its tokens was masked" in run_tool("eval-mlm", folder, stdin="。\n", status=1).stderr
    shard = tmp_path / "long.safetensors"
    run_tool("pack-tokens", "--tokenizer", folder, "--max-seq-length", 500, shard, stdin="東京の" * 40 + "\n")
    assert b"longer than the 49 tokens" in run_tool("eval-mlm", folder, shard, status=1).stderr


def test_a_shard_of_another_tokenizer(models, run_tool, tmp_path):
    """As large a vocabulary, but not the one that the model's manifest names."""
    folder, shard = tmp_path / "model", tmp_path / "x.safetensors"
    shutil.copytree(models["wordpiece"], folder)
    run_tool("pack-tokens", "--tokenizer", folder, shard, stdin="硯で墨をする。\n")
    manifest = {"format": "suzuri-manifest/1", "settings": {"tokenizer": "0" * 64}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert b"packed with tokenizer_sha256" in run_tool("eval-mlm", folder, shard, status=1).stderr


def test_fill_mask_counts_what_it_cannot_see(models, run_tool):
    """A line ends at \\n alone; a [MASK] beyond the model's length is told."""
    text = "墨を[MASK]\u2028する。\n" + "東京の" * 40 + "[MASK]\n硯。\n"
    done = run_tool("fill-mask", models["wordpiece"], "--top-k", 2, stdin=text)
    assert done.stdout.decode().count("\n") == 1 and done.stdout.decode().startswith("墨を[MASK]\u2028する。\t")
    told = "3 lines in, 1 masks filled, 1 lines without a mask, 1 masks beyond the model's length"
    assert told in done.stderr.decode()


def test_a_shard_has_no_characters(models, run_tool):
    done = run_tool("eval-mlm", models["char"], "valid.safetensors", "--pseudo-perplexity", 9, status=2)
    assert b"--text" in done.stderr
