"""write-report: facts, escaping, determinism, sampling; and the page in a real browser."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import unicodedata
import warnings
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import wait_for
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("jinja2", reason="needs configs/requirements-eval.txt")
pytest.importorskip("matplotlib", reason="needs configs/requirements-eval.txt")

from suzuri.report import data_reader, formats, model_sections, page, plots
from suzuri.report.model_sections import CURVES, task_curves
from suzuri.report.sections import all_sections
from suzuri.shards import shard_file

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ["Text", "Token sequences", "Tokenizer", "Training", "Fill-mask", "Evaluation", "Provenance"]
# One of each kind that filter-sentences drops, so that each is sure to be shown.
NASTY = [
    '<script>alert("x")</script> & <b>no Japanese</b>',
    "\\displaystyle <i>数式のある文</i> & a|b `c` *d*",
    f"長い文<u>{'と' * 1000}。",
]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # tiny models: more threads only wait for one another
MASKED = ["日本の首都は[MASK]です。", "<b>[MASK]</b>と[MASK]。"]


@pytest.fixture(scope="module")
def data(tmp_path_factory, run_tool):
    """A DATA folder with a dataset with a Japanese name, up to its model, and one that has only text."""
    data = tmp_path_factory.mktemp("report") / "data"
    text = min((ROOT / "data/sample").glob("*/*.txt")).read_text()
    lines = [line for line in text.split("\n") if line][:250]
    for name, some in (("硯", lines), ("plain", lines[:40])):
        stats = data / ".stats" / name
        (data / "raw/tasks").mkdir(parents=True, exist_ok=True)
        stats.mkdir(parents=True)
        source = data / f"{name}.txt"
        source.write_text("\n".join([*some, *some[:5], *NASTY]) + "\n")
        run_tool("fetch-url", source, data / "raw" / f"{name}.txt")
        run_tool("fetch-url", source, data / "raw/tasks" / f"{name}.json")
        source.unlink()
        split = run_tool(
            "split-sentences", "--stats", stats / "split-sentences.json", stdin="\n".join([*some, *some[:5]])
        )
        kept = run_tool(
            *("filter-sentences", "--stats", stats / "filter-sentences.json", "--dropped", stats / "dropped.tsv"),
            stdin=split.stdout + "\n".join(NASTY).encode() + b"\n",
        )
        counts = [a for file in sorted(stats.glob("*.json")) for a in ("--counts", file)]
        run_tool("shuffle-split", "--valid-lines", 20, *counts, data / "text" / name, stdin=kept.stdout)
    text, tokenizer, packed = data / "text/硯", data / "tokenizer", data / "shards/硯"
    run_tool("train-tokenizer", "--vocab-size", 1200, tokenizer, stdin=(text / "train-000.txt").read_bytes())
    packed.mkdir(parents=True)
    for part in ("train-000", "valid"):
        shard = packed / f"{part}.safetensors"
        run_tool("pack-tokens", "--tokenizer", tokenizer, shard, stdin=(text / f"{part}.txt").read_bytes())
    run_tool("write-manifest", "--source", tokenizer, packed)
    recipe = {"model_config_file": "model.json", "max_steps": 3, "logging_steps": 1, "batch_tokens": 512}
    recipe |= {"chunk_tokens": 512, "micro_batch_tokens": 512, "eval_steps": 2}
    model = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    here = data.parent
    (here / "recipe.json").write_text(json.dumps(recipe))
    (here / "model.json").write_text(json.dumps({"model_type": "bert", **model}))
    run_tool(
        *("train-mlm", here / "recipe.json", "--train", packed, "--valid", packed / "valid.safetensors"),
        *("--tokenizer", tokenizer, "--output", data / "models/m-硯"),
        env=ONE_THREAD,
    )
    (data / "eval").mkdir()
    (data / "eval/m-硯.json").write_text(
        json.dumps({"loss": 5.25, "accuracy": 0.125, "perplexity": 190.6, "tokens": 99})
    )
    for weights, mean, deviation in (("pre-trained", 0.7126, 0.0031), ("random", 0.251, None), (None, 0.711, None)):
        scores = {"pearson": {"mean": mean, "deviation": deviation, "values": [mean]}}
        result = {"task": "jsts", "model": "data/models/m-硯", "weights": weights, "metrics": scores, "settings": {}}
        (data / f"eval/jsts-{weights}.json").write_text(json.dumps(result))
    early = {"pearson": {"mean": 0.4, "deviation": None, "standard_error": 0.02, "values": [0.4]}}
    result = {"task": "jsts", "model": "data/models/m-硯/snapshots/000000000999", "weights": "pre-trained"}
    (data / "eval/jsts-early.json").write_text(json.dumps(result | {"metrics": early}))
    return data


@pytest.fixture(scope="module")
def written(data, run_tool):
    """The folder of the whole report."""
    out, masked = data.parent / "out", data.parent / "masked.txt"
    masked.write_text("\n".join(MASKED) + "\n")
    run_tool("write-report", "--data", data, "--fill-mask", masked, out, env=ONE_THREAD)
    return out


class Page(HTMLParser):
    """A strict reading: every element closed in order. `elements`: [(tag, {attribute: value})]; `text` by tag."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, text):
        self.texts.append((tuple(self.open), text))

    def inside(self, tag):
        return [text for path, text in self.texts if tag in path]


