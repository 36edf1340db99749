"""eval-mlm, fill-mask, compare-models: figures equal to a plain loop over transformers, ranks, minimal pairs."""

import gzip
import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from small_runs import run_warm
from suzuri.errors import DataError
from suzuri.evaluation.fill_mask import read_answers
from suzuri.evaluation.minimal_pairs import Pair, by_kind, read_pairs
from suzuri.evaluation.model_comparison import aligned, short_names, width
from suzuri.evaluation.pseudo_perplexity import CHARACTERS, PseudoScorer
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
ROOT = Path(__file__).resolve().parent.parent
ODD = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 41}


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory):  # noqa: F811
    """{tokenizer type: a folder with a model of odd size}, its weights large enough to tell tokens apart."""
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp("models") / kind
        shutil.copytree(trained[kind], folders[kind], ignore=shutil.ignore_patterns("manifest.json"))
        size = len(tokenizer_folder.TokenizerFolder(folders[kind]).pieces)
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
    return PseudoScorer(FlatModel(load_model(str(folder))), str(folder), longest).score_all(lines)


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
    assert nats / characters > 2  # the model does not give every token the same


def test_an_unknown_character_costs_one_out_of_all(models):
    """The character type has one token per character, so the unknown ones can be counted by hand."""
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
    by_text = run_warm("eval-mlm", folder, *options, stdin=text).stdout
    by_shard = run_warm("eval-mlm", folder, shard, *options, "--text", tmp_path / "text.txt").stdout
    assert by_text == by_shard
    found = json.loads(by_text)
    assert found["predictions"] > 10 and found["pseudo_perplexity_lines"] == 2
    direct = scored(folder, [LINES[0], LINES[2]], 48)
    assert found["pseudo_perplexity"] == pytest.approx(direct.perplexity, abs=1e-3, rel=1e-4)


def test_too_short_and_too_long(models, run_tool, tmp_path):
    folder = models["wordpiece"]
    assert b"none of its tokens was masked" in run_warm("eval-mlm", folder, stdin="。\n", status=1).stderr
    shard = tmp_path / "long.safetensors"
    run_tool("pack-tokens", "--tokenizer", folder, "--max-seq-length", 500, shard, stdin="東京の" * 40 + "\n")
    assert b"longer than the 49 tokens" in run_warm("eval-mlm", folder, shard, status=1).stderr


def test_a_shard_of_another_tokenizer(models, run_tool, tmp_path):
    """The vocabulary has the same size, but is not the one in the model's manifest."""
    folder, shard = tmp_path / "model", tmp_path / "x.safetensors"
    shutil.copytree(models["wordpiece"], folder)
    run_tool("pack-tokens", "--tokenizer", folder, shard, stdin="硯で墨をする。\n")
    manifest = {"format": "suzuri-manifest/1", "settings": {"tokenizer": "0" * 64}, "unlisted": []}
    manifest |= {key: {} for key in ("inputs", "outputs", "counts")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert b"packed with tokenizer_sha256" in run_warm("eval-mlm", folder, shard, status=1).stderr


def test_fill_mask_counts_what_it_cannot_see(models):
    """Only \\n ends a line; a [MASK] beyond the model's length is counted."""
    text = "墨を[MASK]\u2028する。\n" + "東京の" * 40 + "[MASK]\n硯。\n"
    done = run_warm("fill-mask", models["wordpiece"], "--top-k", 2, stdin=text)
    assert done.stdout.decode().count("\n") == 1 and done.stdout.decode().startswith("墨を[MASK]\u2028する。\t")
    counts = "3 lines in, 1 masks filled, 1 lines without a mask, 1 masks beyond the model's length"
    assert counts in done.stderr.decode()


def test_a_shard_has_no_characters(models):
    done = run_warm("eval-mlm", models["char"], "valid.safetensors", "--pseudo-perplexity", 9, status=2)
    assert b"--text" in done.stderr


# --- ranks of the right words -----------------------------------------------------------------------------------

MASKED = "硯で墨を[MASK]。\tす\n紙は[MASK]、墨は[MASK]。\t白\tこの語はない\n"


def test_ranks_of_answers(models):
    """An answer's rank is its place among all pieces; an answer that is not one piece has none, and is counted."""
    folder = models["char"]
    pieces = len(tokenizer_folder.TokenizerFolder(folder).pieces)
    done = run_warm("fill-mask", folder, "--answers", "--json", "--top-k", pieces, stdin=MASKED)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["text"], r["mask"], r["answer"]) for r in records] == [
        ("硯で墨を[MASK]。", 0, "す"),
        ("紙は[MASK]、墨は[MASK]。", 0, "白"),
        ("紙は[MASK]、墨は[MASK]。", 1, "この語はない"),
    ]
    for r in records[:2]:
        assert r["candidates"][r["rank"] - 1]["token"] == r["answer"]
    assert records[2]["rank"] is None
    counts = f"2 lines in, 3 masks filled, 2 answers in the top {pieces}, 1 answers not in the vocabulary"
    assert counts in done.stderr.decode()
    tsv = run_warm("fill-mask", folder, "--answers", "--top-k", 1, stdin=MASKED).stdout.decode().splitlines()
    assert [line.split("\t")[1:3] for line in tsv] == [[r["answer"], str(r["rank"] or "-")] for r in records]
    assert {len(line.split("\t")) for line in tsv} == {5}


