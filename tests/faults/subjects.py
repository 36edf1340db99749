"""What faults are injected into: commands on a small corpus, and the judgement of what came of a fault.

survived          the command, or the same command again after a kill, has the same bytes as the undisturbed one
stopped cleanly   it ended with an error, said so in lines of its own that name the cause, left nothing wrong under a
                  final name, and the same command had the same bytes when the cause was mended
Anything else is an AssertionError: wrong bytes with exit status 0, a traceback, a hang, a file of the user's changed.
"""

import bz2
import fcntl
import fnmatch
import functools
import gzip
import hashlib
import json
import lzma
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HANGS = 120  # seconds; an undisturbed command takes at most ten
TOOLS = sorted(p.name for p in (ROOT / "bin").iterdir())
# Lines on stderr that are ours, make's, or those of the programs that bash and cat-text run.
OURS = re.compile(
    rf"({'|'.join(TOOLS)}|make(\[\d\])?|cat|mv|rm|mkdir|touch|bash|/\S*bash|xz|gzip|bzip2|zstd|\S*: line \d+)\b.*:|"
    r"== |.*\b(Killed|Terminated|Hangup|User defined signal|Broken pipe|Interrupt)\b|\s*$|usage: |  +"
)
CAUSES = {"28": "No space left", "5": "Input/output error", "30": "Read-only", "122": "quota"}
SPECIAL = {  # the settings of a model that trains in two seconds
    "model.json": {
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "max_position_embeddings": 64,
    },
    "recipe.json": {
        "model_config_file": "model.json",
        "batch_tokens": 512,
        "chunk_tokens": 256,
        "max_steps": 8,
        "learning_rate": 1e-2,
        "logging_steps": 2,
        "eval_steps": 4,
        "save_steps": 2,
        "eval_tokens": 500,
    },
}


SHARED: list[Path] = []


@dataclass(frozen=True)
class Subject:
    name: str
    script: str  # run by bash in a folder with copies of all inputs; its results are called out…
    ignored: tuple[str, ...] = ()  # patterns of results that differ from run to run: times, and sums of those
    results: tuple[str, ...] = ("out*",)


TEXT = ">out.tmp && mv out.tmp out.txt"
ZSTD = shutil.which("zstd")
TRAINED = ("*metrics.jsonl*", "*/runs/*", "*README.md", "*manifest.json", "*run.json", "*checkpoint*")
AMOUNTS = "VOCAB_SIZE=700 ALPHABET=600 NUM_FILES=2 MAX_SEQ_LENGTH=64"
MAKE = f"make -s -f {ROOT}/Makefile DATA=data TOKENIZER_CORPUS=own {AMOUNTS}"
SUBJECTS = {
    s.name: s
    for s in [
        Subject("cat", f"cat-text in.txt.xz in.txt.gz in.txt.bz2 {'in.txt.zst' if ZSTD else ''} {TEXT}"),
        Subject("split", f"split-sentences --stats out.json <in.txt {TEXT}"),
        Subject("filter", f"filter-sentences --stats out.json --dropped out.tsv <sentences.txt {TEXT}"),
        Subject("extract", f"cat-text wiki.json.bz2 | extract-wiki {TEXT}"),
        Subject("shuffle", "shuffle-split --valid-lines 10 --shards 2 out <sentences.txt"),
        Subject("tokenizer", "train-tokenizer --vocab-size 700 --alphabet 600 out <sentences.txt"),
        Subject("unigram", "train-tokenizer --type unigram --vocab-size 400 --alphabet 300 out <sentences.txt"),
        Subject("pack", "pack-tokens --tokenizer tok --max-seq-length 64 out.safetensors <sentences.txt"),
        Subject("segment", f"segment-words <sentences.txt {TEXT}"),
        Subject("show", f"show-shard --tokenizer tok shards/train-000.safetensors {TEXT}"),
        Subject("sample", "pack-sample sample out"),
        Subject(
            "chain", f"{MAKE} shards-own", ("*manifest.json.part",), ("data/text*", "data/tokenizer*", "data/shards*")
        ),
        Subject(
            "train",
            "train-mlm recipe.json --train shards --valid shards/valid.safetensors --tokenizer tok --output out",
            TRAINED,
        ),
        Subject("fetch", 'fetch-url --wait 0.02 --timeout 2 --retries 3 "$URL" out.json.bz2', ("out.json.bz2.json",)),
        Subject("jawiki", 'fetch-jawiki --wait 0.02 --timeout 2 --retries 3 "$URL" out', ("*manifest.json",)),
        Subject("verify", f"verify-manifest data {TEXT}"),
        Subject("eval", f"eval-mlm --json model shards/valid.safetensors {TEXT}"),
        Subject("fill", f"echo 私は[MASK]を見た。 | fill-mask model {TEXT}"),
        Subject("report", "write-report --data data out", ("*",)),
    ]
}


