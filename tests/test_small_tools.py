"""check-disk, write-manifest, verify-manifest and pack-sample; what all tools have in common."""

import bz2
import json
import lzma
import os
import re
import shlex
import subprocess

import pytest
from conftest import ROOT

TOOLS = sorted(p.name for p in (ROOT / "bin").iterdir())
FILTERS = ["split-sentences", "filter-sentences", "extract-wiki", "segment-words", "cat-text"]
TEXT = "昔々あるところにおじいさんがいました。おばあさんもいました。\n"


@pytest.mark.parametrize("tool", TOOLS)
def test_help_has_an_example_and_answers_at_once(run_tool, tool):
    """At once: without importing what takes long."""
    done = run_tool(tool, "--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert tool in done.stdout.decode().partition("Example:\n")[2]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "suzuri.cli" in imported
    assert not imported & {"numpy", "torch", "transformers", "tokenizers", "fugashi", "matplotlib", "multiprocessing"}


@pytest.mark.parametrize("tool", TOOLS)
def test_version(run_tool, tool):
    assert re.fullmatch(rf"{tool} \(suzuri\) \d+\.\d+\.\d+\n", run_tool(tool, "--version").stdout.decode())


@pytest.mark.parametrize("tool", TOOLS)
def test_a_wrong_flag_is_a_usage_error(run_tool, tool):
    done = run_tool(tool, "--no-such-flag", status=2)
    assert done.stdout == b""
    assert b"--no-such-flag" in done.stderr or b"required" in done.stderr


@pytest.mark.parametrize("tool", FILTERS)
def test_a_filter_is_silent_when_its_reader_goes(tool):
    """yes … | tool | head -1: ended by SIGPIPE (141), nothing on stderr."""
    line = (
        '{"index":{"_id":1}}\n{"title":"a","namespace":0,"text":"' + "字" * 50 + '"}'
        if tool == "extract-wiki"
        else TEXT
    )
    script = f"yes {shlex.quote(line.strip())} | {ROOT}/bin/{tool} | head -1 >/dev/null; echo ${{PIPESTATUS[1]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "141"
    assert done.stderr.replace("cat-text: 1 file\n", "") == ""


@pytest.mark.parametrize("tool", FILTERS)
def test_a_full_disk_is_reported(tool):
    line = (
        '{"index":{"_id":1}}\n{"title":"a","namespace":0,"text":"' + "字" * 50 + '"}'
        if tool == "extract-wiki"
        else TEXT
    )
    script = f"yes {shlex.quote(line.strip())} | head -100000 | {ROOT}/bin/{tool} >/dev/full; echo ${{PIPESTATUS[2]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "1"
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("tool", FILTERS)
def test_any_locale_and_any_directory_through_a_link(run_tool, tool, tmp_path):
    (tmp_path / "link").symlink_to(ROOT / "bin" / tool)
    text = (
        TEXT.encode() if tool != "extract-wiki" else b'{"index":{"_id":1}}\n{"title":"a","text":"' + b"a" * 9 + b'"}\n'
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONUNBUFFERED": "1"}
    linked = subprocess.run([tmp_path / "link"], input=text, capture_output=True, cwd="/", env=env, check=True)
    assert linked.stdout == run_tool(tool, stdin=text).stdout != b""


def test_check_disk(run_tool, tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 1_000_000)
    done = run_tool("check-disk", "--for", "this test", "--factor", 3, tmp_path / "not/yet", tmp_path)
    assert b"this test: needs about 0.00 GB" in done.stderr
    done = run_tool("check-disk", "--need", "900T", tmp_path, status=1)
    assert done.stderr.startswith(b"check-disk: disk: this stage: needs about 900000.00 GB")
    run_tool("check-disk", "--factor", 1e12, "--lines", "1k", tmp_path, tmp_path / "a")
    done = run_tool("check-disk", "--lines", "1M", tmp_path)
    assert b"needs about 0.30 GB" in done.stderr


def test_manifest_written_and_verified(run_tool, tmp_path):
    (tmp_path / "raw").write_text("raw")
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "x.txt").write_text("硯")
    (tmp_path / "stats.json").write_text('{"tool": {"lines_in": 1}}')
    run_tool("write-manifest", "--source", "raw", "--set", "a=b", "--counts", "stats.json", "made", cwd=tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    sums = subprocess.run(["sha256sum", "made/x.txt", "raw"], cwd=tmp_path, capture_output=True, text=True, check=True)
    theirs = [line.split()[0] for line in sums.stdout.splitlines()]
    assert [manifest["outputs"]["x.txt"]["sha256"], manifest["inputs"]["../raw"]] == theirs
    assert manifest["settings"] == {"a": "b"} and manifest["counts"] == {"tool": {"lines_in": 1}}
    run_tool("verify-manifest", tmp_path)

    (tmp_path / "raw").unlink()
    assert run_tool("verify-manifest", tmp_path).stdout.endswith(b"raw: input is gone\n")
    (folder / "stranger").write_text("")
    (folder / "x.txt").write_text("墨")
    lines = run_tool("verify-manifest", tmp_path, status=1).stdout.decode().splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == [
        "sha256 differs from the manifest's",
        "input is gone",
        "not in the manifest",
    ]
    (folder / "x.txt").unlink()
    assert b"x.txt: missing" in run_tool("verify-manifest", folder, status=1).stdout


def test_a_tool_called_by_a_link_gives_its_own_name(tmp_path):
    """In the manifest, in messages and in the statistics."""
    for tool in ("write-manifest", "shuffle-split"):
        (tmp_path / f"my-{tool}").symlink_to(ROOT / "bin" / tool)
    (tmp_path / "made").mkdir()

    def run(*command, **kwargs):
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, **kwargs)

    done = run("./my-write-manifest", "made")
    assert (
        done.returncode == 0 and json.loads((tmp_path / "made/manifest.json").read_text())["tool"] == "write-manifest"
    )
    done = run("./my-write-manifest", "--set", "x", "made")
    assert done.stderr.splitlines()[-1].startswith("write-manifest: error: ")
    done = run("./my-shuffle-split", "--stats", "stats.json", "text", input="硯\n")
    assert done.stderr.startswith("shuffle-split: 1 sentences in")
    assert list(json.loads((tmp_path / "stats.json").read_text())) == ["shuffle-split"]
    assert list(json.loads((tmp_path / "text/manifest.json").read_text())["counts"]) == ["shuffle-split"]
    done = run(ROOT / "bin/shuffle-split", "text", input="硯\n")
    assert done.returncode == 0, "the folder is shuffle-split's, whatever it was called"


def test_a_record_of_fetch_url_is_not_believed_when_checking(run_tool, tmp_path):
    run_tool("fetch-url", ROOT / "README.md", tmp_path / "raw")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x.txt").write_text("硯")
    run_tool("write-manifest", "--source", tmp_path / "raw", folder)
    run_tool("verify-manifest", tmp_path)
    when = os.stat(tmp_path / "raw")
    damaged = bytearray((tmp_path / "raw").read_bytes())
    damaged[100] ^= 1
    (tmp_path / "raw").write_bytes(damaged)
    os.utime(tmp_path / "raw", ns=(when.st_atime_ns, when.st_mtime_ns))
    assert b"has changed since" in run_tool("verify-manifest", tmp_path, status=1).stdout


MINIMAL = {"format": "suzuri-manifest/1", "outputs": {}, "inputs": {}, "settings": {}, "counts": {}, "unlisted": []}


@pytest.mark.parametrize(
    "manifest, message",
    [
        (MINIMAL | {"tool": "train-mlm"}, b"by train-mlm"),
        ({"name": "PWA"}, b"not a manifest of suzuri"),
        (MINIMAL | {"tool": "shuffle-split"}, b"holds x, which shuffle-split did not make"),
        ("{", b"not a manifest of suzuri"),
    ],
)
def test_no_tool_replaces_what_it_did_not_make(run_tool, tmp_path, manifest, message):
    (tmp_path / "x").write_text("硯")
    (tmp_path / "manifest.json").write_text(manifest if manifest == "{" else json.dumps(manifest))
    assert message in run_tool("shuffle-split", "--valid-lines", 1, tmp_path, stdin=TEXT, status=1).stderr
    tool = ("fetch-jawiki", ROOT / "data/sample/jawiki", tmp_path)
    assert run_tool(*tool, status=1).stderr and (tmp_path / "x").read_text() == "硯"


def test_an_empty_folder_has_no_manifest(run_tool, tmp_path):
    assert b"no manifest.json here or below" in run_tool("verify-manifest", tmp_path, status=1).stderr


def test_sample_in_the_real_layouts(run_tool, tmp_path):
    run_tool("pack-sample", ROOT / "data/sample", tmp_path / "s")
    with lzma.open(tmp_path / "s/ja.txt.xz", "rt", encoding="utf-8") as f:
        paragraphs = f.read()
    for document in (ROOT / "data/sample/cc100/notes.txt").read_text().strip("\n").split("\n\n"):
        assert document in paragraphs
    (shard,) = (tmp_path / "s").rglob("*.json.bz2")
    with bz2.open(shard, "rt", encoding="utf-8") as f:
        records = [json.loads(line) for line in f]
    assert all("index" in action for action in records[::2])
    assert all(page["text"] and page["title"] for page in records[1::2])
    assert (shard.parent / "_SUCCESS").exists()


def test_the_sample_is_what_the_project_promises():
    """150 KB and 250 documents at least; no document twice."""
    texts = [p.read_text() for p in sorted((ROOT / "data/sample").rglob("*.txt"))]
    documents = [d for text in texts for d in text.strip("\n").split("\n\n")]
    assert sum(len(t.encode()) for t in texts) > 150_000 and len(documents) > 250
    assert len(set(documents)) == len(documents)
