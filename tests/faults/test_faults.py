"""Faults injected into the tools and into make; `make test-faults` runs all of them and prints a table.

Each is a Fault with a class, a name and a function that injects it and returns the outcome (subjects.py). Those that
are `fast` also run in `make test`.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fuzzing import TARGETS, fuzz
from subjects import (
    CAUSES,
    MAKE,
    ROOT,
    SUBJECTS,
    ZSTD,
    Case,
    check_messages,
    differences,
    environment,
    inputs,
    judge,
    new_case,
    share,
    shim,
    undisturbed,
)
from websites import FAULTS as WEB_FAULTS
from websites import PAGE, website


@dataclass(frozen=True)
class Fault:
    kind: str
    name: str
    inject: Callable[[Path], str]
    fast: bool = False


FAULTS: list[Fault] = []


def fault(kind, name, inject, fast=False):
    FAULTS.append(Fault(kind, name, inject, fast))


def begin(subject, folder):
    """(what the subject makes undisturbed, a new case of it in FOLDER, the files there that it must leave alone)"""
    case = new_case(subject, folder)
    return undisturbed(subject), case, case.others()


# --- kills and signals ------------------------------------------------------------------------------------------------


def signalled(subject, number, moment, again=None):
    """The whole process group gets a signal at `moment`, a part of the time that the command takes."""

    def inject(folder):
        expected, case, others = begin(subject, folder / "case")
        process = case.start()
        time.sleep(moment * expected.seconds)
        try:
            os.killpg(process.pid, number)
            if again:
                time.sleep(0.2)
                os.killpg(process.pid, again)
        except ProcessLookupError:
            pass
        case.end(process)
        time.sleep(0.05)
        return judge(case, expected, others, killed=number != signal.SIGSTOP)

    return inject


chance = random.Random(1)
for name, times in {"shuffle": 8, "tokenizer": 8, "pack": 7, "chain": 9, "train": 8, "sample": 4}.items():
    for i in range(times):
        part = round(chance.uniform(0.1, 1), 3)
        fault(
            "kill -9 of all",
            f"{name} at {part}",
            signalled(SUBJECTS[name], signal.SIGKILL, part),
            i == 0 and name != "train",
        )
for name in ("shuffle", "tokenizer", "pack", "chain", "train"):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        part = round(chance.uniform(0.3, 0.9), 3)
        fault("signals", f"{name} {number.name} at {part}", signalled(SUBJECTS[name], number, part), name == "shuffle")
    part = round(chance.uniform(0.2, 0.8), 3)
    stopped = signalled(SUBJECTS[name], signal.SIGSTOP, part, signal.SIGCONT)
    fault("signals", f"{name} STOP, CONT at {part}", stopped, name == "pack")


# --- calls of the C library (shim.c) ----------------------------------------------------------------------------------


def disturbed_call(subject, program, call, n, what, cause=""):
    def inject(folder):
        expected, case, others = begin(subject, folder / "case")
        case.run(LD_PRELOAD=shim(), FAULT_PROGRAM=program, FAULT_CALL=call, FAULT_N=str(n), FAULT_DO=str(what),
                 FAULT_UNDER=str(folder))  # fmt: skip
        killed = what in ("kill", "killafter", "term")
        return judge(case, expected, others, killed=killed, cause=cause)

    return inject


WRITERS = {
    "split": "split-sentences", "filter": "filter-sentences", "extract": "extract-wiki", "shuffle": "shuffle-split",
    "tokenizer": "train-tokenizer", "unigram": "train-tokenizer", "pack": "pack-tokens", "segment": "segment-words",
    "show": "show-shard", "sample": "pack-sample", "train": "train-mlm", "cat": "cat-text",
}  # fmt: skip
for name, program in WRITERS.items():
    subject = SUBJECTS[name]
    for n in (1, 3) if name not in ("segment", "show", "unigram") else (1,):
        for code in (28, 5):
            if n == 1 or code == 28:
                inject = disturbed_call(subject, program, "write", n, code, CAUSES[str(code)] + "|disk")
                fault(
                    f"write: {CAUSES[str(code)]}", f"{name}, write {n}", inject, name in ("shuffle", "pack") and n == 1
                )
    if name not in ("sample", "unigram"):
        inject = disturbed_call(subject, program, "read", 2, 5, "Input/output error")
        fault("read: Input/output error", f"{name}, read 2", inject, name == "split")
    for call in ("read", "write"):
        for what in ("short", "eintr"):
            inject = disturbed_call(subject, program, call, 1, what)
            fault("short and interrupted calls", f"{name}, {call} {what}", inject, (name, call) == ("pack", "write"))
for name in ("filter", "shuffle", "tokenizer", "pack", "train", "sample", "split", "extract"):
    for n in (1, 2):
        for what in ("kill", "killafter"):
            inject = disturbed_call(SUBJECTS[name], WRITERS[name], "rename", n, what)
            fault("kill -9 around a rename", f"{name}, {what} rename {n}", inject, name == "shuffle")
    for call in ("rename", "fsync"):
        inject = disturbed_call(SUBJECTS[name], WRITERS[name], call, 1, 5, "Input/output error")
        fault(f"{call} fails", name, inject, name == "pack")
PIPE = (
    "cat-text",
    "split-sentences",
    "filter-sentences",
    "shuffle-split",
    "cat data/text",
    "train-tokenizer",
    "pack-tokens",
)
for program in PIPE:
    for call, n in (("write", 1), ("write", 2), ("read", 2), ("rename", 1)):
        if call == "rename" and program in ("cat-text", "cat data/text", "split-sentences"):
            continue
        for what in ("kill", "term") if call == "write" else ("kill",):
            inject = disturbed_call(SUBJECTS["chain"], program, call, n, what)
            fault(
                "one program of a pipe killed",
                f"{program}, {what} at {call} {n}",
                inject,
                (program, n) == ("cat-text", 1),
            )
for program in PIPE:
    inject = disturbed_call(SUBJECTS["chain"], program, "read", 1, 5, "Input/output error")
    fault("one program of a pipe: EIO", f"{program}, read", inject)
    inject = disturbed_call(SUBJECTS["chain"], program, "write", 1, 28, "No space left|disk")
    fault("one program of a pipe: ENOSPC", f"{program}, write", inject)
for program in ("mv", "write-manifest", "hold-lock", "check-disk"):
    inject = disturbed_call(SUBJECTS["chain"], f"{program} ", "rename", 1, "kill")
    fault("kill -9 around a rename", f"chain, {program}", inject)


# --- file systems and limits ------------------------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, options: str):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def small_disk(subject, spare, mended, cause):
    """The command on a file system with little left; then there is enough."""

    def inject(folder):
        expected = undisturbed(subject)
        with mounted(folder / "disk", "size=400m"):
            case = new_case(subject, folder / "disk/case")
            others = case.others()

            def remount(options):
                subprocess.run(["mount", "-o", f"remount,{options}", folder / "disk"], check=True)

            used = sum(p.stat().st_blocks * 512 for p in (folder / "disk").rglob("*"))
            nodes = sum(1 for _ in (folder / "disk").rglob("*"))
            remount(spare.format(size=(used // 4096 + 12) * 4096, nodes=nodes + 4))
            case.run()
            return judge(case, expected, others, cause=cause, mend=lambda: remount(mended))

    return inject


for name in ("split", "filter", "shuffle", "tokenizer", "pack", "train", "chain", "sample"):
    subject = SUBJECTS[name]
    inject = small_disk(subject, "size={size}", "size=400m", "No space left|disk|free")
    fault("a full disk (tmpfs)", name, inject, name == "shuffle")
    inject = small_disk(subject, "nr_inodes={nodes}", "nr_inodes=0", "No space left|disk|free")
    fault("out of inodes (tmpfs)", name, inject)
    if name not in ("split", "filter"):  # bash cannot open their result
        fault("a read-only disk", name, small_disk(subject, "ro", "rw", "Read-only|no permission"))


def little_memory(subject, megabytes):
    def inject(folder):
        expected, case, others = begin(subject, folder / "case")
        case.run(limit=megabytes << 20)
        return judge(case, expected, others, cause="memory|Memory|allocate|thread")

    return inject


for name in ("cat", "split", "filter", "extract", "shuffle", "segment", "show"):
    for megabytes in (60, 150):
        fault("ulimit -v", f"{name}, {megabytes} MB", little_memory(SUBJECTS[name], megabytes), name == "show")


def redirected(subject, old, new, cause):
    def inject(folder):
        expected, case, others = begin(subject, folder / "case")
        assert old in subject.script
        case.run(subject.script.replace(old, new))
        return judge(case, expected, others, cause=cause)

    return inject


for name in ("cat", "split", "filter", "extract", "segment", "show"):
    subject = SUBJECTS[name]
    fault(
        "standard streams", f"{name} >/dev/full", redirected(subject, ">out.tmp", ">/dev/full", "No space left"), True
    )
    fault("standard streams", f"{name} >&-", redirected(subject, ">out.tmp", ">&-", ""), name == "cat")
for name in ("split", "filter", "shuffle", "tokenizer", "pack", "segment"):
    subject = SUBJECTS[name]
    file = subject.script.partition("<")[2].split()[0]
    fault("standard streams", f"{name} <&-", redirected(subject, f"<{file}", "<&-", ""), name == "split")
    fault("standard streams", f"{name} 2>/dev/full", redirected(subject, f"<{file}", f"<{file} 2>/dev/full", ""))
    fault("standard streams", f"{name} 2>&-", redirected(subject, f"<{file}", f"<{file} 2>&-", ""))


# --- files that are damaged -------------------------------------------------------------------------------------------


def cut_at(part):
    return lambda data: data[: int(len(data) * part)]


def flip(part):
    def damage(data):
        at = min(int(len(data) * part), len(data) - 1)
        return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]

    return damage


def damaged(subject, name, damage, cause=None, prepare=None):
    """An input is damaged; the error names it; then it is put right."""

    def inject(folder):
        expected = undisturbed(subject)
        case = new_case(subject, folder / "case")
        if prepare:
            prepare(case)
        path = case.folder / name
        data = path.read_bytes()
        path.write_bytes(damage(data))
        others = case.others()
        case.run()

        def mend():
            path.write_bytes(data)
            others.update(case.others())

        return judge(case, expected, others, cause=path.name if cause is None else cause, mend=mend)

    return inject


DAMAGE = {
    "cut at 0": cut_at(0), "cut at 0.001": cut_at(0.001), "cut at 0.5": cut_at(0.5), "cut at 0.99": cut_at(0.99),
    "bit at 0": flip(0), "bit at 0.3": flip(0.3), "bit at 0.6": flip(0.6), "bit at 1": flip(1),
    "zeros": lambda data: bytes(len(data)), "HTML": lambda data: PAGE,
}  # fmt: skip
for extension in ("xz", "gz", "bz2", *(["zst"] if ZSTD else [])):
    for how, damage in DAMAGE.items():
        inject = damaged(SUBJECTS["cat"], f"in.txt.{extension}", damage)
        fault("damaged archives", f"{extension}, {how}", inject, how in ("cut at 0.5", "HTML"))
for how, damage in DAMAGE.items():
    fault("damaged archives", f"wiki.json.bz2, {how}", damaged(SUBJECTS["extract"], "wiki.json.bz2", damage))


def resealed(case):
    """A manifest for the shards, as make writes it."""
    subprocess.run(["write-manifest", "shards"], cwd=case.folder, env=environment(), check=True, capture_output=True)


for how, damage in DAMAGE.items():
    fault(
        "damaged shards", f"show-shard, {how}", damaged(SUBJECTS["show"], "shards/train-000.safetensors", damage)
    ) if ("bit at 0.6" not in how and "bit at 1" not in how and "bit at 0.3" not in how) else None
    inject = damaged(SUBJECTS["train"], "shards/train-001.safetensors", damage, prepare=resealed)
    fault("damaged shards", f"train-mlm, {how}", inject)
for how in ("cut at 0", "cut at 0.5", "HTML", "bit at 0.6"):
    inject = damaged(SUBJECTS["train"], "shards/valid.safetensors", DAMAGE[how], prepare=resealed)
    fault("damaged shards", f"train-mlm, valid, {how}", inject)
for how in ("cut at 0", "cut at 0.5", "bit at 0.6", "zeros"):
    for subject, program in (("pack", "pack-tokens"), ("train", "train-mlm")):
        fault(
            "damaged tokenizers",
            f"{program}, vocab.txt, {how}",
            damaged(SUBJECTS[subject], "tok/vocab.txt", DAMAGE[how], "tok"),
        )
    inject = damaged(SUBJECTS["pack"], "tok/tokenizer_config.json", DAMAGE[how], "tok")
    fault("damaged tokenizers", f"pack-tokens, tokenizer_config.json, {how}", inject)
for file in ("model.safetensors", "config.json", "vocab.txt"):
    for how in ("cut at 0", "cut at 0.5", "zeros", "HTML"):
        inject = damaged(SUBJECTS["fill"], f"model/{file}", DAMAGE[how], "model")
        fault("damaged models", f"fill-mask, {file}, {how}", inject)
for file in ("recipe.json", "model.json"):
    for how in ("cut at 0", "cut at 0.5", "zeros", "HTML"):
        inject = damaged(SUBJECTS["train"], file, DAMAGE[how])
        fault("damaged settings", f"{file}, {how}", inject)


def damaged_checkpoint(pattern, damage):
    """Training is ended by a signal, what it left is damaged, and training goes on."""

    def inject(folder):
        subject = SUBJECTS["train"]
        expected, case, others = begin(subject, folder / "case")
        case.run(LD_PRELOAD=shim(), FAULT_PROGRAM="train-mlm", FAULT_CALL="rename", FAULT_N="6", FAULT_DO="killafter",
                 FAULT_UNDER=str(folder))  # fmt: skip
        paths = [p for p in sorted(case.folder.rglob(pattern)) if "out" in str(p.relative_to(case.folder))]
        assert case.status and paths, f"{case.status}: nothing like {pattern} was left: {sorted(case.names())}"
        newest = max(paths, key=lambda p: p.stat().st_mtime_ns)
        newest.write_bytes(damage(newest.read_bytes()))
        case.run()
        check_messages(case, "")
        if case.status == 0:
            assert case.results() == expected.results, differences(case.results(), expected.results)
            return judge(case, expected, others)
        assert newest.name in case.err or newest.parent.name in case.err, case.err
        assert not case.results(), case.err
        shutil.rmtree(next(p for p in newest.parents if p.parent == case.folder))
        case.run()
        assert case.status == 0 and case.results() == expected.results, case.err
        return "stopped cleanly"

    return inject


for pattern in ("step-*.safetensors", "checkpoints/run.json", "checkpoints/shards.json", "metrics.jsonl"):
    for how in ("cut at 0", "cut at 0.5", "bit at 0.6", "zeros", "HTML"):
        fault("damaged checkpoints", f"{pattern}, {how}", damaged_checkpoint(pattern, DAMAGE[how]))


def verified(path, damage):
    """verify-manifest of what `make shards-own` made names the file that is damaged."""

    def inject(folder):
        subject = SUBJECTS["chain"]
        expected, case, others = begin(subject, folder / "case")
        case.run()
        assert case.status == 0, case.err
        case.run("verify-manifest data")
        assert case.status == 0, case.err
        target = case.folder / path
        data = target.read_bytes()
        if damage is None:
            shutil.rmtree(target.parent) if target.name == "manifest.json" else target.unlink()
        elif damage == "stranger":
            target.with_name("stranger.txt").write_text("x")
        else:
            target.write_bytes(damage(data))
        case.run("verify-manifest data >verified.txt")
        said = case.err + (case.folder / "verified.txt").read_text()
        (case.folder / "verified.txt").unlink()
        assert "Traceback" not in case.err, case.err
        assert case.status == 1, f"not noticed:\n{said}"
        named = "stranger.txt" if damage == "stranger" else target.parent.name if damage is None else target.name
        assert named in said, f"{named} is not named:\n{said}"
        if damage == "stranger":
            target.with_name("stranger.txt").unlink()
        elif damage is None:
            shutil.rmtree(case.folder / "data/text"), shutil.rmtree(case.folder / "data/shards", ignore_errors=True)
            shutil.rmtree(case.folder / "data/tokenizer", ignore_errors=True)
        else:
            target.write_bytes(data)
        case.run()
        assert case.status == 0 and case.results() == expected.results, case.err
        assert case.others() == others
        return "stopped cleanly"

    return inject


MADE = ("text/own/train-000.txt", "text/own/valid.txt", "text/own/manifest.json", "tokenizer/vocab.txt",
        "tokenizer/tokenizer_config.json", "tokenizer/manifest.json", "shards/own/train-001.safetensors",
        "shards/own/valid.safetensors", "shards/own/manifest.json")  # fmt: skip
for path in MADE:
    fault("verify", f"{path}, a bit", verified(f"data/{path}", flip(0.5)), path.startswith("shards/own/train"))
for path in ("text/own/manifest.json", "tokenizer/manifest.json", "shards/own/manifest.json"):
    fault("verify", f"{path} is {{", verified(f"data/{path}", lambda data: b"{\n"))
    fault("verify", f"{Path(path).parent} is gone", verified(f"data/{path}", None))
    fault("verify", f"a stranger in {Path(path).parent}", verified(f"data/{path}", "stranger"))
fault("verify", "raw/own.txt, a bit", verified("data/raw/own.txt", flip(0.5)))


# --- the network ------------------------------------------------------------------------------------------------------


def web_fault(subject, name):
    answer, wanted, cause = WEB_FAULTS[name]

    def inject(folder):
        site = inputs() / ("" if subject.name == "fetch" else "site3")
        with website(site) as server:
            address = server.url + ("wiki.json.bz2" if subject.name == "fetch" else "")
            case = new_case(subject, folder / "case", URL=address)
            expected = undisturbed(subject, address)
            others = case.others()
            server.count, server.fault = 0, answer
            case.run()
            assert server.count < 300, f"{server.count} requests"
            assert "\x1b" not in case.err and "\x07" not in case.err, "control characters from the server"

            def mend():
                server.fault = None

            outcome = judge(case, expected, others, cause=cause, mend=mend)
        assert wanted in ("", outcome), f"{outcome}, should have {wanted}"
        return outcome

    return inject


FAST_WEB = ("404", "500 then well", "cut and resumed", "reset once", "HTML", "empty", "length too long",
            "redirect loop", "206 unasked, whole", "no length")  # fmt: skip
for name in WEB_FAULTS:
    fault("HTTP, one file", name, web_fault(SUBJECTS["fetch"], name), name in FAST_WEB)
for name in ("404", "500 then well", "503 for ever", "429 then well", "cut and resumed", "reset once", "HTML", "empty",
             "204", "length too long", "206 unasked, whole", "206 unasked, half", "zeros",
             "another file at each request"):  # fmt: skip
    fault("HTTP, a dump", name, web_fault(SUBJECTS["jawiki"], name))


def short_length(folder):
    """A Content-Length that is too small: only what unpacks the file can see it, and says which one to fetch again."""
    subject = SUBJECTS["fetch"]
    with website(inputs()) as server:
        case = new_case(subject, folder / "case", URL=f"{server.url}wiki.json.bz2")
        expected = undisturbed(subject, case.env["URL"])
        others = case.others()
        server.fault = lambda request, body: request.send(200, body, Content_Length=len(body) - 7)
        case.run(f"{subject.script} && cat-text out.json.bz2")
        assert case.status, "half a file was taken for a whole one"
        check_messages(case, "out.json.bz2")
        server.fault = None
        (case.folder / "out.json.bz2").unlink()
        case.run()
        return "stopped cleanly" if judge(case, expected, others) == "survived" else ""


fault("HTTP, one file", "length too short", short_length)


# --- the user's own files ---------------------------------------------------------------------------------------------


def in_the_way(subject, arrange, cause):
    """Something of the user's has the name of a result or of its temporary files: it stays."""

    def inject(folder):
        expected = undisturbed(subject)
        case = new_case(subject, folder / "case")
        arrange(case.folder)
        new = [p for p in case.folder.rglob("*") if p.is_file() and p.stat().st_size == 4 and p.read_text() == "mine"]
        kept = {str(p.relative_to(case.folder)): p.read_bytes() for p in new}
        case.run()
        check_messages(case, cause if case.status else "")
        for name, data in kept.items():
            assert (case.folder / name).exists() and (case.folder / name).read_bytes() == data, f"{name} is lost"
        found = {k: v for k, v in case.results().items() if k not in kept}
        outcome = "stopped cleanly" if case.status else "survived"
        if case.status:
            assert not found, f"{sorted(found)} after an error"
            for name in {name.partition("/")[0] for name in kept}:  # the user moves them away
                os.rename(case.folder / name, folder / name)
            case.run()
            found = case.results()
        assert case.status == 0 and found == expected.results, case.err + differences(found, expected.results)
        return outcome

    return inject