def environment(**more: str) -> dict[str, str]:
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "SUZURI_LOCK", "PROFILE", "DATA")
    env = {k: v for k, v in os.environ.items() if k not in inherited}
    path = f"{os.path.dirname(sys.executable)}:{ROOT}/bin:{env['PATH']}"
    return env | {"PATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"} | more


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def shared() -> Path:
    """A folder for what all processes of one run of the tests share; pytest removes it some runs later."""
    return SHARED[0]


def share(folder: Path) -> None:
    SHARED[:] = [folder / "shared" if "PYTEST_XDIST_WORKER" not in os.environ else folder.parent / "shared"]
    shared().mkdir(exist_ok=True)


@contextmanager
def once(path: Path) -> Iterator[bool]:
    """Whether the caller is to make PATH, which it does before any other process goes on."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not path.exists()


@functools.cache
def inputs() -> Path:
    """A folder with everything that the subjects read."""
    folder = shared() / "inputs"
    with once(folder) as missing:
        if missing:
            part = shared() / "inputs.part"
            part.mkdir()
            make_inputs(part)
            part.rename(folder)
    return folder


def make_inputs(folder: Path) -> None:

    def run(script):
        subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment(), check=True,
                       capture_output=True, timeout=300)  # fmt: skip

    text = b"".join((ROOT / "data/sample/cc100/daily.txt").read_bytes().splitlines(keepends=True)[:150])
    (folder / "in.txt").write_bytes(text)
    (folder / "in.txt.xz").write_bytes(lzma.compress(text))
    (folder / "in.txt.gz").write_bytes(gzip.compress(text, mtime=0))
    (folder / "in.txt.bz2").write_bytes(bz2.compress(text))
    if ZSTD:
        run("zstd -q in.txt")
    shutil.copytree(ROOT / "data/sample", folder / "sample")
    (folder / "data/raw").mkdir(parents=True)
    (folder / "data/raw/own.txt").write_bytes(text)
    for name, settings in SPECIAL.items():
        (folder / name).write_text(json.dumps(settings))
    run("pack-sample sample site && cp site/cirrus_search_index/*/*/*.bz2 wiki.json.bz2")
    run("split-sentences <in.txt | filter-sentences --min-chars 5 >sentences.txt")
    run(f"{MAKE} shards-own && mv data/tokenizer tok && mv data/shards/own shards")
    run("rm -r data/text data/shards data/.[sl]*")
    run(f"{SUBJECTS['train'].script.replace('--output out', '--output model')} && rm -rf model/runs")
    shutil.copytree(folder / "site/cirrus_search_index", folder / "site3")
    (packed,) = (folder / "site3").rglob("*.bz2")
    for i in (1, 2):
        shutil.copy(packed, str(packed).replace("00000", f"0000{i}"))


@dataclass
class Case:
    """One command in a folder of its own."""

    subject: Subject
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    status: int = 0
    err: str = ""

    def start(self, script: str | None = None, limit: int | None = None, **env: str) -> subprocess.Popen:
        """The command in a process group of its own; `limit` is the address space in bytes."""
        self.stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script or self.subject.script],
            cwd=self.folder,
            env=environment(**self.env, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.stderr,
            start_new_session=True,
            preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))),
        )

    def end(self, process: subprocess.Popen, seconds: float = HANGS) -> None:
        try:
            self.status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            pytest.fail(f"hangs: no end after {seconds} seconds\n{self.read_stderr()}")
        self.err = self.read_stderr()

    def read_stderr(self):
        self.stderr.seek(0)
        return self.stderr.read()

    def run(self, script: str | None = None, limit: int | None = None, **env: str) -> None:
        self.end(self.start(script, limit, **env))

    def files(self, *patterns: str) -> dict[str, str]:
        """{name: sha256} of the files whose names fit, results that are ignored left out."""
        found = {}
        for name in sorted(self.names()):
            if fits(name, patterns) and not fits(name, self.subject.ignored):
                found[name] = hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        return found

    def results(self) -> dict[str, str]:
        found = self.files(*self.subject.results)
        return {k: v for k, v in found.items() if not re.search(r"(\.part|\.tmp)($|[./-])|/\.|^\.", k)}

    def others(self) -> dict[str, str]:
        """The user's files: inputs and what else was there."""
        results = self.files(*self.subject.results)
        ours = ("data/.s", "data/.lock", "out", "data/text", "data/shards", "data/tokenizer")
        return {k: v for k, v in self.files("*").items() if k not in results and not k.startswith(ours)}

    def names(self) -> set[str]:
        return {
            os.path.relpath(os.path.join(folder, name), self.folder)
            for folder, _, names in os.walk(self.folder, followlinks=True)
            for name in names
        }


