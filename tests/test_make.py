"""The chain through make: both layouts over HTTP, nothing to do, settings, locks, kills, cleaning, your own corpus.

All of it runs on data/sample; here a skipped test counts as a failed one (conftest.py).
"""

import bz2
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, SLOW, cpu_seconds, wait_for
from http_server import serving
from suzuri import lock

SMALL = ["PROFILE=demo", "VOCAB_SIZE=1500", "MAX_SEQ_LENGTH=64", "JAWIKI_MAX_DOCUMENTS=250"]
OLD = "jawiki-20240701-cirrussearch-content.json.gz"
STEPS = "TRAIN_SET=max_steps=6 eval_steps=3 save_steps=3 warmup_steps=1 batch_tokens=2048 chunk_tokens=1024"


def environment():
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "SUZURI_LOCK", "PROFILE", "DATA")
    return {k: v for k, v in os.environ.items() if k not in inherited}


def make(*args, status=0, **kwargs):
    command = ["make", "-C", str(ROOT), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), **kwargs)
    if status is not None:
        assert done.returncode == status, done.stdout + done.stderr
    return done


def snapshot(folder):
    """Every file with its modification time and content."""
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p): (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files}


def contents(folder, *kinds):
    """{name: sha256} of the files that a run made, without those that hold times."""
    found = {}
    for kind in kinds:
        for p in sorted((Path(folder) / kind).rglob("*")):
            if p.is_file() and "tensorboard" not in str(p) and p.name != "metrics.jsonl":
                found[str(p.relative_to(folder))] = hashlib.sha256(p.read_bytes()).hexdigest()
    assert found
    return found


@pytest.fixture(scope="module", params=[True, False], ids=["range", "no-range"])
def site(request, sources):
    """The URL of a local HTTP server of `sources`, with and without byte ranges."""
    with serving(sources, ranges=request.param) as server:
        yield server.url


@pytest.fixture(scope="module")
def local(sources):
    """Make's variables that read the same sources from local files."""
    return [f"CC100_JA_URL={sources}/ja.txt.xz", f"JAWIKI_URL={sources}/cirrus_search_index"]


@pytest.fixture(scope="module")
def built(tmp_path_factory, local):
    """DATA after `make all`, and the variables that it was made with."""
    data = tmp_path_factory.mktemp("built")
    variables = [f"DATA={data}", *SMALL, *local, STEPS]
    make("all", *variables)
    return data, variables


def test_both_layouts_over_http(site, tmp_path, built):
    """The new layout (a newer date that is not finished is passed over) and the old one give the same sentences."""
    common = [*SMALL, f"CC100_JA_URL={site}ja.txt.xz", "JAWIKI_MAX_DOCUMENTS=0"]
    new, old = f"JAWIKI_URL={site}cirrus_search_index/", f"JAWIKI_URL={site}{OLD}"
    make("build-dataset-cc100-ja", "build-dataset-jawiki", f"DATA={tmp_path}/new", new, *common)
    make("build-dataset-jawiki", f"DATA={tmp_path}/old", old, *common)
    names = sorted(p.name for p in (tmp_path / "new/raw/jawiki").glob("*.bz2"))
    assert names == [f"jawiki_content-20260101-0000{i}.json.bz2" for i in range(3)]
    for part in ("valid.txt", "train-000.txt", "train-001.txt"):
        new, old = (tmp_path / kind / "text/jawiki" / part for kind in ("new", "old"))
        assert new.read_bytes() == old.read_bytes()
    assert contents(tmp_path / "new", "text/cc100-ja") == contents(built[0], "text/cc100-ja")


def test_nothing_to_do(built):
    data, variables = built
    make("-q", "all", *variables)
    before = snapshot(data)
    start = cpu_seconds()
    assert "Nothing to be done" in make("all", *variables).stdout
    assert cpu_seconds() - start < 1
    assert snapshot(data) == before