@pytest.fixture(scope="module")
def html(written):
    return Page((written / "index.html").read_text())


@pytest.fixture(scope="module")
def markdown(written):
    return (written / "report.md").read_text()


def every_row(text):
    """[(first cell, [other cell, …]), …] of all tables of a Markdown text."""
    lines = [re.split(r" *(?<!\\)\| *", line)[1:-1] for line in text.split("\n") if line.startswith("|")]
    return [(first, rest) for first, *rest in lines]


def rows(text):
    return dict(every_row(text))


def test_sections_in_both(html, markdown):
    assert html.inside("h2") == SECTIONS
    assert re.findall("^## (.*)", markdown, re.M) == SECTIONS
    assert html.inside("h1") == ["suzuri report"]
    assert html.inside("h3") == re.findall("^### (.*)", markdown, re.M)[: len(html.inside("h3"))]
    for title in html.inside("summary"):
        assert f"\n### {page.escape_markdown(title)}\n" in markdown


def test_counts_are_those_of_the_manifest(data, markdown):
    table = rows(markdown)
    for i, name in enumerate(("plain", "硯")):
        counts = json.loads((data / "text" / name / "manifest.json").read_text())["counts"]
        assert table["too short"][i].startswith(f"{counts['filter-sentences']['too_short']:,} (")
        duplicates, read = (counts["shuffle-split"][k] for k in ("duplicates_dropped", "sentences_in"))
        assert duplicates >= 5
        assert table["duplicates dropped"][i] == f"{duplicates} ({100 * duplicates / read:.1f} %)"
    sequences = len(shard_file.Shard(data / "shards/硯/train-000.safetensors"))
    assert "| 硯" in markdown and f" {sequences} |" in markdown


def test_tokenizer_figures_are_those_of_show_shard(data, markdown, run_tool):
    stats = run_tool("show-shard", "--stats", "--tokenizer", data / "tokenizer", data / "shards/硯/valid.safetensors")
    stats = dict(line.split("\t") for line in stats.stdout.decode().splitlines())
    table = rows(markdown)
    for key in ("tokens of text", "unknown", "words", "pieces per word", "characters per piece"):
        assert float(table[key][-1].replace(",", "")) == pytest.approx(float(stats[key]), rel=1e-3), key


def test_training_and_evaluation(data, markdown):
    lines = [json.loads(line) for line in (data / "models/m-硯/metrics.jsonl").read_text().splitlines()]
    losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
    table = rows(markdown)
    assert table["validation loss, before"] == [f"{losses[0]:.4g}"]
    assert table["validation loss, after"] == [f"{losses[-1]:.4g}"]
    assert table["steps"] == ["3"]
    assert re.search(r"\*\*Training loss\*\*.*\n\n    m-硯  [▁-█]{3}  ", markdown)
    assert markdown.count("- 日本の首都は\\[MASK\\]です。") == 1
    assert markdown.count("- \\<b\\>\\[MASK\\]\\</b\\>と") == 2  # one a mask
    assert table["random weights"] == ["0.251"]
    assert table["perplexity"] == ["190.6"]
    assert table["bag of words"] == ["0.711"]
    shown = [cells for name, cells in every_row(markdown) if name == "m-硯"]
    assert ["0.713 ± 0.003 (not above bag of words)"] in shown
    assert table["m-硯 after 999 tokens"] == ["0.400, SE 0.020 (not above bag of words)"]
    assert re.search(r"\*\*m-硯: tasks\*\*.*\n\n    jsts pearson  [▁-█]{2}  from 0.4 at 999 to 0.7126 at ", markdown)