def test_random_weights_are_the_same_every_time_and_not_the_models(models):
    once, again, trained_ones = (
        run_warm("fill-mask", models["unigram"], *options, stdin="墨を[MASK]。\n").stdout
        for options in (["--random-weights"], ["--random-weights"], [])
    )
    assert once == again != trained_ones


def test_as_many_answers_as_masks(models):
    assert read_answers(["硯"], lambda text: 0) == (["硯"], [[]])
    with pytest.raises(DataError, match="but 0 answers"):
        read_answers(["硯で[MASK]"], lambda text: 1)
    done = run_warm("fill-mask", models["char"], "--answers", stdin="硯で[MASK]\tあ\tい\n", status=1)
    assert "硯で[MASK]: 1 [MASK], but 2 answers" in done.stderr.decode()


# --- minimal pairs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_passed_when_the_right_sentence_is_likelier(kind, models, tmp_path):
    """As in a plain loop over transformers; with its sentences swapped a pair passes if it did not before."""
    pairs = [("硯で墨をする。", "硯を墨でする。"), ("紙が一枚ある。", "紙が一匹ある。"), ("水を飲む。", "水が飲む。")]
    folder, file = models[kind], tmp_path / "pairs.tsv"
    lines = (
        [f"{a}\t{b}\tas it is" for a, b in pairs] + [f"{b}\t{a}\tturned" for a, b in pairs] + ["墨\t墨\tthe same", ""]
    )
    file.write_text("\n".join(lines))
    found = json.loads(run_warm("eval-mlm", folder, "--pairs", file, "--json").stdout)
    right = sum(naive(folder, [a], 48)[0] < naive(folder, [b], 48)[0] for a, b in pairs)
    assert found["task"] == "pairs" and found["weights"] == "pre-trained" and found["model"] == str(folder)
    assert round(found["metrics"]["accuracy"]["mean"], 4) == found["pairs"][-1]["accuracy"]
    assert {row["kind"]: row["right"] for row in found["pairs"]} == {
        "as it is": right,
        "turned": len(pairs) - right,
        "the same": 0,
        "all": len(pairs),
    }


def test_pairs_as_in_jblimp(tmp_path):
    file = tmp_path / "jblimp.jsonl"
    record = {
        "ID": 0,
        "good_sentence": "水を飲む。",
        "bad_sentence": "水が飲む。",
        "phenomenon": "case",
        "paradigm": None,
    }
    lines = [json.dumps(record, ensure_ascii=False), "", json.dumps(record | {"phenomenon": None})]
    file.write_text("\n".join(lines))
    assert read_pairs(str(file)) == [Pair("水を飲む。", "水が飲む。", "case"), Pair("水を飲む。", "水が飲む。")]
    for wrong in ({"good_sentence": "a"}, record | {"bad_sentence": 1}, record | {"good_sentence": " "}):
        file.write_text(json.dumps(wrong))
        with pytest.raises(DataError, match="line 1: not a pair"):
            read_pairs(str(file))
    file.write_text("{")
    with pytest.raises(DataError, match="line 1: not a pair"):
        read_pairs(str(file))