def test_a_dry_run_writes_nothing(built):
    data, variables = built
    before = snapshot(data)
    done = make("-n", "all", *variables, "SEED=7", "VOCAB_SIZE=1600")
    assert "shuffle-split" in done.stdout and "train-mlm" in done.stdout
    assert snapshot(data) == before
    make("-q", "all", *variables)
    make("-q", "all", *variables, "SEED=7", status=1)


@pytest.mark.parametrize(
    "change, remade, kept",
    [
        ("JAWIKI_MAX_VALIDATION_SENTENCE_NUM=90", {"text/jawiki", "tokenizer", "shards-cc100-ja"}, {"text/cc100-ja"}),
        ("VOCAB_SIZE=1600", {"tokenizer", "shards-jawiki"}, {"text/jawiki", "text/cc100-ja", "raw"}),
        ("UNIT=document", {"text/jawiki", "text/cc100-ja", "shards-jawiki"}, {"raw"}),
        ("CROP_PAIRS=1/2", {"shards-jawiki", "models"}, {"raw", "text/jawiki", "tokenizer"}),
        ("TRAIN_SET=max_steps=7", {"models"}, {"raw", "text/jawiki", "tokenizer", "shards-jawiki"}),
    ],
)
def test_a_changed_variable_remakes_what_depends_on_it(built, change, remade, kept):
    _, variables = built
    commands = make("-n", "all", *variables, change).stdout
    signs = {
        "raw": "fetch-",
        "text/cc100-ja": "build-dataset-cc100-ja",
        "text/jawiki": "build-dataset-jawiki",
        "tokenizer": "| train-tokenizer",
        "shards-cc100-ja": "shards-cc100-ja",
        "shards-jawiki": "shards-jawiki",
        "models": "train-mlm /",
    }
    assert {name for name in remade if signs[name] in commands} == remade
    assert {name for name in kept if signs[name] in commands} == set()


def test_counts_in_the_manifest_agree_with_the_files(built):
    data, _ = built
    for name in ("cc100-ja", "jawiki"):
        folder = data / "text" / name
        manifest = json.loads((folder / "manifest.json").read_text())
        lines = {p.name: len(p.read_text().splitlines()) for p in folder.glob("*.txt")}
        kept = manifest["counts"]["filter-sentences"]
        assert sum(lines.values()) + manifest["counts"]["shuffle-split"]["duplicates_dropped"] == kept["kept"]
        assert lines["valid.txt"] == {"cc100-ja": 60, "jawiki": 100}[name]
        joined = [line for n in sorted(lines) for line in (folder / n).read_text().splitlines()]
        assert len(joined) == len(set(joined)), "the same sentence twice"


def test_verify_finds_a_flipped_byte(built):
    data, variables = built
    make("verify", *variables)
    shard = data / "shards/jawiki/valid.safetensors"
    before, times = shard.read_bytes(), os.stat(shard)
    shard.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    done = make("verify", *variables, status=2)
    assert "shards/jawiki/valid.safetensors: sha256 differs" in done.stdout
    shard.write_bytes(before)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_the_model_works_in_transformers_alone(built):
    """Nothing of ours is imported: the folder is an ordinary Hugging Face model."""
    model = built[0] / "models/demo-jawiki"
    code = (
        "import sys; from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline\n"
        "p = pipeline('fill-mask', model=AutoModelForMaskedLM.from_pretrained(sys.argv[1]),"
        " tokenizer=AutoTokenizer.from_pretrained(sys.argv[1]))\n"
        "best = p('日本の首都は[MASK]である。', top_k=3)\n"
        "assert len(best) == 3 and best[0]['score'] >= best[1]['score'] > 0, best\n"
    )
    env = {**environment(), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code, str(model)], check=True, env=env, cwd="/")


# A file of each stage, finished or not, in the order in which they appear.
STAGES = [
    "text/cc100-ja*",
    "text/jawiki*",
    "tokenizer*",
    "shards/jawiki/*",
    "models/demo-cc100-ja*/c*",  # checkpoints or, at the end, config.json
    "models/demo-jawiki*/*",
]