def test_provenance(data, html, markdown):
    record = json.loads((data / "raw/硯.txt.json").read_text())
    for text in ("".join(text for _, text in html.texts), markdown):
        for found in (
            record["sha256"],
            *(json.loads((data / "tokenizer/manifest.json").read_text())["outputs"]).values(),
        ):
            assert (found if isinstance(found, str) else found["sha256"]) in text
    assert record["url"] in "".join(text for _, text in html.texts)
    fetched = ["plain.txt", "硯.txt", "tasks/plain.json", "tasks/硯.json"]  # and no records
    assert [name for name, *_ in data_reader.sources(data)] == fetched


def test_what_the_corpus_holds_is_text(html, markdown):
    shown = "\n".join(text for path, text in html.texts if "style" not in path)
    for line in NASTY[:2]:
        assert line in shown
    assert "<u>ととと" in shown and "… (1,007 characters)" in shown
    assert not {"script", "u"} & {tag for tag, _ in html.elements}
    # The only <b> is a plot's title, the only <i> its key.
    titles = {"Sentence lengths", "Sequence lengths", *(title for _, title, _ in CURVES), "m-硯: tasks"}
    assert set(html.inside("b")) == titles
    assert html.inside("i") == []
    assert '\\<script\\>alert("x")\\</script\\> \\& \\<b\\>no Japanese\\</b\\>' in markdown


def test_scores_against_the_tokens_of_all_stages():
    first = data_reader.Model("first", "", None, {}, [], None, {"tokens seen": 80})
    second = data_reader.Model("second", "", None, {}, [], "first", {"tokens seen": 20})
    first.chain, second.chain = [first], [first, second]

    def result(model, score, weights="pre-trained"):
        return {"task": "jsts", "model": model, "weights": weights, "metrics": {"pearson": {"mean": score}}}

    scores = {"m/first/snapshots/000000000030": 0.3, "m/first": 0.6}
    scores |= {"m/second/snapshots/000000000010": 0.7, "m/second": 0.8}
    results = [result(model, score) for model, score in scores.items()]
    results += [result("m/second", 0.1, "random"), result("m/other", 0.9)]
    [(_, [plot])] = task_curves(results, [first, second])
    assert plot.title == "second: tasks"
    assert plot.series == {"jsts pearson": ((30, 80, 90, 100), (0.3, 0.6, 0.7, 0.8))}
    assert plot.log


def test_nothing_to_fetch_and_every_link_leads_somewhere(html):
    ids = {attrs["id"] for _, attrs in html.elements if "id" in attrs}
    assert len(ids) == len(SECTIONS)
    for tag, attrs in html.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            if name in attrs:
                assert attrs[name].startswith("data:") or attrs[name].removeprefix("#") in ids, (tag, attrs)
    css = "".join(html.inside("style"))
    assert "url(" not in css and "@import" not in css
    assert "script" not in [tag for tag, _ in html.elements]


def images(html):
    return [attrs for tag, attrs in html.elements if tag == "img"]


def test_plots_have_words_and_only_glyphs_of_their_font(html):
    assert len(images(html)) == 3 + len(CURVES)
    for image in images(html):
        assert len(image["alt"]) > 40
        svg = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).decode()
        fonts, glyphs = zip(*re.findall(r'href="#([A-Za-z-]+)-([0-9a-f]+)"', svg), strict=True)
        assert set(fonts) == {"DejaVuSans"} and not {"0", "00"} & {*glyphs}  # glyph 0 is the empty box
        assert "currentColor" in svg and plots.INK not in svg
        ET.fromstring(svg)