def new_case(subject: Subject, folder: Path, **env: str) -> Case:
    shutil.copytree(inputs(), folder, symlinks=True)
    if subject.name in ("verify", "report"):
        shutil.copytree(folder / "shards", folder / "data/shards/own")
    (folder / "mine.txt").write_text("the user's own\n")
    return Case(subject, folder, env)


@dataclass
class Undisturbed:
    results: dict[str, str]
    names: set[str]
    seconds: float


@functools.cache
def undisturbed(subject: Subject, url: str = "") -> Undisturbed:
    """The command without a fault, run once for all processes."""
    path = shared() / f"{subject.name}.json"
    with once(path) as missing:
        if missing:
            case = new_case(subject, shared() / subject.name, URL=url)
            began = time.monotonic()
            case.run()
            seconds = time.monotonic() - began
            assert case.status == 0, case.err
            path.write_text(json.dumps([case.results(), sorted(case.names()), seconds]))
            shutil.rmtree(case.folder)
    results, names, seconds = json.loads(path.read_text())
    assert results or subject.ignored == ("*",)
    return Undisturbed(results, set(names), seconds)


def check_messages(case: Case, cause: str) -> None:
    assert "Traceback" not in case.err and "Exception ignored" not in case.err, case.err
    assert "No child processes" not in case.err, case.err
    strange = [line for line in re.split(r"[\n\r]", case.err) if line and not OURS.match(line)]
    assert not strange, f"not a line of ours: {strange}\n{case.err}"
    if cause:
        assert re.search(cause, case.err), f"the cause ({cause}) is not named:\n{case.err}"


def judge(
    case: Case,
    expected: Undisturbed,
    others: dict[str, str],
    *,
    killed: bool = False,
    cause: str = "",
    mend: Callable[[], None] | None = None,
    before: dict[str, str] | None = None,
) -> str:
    """ "survived" or "stopped cleanly"; AssertionError for anything else. See the module's docstring.

    `others` are the user's files before the fault; `cause` is a pattern that the error must have; `mend` puts the cause
    right; `before` are the results that were there before.
    """
    now = case.others()
    changed = sorted(name for name in others if now.get(name) != others[name])
    assert not changed, f"the user's files have changed: {changed}"
    if not killed:
        check_messages(case, cause if case.status else "")
    assert "Traceback" not in case.err, case.err
    found = case.results()
    if case.status == 0:
        assert found == expected.results, f"wrong bytes with exit status 0\n{differences(found, expected.results)}"
        outcome = "survived"
    else:
        known = [*(before or {}).items(), *expected.results.items()]
        wrong = {k: v for k, v in found.items() if (k, v) not in known}
        assert not wrong, f"wrong under a final name: {sorted(wrong)}\n{case.err}"
        if not killed:
            assert any(line.startswith(tuple(TOOLS)) or "***" in line for line in case.err.splitlines()), (
                f"exit status {case.status} without a line:\n{case.err}"
            )
        outcome = "survived" if killed else "stopped cleanly"
    if mend:
        mend()
    case.run()
    assert case.status == 0, f"the same command again: {case.err}"
    check_messages(case, "")
    again = case.results()
    assert again == expected.results, f"the same command again: other bytes\n{differences(again, expected.results)}"
    litter = {name for name in case.names() - expected.names if not fits(name, case.subject.ignored)}
    assert not litter - set(others), f"left behind: {sorted(litter)}"
    return outcome


def differences(found: dict[str, str], expected: dict[str, str]) -> str:
    return "\n".join(
        f"{name}: {'missing' if name not in found else 'unexpected' if name not in expected else 'other bytes'}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    )


@functools.cache
def shim() -> str:
    """The library for LD_PRELOAD, compiled."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("needs a C compiler (cc) for the library that disturbs calls")
    library = shared() / "shim.so"
    source = Path(__file__).with_name("shim.c")
    with once(library) as missing:
        if missing:
            subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return str(library)