def file_there(folder):
    (folder / "out").write_text("mine")


def foreign_folder(folder):
    (folder / "out").mkdir()
    (folder / "out/mine.txt").write_text("mine")


def foreign_part(folder):
    (folder / "out.part").mkdir()
    (folder / "out.part/mine.txt").write_text("mine")


def linked_folder(folder):
    (folder / "elsewhere").mkdir()
    (folder / "out").symlink_to("elsewhere")


def foreign_part_file(folder):
    (folder / "out.part").write_text("mine")
    (folder / "mine.part").write_text("mine")


for name in ("shuffle", "tokenizer", "train", "sample"):
    for what, arrange, cause in (
        ("a file has the folder's name", file_there, "out"),
        ("a folder with a file of the user's", foreign_folder, "out"),
        ("out.part of the user's", foreign_part, ""),
        ("a link to a folder", linked_folder, ""),
    ):
        fault("the user's files", f"{name}: {what}", in_the_way(SUBJECTS[name], arrange, cause), name == "shuffle")


def make_in_the_way(path, kind):
    def inject(folder):
        subject = SUBJECTS["chain"]
        expected = undisturbed(subject)
        case = new_case(subject, folder / "case")
        target = case.folder / "data" / path
        if kind == "file":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("mine")
            mine = target
        elif kind == "link":
            (case.folder / "disk2").mkdir()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(case.folder / "disk2")
            mine = None
        else:
            target.mkdir(parents=True)
            mine = target / "mine.txt"
            mine.write_text("mine")
        case.run()
        check_messages(case, Path(path).name if case.status else "")
        if mine:
            assert mine.exists() and mine.read_text() == "mine", f"{mine} is lost"
        if case.status:
            assert kind != "link", case.err
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            case.run()
            assert case.status == 0, case.err
        else:
            assert kind != "link" or target.is_symlink(), "the link is lost"
        found = {k: v for k, v in case.results().items() if "mine" not in k}
        assert found == expected.results or kind == "link", differences(found, expected.results)
        return "stopped cleanly" if kind == "file" else "survived"

    return inject


