"""Fine-tuning: tokens to characters and back, JGLUE's metrics, windows; every task is learned by a small model."""

import json
import math
import re
import shutil
import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import run_warm
from suzuri.errors import DataError
from suzuri.evaluation.entity_tags import entities_of, tag
from suzuri.evaluation.features import Features, best_answer, predictions_of, windows
from suzuri.evaluation.results_table import as_markdown, as_tsv, table
from suzuri.evaluation.tasks import (
    TASKS,
    character_f1,
    correlations,
    entity_f1,
    find_file,
    hold_out,
    read,
    read_file,
    score,
    show,
    spread,
    standard_errors,
    unseen,
)
from suzuri.tokenizer import tokenizer_folder
from suzuri.tokenizer.offsets import Encoder, normalize
from trained import KINDS, NASTY, sample, trained  # noqa: F401

# --- characters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "normal", "spans"),
    [
        ("東京", "東京", [(0, 1), (1, 2)]),
        ("㌔か\u3099", "キロが", [(0, 1), (0, 1), (1, 3)]),
        ("ﾊﾟ①", "パ1", [(0, 2), (2, 3)]),
        ("e\u0301\u0327x", "ȩ\u0301x", [(0, 3), (0, 3), (3, 4)]),  # the marks change places
        ("\u1112\u1161\u11ab", "한", [(0, 3)]),
        ("（a）", "(a)", [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_normal_characters_know_where_they_are_from(text, normal, spans):
    found, starts, ends = normalize(text)
    assert (found, list(zip(starts, ends, strict=True))) == (normal, spans)


@given(
    st.text(
        st.sampled_from("aか\u3099ﾞｶ㍿\u0301\u0327한\u1112\u1161\u11ab①東 ﬁ\u0345\u094d\U0001d15e")
        | st.characters(codec="utf-8")
    )
)
@settings(max_examples=500, deadline=None)
def test_parts_normalise_like_the_whole(text):
    found, starts, ends = normalize(text)
    assert found == unicodedata.normalize("NFKC", text)
    spans = sorted(set(zip(starts, ends, strict=True)))
    assert [a for a, _ in spans] == [0, *(b for _, b in spans)][: len(spans)]  # end to end, nothing left out
    assert not text or spans[-1][1] == len(text)


@pytest.fixture(scope="module")
def encoders(trained):  # noqa: F811
    return {kind: Encoder(str(trained[kind])) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_tokenizers_and_spans_their_characters(kind, encoders, sample):  # noqa: F811
    encoder = encoders[kind]
    words = encoder.tokenizer
    unknown = placed = 0
    for text in [*NASTY, *sample.decode().split("\n")[:300]]:
        ids, spans = encoder.encode(text)
        assert ids == words(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        for i, (start, end) in zip(ids, spans, strict=True):
            written = unicodedata.normalize("NFKC", text[start:end])
            piece = words.convert_ids_to_tokens(i).removeprefix("##").replace("▁", " ").strip()
            unknown += i == words.unk_token_id
            placed += piece == written.strip()
            assert i == words.unk_token_id or piece in written, (text, piece, written)
    assert unknown > 10 and placed > 5000


@pytest.mark.parametrize("kind", KINDS)
def test_joined_as_the_tokenizer_joins(kind, encoders):
    encoder = encoders[kind]
    for a, b in (("硯で墨をする。", "墨"), ("東" * 30, "西の空" * 20), ("x", "y" * 90)):
        ours = encoder.join(encoder.encode(a)[0], encoder.encode(b)[0])
        assert ours["input_ids"] == encoder.tokenizer(a, b)["input_ids"]
        assert encoder.join(encoder.encode(a)[0])["input_ids"] == encoder.tokenizer(a)["input_ids"]
        cut = encoder.join(encoder.encode(a)[0], encoder.encode(b)[0], 20)["input_ids"]
        assert len(cut) == min(20, len(ours["input_ids"])) and cut[-1] == encoder.tokenizer.sep_token_id


# --- metrics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "answer", "f1"),
    [
        ("東京都", "東京都。", 1),
        ("東京都", "京都", 0.8),
        ("ABC", "abc", 1),
        ("ああい", "ああああ", 4 / 7),
        ("東", "", 0),
        ("", "", 1),
    ],
)
def test_character_f1(gold, answer, f1):
    assert character_f1(gold, answer) == pytest.approx(f1)


def test_scores():
    answers = [{"answers": [(0, "東京"), (0, "東京都")]}, {"answers": [(3, "墨")]}]
    assert score(TASKS["jsquad"], answers, ["東京都", "硯"]) == {"f1": 0.5, "em": 0.5}
    gold = [{(0, 2, "地名"), (3, 4, "人名")}, {(0, 1, "人名")}]
    found = [{(0, 2, "地名"), (3, 5, "人名")}, {(0, 1, "地名")}]
    assert entity_f1(gold, found) == pytest.approx(2 * 1 / 6)
    assert score(TASKS["jnli"], [{"label": "a"}, {"label": "b"}], ["a", "a"]) == {"accuracy": 0.5}
    x, y = [0.0, 1.0, 2.0, 5.0], [1.0, 3.0, 2.0, 9.0]
    assert correlations(x, y)["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert correlations(x, y)["spearman"] == pytest.approx(0.8)  # 1 - 6·2 / (4·15)
    assert correlations(x, [1.0] * 4) == {"pearson": 0.0, "spearman": 0.0}


def test_correlations_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(DataError, match=r"scipy: not installed: .*requirements-eval\.txt"):
        correlations([1.0, 2.0], [1.0, 2.0])


def test_standard_errors_are_those_of_the_textbook():
    rng = np.random.default_rng(0)
    right = rng.random(1000) < 0.7
    examples, found = [{"label": 1}] * 1000, right.astype(int).tolist()
    (accuracy,) = standard_errors(TASKS["jnli"], examples, [found], 1000).values()
    assert accuracy == pytest.approx((0.7 * 0.3 / 1000) ** 0.5, rel=0.1)
    x = rng.standard_normal(1000)
    examples = [{"label": label} for label in x]
    near = (0.8 * x + 0.6 * rng.standard_normal(1000)).tolist()  # a correlation of 0.8
    errors = standard_errors(TASKS["jsts"], examples, [near, near], 500)
    assert errors["pearson"] == pytest.approx((1 - 0.8**2) / 1000**0.5, rel=0.15)
    assert show(spread([0.5, 0.7], 0.0123)) == "0.600 ± 0.141, SE 0.012" and show(spread([0.5], None)) == "0.500"


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_tags_and_back(data):
    """Entities that begin and end with tokens come back, whatever their neighbours."""
    edges = sorted(data.draw(st.sets(st.integers(1, 40), min_size=3)))
    spans = [*zip([0, *edges], edges, strict=False)]
    entities, i = set(), 0
    while i < len(spans):
        length = data.draw(st.integers(1, len(spans) - i))
        if kind := data.draw(st.sampled_from(["", "人名", "地名"])):
            entities.add((spans[i][0], spans[i + length - 1][1], kind))
        i += length
    assert entities_of(spans, tag(spans, entities)) == entities


def test_a_broken_run_of_tags_is_read_leniently():
    spans = [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert entities_of(spans, ["I-a", "I-b", "O", "I-b"]) == {(0, 1, "a"), (1, 2, "b"), (3, 4, "b")}


# --- the tasks' files -------------------------------------------------------------------------------------------


def test_files_by_either_name_and_errors_that_say_what_to_do(tmp_path, run_tool):
    (tmp_path / "jsts").mkdir()
    record = {"sentence1": "a", "sentence2": "b", "label": 1}
    (tmp_path / "jsts/train-v1.3.json").write_text("\n".join(json.dumps(record | {"label": i}) for i in range(50)))
    (tmp_path / "jsts/valid.jsonl").write_text(json.dumps({"sentence1": "a"}))
    train = read(TASKS["jsts"], tmp_path, "train")
    assert train[3] == {"texts": ("a", "b"), "label": 3.0}
    assert read(TASKS["jsts"], tmp_path, "train", 7) == read(TASKS["jsts"], tmp_path, "train", 7)
    rest, held = hold_out(train)
    assert (len(rest), len(held)) == (45, 5) and sorted(e["label"] for e in rest + held) == list(range(50))
    with pytest.raises(DataError, match=r"valid\.jsonl.*sentence2"):
        read(TASKS["jsts"], tmp_path, "valid")
    done = run_tool("finetune", "bag-of-words", "jnli", "--tasks", tmp_path, status=1)
    assert b"make download-jglue" in done.stderr and done.stderr.count(b"\n") == 1
    assert run_tool("finetune", "x", "jsts", "--tasks", tmp_path, "--seeds", 0, status=2).stderr


def test_table_marks_what_is_not_above_the_baselines(tmp_path, run_tool):
    def result(model, weights, values, task="jsts", metric="pearson"):
        return {"task": task, "model": model, "weights": weights, "metrics": {metric: spread(values)}}

    near = result("near", "pre-trained", [0.66, 0.66])
    near["metrics"]["pearson"] = spread(
        [0.66, 0.66], 0.04
    )  # 0.06 above the bag of words, with a standard error of 0.04
    results = [
        result("m/good/", "pre-trained", [0.70, 0.72]), near, result("m/poor", "pre-trained", [0.50, 0.62]),
        result("m/good", "random", [0.5, 0.52]), result("bag-of-words", None, [0.6]),
        result("m/good", "pre-trained", [0.9, 0.9], "ner", "f1"),
    ]  # fmt: skip
    assert as_tsv(table(results)) == (
        "model\tjsts pearson\tner f1\n"
        "good\t0.710 ± 0.014\t0.900 ± 0.000\n"
        "near\t0.660 ± 0.000, SE 0.040 (not above bag of words)\t-\n"
        "poor\t0.560 ± 0.085 (not above random weights or bag of words)\t-\n"
        "random weights\t0.510 ± 0.014\t-\n"
        "bag of words\t0.600\t-\n"
    )
    for twice in (result("other/good", "pre-trained", [0.1, 0.2]), result("m/poor", "random", [0.3, 0.3])):
        with pytest.raises(DataError, match=f"two results of .* in jsts, of m/good/? and {twice['model']}"):
            table([*results, twice])
    paths = [tmp_path / f"{i}.json" for i in range(len(results))]
    for path, r in zip(paths, results, strict=True):
        path.write_text(json.dumps(r))
    assert run_tool("compare-results", *paths).stdout.decode() == as_tsv(table(results))
    markdown = run_tool("compare-results", "--markdown", *paths).stdout.decode()
    assert markdown.splitlines()[:2] == ["| model | jsts pearson | ner f1 |", "|---|---|---|"]
    assert markdown == as_markdown(table(results))


# --- models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finetune():
    pytest.importorskip("accelerate", reason="accelerate is not installed (make eval and make test install it)")
    from suzuri.evaluation import finetune

    return finetune


def test_a_folder_without_a_model(tmp_path, finetune):
    with pytest.raises(DataError, match="not a model"):
        finetune.longest_input(tmp_path)


@given(st.integers(0, 300), st.integers(4, 60))
@settings(deadline=None)
def test_windows_cover_and_overlap(length, room):
    found = windows(length, room)
    assert found[0][0] == 0 and found[-1][1] == length
    assert all(0 < b - a <= room for a, b in found) or length == 0
    assert all(c < b for (_, b), (c, _) in pairwise(found))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_best_answer_beside_brute_force(data):
    n = data.draw(st.integers(1, 15))
    numbers = st.lists(st.integers(-50, 50), min_size=n + 5, max_size=n + 5).map(np.array)
    starts, ends = data.draw(numbers), data.draw(numbers)
    value, (a, b) = best_answer(starts, ends, 3, 3 + n)
    assert value == max(starts[3 + i] + ends[3 + j] for i in range(n) for j in range(i, n)) and a <= b
    assert value == starts[3 + a] + ends[3 + b]


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_model_gets_full_marks(kind, encoders):
    """Answers and entities go to labels, through overlapping windows, and back to characters without loss."""
    context = "硯 [SEP] 硯は①石である。" + "東京都に住む人が墨をする。" * 12 + "（㍿）ガラスの硯もある。"
    words = ["硯", "①石", "㍿", "硯もある"]
    places = [0, context.index("①"), context.index("㍿"), context.index("硯もある")]
    answers = [{"text": "何？", "context": context, "answers": [(p, w)]} for p, w in zip(places, words, strict=True)]
    features = Features(TASKS["jsquad"], encoders[kind], 48, answers)
    inputs = [f for n, e in enumerate(answers) for f in features(e, n)]
    assert len(inputs) > 2 * len(answers) and max(len(f["input_ids"]) for f in inputs) <= 48
    one = [np.eye(len(f["input_ids"])) for f in inputs]
    logits = [(eye[f["start_positions"]], eye[f["end_positions"]]) for eye, f in zip(one, inputs, strict=True)]
    found = predictions_of(features, answers, inputs, logits)
    assert [w in f and len(f) <= len(w) + 2 for w, f in zip(words, found, strict=True)] == [True] * 4, found
    if kind == "char":
        assert found == words

    text = context[8:]
    entities = [(p - 8, p - 8 + len(w), "物") for p, w in zip(places[1:], words[1:], strict=True)]
    examples = [{"text": text, "entities": entities}, {"text": "墨", "entities": []}]
    features = Features(TASKS["ner"], encoders[kind], 48, examples)
    inputs = [f for n, e in enumerate(examples) for f in features(e, n)]
    assert len(inputs) > 3
    # Wrong near the edges of windows, where another window sees better.
    logits = []
    for f in inputs:
        rows = np.eye(len(features.labels))[np.maximum(f["labels"], 0)]
        if f["_window"][0] > 0:
            rows[1:4] = np.eye(len(features.labels))[1]
        logits.append(rows)
    found = predictions_of(features, examples, inputs, logits)
    spans = encoders[kind].encode(text)[1]
    assert found == [entities_of(spans, tag(spans, entities)), set()]
    assert kind != "char" or found[0] == set(entities)


def toy(kind, n=96):
    """Examples whose label is plain to see."""
    many = range(n)
    if kind == "regression":
        # Three texts: with two, any model that tells them apart would have a correlation of 1 or -1.
        return [{"texts": ("墨と紙と硯", ("硯", "墨と紙", "墨と紙と硯")[i % 3]), "label": 2.5 * (i % 3)} for i in many]
    if kind == "classes":
        return [{"texts": ("墨", "硯" if i % 3 else "紙"), "label": "yes" if i % 3 else "no"} for i in many]
    if kind == "choices":
        choices = [[("硯" if j == i % 5 else "紙") for j in range(5)] for i in many]
        return [{"text": "何？", "choices": c, "label": i % 5} for i, c in enumerate(choices)]
    if kind == "answers":
        texts = ["あ" * (i % 7) + "硯" + "い" * (i % 4) for i in many]
        return [{"text": "何？", "context": t, "answers": [(t.index("硯"), "硯")]} for t in texts]
    texts = ["あ" * (i % 7) + "硯" + "い" * (i % 4) for i in many]
    return [{"text": t, "entities": [(t.index("硯"), t.index("硯") + 1, "物")]} for t in texts]


@pytest.mark.parametrize(
    ("name", "pooling", "model", "kind"),
    [
        ("jsts", "cls", "bert", "wordpiece"),
        ("jsick", "cls", "roberta", "unigram"),
        ("jsick", "mean", "roberta", "unigram"),
        ("jcommonsenseqa", "mean", "modernbert", "char"),
        ("jcommonsenseqa", "cls", "nomic_bert", "wordpiece"),
        ("jsquad", None, "roberta", "char"),
        ("jsquad", None, "nomic_bert", "char"),
        ("ner", None, "modernbert", "char"),
    ],
)
def test_every_task_is_learned(name, pooling, model, kind, finetune, trained, tmp_path):  # noqa: F811
    """Several architectures and tokenizers; the same seed gives the same figures."""
    import torch
    import transformers
    from suzuri.progress import Progress

    torch.manual_seed(0)
    folder = tmp_path / "model"
    shutil.copytree(trained[kind], folder, ignore=shutil.ignore_patterns("manifest.json"))
    transformers.AutoModelForMaskedLM.from_config(
        transformers.AutoConfig.for_model(
            model,
            vocab_size=len(tokenizer_folder.TokenizerFolder(folder).pieces),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=40,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
            cls_token_id=2,
            sep_token_id=3,
        )
    ).save_pretrained(folder)
    task = TASKS[name]
    examples = toy(task.kind)
    given = {"learning_rates": [1e-6, 5e-3], "epochs": 8, "batch_size": 16, "max_length": task.max_length}
    given["precision"] = "bf16" if name == "jsick" else "fp32"
    given["pooling"] = pooling
    if name != "jsts":
        given["learning_rates"] = [5e-3]
    with Progress() as bar:
        valid = examples[:30]
        runs, used = finetune.predictions_of_seeds(task, str(folder), examples, valid, given, 1, name == "ner", bar)
        assert min(score(task, valid, runs[0]).values()) > 0.95, runs
        assert used["learning_rate"] == 5e-3 and used["max_length"] == (39 if model == "roberta" else 40)
        if name == "jsts":
            assert set(used["held_out"]) == {1e-6, 5e-3}
            again, _ = finetune.predictions_of_seeds(task, str(folder), examples, valid, given, 1, False, bar)
            assert again == runs


@pytest.fixture
def small_bert():
    """An encoder, its inputs (one of two texts is padded) and their hidden states, each text by itself."""
    import torch
    import transformers

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    encoder = transformers.BertModel(transformers.BertConfig(vocab_size=50, **shape)).eval()
    ids = torch.tensor([[2, 9, 8, 3, 0, 0], [2, 7, 6, 5, 4, 3]])
    hidden = [encoder(ids[:1, :4]).last_hidden_state[0], encoder(ids[1:]).last_hidden_state[0]]
    return encoder, {"input_ids": ids, "attention_mask": (ids > 0).long()}, hidden


def test_a_head_on_the_mean(small_bert):
    """Padding does not matter, and the loss is that of transformers' heads: mse or cross-entropy."""
    import torch
    from suzuri.evaluation.heads import TextHead

    encoder, inputs, hidden = small_bert
    means = torch.stack([vectors.mean(0) for vectors in hidden])
    for kind, labels, want in (
        ("regression", torch.tensor([0.5, -1.0]), lambda x, y: ((x.squeeze(-1) - y) ** 2).mean()),
        ("classes", torch.tensor([2, 0]), torch.nn.functional.cross_entropy),
    ):
        model = TextHead(encoder, kind, 1 if kind == "regression" else 3, "mean").eval()
        found = model(**inputs, labels=labels)
        assert torch.allclose(found["logits"], model.head(means), atol=1e-5)
        assert torch.allclose(found["loss"], want(model.head(means), labels), atol=1e-5)
    model = TextHead(encoder, "choices", 1, "mean").eval()
    both = {key: value[None] for key, value in inputs.items()}
    assert torch.allclose(model(**both)["logits"], model.head(means).view(1, 2), atol=1e-5)


def copied_head(mine, theirs):
    mine.head.weight, mine.head.bias = theirs.weight, theirs.bias
    return mine.eval()


def test_heads_that_transformers_lacks_are_those_that_it_has_for_bert(small_bert):
    """With the same weights: the loss and the logits of BertForMultipleChoice and BertForQuestionAnswering."""
    import torch
    import transformers
    from suzuri.evaluation.heads import AnswerHead, TextHead

    encoder, inputs, _ = small_bert
    choices = {key: value[None] for key, value in inputs.items()} | {"labels": torch.tensor([1])}
    answers = inputs | {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([2, 4])}
    theirs = transformers.BertForMultipleChoice(encoder.config).eval()
    theirs.bert.embeddings, theirs.bert.encoder = encoder.embeddings, encoder.encoder
    mine = copied_head(TextHead(encoder, "choices", 1, "cls"), theirs.classifier)
    mine.pooler.weight, mine.pooler.bias = theirs.bert.pooler.dense.weight, theirs.bert.pooler.dense.bias
    want, have = theirs(**choices), mine(**choices)
    assert torch.allclose(want.logits, have["logits"], atol=1e-6)
    assert torch.allclose(want.loss, have["loss"])

    theirs = transformers.BertForQuestionAnswering(encoder.config).eval()
    theirs.bert.embeddings, theirs.bert.encoder = encoder.embeddings, encoder.encoder
    want, have = theirs(**answers), copied_head(AnswerHead(encoder), theirs.qa_outputs)(**answers)
    assert torch.allclose(want.loss, have["loss"])
    for name in ("start_logits", "end_logits"):
        assert torch.allclose(want[name], have[name], atol=1e-6)


def test_a_regression_starts_at_the_mean(encoders):
    """A head that gives 0 predicts the mean of the training labels, and what it has to learn is 0 on average."""
    examples = [{"texts": ("墨", "紙"), "label": label} for label in (1.0, 2.0, 4.5)]
    features = Features(TASKS["jsts"], encoders["char"], 16, examples)
    inputs = [f for n, e in enumerate(examples) for f in features(e, n)]
    assert [f["labels"] for f in inputs] == [-1.5, -0.5, 2.0]
    logits = [np.array([f["labels"]]) for f in inputs]
    assert predictions_of(features, examples, inputs, logits) == [1.0, 2.0, 4.5]
    assert predictions_of(features, examples, inputs, [np.zeros(1)] * 3) == [2.5] * 3


def test_finetune_prints_one_object(tmp_path, run_tool):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (make eval and make test install it)")
    (tmp_path / "jcommonsenseqa").mkdir()
    lines = []
    for e in toy("choices", 40):
        choices = {f"choice{i}": c for i, c in enumerate(e["choices"])}
        lines.append(json.dumps({"question": e["text"], **choices, "label": e["label"]}))
    for split in ("train", "valid"):
        (tmp_path / f"jcommonsenseqa/{split}.jsonl").write_text("\n".join(lines))
    done = run_tool("finetune", "bag-of-words", "jcommonsenseqa", "--tasks", tmp_path, "--max-valid", 20)
    found = json.loads(done.stdout)
    assert found["metrics"]["accuracy"] == spread([1.0], 0.0)
    assert (found["train"], found["valid"], found["weights"]) == (40, 20, None)


@pytest.mark.parametrize(
    ("kind", "least"), [("regression", 0.95), ("classes", 0.95), ("answers", 0.9), ("entities", 0.95)]
)
def test_bags_of_words_learn_what_is_plain(kind, least):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (make eval and make test install it)")
    from suzuri.evaluation import bag_of_words

    task = next(t for t in TASKS.values() if t.kind == kind)
    examples = toy(kind)
    found = score(task, examples, bag_of_words.predict(task, examples, examples))
    assert min(found.values()) >= least


def test_the_record_of_a_download_is_not_a_split(tmp_path):
    write_task(tmp_path, "jsts", [1, 2], [1, 2])
    (tmp_path / "jsts/valid.jsonl").rename(tmp_path / "jsts/valid-v1.3.json")
    (tmp_path / "jsts/valid-v1.3.json.json").write_text('{"url": "http://there/valid-v1.3.json"}')
    assert find_file(TASKS["jsts"], str(tmp_path), "valid") == str(tmp_path / "jsts/valid-v1.3.json")


def small_model(trained, folder):  # noqa: F811
    """A folder with a BERT of one layer and a tokenizer."""
    import transformers

    shutil.copytree(trained["char"], folder, ignore=shutil.ignore_patterns("manifest.json"))
    size = len(tokenizer_folder.TokenizerFolder(folder).pieces)
    config = transformers.BertConfig(
        vocab_size=size, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    return folder


def write_task(folder, name, train, valid):
    (folder / name).mkdir(parents=True)
    for split, labels in (("train", train), ("valid", valid)):
        records = [{"sentence1": "墨と紙", "sentence2": f"硯{i}", "label": label} for i, label in enumerate(labels)]
        (folder / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)))


PAIR = {"sentence1": "墨と紙", "sentence2": "硯", "label": 1.0}
CHOICES = {"question": "墨は？", **{f"choice{i}": "黒" for i in range(5)}, "label": 4}
ENTITY = {"start": 0, "end": 2, "type": "地名"}


@pytest.mark.parametrize(
    ("task", "good", "changed", "said"),
    [
        ("jsts", PAIR, {"sentence1": None}, "sentence1 is not a text: null"),
        ("jsts", PAIR, {"label": "3"}, 'label is not a number: "3"'),
        ("jsts", PAIR, {"label": math.nan}, "label is not a number: NaN"),
        ("jnli", PAIR | {"label": "neutral"}, {"sentence2": 5}, "sentence2 is not a text: 5"),
        ("jnli", PAIR | {"label": "neutral"}, {"label": None}, "label is not a text: null"),
        ("jcommonsenseqa", CHOICES, {"label": 5}, "label is 5, not one of 0 to 4"),
        ("jcommonsenseqa", CHOICES, {"label": -1}, "label is -1, not one of 0 to 4"),
        ("jcommonsenseqa", CHOICES, {"choice3": ["黒"]}, "choice3 is not a text"),
        ("ner", {"text": "東京", "entities": [ENTITY]}, {"text": None}, "text is not a text: null"),
        ("ner", {"text": "東京", "entities": []}, {"entities": [ENTITY | {"start": "0"}]}, "start is not an integer"),
        (
            "ner",
            {"text": "東京", "entities": []},
            {"entities": [ENTITY | {"end": 3}]},
            "0 to 3 in a text of 2 characters",
        ),
        ("jsts", PAIR, None, "KeyError: 'sentence1'"),
    ],
)
def test_one_odd_example_is_found_before_training(run_tool, tmp_path, task, good, changed, said):
    (tmp_path / task).mkdir()
    bad = {} if changed is None else good | changed
    for split, lines in (("train", [good, good]), ("valid", [good, good, bad])):
        (tmp_path / task / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = run_tool("finetune", "no such model", task, "--tasks", tmp_path, status=1)
    error = done.stderr.decode() if isinstance(done.stderr, bytes) else done.stderr
    assert f"{task}/valid.jsonl: line 3: not in the format of {task}" in error and said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"text": "東京", "answer_start": 1}, "the answer '東京' is not in its context at answer_start, 1"),
        ({"text": "東京", "answer_start": "0"}, 'answer_start is not an integer: "0"'),
        (None, "has no answer, as in SQuAD 2.0"),
    ],
)
def test_one_odd_answer_is_found_before_training(tmp_path, answer, said):
    questions = [{"question": "首都は？", "answers": [answer] if answer else []}]
    data = {"data": [{"paragraphs": [{"context": "東京は首都だ。", "qas": questions}]}]}
    (tmp_path / "valid-v1.3.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=re.escape(said)):
        read_file(TASKS["jsquad"], str(tmp_path / "valid-v1.3.json"))


@pytest.mark.parametrize("task", ["jsts", "jsick"])
def test_a_run_that_diverges_has_no_figures(finetune, tmp_path, trained, task):  # noqa: F811
    labels = [0.5, 1.5, 2.5, 3.5] if task == "jsts" else ["yes", "no", "yes", "no"]
    write_task(tmp_path, task, labels * 4, labels)
    options = ("--tasks", tmp_path, "--seeds", 1, "--epochs", 2, "--learning-rates=1e30")
    stderr = run_warm("finetune", small_model(trained, tmp_path / "m"), task, *options, status=1).stderr.decode()
    assert f"{task}: seed 0 diverged at a learning rate of 1e+30; try lower ones" in stderr


@pytest.mark.parametrize("rates", ["nan", "inf", "1e-4,nan", "0", "-1"])
def test_rates_that_are_not_rates(run_tool, tmp_path, rates):
    done = run_tool("finetune", "x", "jsts", "--tasks", tmp_path, f"--learning-rates={rates}", status=2)
    assert b"not learning rates" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("jsts", "--max-train", 1),
            "jsts: one example cannot train and choose a learning rate",
        ),
        (
            ("jsick", "--max-train", 1, "--learning-rates=1e-3"),
            "nothing to learn: every training example says yes",
        ),
        (("jsts", "--max-valid", 1), "jsts: a correlation needs validation examples with different labels; use more"),
    ],
)
def test_too_few_examples(finetune, tmp_path, trained, options, said):  # noqa: F811
    write_task(tmp_path, "jsts", [1, 2, 3], [1, 2, 3])
    write_task(tmp_path, "jsick", ["yes"], ["yes", "no", "no"])
    folder = tmp_path / "model"
    shutil.copytree(trained["char"], folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    stderr = run_warm("finetune", folder, options[0], "--tasks", tmp_path, *options[1:], status=1).stderr
    assert said in stderr.decode().splitlines()[-1] and b"Traceback" not in stderr


def test_labels_that_training_never_showed(run_tool, tmp_path):
    assert unseen(TASKS["ner"], [{"entities": [(0, 1, "a")]}], [{"entities": [(0, 1, "a"), (1, 2, "b")]}]) == {"b": 1}
    assert unseen(TASKS["jsts"], [{"label": 1}], [{"label": 2}]) == {}
    write_task(tmp_path, "jsick", ["yes", "no"], ["yes", "maybe", "maybe"])
    done = run_tool("finetune", "bag-of-words", "jsick", "--tasks", tmp_path, status=None)
    assert "1 labels in the validation examples are in no training example: maybe (2)" in done.stderr.decode()


def test_a_run_of_one_step_learns(finetune, trained, tmp_path):  # noqa: F811
    """transformers' warm-up gives the first step the rate 0: a run of one step has no warm-up."""
    import torch
    from suzuri.progress import Progress

    small_model(trained, tmp_path / "m")
    examples = toy("classes", 4)
    features = Features(TASKS["jsick"], Encoder(str(tmp_path / "m")), 16, examples)
    given = {"epochs": 1, "batch_size": 4, "precision": "fp32", "learning_rate": 1e-2, "warmup_ratio": 0.1}
    given |= {"weight_decay": 0.0, "pooling": "cls"}
    with Progress() as bar:
        before = finetune.make_model(TASKS["jsick"], str(tmp_path / "m"), 2, False, "cls")
        trainer = finetune.fit(features, str(tmp_path / "m"), examples, given, 0, False, bar)
    moved = [
        not torch.equal(a, b) for a, b in zip(before.bert.parameters(), trainer.model.bert.parameters(), strict=True)
    ]
    assert trainer.state.global_step == 1 and any(moved)