def test_same_input_same_bytes(data, run_tool, tmp_path):
    """Whatever the process's hash seed, locale, time zone, folder and matplotlib settings."""
    env = {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo", "MPLCONFIGDIR": str(tmp_path / "mpl")}
    (tmp_path / "matplotlibrc").write_text("svg.fonttype: none\nfont.size: 30\n")
    run_tool("write-report", "--data", os.path.relpath(data, tmp_path), "--seed", 3, "out", cwd=tmp_path, env=env)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["index.html", "manifest.json", "report.md"]
    run_tool("write-report", "--data", data, "--seed", 3, tmp_path / "again")
    for name in ("index.html", "report.md"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def text_of(found):
    return page.as_markdown(found, "foot")


def test_a_seed_draws_examples_and_nothing_else(data):
    first, again, other = (text_of(all_sections(data, seed)) for seed in (0, 0, 1))
    assert first == again != other
    changed = [a for a, b in zip(first.split("\n"), other.split("\n"), strict=True) if a != b]
    kept = (data / "text/硯/train-000.txt").read_text().split("\n") + (
        data / "text/plain/train-000.txt"
    ).read_text().split("\n")
    escaped = {f"- {page.escape_markdown(line)}" for line in kept}
    assert len(set(changed) & escaped) > 10
    assert all(line in escaped or "(" in line or line.startswith("|") for line in changed)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (["text", ".stats", "shards"], "No text yet"),
        (["text"], "硯: not finished yet"),
        (["shards"], "No shards yet"),
        (["tokenizer"], "No tokenizer yet"),
        (["models"], "No models yet"),
        (["eval"], "No evaluation yet"),
        (
            ["eval/jsts-random.json", "eval/jsts-pre-trained.json", "eval/jsts-None.json", "eval/jsts-early.json"],
            "No tasks yet",
        ),
        (["models/m-硯/manifest.json"], "m-硯: still in training"),
        (["text/硯", "shards", "tokenizer", "models", "raw", "eval"], "No shards yet"),
    ],
)
def test_partly_made(data, tmp_path, gone, said):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    for name in gone:
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = all_sections(str(copy), 0)
    assert any(said in text for _, blocks in found for kind, text in blocks if kind == "missing")
    assert text_of(found).count("\n## ") == len(SECTIONS)


def test_a_run_at_work_is_reported(data, tmp_path):
    copy = tmp_path / "data"
    (copy / "models").mkdir(parents=True)
    run = copy / "models/m.part"
    shutil.copytree(data / "models/m-硯", run)
    (run / "manifest.json").unlink()
    with open(run / "metrics.jsonl", "a") as f:
        f.write('{"step": 4, "loss": NaN, "grad_norm": null}\n{"step": 5, "lo')  # cut short by a kill
    text = text_of(all_sections(str(copy), 0))
    assert "m: still in training" in text and rows(text)["steps"] == ["4"]
    assert not re.search(r"\bnan\b", text, re.I)