for path in ("text/own", "tokenizer", "shards/own", "shards/own/train-000.safetensors"):
    for kind in ("file", "folder", "link") if "." not in path else ("folder",):
        fault("the user's files", f"make: {path} is a {kind}", make_in_the_way(path, kind))


# --- make -------------------------------------------------------------------------------------------------------------


def hostile_data(name):
    """Refused in one line, at once; nothing is made or run."""

    def inject(folder):
        for goal, status in (("shards-own", 2), ("help", 0)):
            command = ["make", "-f", ROOT / "Makefile", goal, f"DATA={name}"]
            done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
            assert done.returncode == status, done.stderr
            assert done.stderr.count("\n") == (1 if status else 0), done.stderr
        assert not list(folder.iterdir())
        return "stopped cleanly"

    return inject


def hostile_file(name):
    """Reported in one line; the other corpora are made all the same."""

    def inject(folder):
        subject = SUBJECTS["chain"]
        case = new_case(subject, folder / "case")
        (case.folder / "data/raw" / name).write_text("硯で墨をする。\n")
        case.run(f"{MAKE} -n build-dataset-own")
        assert case.status == 0 and case.err.count("\n") == 1, case.err
        assert not list(folder.rglob("PWN*"))
        return "stopped cleanly"

    return inject