@pytest.mark.parametrize("kind", KINDS)
def test_similarities_are_those_of_transformers(kind, models, tmp_path):
    """Cosines of the means over each text's tokens, made one text at a time."""
    from scipy.stats import pearsonr, spearmanr

    pairs = [
        ("硯で墨をする。", "墨を硯でする。"),
        ("紙が一枚ある。", "水を飲む。"),
        ("東京", "東京の" * 5),
        ("墨", "紙"),
    ]
    labels = [5.0, 0.5, 3.0, 2.0]
    file = tmp_path / "valid.jsonl"
    rows = [{"sentence1": a, "sentence2": b, "label": x} for (a, b), x in zip(pairs, labels, strict=True)]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = json.loads(run_warm("eval-mlm", models[kind], "--similarity", file, "--json").stdout)
    model = transformers.AutoModel.from_pretrained(models[kind]).eval()
    words = tokenizer_folder.load(str(models[kind]))
    cosines = []
    for pair in pairs:
        with torch.no_grad():
            a, b = (model(**words(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in pair)
        cosines.append(F.cosine_similarity(a, b, dim=0).item())
    assert found["metrics"]["spearman"]["mean"] == pytest.approx(spearmanr(labels, cosines).statistic)
    assert found["metrics"]["pearson"]["mean"] == pytest.approx(pearsonr(labels, cosines).statistic, abs=1e-4)
    assert found["task"] == "similarity" and found["valid"] == 4
    text = run_warm("eval-mlm", models[kind], "--similarity", file).stdout.decode()
    assert re.fullmatch(r"pearson\t-?\d\.\d{4}\t.*\nspearman\t-?\d\.\d{4}\t.*\n", text)


def test_accuracy_by_kind_and_files_that_are_not_pairs(models, tmp_path):
    pairs = [Pair("a", "b", "x"), Pair("a", "b", "y"), Pair("a", "b", "x"), Pair("a", "b")]
    assert by_kind(pairs, [True, True, False, True]) == {"x": (1, 2), "y": (1, 1), "all": (3, 4)}
    file = tmp_path / "pairs.tsv"
    for content, error in ((b"a\tb\na\n", "line 2: not a pair"), (b"\n", "has no pairs"), (b"\xff\tb\n", "not UTF-8")):
        file.write_bytes(content)
        with pytest.raises(DataError, match=error):
            read_pairs(str(file))
    assert b"cannot be combined" in run_warm("eval-mlm", models["char"], "x.txt", "--pairs", file, status=2).stderr


# --- models side by side ----------------------------------------------------------------------------------------


def test_tables_for_a_terminal():
    assert [width(text) for text in ("硯", "ｶﾞ", "が", "か\u3099", "a・")] == [2, 2, 2, 2, 3]
    assert short_names(["a/bert-x"]) == ["bert-x"] and short_names(["b-x", "b-x-y/"]) == ["x", "x-y"]
    assert aligned([["1", "硯", "x"], [], ["10", "ab", "y"]], left={1}) == " 1  硯  x\n\n10  ab  y\n"


def test_models_side_by_side(models, tmp_path):
    masked, pairs = tmp_path / "masked.tsv", tmp_path / "pairs.tsv"
    masked.write_text(MASKED)
    pairs.write_text("水を飲む。\t水が飲む。\tparticle\n紙が一枚。\t紙が一匹。\tcounter\n")
    folder = models["char"]
    page = run_warm("compare-models", "--before", "--masked", masked, "--pairs", pairs, "--top-k", 3, folder, folder)
    lines = page.stdout.decode().splitlines()
    assert lines[0].split()[:3] == ["before", "char", "char"]
    tsv = run_warm("fill-mask", folder, "--answers", "--top-k", 3, stdin=MASKED).stdout.decode().splitlines()
    for line, row in zip(lines[2:5], tsv, strict=True):
        _, answer, rank, *candidates = row.split("\t")
        assert line.replace(",", "").split()[1:3] == [rank] * 2
        assert f"[{answer}]" in line and line.split()[-3:] == candidates[::2]
    assert "紙は白、墨は[この語はない]。" in lines[4]
    assert "median rank" in lines[6] and "in the top 3" in lines[7]
    assert lines[8] == "-: the word is not one piece of the model's vocabulary, and is not counted."
    assert "水を飲む。 / 水が飲む。" in lines[12] and "all 2 pairs" in lines[-1]
    shutil.copytree(folder, tmp_path / "char")
    lines = run_warm("compare-models", "--pairs", pairs, folder, tmp_path / "char").stdout.decode().splitlines()
    assert f"{folder.parent.name}/char" in lines[0] and f"{tmp_path.name}/char" in lines[0]
    done = run_warm("compare-models", folder, status=2)
    assert b"--masked or --pairs" in done.stderr


# --- the sample's files -----------------------------------------------------------------------------------------

SAMPLE = ROOT / "data/sample"


def test_what_the_demo_asks_is_not_in_the_sample():
    """Neither sentence of a pair, nor a masked sentence with any word filled in: the model cannot have copied them."""
    text = "".join(path.read_text() for path in sorted(SAMPLE.glob("*/*.txt")))
    pairs = read_pairs(str(SAMPLE / "minimal-pairs.tsv"))
    assert not [s for pair in pairs for s in (pair.right, pair.wrong) if s.rstrip("。") in text]
    assert len(pairs) == 60 == len({pair.right for pair in pairs})
    passed = by_kind(pairs, [True] * 60)
    kinds = ("particle", "counter", "agreement", "order")
    assert passed == dict.fromkeys(kinds, (15, 15)) | {"all": (60, 60)}
    texts, answers = read_answers(
        (SAMPLE / "fill-mask.tsv").read_text().splitlines(), lambda text: text.count("[MASK]")
    )
    assert len(texts) == len(set(texts)) == 20 and all(len(theirs) == 1 for theirs in answers)
    for sentence in texts:
        before, after = map(re.escape, sentence.split("[MASK]"))
        assert not re.search(f"{before}.{{1,8}}?{after}", text), sentence


# --- folders that nobody should trust ---------------------------------------------------------------------------

PICKLE = b"cos\nsystem\n(S'touch PWNED'\ntR."


def ask_for_code(folder, name):
    config = json.loads((folder / name).read_text())
    (folder / "evil.py").write_text("open('PWNED', 'w')")
    config |= {"auto_map": {"AutoConfig": "evil.C", "AutoModelForMaskedLM": "evil.M", "AutoTokenizer": "evil.T"}}
    (folder / name).write_text(json.dumps(config | ({"model_type": "evil"} if name == "config.json" else {})))


def pickled(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(PICKLE)


def endless(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/dev/zero")


def outside(folder):
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    index = {"weight_map": {"bert.embeddings.word_embeddings.weight": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: ask_for_code(f, "config.json"), "config.json: needs code of its own (auto_map)"),
        (lambda f: ask_for_code(f, "tokenizer_config.json"), "tokenizer_config.json: needs code of its own"),
        (pickled, "pytorch_model.bin: pickled weights, which can run any code when they are loaded"),
        (endless, "config.json: is not a file"),
        (outside, "model.safetensors.index.json: names '../elsewhere.safetensors', which is not a file in this folder"),
        (lambda f: (f / "model.safetensors").write_bytes(PICKLE), "does not give a masked language model"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert", "hidden_size": "x"}'), "does not give"),
    ],
)
def test_nothing_in_a_folder_is_run(models, tmp_path, spoil, said):
    """Not even if somebody says yes."""
    folder = tmp_path / "model"
    shutil.copytree(models["wordpiece"], folder)
    spoil(folder)
    commands = [("fill-mask", folder), ("eval-mlm", folder), ("compare-models", "--pairs", "pairs.tsv", folder)]
    (tmp_path / "pairs.tsv").write_text("墨がある。\t墨をある。\n")
    for command in commands[: 3 if said.startswith("config.json: needs") else 1]:
        stderr = run_warm(*command, stdin=b"y\n" * 100, status=1, cwd=tmp_path).stderr.decode()
        assert said in stderr and stderr.count("\n") == 1
    assert not list(tmp_path.rglob("PWNED"))


def without(folder, prefix):
    """Take the weights whose names begin with `prefix` out of a model's folder; how many."""
    path = str(folder / "model.safetensors")
    weights = load_file(path)
    kept = {name: weight for name, weight in weights.items() if not name.startswith(prefix)}
    save_file(kept, path, metadata={"format": "pt"})
    return len(weights) - len(kept)


@pytest.mark.parametrize("kind", KINDS)
def test_a_random_head_is_never_used(models, tmp_path, kind):
    """transformers loads an encoder that was saved without a head, and draws one."""
    folder, pairs, examples = tmp_path / "model", tmp_path / "pairs.tsv", tmp_path / "examples.jsonl"
    shutil.copytree(models[kind], folder)
    transformers.AutoModel.from_pretrained(models[kind]).save_pretrained(folder)
    pairs.write_text("墨がある。\t墨をある。\n")
    texts = [
        {"sentence1": text, "sentence2": "硯で墨をする。", "label": label}
        for label, text in enumerate([*LINES[2:4], "東京", "筆と紙"])
    ]
    examples.write_text("".join(json.dumps(text) + "\n" for text in texts))
    for command in (
        ("fill-mask", folder),
        ("eval-mlm", folder),
        ("eval-mlm", folder, "--pairs", pairs),
        ("compare-models", "--pairs", pairs, folder),
    ):
        stderr = run_warm(*command, stdin="硯で[MASK]をする。\n".encode(), status=1).stderr.decode()
        assert "has no masked-language-model head" in stderr and stderr.count("\n") == 1
    of_encoder, of_all = (
        run_warm("eval-mlm", m, "--similarity", examples, "--json").stdout for m in (folder, models[kind])
    )
    assert json.loads(of_encoder)["metrics"] == json.loads(of_all)["metrics"]


@pytest.mark.parametrize("headless", [False, True])
def test_a_layer_that_is_missing(models, tmp_path, headless):
    folder = tmp_path / "model"
    shutil.copytree(models["wordpiece"], folder)
    if headless:
        transformers.AutoModel.from_pretrained(models["wordpiece"]).save_pretrained(folder)
    lost = without(folder, "encoder.layer.1." if headless else "bert.encoder.layer.1.")
    tasks = tmp_path / "tasks/jsts"
    tasks.mkdir(parents=True)
    texts = [{"sentence1": LINES[0], "sentence2": text, "label": float(i)} for i, text in enumerate("墨硯筆紙")]
    for name in "train", "valid":
        (tasks / f"{name}.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    for command in (
        ("eval-mlm", folder),
        ("eval-mlm", folder, "--similarity", tasks / "valid.jsonl"),
        *(("finetune", folder, "jsts", "--tasks", tmp_path / "tasks", "--pooling", how) for how in ("cls", "mean")),
    ):
        stderr = run_warm(*command, stdin=LINES[0].encode(), status=1).stderr.decode()
        assert f"{lost} of its model's weights are missing, such as " in stderr.splitlines()[-1]


def test_weights_that_are_not_numbers(models, tmp_path):
    """A model whose training has diverged would have rank 1 for every word."""
    folder = tmp_path / "model"
    shutil.copytree(models["wordpiece"], folder)
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.weight"][3, 4] = math.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for command in (("eval-mlm", folder), ("fill-mask", folder)):
        stderr = run_warm(*command, stdin="硯で[MASK]をする。\n".encode(), status=1).stderr.decode()
        assert "some of its weights are not finite numbers" in stderr and stderr.count("\n") == 1


def test_a_folder_that_is_not_there(tmp_path):
    """No model of that name is looked for on the Hub."""
    for command in (("fill-mask", "models/none"), ("eval-mlm", "models/none")):
        stderr = run_warm(*command, stdin="硯で[MASK]をする。\n".encode(), status=1).stderr.decode()
        assert "models/none" in stderr and stderr.count("\n") == 1


def test_the_text_of_a_shard_is_read_as_any_text(models, run_tool, tmp_path):
    folder, shard, text = models["wordpiece"], tmp_path / "a.safetensors", tmp_path / "a.txt"
    run_tool("pack-tokens", "--tokenizer", folder, shard, stdin=LINES[0] + "\n")
    for data, said in (
        (LINES[0].encode("cp932"), "iconv"),
        (gzip.compress(LINES[0].encode()), "unpack it with cat-text"),
    ):
        text.write_bytes(data)
        stderr = run_warm("eval-mlm", folder, shard, "--pseudo-perplexity", 1, "--text", text, status=1).stderr.decode()
        assert f"{text}: " in stderr and said in stderr and stderr.count("\n") == 1


def test_every_from_pretrained_is_safe():
    """trust_remote_code is False at each; weights are safetensors."""
    calls = [
        line.strip()
        for path in [*ROOT.glob("lib/suzuri/**/*.py"), *ROOT.glob("bin/*")]
        for line in path.read_text().replace("from_pretrained(\n", "from_pretrained(").splitlines()
        if "from_pretrained(" in line and "fill = pipeline" not in line
    ]
    assert len(calls) >= 5 and all("**SAFE" in call for call in calls), calls