def test_an_empty_folder_and_none(tmp_path, run_tool):
    (tmp_path / "data").mkdir()
    done = run_tool("write-report", "--data", tmp_path / "data", tmp_path / "out")
    assert b"write-report: 8 sections, 7 parts not made yet" in done.stderr
    Page((tmp_path / "out/index.html").read_text())
    done = run_tool("write-report", "--data", tmp_path / "none", tmp_path / "out", status=1)
    assert done.stderr.decode() == f"write-report: {tmp_path / 'none'}: no such folder\n"
    (tmp_path / "file").write_text("")
    done = run_tool("write-report", "--data", tmp_path / "data", tmp_path / "file", status=1)
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("file", "section"),
    [
        ("text/硯/manifest.json", "Text"),
        ("shards/硯/train-000.safetensors", "Token sequences"),
        ("tokenizer/vocab.txt", "Tokenizer"),
        ("models/m-硯/manifest.json", "Training"),
        ("eval/m-硯.json", "Evaluation"),
        ("raw/硯.txt.json", "Provenance"),
    ],
)
def test_a_damaged_file_costs_its_section_only(data, tmp_path, file, section, capsys):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[: len(whole) // 2])
    found = dict(all_sections(str(copy), 0))
    assert "missing" in [kind for kind, _ in found[section]]
    spared = [s for s in SECTIONS if found[s][0][0] != "missing"]
    assert len(spared) >= 3
    assert list(found)[1:] == SECTIONS


def test_bytes_that_are_not_utf8(data, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(data / ".stats", copy / ".stats")
    shutil.copytree(data / "text", copy / "text")
    (copy / ".stats/硯/dropped.tsv").write_bytes(b"too short\t\xff\xfe\x00\x07\n")
    with open(copy / "text/硯/train-000.txt", "wb") as f:
        f.write("壊れた\x07\u202e文です\ue000。\n".encode() + b"\xe3\x81\n")
    html = page.as_html(all_sections(str(copy), 0), "foot")
    assert "\ufffd\ufffd‹U+0000›‹U+0007›" in html and "壊れた‹U+0007›\u202e文です‹U+E000›。" in html
    assert not re.search("[\x00-\x09\x0b-\x1f]", html)


def test_large_files_are_sampled(data, tmp_path, bin_dir):
    """20 GB of text, a shard of half a billion tokens (both sparse): small memory, short time."""
    copy = tmp_path / "data"
    for part in (".stats", "text", "tokenizer"):
        shutil.copytree(data / part, copy / part)
    lines = (copy / "text/硯/train-000.txt").read_bytes()
    with open(copy / "text/硯/train-000.txt", "wb") as f:
        f.write(lines * (1 + data_reader.TEXT_BYTES // len(lines)))
        f.truncate(20 << 30)
    shutil.copytree(data / "shards", copy / "shards")
    shard, tokens = copy / "shards/硯/train-000.safetensors", 500_000_000
    offsets = np.arange(0, tokens + 1, 25, dtype="<i8")
    metadata = shard_file.Shard(shard).metadata | {"num_sequences": len(offsets) - 1, "num_tokens": tokens}
    spans = {"offsets": ("I64", len(offsets), 8, 0), "tokens": ("U16", tokens, 2, 8 * len(offsets))}
    header = {"__metadata__": {k: str(v) for k, v in metadata.items()}} | {
        name: {"dtype": code, "shape": [n], "data_offsets": [at, at + n * size]}
        for name, (code, n, size, at) in spans.items()
    }
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(shard, "wb") as f:
        f.write(len(head).to_bytes(8, "little") + head + offsets.tobytes())
        f.truncate(f.tell() + 2 * tokens)
    # A small process in between: what is forked from pytest counts pytest's own memory as its peak.
    code = "import resource as r, subprocess as s, sys; s.run(sys.argv[1:], check=True); "
    code += "used = r.getrusage(r.RUSAGE_CHILDREN); print(used.ru_maxrss, used.ru_utime)"
    command = [sys.executable, "-c", code, bin_dir / "write-report", "--data", copy, tmp_path / "out"]
    kilobytes, seconds = map(float, subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert kilobytes < 250_000
    assert seconds < 20
    assert "| 20,000,000 | 500,000,000 |" in (tmp_path / "out/report.md").read_text()


# --- the parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (1234567, "1,234,567"),
        (0.000123456, "0.0001235"),
        (123456.7, "123,457"),
        (2.0, "2"),
        (1.5, "1.5"),
    ],
)
def test_figure(value, shown):
    assert formats.figure(value) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(94, 1222, "7.7 %"), (0, 5, "0 %"), (1, 0, "–"), (1, 1250, "0.08 %"), (1, 10**6, "0.0001 %"), (5, 5, "100.0 %")],
)
def test_percent(part, whole, shown):
    assert formats.percent(part, whole) == shown


@settings(deadline=None)  # the first time the template is compiled
@given(st.text())
def test_any_text_survives_html(text):
    """In every kind of block, and in attributes."""
    plot = plots.Plot("Loss", "step", "loss", {text: ([1, 2], [3, 4])}, note=text)
    every = [("heading", text), ("text", text), ("missing", text), ("tiles", [(text, text)]), ("plots", [plot])]
    every += [formats.table([text], [text, [text]], "j"), ("sentences", [(text, [(text, text)])])]
    every = [*every, ("pieces", [(text, text)]), ("beside", [every]), ("details", (text, every))]
    with mock.patch.object(plots, "draw", lambda plot: b""):
        html = page.as_html([(text, every), (text, [])], text)
    assert "".join(Page(html).inside("h3")) == 3 * formats.visible(text)


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1))
def test_any_text_stays_in_its_markdown_cell(cells):
    lines = page.markdown_table(formats.table(["a", "b"], cells)[1]).split("\n")
    assert len(lines) == 2 + len(cells)
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3