HOSTILE = ["a;touch PWN", "a b", "a'b", 'a"b', "a&b", "a:b", "a%b", "a$b", "a$(touch PWN)", "a\\b", "a#b", "a*",
           "`touch PWN`", "a|b", "a>PWN", "(a)", "{a,b}", "~", "a\nb", "a=b"]  # fmt: skip
for name in HOSTILE:
    fault("hostile names", f"DATA={name!r}", hostile_data(name), name in ("a;touch PWN", "a b"))
    if "/" not in name and name != "~":
        fault("hostile names", f"raw/{name!r}.txt", hostile_file(f"{name}.txt"), name == "a#b")
for name in ("ja.txt", "jawiki.txt", "cc100-ja.txt", "own.txt.part.txt"):
    fault("hostile names", f"raw/{name}", hostile_file(name))


def two_makes(kill):
    """A second make waits, or is refused; the first one's work is whole."""

    def inject(folder):
        subject = SUBJECTS["chain"]
        expected = undisturbed(subject)
        case, second = new_case(subject, folder / "case"), Case(subject, folder / "case")
        others = case.others()
        process = case.start()
        time.sleep(0.3 * expected.seconds)
        other = second.start()
        if kill:
            time.sleep(0.1 * expected.seconds)
            os.killpg(process.pid, signal.SIGKILL)
        second.end(other)
        case.end(process)
        assert second.status == 0 or "another run" in second.err, second.err
        return judge(case, expected, others, killed=kill)

    return inject