@pytest.mark.parametrize("stages", [STAGES[1::4], pytest.param(STAGES, marks=SLOW)], ids=["some", "all"])
def test_killed_and_made_again(built, tmp_path, stages):
    """kill -9 of the whole run in some stages, or in all of them; the final result is that of an undisturbed run.
    (make test-faults kills the chain, too.)
    """
    data, variables = built
    command = ["make", "-C", str(ROOT), "all", f"DATA={tmp_path}/data", *variables[1:]]
    draw = random.Random(0)
    for i, stage in enumerate(stages):
        with open(tmp_path / "log", "w") as log:
            run = subprocess.Popen(command, stdout=log, stderr=log, env=environment(), start_new_session=True)
        wait_for(lambda run=run, stage=stage: run.poll() is not None or any((tmp_path / "data").glob(stage)))
        assert run.poll() is None, (tmp_path / "log").read_text()
        time.sleep(draw.random() / 2)  # somewhere in the stage
        if i % 2:  # only the topmost process: what it leaves behind has to end by itself
            run.kill()
        else:
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    make(*command[3:])
    kinds = ("text", "tokenizer", "shards")
    assert contents(tmp_path / "data", *kinds) == contents(data, *kinds)
    weights = "models/demo-jawiki/model.safetensors"
    assert (tmp_path / "data" / weights).read_bytes() == (data / weights).read_bytes()
    litter = [p for p in (tmp_path / "data").rglob("*") if ".part" in p.name or p.name.startswith("tmp")]
    assert litter == []