def test_markdown_columns_line_up():
    _, table = formats.table(["", "数"], ["段", ["漢字かな", "12 (3 %)"], ["abc", 7], ["–", None]])
    lines = page.markdown_table(table).split("\n")
    assert len({page.width(line) for line in lines}) == 1
    assert lines[1].endswith(":|") or lines[1].endswith(": |")


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50))
def test_sparkline(values):
    line = page.spark(values)
    assert len(line) == len(values)
    assert line[int(np.argmin(values))] == "▁"
    if max(values) > min(values):
        assert line[int(np.argmax(values))] == "█"


def test_thinning_keeps_the_mean():
    xs, ys = plots.thin_out(range(100_000), np.sin(np.arange(100_000.0)))
    assert len(xs) == len(ys) == plots.POINTS
    assert ys.mean() == pytest.approx(np.sin(np.arange(100_000.0)).mean(), abs=1e-9)
    assert plots.thin_out([1, 2], [3, 4])[1].tolist() == [3, 4]


def test_a_plot_never_draws_a_name():
    series = {"日本語の名": (list(range(5000)), np.linspace(-9, 9, 5000).tolist()), "\U0002f81a": ([1, 2], [0.5, 1e-7])}
    plot = plots.Plot("Loss", "step", "loss", series)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = plots.draw(plot)
    assert svg == plots.draw(plot)
    assert len(svg) < 60_000
    html = page.as_html([("t", [("plots", [plot])])], "foot")
    assert "日本語の名</li>" in html and "日本語の名: from -9 at 0 to 9 at 4,999" in html


def test_unknown_characters():
    pieces = ["東", "##京", "都##", "##", "#", "a"]
    total, unknown = data_reader.unknown_characters(["東京 \u3000は#都", "はa"], pieces)
    assert (total, dict(unknown)) == (7, {"は": 2})


def test_beginning_takes_whole_sequences(data, monkeypatch):
    shard = shard_file.Shard(data / "shards/硯/train-000.safetensors")
    for limit in (1, int(shard.offsets[2]), int(shard.offsets[2]) + 1, 10**9):
        monkeypatch.setattr(data_reader, "TOKENS", limit)
        part = data_reader.beginning(shard)
        assert len(part.tokens) == part.offsets[-1] == shard.offsets[len(part.offsets) - 1]
        assert len(part.offsets) - 1 == max(1, sum(end <= limit for end in shard.offsets[1:]))


def test_models_come_after_what_they_began_with(tmp_path):
    for name, init in (("a", "c"), ("b", None), ("c", "b")):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        inputs = {"../../shards/x.safetensors": "0" * 64, **({f"../{init}": "0" * 64} if init else {})}
        manifest = {"format": "suzuri-manifest/1", "inputs": inputs, "outputs": {}, "counts": {}, "settings": {}}
        manifest |= {"unlisted": []}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    assert [(m.name, m.init) for m in data_reader.models(tmp_path)] == [("b", None), ("c", "b"), ("a", "c")]


def test_a_folder_of_fetched_files_is_one_source(tmp_path):
    folder = tmp_path / "raw/jawiki"
    folder.mkdir(parents=True)
    outputs = {f"{n}.json.bz2": {"bytes": 100, "sha256": "0" * 64} for n in range(3)}
    manifest = {"format": "suzuri-manifest/1", "outputs": outputs, "settings": {"source": "https://example.org/"}}
    manifest |= {"inputs": {}, "counts": {}, "unlisted": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "raw/web").mkdir()
    for n in range(3):
        (tmp_path / f"raw/web/{n}.txt").write_bytes(bytes(n))
    assert data_reader.sources(tmp_path) == [
        ("jawiki", "https://example.org/", 300, None),
        ("web (3 files)", None, 3, None),
    ]