fault("two at once", "two makes", two_makes(False))
fault("two at once", "two makes, the first killed", two_makes(True))


def jobs(n):
    def inject(folder):
        subject = SUBJECTS["chain"]
        expected, case, others = begin(subject, folder / "case")
        case.run(f"{subject.script} -j{n}")
        return judge(case, expected, others)

    return inject


fault("two at once", "make -j1", jobs(1))
fault("two at once", "make -j8", jobs(8))


def two_clones(folder):
    """Another clone of the project, in another folder, makes the same bytes and takes those of the first as its own."""
    subject = SUBJECTS["chain"]
    expected = undisturbed(subject)
    clone = folder / "clone"
    clone.mkdir()
    for name in ("Makefile", "bin", "lib", "configs"):
        copy = shutil.copy if (ROOT / name).is_file() else shutil.copytree
        copy(ROOT / name, clone / name)
    (clone / ".venv").symlink_to((ROOT / ".venv").resolve())
    case = new_case(subject, folder / "case")
    others = case.others()
    case.run(subject.script.replace(str(ROOT), str(clone)))
    return judge(case, expected, others)


fault("two at once", "two clones", two_clones)


def two_tools(subject):
    """The same command twice at the same time, into the same folder: at least one is right, and none half."""

    def inject(folder):
        expected = undisturbed(subject)
        case, second = new_case(subject, folder / "case"), Case(subject, folder / "case")
        others = case.others()
        process, other = case.start(), second.start()
        second.end(other)
        case.end(process)
        assert 0 in (case.status, second.status), case.err + second.err
        check_messages(second, "")
        return judge(case, expected, others)

    return inject


for name in ("shuffle", "tokenizer", "pack", "train", "sample"):
    fault("two at once", f"{name} twice", two_tools(SUBJECTS[name]))


# --- generated input --------------------------------------------------------------------------------------------------

for name, target in TARGETS.items():
    for number in range(4):
        fault("generated input", f"{name}, seed {number}", lambda _, t=target, n=number: fuzz(t, n))


def test_names_are_unique():
    names = [(f.kind, f.name) for f in FAULTS]
    assert len(names) == len(set(names)) >= 300


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, id=f"{f.kind}: {f.name}".encode("unicode_escape").decode(), marks=[pytest.mark.fast] * f.fast)
        for f in FAULTS
    ],
)
def test_fault(fault, tmp_path, tmp_path_factory, record_property):
    share(tmp_path_factory.getbasetemp())
    record_property("fault", fault.kind)
    outcome = fault.inject(tmp_path)
    assert outcome in ("survived", "stopped cleanly")
    record_property("outcome", outcome)
    shutil.rmtree(tmp_path, ignore_errors=True)