def test_a_signal_right_after_the_end_of_training_loses_nothing(built, tmp_path):
    """When a signal ends make, it deletes a changed target that it is working on, but must not delete a model."""
    data, variables = built
    subprocess.run(["cp", "-a", data, tmp_path / "copy"], check=True)
    manifest = tmp_path / "copy/models/demo-cc100-ja/manifest.json"
    # The recipe's last command, after the end of training: it holds make there.
    (tmp_path / "touch").write_text(f"#!/bin/sh\n: >{tmp_path}/holding\nsleep 600\n")
    (tmp_path / "touch").chmod(0o755)
    env = {**environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["make", "-C", str(ROOT), "train-model-cc100-ja", f"DATA={tmp_path}/copy", *variables[1:-1]]
    longer = STEPS.replace("max_steps=6", "max_steps=7")
    run = subprocess.Popen([*command, longer], env=env, start_new_session=True, stderr=subprocess.DEVNULL)
    wait_for(lambda: run.poll() is not None or (tmp_path / "holding").exists())
    assert run.poll() is None
    os.killpg(run.pid, signal.SIGTERM)
    assert run.wait(timeout=300) != 0
    assert json.loads(manifest.read_text())["counts"]["steps"] == 7


OWN = ["NUM_FILES=2", "VALIDATION_FRACTION=0.1", "TOKENIZER_CORPUS=letters", "PROFILE=demo", "VOCAB_SIZE=500"]


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """DATA with a small corpus of your own, up to its shards, and the arguments of make for it."""
    data = tmp_path_factory.mktemp("letters") / "data"
    (data / "raw").mkdir(parents=True)
    (data / "raw/letters.txt").write_text((ROOT / "data/sample/cc100/notes.txt").read_text())
    make("shards-letters", f"DATA={data}", *OWN)
    return data


@pytest.fixture
def own(letters, tmp_path):
    """A copy of it for one test."""
    return Path(shutil.copytree(letters, tmp_path / "data", symlinks=True))


def test_a_tokenizer_of_half_the_text_is_not_finished(letters, own):
    """cat is killed after some of the text: what train-tokenizer has made of that does not get the final name."""
    shutil.rmtree(own / "tokenizer")
    (own / "cat").write_text('#!/bin/sh\nhead -c 5000 "$1"; kill -9 $$\n')
    (own / "cat").chmod(0o755)
    env = {**environment(), "PATH": f"{own}:{os.environ['PATH']}"}
    command = ["make", "-C", str(ROOT), "tokenizer", f"DATA={own}", *OWN]
    assert subprocess.run(command, env=env, capture_output=True).returncode == 2
    assert not (own / "tokenizer").exists()
    make("tokenizer", f"DATA={own}", *OWN)
    assert contents(own, "tokenizer") == contents(letters, "tokenizer")
    assert not list(own.glob("tokenizer*part"))


MINE = ["text/letters/mine.txt", "text/letters", "text/letters.part/mine.txt", "tokenizer", "tokenizer.part"]


@pytest.mark.parametrize("mine", MINE)
def test_what_is_not_ours_stays(own, mine):
    """A file beside a stage's own files, or in the place of its folder, is in its way, and is never removed."""
    if mine in ("text/letters", "tokenizer"):
        shutil.rmtree(own / mine)
    (own / mine).parent.mkdir(exist_ok=True)
    (own / mine).write_text("mine")
    done = make("shards-letters", f"DATA={own}", *OWN, "MIN_CHARS=11", status=2)
    (error,) = [line for line in done.stderr.splitlines() if line.startswith(("shuffle-split: ", "train-tokenizer: "))][
        -1:
    ]
    assert mine.removesuffix("/mine.txt").removesuffix("/mine") in error and "move it away" in error
    assert (own / mine).read_text() == "mine"


def test_a_folder_on_another_disk_stays_there(letters, own, tmp_path):
    """text/NAME and tokenizer are links; that they are made again does not change that."""
    (tmp_path / "disk").mkdir()
    for folder in ("text/letters", "tokenizer"):
        shutil.move(own / folder, tmp_path / "disk")
        (own / folder).symlink_to(tmp_path / "disk" / Path(folder).name)
    make("shards-letters", f"DATA={own}", *OWN, "SEED=1")
    assert (own / "text/letters").is_symlink() and (own / "tokenizer").is_symlink()
    assert sorted(p.name for p in (tmp_path / "disk").iterdir()) == ["letters", "tokenizer"]
    make("verify", f"DATA={own}", *OWN)
    assert (own / "text/letters/train-000.txt").read_bytes() != (letters / "text/letters/train-000.txt").read_bytes()


def test_a_folder_in_place_of_a_shard_and_a_broken_manifest_are_noticed(own):
    """They are newer than what they were made from, and so look finished."""
    shard = own / "shards/letters/train-001.safetensors"
    whole = shard.read_bytes()
    shard.unlink()
    shard.mkdir()
    done = make("shards-letters", f"DATA={own}", *OWN, status=2)
    assert f"pack-tokens: {shard}: is a folder; give the name of a file, or move it away" in done.stderr
    shard.rmdir()
    for folder in ("text/letters", "tokenizer"):
        manifest = own / folder / "manifest.json"
        before = manifest.read_bytes()
        manifest.write_text("{")
        done = make("shards-letters", f"DATA={own}", *OWN, status=2)
        assert f"{manifest}: not a manifest of suzuri" in done.stderr
        assert f"{folder}/manifest.json: not a manifest" in make("verify", f"DATA={own}", *OWN, status=2).stdout
        manifest.write_bytes(before)
    (own / "shards/letters/manifest.json").write_text("{")
    make("shards-letters", f"DATA={own}", *OWN)
    assert shard.read_bytes() == whole
    make("verify", f"DATA={own}", *OWN)


def test_verify_notices_that_a_whole_folder_is_gone(own):
    shutil.rmtree(own / "shards/letters")
    assert "shards/letters: missing, the whole folder" in make("verify", f"DATA={own}", *OWN, status=2).stdout
    make("clean-shards", f"DATA={own}", *OWN)
    make("verify", f"DATA={own}", *OWN)


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_ends_quietly(own, signum):
    """Ctrl-C or a closed terminal: no traceback, none of make's `wait: No child processes`, nothing is left running."""
    shutil.rmtree(own / "text")
    command = ["make", "-C", str(ROOT), "shards-letters", f"DATA={own}", *OWN]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    run = subprocess.Popen(command, env=environment(), start_new_session=True, **pipe)
    wait_for(lambda: (own / "text").exists())
    os.killpg(run.pid, signum)
    said, _ = run.communicate(timeout=300)  # ends when nobody can write there any more
    assert run.returncode == -signum and "No child processes" not in said and "Traceback" not in said
    subprocess.run([ROOT / "bin/hold-lock", "--wait", "0", own / ".lock", "--", "true"], check=True)


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_lock_stops_and_goes_on_with_its_command(tmp_path, bin_dir):
    """Ctrl-Z, for a command in a process group of its own."""
    command = ["bash", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 600"]
    holder = subprocess.Popen([bin_dir / "hold-lock", "--parent", str(os.getpid()), tmp_path / ".lock", "--", *command])
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    for signum, wanted in ((signal.SIGTSTP, "T"), (signal.SIGCONT, "S")):
        holder.send_signal(signum)
        wait_for(lambda wanted=wanted: (state(holder.pid), state(pid)) == (wanted, wanted))
    holder.terminate()
    assert holder.wait(timeout=300) == 128 + signal.SIGTERM


def test_one_run_at_a_time(tmp_path, bin_dir):
    (tmp_path / "raw").mkdir()
    holder = subprocess.Popen([bin_dir / "hold-lock", tmp_path / ".lock", "--", "sleep", "600"])
    wait_for(lambda: (tmp_path / ".lock").exists() and (tmp_path / ".lock").read_text())
    done = subprocess.run(
        [bin_dir / "hold-lock", "--wait", "0.2", tmp_path / ".lock", "--", "true"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"process {holder.pid}" in done.stderr and len(done.stderr.splitlines()) == 2
    holder.terminate()
    assert holder.wait(timeout=300) == 128 + signal.SIGTERM
    subprocess.run([bin_dir / "hold-lock", tmp_path / ".lock", "--", "true"], check=True)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("ext4 /dev/vda1 rw", ""),
        ("nfs4 server:/home rw,vers=4.2,local_lock=none,addr=10.0.0.1", ""),
        ("nfs server:/home rw,vers=3,local_lock=flock,addr=10.0.0.1", "local_lock=flock"),
        ("lustre 10.0.0.1@tcp:/data rw,localflock,lazystatfs", "localflock"),
        ("lustre 10.0.0.1@tcp:/data rw,flock,lazystatfs", ""),
        ("beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/beegfs-client.conf", "beegfs"),
    ],
)
def test_a_lock_that_does_not_reach_other_machines_is_known(tmp_path, kind, why):
    """By lines of /proc/self/mountinfo as proc(5) has them."""
    with open(tmp_path / "mounts", "w+") as f:
        device = os.fstat(f.fileno()).st_dev
        f.write(f"21 1 9999:1 / /other rw - beegfs beegfs_nodev rw\n"
                f"22 1 {os.major(device)}:{os.minor(device)} / /data rw,relatime shared:1 - {kind}\n")  # fmt: skip
        f.flush()
        assert lock.why_local(f.fileno(), f.name) == why


def test_the_lock_runs_nothing_for_a_parent_that_was_killed(tmp_path, bin_dir):
    command = [bin_dir / "hold-lock", "--parent", "1", tmp_path / ".lock", "--", "touch", tmp_path / "ran"]
    assert subprocess.run(command).returncode == 128 + signal.SIGTERM
    assert not (tmp_path / "ran").exists()
    command[2] = str(os.getpid())
    subprocess.run(command, check=True)
    assert (tmp_path / "ran").exists()


def test_the_lock_ends_orphans_of_a_killed_command(tmp_path, bin_dir):
    script = f"sleep 300 & echo $! > {tmp_path}/pid; kill -9 $$"
    done = subprocess.run([bin_dir / "hold-lock", tmp_path / ".lock", "--", "bash", "-c", script])
    assert done.returncode == 128 + signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_corpus_of_your_own(tmp_path):
    """raw/NAME.txt.gz, through to a model, with a tokenizer of its own."""
    (tmp_path / "raw").mkdir()
    texts = [(ROOT / f"data/sample/cc100/{name}.txt").read_text() for name in ("daily", "notes")]
    with gzip.open(tmp_path / "raw/letters.txt.gz", "wt") as f:
        f.write("\n".join(texts))
    own = ["NUM_FILES=2", "VALIDATION_FRACTION=0.1", "TOKENIZER_CORPUS=letters", "UNIT=document"]
    make("train-model-letters", f"DATA={tmp_path}", *SMALL, STEPS, *own)
    assert (tmp_path / "models/demo-letters/model.safetensors").exists()
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == ["letters.txt.gz"], "raw/ is the user's"


def test_a_missing_corpus_says_where_it_belongs(tmp_path):
    done = make("build-dataset-poems", f"DATA={tmp_path}", status=2)
    assert f"{tmp_path}/raw/poems.txt" in done.stderr


def test_a_raw_file_put_there_by_hand_is_taken(tmp_path, sources):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/ja.txt.xz").write_bytes((sources / "ja.txt.xz").read_bytes())
    make("build-dataset-cc100-ja", f"DATA={tmp_path}", *SMALL, "CC100_JA_URL=http://127.0.0.1:9/ja.txt.xz")


def test_a_broken_archive_leaves_no_dataset(tmp_path, sources):
    """An earlier program of the pipe fails while the last one ends well: nothing may look finished."""
    (tmp_path / "raw").mkdir()
    whole = (sources / "ja.txt.xz").read_bytes()
    (tmp_path / "raw/ja.txt.xz").write_bytes(whole[: len(whole) // 2])
    url = "CC100_JA_URL=http://127.0.0.1:9/ja.txt.xz"
    done = make("build-dataset-cc100-ja", f"DATA={tmp_path}", *SMALL, url, status=2)
    assert "raw/ja.txt.xz" in done.stderr
    assert not (tmp_path / "text/cc100-ja").exists()


def test_streamed_without_a_copy(site, tmp_path):
    """STREAM=1 reads no further than it needs and stores nothing under raw/."""
    variables = [f"DATA={tmp_path}", *SMALL, "STREAM=1", "CC100_MAX_SENTENCE_NUM=500", "JAWIKI_MAX_SENTENCE_NUM=500"]
    variables += [f"CC100_JA_URL={site}ja.txt.xz", f"JAWIKI_URL={site}cirrus_search_index/"]
    make("build-dataset-cc100-ja", "build-dataset-jawiki", *variables)
    assert not (tmp_path / "raw").exists()
    for name in ("cc100-ja", "jawiki"):
        counts = json.loads((tmp_path / f"text/{name}/manifest.json").read_text())["counts"]["shuffle-split"]
        assert counts["sentences_in"] == 500


def test_cleaning_spares_raw(built, tmp_path):
    data, variables = built
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", data, copy], check=True)
    others = "demo/raw/poems.txt eval/notes.md models/a.part/x models/web/manifest.json pieces/a text/notes.txt"
    mine = sorted(copy / name for name in ["models/a model from elsewhere/config.json", *others.split()])
    for path in mine:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("{}")
    elsewhere = tmp_path / "disk/jawiki"
    elsewhere.parent.mkdir()
    (copy / "text/jawiki").rename(elsewhere)
    (copy / "text/jawiki").symlink_to(elsewhere)
    said = make("clean", f"DATA={copy}", *variables[1:]).stderr
    for name in ("models/a model from elsewhere", "models/a.part", "text/notes.txt"):
        assert f"{name}: was not made by a tool of suzuri; it stays" in said
    assert (copy / "text/jawiki").is_symlink() and not list(elsewhere.iterdir())
    (copy / "text/jawiki").unlink()
    left = [path for path in copy.rglob("*") if path.is_file() and not path.is_relative_to(copy / "raw")]
    assert sorted(path for path in left if not path.relative_to(copy).parts[0].startswith(".")) == mine
    assert contents(copy, "raw") == contents(data, "raw")
    (copy / "raw/mine.txt").write_text("私の文。\n")
    (copy / "raw/ja.txt.xz").write_bytes(b"mine, in the place of the download")
    make("clean-raw", f"DATA={copy}", *variables[1:])
    assert sorted(p.name for p in (copy / "raw").iterdir() if p.suffix != ".json") == ["ja.txt.xz", "mine.txt"]


def test_a_lock_that_is_removed_while_one_waits(tmp_path, bin_dir):
    """As make clean-demo does. Who waited does not work beside another one."""
    path = tmp_path / ".lock"
    first = subprocess.Popen([bin_dir / "hold-lock", path, "--", "bash", "-c", f"sleep 2; rm {path}"])
    wait_for(lambda: path.exists() and path.read_text())
    waiting = subprocess.Popen([bin_dir / "hold-lock", "--wait", "60", path, "--", "sleep", "600"])
    assert first.wait(timeout=300) == 0
    wait_for(lambda: path.exists() and path.read_text().startswith(f"{waiting.pid} "))
    done = subprocess.run([bin_dir / "hold-lock", "--wait", "0.2", path, "--", "true"], capture_output=True)
    assert done.returncode == 1
    waiting.terminate()
    waiting.wait(timeout=300)


def test_clean_demo(tmp_path):
    """It waits for the lock of the demo, and what the demo did not make stays."""
    demo = tmp_path / "demo"
    make("build-dataset-jawiki", f"DATA={demo}", "PROFILE=demo")
    before = sorted(demo.rglob("*"))
    for option in ("-n", "-t"):
        make(option, "clean-demo", f"DATA={tmp_path}")
    assert sorted(demo.rglob("*")) == before
    (demo / "raw/poems.txt").write_text("私の文。\n")
    holder = subprocess.Popen([ROOT / "bin/hold-lock", demo / ".lock", "--", "sleep", "600"])
    wait_for(lambda: (demo / ".lock").read_text().startswith(str(holder.pid)))
    assert f"process {holder.pid}" in make("clean-demo", f"DATA={tmp_path}", status=2).stderr
    assert (demo / "text/jawiki/manifest.json").exists()
    holder.terminate()
    holder.wait()
    make("clean-demo", f"DATA={tmp_path}")
    assert [str(path.relative_to(demo)) for path in demo.rglob("*")] == ["raw", "raw/poems.txt"]
    (demo / "raw/poems.txt").unlink()
    make("build-dataset-jawiki", f"DATA={demo}", "PROFILE=demo")
    make("clean-demo", f"DATA={tmp_path}")
    assert not demo.exists()


def test_goals_follow_one_another(built, tmp_path):
    data, variables = built
    copy = tmp_path / "data"
    shutil.copytree(data, copy, symlinks=True)
    make("clean-shards", "shards", f"DATA={copy}", *variables[1:])
    assert contents(copy, "shards/jawiki") == contents(data, "shards/jawiki")


def test_random_weights_are_of_the_last_model(tmp_path):
    """A row of the table that is now about another model is made again, whatever the files' dates."""
    row = [f"DATA={tmp_path}", "PROFILE=demo", f"TASKS={tmp_path}", "EVAL_TASKS=jsts"]
    stamp = tmp_path / ".stamps/eval-row-random-weights"
    for model in ("demo-jawiki", "demo-cc100-ja"):
        recipes = f"TRAIN_PARAM_JSONS={ROOT}/configs/train-{model}.json"
        assert make("-q", stamp, *row, recipes, status=None).returncode == 1
        make(stamp, *row, recipes)
        assert model in stamp.read_text()
        make("-q", stamp, *row, recipes)


def test_the_curve_has_a_row_per_snapshot_and_per_model(tmp_path):
    row = [f"DATA={tmp_path}", "PROFILE=demo", f"TASKS={tmp_path}", "EVAL_TASKS="]
    assert "no model has snapshots" in make("curve", *row, status=2).stderr
    for tokens in ("000001000000", "000003000000"):
        (folder := tmp_path / "models/demo-jawiki/snapshots" / tokens).mkdir(parents=True)
        (folder / "config.json").touch()
        result = tmp_path / f"eval/tasks/demo-jawiki@{tokens}/minimal-pairs.json"
        result.parent.mkdir(parents=True)
        metrics = {"accuracy": {"mean": 0.5, "deviation": None, "standard_error": 0.1, "values": [0.5]}}
        result.write_text(json.dumps(
            {"task": "minimal-pairs", "model": str(folder), "weights": "pre-trained", "metrics": metrics}
        ))  # fmt: skip
    planned = make("-n", "curve", *row).stdout
    assert f"eval-mlm --json {tmp_path}/models/demo-jawiki/snapshots/000003000000 --pairs" in planned
    assert "train-mlm" not in planned
    make(tmp_path / ".stamps/eval-zero-shot-minimal-pairs", *row)
    for result in tmp_path.glob("eval/tasks/*/minimal-pairs.json"):
        make(tmp_path / f".stamps/eval-row-{result.parent.name}", *row)
        os.utime(result)  # now it is newer than what it depends on
    table = make("curve", *row).stdout
    for tokens in ("1,000,000", "3,000,000"):
        assert f"\n| demo-jawiki after {tokens} tokens | 0.500, SE 0.100 |\n" in table
    for model in ("demo-cc100-ja", "demo-jawiki"):
        (tmp_path / "models" / model).mkdir(exist_ok=True)
        (tmp_path / "models" / model / "manifest.json").touch()
    planned = make("-n", "curve", *row, "EVAL_TASKS=jsick").stdout
    lines = [line for line in planned.splitlines() if line.startswith("finetune ")]
    folders = [line.split()[1].removeprefix(f"{tmp_path}/models/") for line in lines]
    early = [f"demo-jawiki/snapshots/{tokens}" for tokens in ("000001000000", "000003000000")]
    assert folders == ["demo-cc100-ja", *early, "demo-jawiki"]  # in the order of training, and no baseline


def test_the_sample_of_another_folder(tmp_path):
    """DATA=ROOT/data is not a special case, and a sample with fewer files is another sample."""
    assert "data/raw/sample" in make("-n", "download-cc100-ja", "PROFILE=demo", f"DATA={ROOT}/data").stdout
    sample = tmp_path / "sample"
    shutil.copytree(ROOT / "data/sample", sample)
    common = ["download-cc100-ja", "PROFILE=demo", f"DATA={tmp_path}/data", f"SAMPLE={sample}"]
    make(*common)
    whole = (tmp_path / "data/raw/ja.txt.xz").stat().st_size
    next((sample / "cc100").glob("*.txt")).unlink()
    make(*common)
    assert (tmp_path / "data/raw/ja.txt.xz").stat().st_size < whole


def test_unknown_profile():
    assert "demo" in make("all", "PROFILE=nano", status=2).stderr


def test_help_lists_the_flow_in_order():
    text = make("help").stdout
    steps = ["demo", "all", "download-cc100-ja", "download-jawiki", "build-dataset-cc100-ja", "build-dataset-jawiki"]
    steps += ["train-tokenizer", "shards", "train-model-cc100-ja", "train-model-jawiki", "eval"]
    places = [text.index(f"make {step} ") for step in steps]
    assert places == sorted(places)


def test_every_command_of_help_exists(tmp_path):
    commands = re.findall(r"^  make (.+?)(?:  |$)", make("help").stdout, re.MULTILINE)
    goals = {goal for line in commands for goal in re.split(r"[ |]+", line) if not re.search("[A-Z]", goal)}
    assert {"demo", "shards", "verify", "bench", "docker-build", "clean-text"} <= goals
    for goal in sorted(goals):
        make("-n", goal, f"DATA={tmp_path}", "PROFILE=demo")


def test_bz2_is_read(tmp_path):
    (tmp_path / "raw").mkdir()
    with bz2.open(tmp_path / "raw/notes.txt.bz2", "wt") as f:
        f.write((ROOT / "data/sample/cc100/notes.txt").read_text())
    make("build-dataset-notes", f"DATA={tmp_path}", *SMALL, "NUM_FILES=1")
    assert (tmp_path / "text/notes/train-000.txt").stat().st_size > 10_000