# --- in a browser -------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs a browser (Debian: apt install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs configs/requirements-eval.txt")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def show(browser, address, width, scheme="light"):
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    for log in ("browser", "performance"):
        browser.get_log(log)  # empties it
    browser.get(address)


def pixels(browser):
    """The visible page: int [height, width, 3]."""
    from matplotlib.image import imread

    return (imread(io.BytesIO(browser.get_screenshot_as_png()))[..., :3] * 255).astype(int)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "light"), (375, "dark")])
def test_page_in_a_browser(browser, written, width, scheme):
    address = (written / "index.html").as_uri()
    show(browser, address, width, scheme)
    run = browser.execute_script

    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    asked = [p["request"]["url"] for p in asked if p["documentURL"] == address]
    assert address in asked
    assert all(url == address or url.startswith("data:") for url in asked)

    assert run("return innerWidth") == width
    run("for (const d of document.querySelectorAll('details')) d.open = true")
    assert run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    # Nothing sticks out, except in boxes that scroll.
    wide = """return [...document.querySelectorAll('body *')].filter(e => !e.closest('.box') || e.matches('.box'))
      .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML)"""
    assert run(wide) == []
    assert run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert run("return document.images.length") == 3 + len(CURVES)
    assert run("return [...document.querySelectorAll('h2')].map(h => h.textContent)") == SECTIONS
    assert run("return [...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    # Each plot is drawn in the page's own ink, at a size at which 11 points can be read.
    assert run("return Math.min(...[...document.images].map(i => i.getBoundingClientRect().width))") >= 300
    dark = scheme == "dark"
    run("document.images[0].scrollIntoView()")
    left, top, width, height = run(
        "const r = document.images[0].getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"
    )
    seen = pixels(browser)[int(top) : int(top + height), int(left) : int(left + width)].mean(-1)
    assert (np.median(seen) < 60) == dark  # the paper
    assert (seen.max() > 180) if dark else (seen.min() < 90)  # the ink


def test_a_page_that_is_wrong_would_be_seen(browser, written, tmp_path):
    """The checks above can fail: a script is refused and reported; a wide table and a broken picture are found."""
    html = (written / "index.html").read_text()
    bad = html.replace(
        "<main>", '<main><script>1</script><div style="width:2000px">x</div><img alt="" src="data:image/svg+xml,x">'
    )
    (tmp_path / "bad.html").write_text(bad)
    show(browser, (tmp_path / "bad.html").as_uri(), 375)
    entries = []  # they come when the browser has time to send them
    wait_for(lambda: entries.extend(browser.get_log("browser")) or "Content Security Policy" in str(entries))
    assert browser.execute_script("return document.documentElement.scrollWidth") > 375
    wait_for(lambda: browser.execute_script("return [...document.images].some(i => i.complete && !i.naturalWidth)"))


def test_terminal_twin_has_no_pictures_and_no_wide_lines_of_padding(markdown):
    assert "![" not in markdown and "data:" not in markdown and "<img" not in markdown
    assert not re.search(r" {70}", markdown)
    assert all(unicodedata.category(c) != "Cc" for c in markdown.replace("\n", ""))


def test_results_that_are_older_than_their_model(tmp_path):
    for name in ("m", "n"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "manifest.json").write_text("{}")
    (tmp_path / "eval/tasks/n").mkdir(parents=True)
    (tmp_path / "eval/m.json").write_text('{"loss": 1.0}')
    (tmp_path / "eval/tasks/n/jsts.json").write_text(json.dumps({"task": "jsts", "model": f"{tmp_path}/models/n"}))
    assert data_reader.evaluations(str(tmp_path))[1] == []
    later = time.time() + 60
    for name in ("m", "n"):
        os.utime(tmp_path / "models" / name / "manifest.json", (later, later))
    assert data_reader.evaluations(str(tmp_path)) == ({}, ["m", "tasks/n/jsts"])
    (_, said), *_ = model_sections.evaluation_blocks(str(tmp_path))
    assert said == "m: older than its model: make eval."
