"""Object storage against moto's S3 server on loopback: sources in s3://, and the mirror of finished stages."""

import hashlib
import json
import logging
import os
import random
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT, SLOW, wait_for
from http_server import serving
from small_runs import make_inputs, run, start
from suzuri import manifest, mirror, object_storage
from suzuri.errors import DataError, NotFound
from suzuri.sources import download, jawiki_dumps
from test_make import contents, make, snapshot

moto = pytest.importorskip("moto", reason="needs moto[server], of configs/requirements-dev.txt")
moto_server = pytest.importorskip("moto.server", reason="needs moto[server], of configs/requirements-dev.txt")
boto3 = pytest.importorskip("boto3", reason="needs moto[server], of configs/requirements-dev.txt")
s3fs = pytest.importorskip("s3fs", reason="needs configs/requirements-s3.txt")

SECRET = "neverbeshown"
BODY = random.Random(0).randbytes(300_000)
CLOSED = "http://127.0.0.1:9"  # a port that nobody listens on


@pytest.fixture(scope="module")
def server():
    """A client of a moto server that is the S3 of this process and of the tools that it starts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    running = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{running.get_host_and_port()[1]}")
        patch.setenv("AWS_ACCESS_KEY_ID", "KEYOFTHETEST")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield boto3.client("s3")
    running.stop()


@pytest.fixture
def bucket(server, request):
    """The name of an empty bucket."""
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:30]
    server.create_bucket(Bucket=name)
    return name


def keys(server, bucket):
    return sorted(found["Key"] for found in server.list_objects_v2(Bucket=bucket).get("Contents", ()))


# Sources


def test_a_file_is_fetched_whole_and_continued(server, bucket, tmp_path, monkeypatch):
    """A connection that drops is opened again with the same ETag; a part left by a killed run is continued."""
    monkeypatch.setattr(object_storage, "BLOCK", 50_000)
    server.put_object(Bucket=bucket, Key="in/file", Body=BODY)
    url, target, read1, left = f"s3://{bucket}/in/file", tmp_path / "file", object_storage.Response.read1, [120_000]

    def dropping(self, n):
        if left[0] <= 0:
            raise OSError("dropped")
        left[0] -= 40_000
        return read1(self, 40_000)

    monkeypatch.setattr(object_storage.Response, "read1", dropping)
    with pytest.raises(DataError, match="dropped; gave up"):
        download.download(url, str(target), retries=0)
    assert (tmp_path / "file.part").stat().st_size == 120_000
    left[0] = 1 << 30
    assert download.download(url, str(target))["resumed"] == 120_000
    assert target.read_bytes() == BODY
    record = json.loads((tmp_path / "file.json").read_text())
    assert record["etag"] == f'"{hashlib.md5(BODY).hexdigest()}"' and record["url"] == url
    assert record["sha256"] == manifest.recorded_sha256(target)

    target.unlink()
    left[0] = 120_000
    with pytest.raises(DataError):
        download.download(url, str(target), retries=0)
    server.put_object(Bucket=bucket, Key="in/file", Body=BODY[::-1])  # of the same size
    left[0] = 1 << 30
    download.download(url, str(target))
    assert target.read_bytes() == BODY[::-1]
    with pytest.raises(DataError, match="its sha256 is"):
        download.download(url, str(target), sha256="0" * 64)
    with pytest.raises(NotFound):
        download.download(f"s3://{bucket}/in/other", str(target))


def test_a_dump_in_object_storage(server, bucket, sources, tmp_path, run_tool):
    for path in sources.rglob("*"):
        if path.is_file():
            server.upload_file(str(path), bucket, str(path.relative_to(sources)))
    dump = jawiki_dumps.find_dump(f"s3://{bucket}/cirrus_search_index/")
    assert dump.dated and "/20260101/" in dump.url and len(dump.shards) == 3
    jawiki_dumps.download_shards(dump, str(tmp_path))
    for name in dump.shards:
        assert (tmp_path / name).read_bytes() == (next(sources.rglob(name))).read_bytes()
    streamed = run_tool("fetch-url", f"s3://{bucket}/ja.txt.xz", "-").stdout
    assert streamed == (sources / "ja.txt.xz").read_bytes()


# Stages


@pytest.fixture
def stage(server, bucket, tmp_path):
    """A function: the Mirror of a folder with a manifest, made from input.txt, of a machine."""
    url = f"s3://{bucket}/some/prefix/text/x"

    def on(machine, *contents):
        folder = tmp_path / machine / "text/x"
        folder.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / machine / "input.txt").write_text("the input")
        (tmp_path / machine / "stamp").write_text("SEED=0 UNIT=line\n")
        if contents:
            folder.mkdir()
            for i, text in enumerate(contents):
                (folder / f"train-{i:03}.txt").write_text(text)
            manifest.write_manifest(str(folder), inputs=[str(tmp_path / machine / "input.txt")])
        return mirror.Mirror(
            url, str(folder), str(tmp_path / machine / "stamp"), [str(tmp_path / machine / "input.txt")]
        )

    return on


def same(a, b):
    return {name: path.read_bytes() for name, path in tree(a)} == {name: path.read_bytes() for name, path in tree(b)}


def tree(stage):
    return [(str(path.relative_to(stage.folder)), path) for path in Path(stage.folder).rglob("*") if path.is_file()]


def test_a_stage_is_taken_only_with_the_same_settings_and_inputs(server, bucket, stage, tmp_path):
    a, b = stage("a", "one", "two" * 1000), stage("b")
    a.push()
    index = json.loads(server.get_object(Bucket=bucket, Key=f"some/prefix/text/x/{a.key}.json")["Body"].read())
    assert index["settings"] == "SEED=0 UNIT=line" and set(index["files"]) == {name for name, _ in tree(a)}
    assert str(tmp_path) not in json.dumps(index)
    b.pull()
    assert same(a, b) and not [n for n in os.listdir(tmp_path / "b/text") if n != "x"]
    for name, text in ("stamp", "SEED=1 UNIT=line\n"), ("input.txt", "another input"):
        stage("c")
        (tmp_path / "c" / name).write_text(text)
        with pytest.raises(NotFound, match="nothing with these settings and inputs"):
            mirror.Mirror(
                a.url, str(tmp_path / "c/text/x"), str(tmp_path / "c/stamp"), [str(tmp_path / "c/input.txt")]
            ).pull()
    assert not os.path.exists(tmp_path / "c/text/x")


@pytest.mark.parametrize(("settings", "steps"), [({"rate": 2}, 3), ({"rate": 1}, 4)])
def test_a_finished_model_is_not_replaced_by_another(server, bucket, stage, settings, steps):
    a, b = stage("a", "weights"), stage("b", "others")
    for machine, of, n in (a, {"rate": 1}, 3), (b, settings, steps):
        path = Path(machine.folder, "manifest.json")
        made = json.loads(path.read_text()) | {"tool": mirror.TRAINER, "settings": of, "counts": {"steps": n}}
        path.write_text(json.dumps(made, indent=2))
    a.push()
    before = {name: path.read_bytes() for name, path in tree(b)}
    with pytest.raises(DataError, match=r"is finished, with other settings; to take .* make clean-model-x"):
        b.pull()
    assert {name: path.read_bytes() for name, path in tree(b)} == before
    shutil.rmtree(b.folder)
    b.pull()
    assert same(a, b)


@pytest.mark.parametrize("fetched", [True, False])
def test_the_text_of_a_download_is_found_by_its_address(server, bucket, stage, tmp_path, fetched):
    """But not if another file was put in its place."""
    a, b = stage("a", "one"), stage("b")
    (tmp_path / "source").write_text("CC100_JA_URL=https://where.it/is.xz\n")
    record = {
        "url": "https://where.it/is.xz" if fetched else "https://elsewhere/x",
        "size": 9,
        "sha256": a.made_from[0]["inputs"][0],
    }
    Path(f"{a.inputs[0]}.json").write_text(json.dumps(record))
    os.remove(b.inputs[0])
    a, b = (mirror.Mirror(m.url, m.folder, *made_from(m), str(tmp_path / "source")) for m in (a, b))
    a.push()
    if fetched:
        b.pull()
        assert same(a, b)
    else:
        with pytest.raises(NotFound):
            b.pull()


@pytest.mark.parametrize("damage", ["truncated", "another sum", "missing", "no JSON", "a name outside"])
def test_what_is_damaged_there_is_not_taken_and_is_pushed_again(server, bucket, stage, damage, tmp_path):
    a, b, old = stage("a", "one", "two" * 1000), stage("b"), stage("old", "an earlier result")
    a.push()
    (name,) = [key for key in keys(server, bucket) if key.endswith("train-001.txt")]
    index = f"some/prefix/text/x/{a.key}.json"
    if damage == "truncated":
        server.put_object(Bucket=bucket, Key=name, Body=b"two" * 500)
    elif damage == "another sum":
        server.put_object(Bucket=bucket, Key=name, Body=b"owt" * 1000)
    elif damage == "missing":
        server.delete_object(Bucket=bucket, Key=name)
    else:
        text = server.get_object(Bucket=bucket, Key=index)["Body"].read()
        text = text.replace(b'"train-001.txt"', b'"../train-001.txt"') if damage == "a name outside" else text[:200]
        server.put_object(Bucket=bucket, Key=index, Body=text)
    before = snapshot(tmp_path / "old")
    for machine in b, old:
        with pytest.raises(DataError):
            machine.pull()
    assert not os.path.exists(b.folder) and os.listdir(tmp_path / "b/text") == []
    assert snapshot(tmp_path / "old") == before
    a.push()
    b.pull()
    old.pull()
    assert same(a, b) and same(a, old)


def test_an_upload_that_arrives_damaged_has_no_index(server, bucket, stage, monkeypatch):
    a = stage("a", "one", "two" * 1000)
    real = a.fs.put_file

    def cut(path, remote):
        real(path, remote)
        if remote.endswith("train-001.txt"):
            a.fs.pipe_file(remote, b"two" * 500)

    monkeypatch.setattr(a.fs, "put_file", cut)
    with pytest.raises(DataError, match="not there as it was sent"):
        a.push()
    assert keys(server, bucket) and not [key for key in keys(server, bucket) if key.endswith(f"{a.key}.json")]


def test_a_file_that_its_manifest_does_not_describe_is_not_pushed(server, bucket, stage):
    a = stage("a", "one")
    Path(a.folder, "train-000.txt").write_text("eno")
    with pytest.raises(DataError, match="is not what its manifest says"):
        a.push()
    assert not keys(server, bucket)


def test_an_upload_that_is_killed(server, bucket, stage):
    a, b = stage("a", *(str(i) * 1000 for i in range(12))), stage("b")
    arguments = ["--settings", Path(a.folder).parents[1] / "stamp", "--input", a.inputs[0], "push", a.folder, a.url]
    process = subprocess.Popen([ROOT / "bin/mirror-stage", *arguments], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(keys(server, bucket)) > 3)
    process.kill()
    process.wait()
    assert len(keys(server, bucket)) < 14
    with pytest.raises(NotFound):
        b.pull()
    a.push()
    b.pull()
    assert same(a, b)


def test_two_machines_push_at_the_same_time(server, bucket, stage):
    """The weights of two machines may differ: what is taken is of one of them, whole."""
    a, b = stage("a", "one", "two"), stage("b", "eins", "zwei")
    with ThreadPoolExecutor(2) as pool:
        for round in range(3):
            list(
                pool.map(lambda machine: mirror.Mirror(machine.url, machine.folder, *made_from(machine)).push(), (a, b))
            )
            c = stage(f"c{round}")
            c.pull()
            assert same(a, c) or same(b, c)


def made_from(machine):
    return str(Path(machine.folder).parents[1] / "stamp"), machine.inputs


@pytest.mark.parametrize("fault", ["no bucket", "no network", "no permission", "no credentials", "keys in the address"])
def test_a_failure_says_what_to_do_without_secrets(server, bucket, stage, fault, monkeypatch):
    a = stage("a", "one")
    before, url = snapshot(a.folder), a.url
    if fault == "no bucket":
        url, expected = a.url.replace(bucket, "another-bucket"), "not there: no such bucket"
    elif fault == "no network":
        monkeypatch.setenv("AWS_ENDPOINT_URL", CLOSED)
        expected = "endpoint connection error"
    elif fault == "no permission":  # moto asks who it is that calls: nobody that it knows
        monkeypatch.setattr(moto.settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
        expected = "no permission (403)"
    elif fault == "no credentials":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        expected = "no credentials; set AWS_ACCESS_KEY_ID"
    else:
        url, expected = f"s3://KEYOFTHETEST:{SECRET}@{bucket}/x", "must not have keys in it"
    s3fs.S3FileSystem.clear_instance_cache()  # they keep what they read from the environment
    with pytest.raises((DataError, OSError)) as failure:
        mirror.Mirror(url, a.folder).push()
    s3fs.S3FileSystem.clear_instance_cache()
    assert expected in str(failure.value)
    assert SECRET not in str(failure.value) and "KEYOFTHETEST" not in str(failure.value)
    assert snapshot(a.folder) == before


# Checkpoints


def shards(folder):
    return sorted(map(str, folder.rglob("*.safetensors")))


@SLOW
def test_a_killed_run_goes_on_elsewhere(server, bucket, tmp_path):
    """The final weights are those of a run that was not interrupted."""
    whole, first, second = (make_inputs(tmp_path / name) for name in ("whole", "first", "second"))
    a, b = (
        mirror.Mirror(f"s3://{bucket}/models/m", str(args[-1]), None, [str(args[0]), *shards(args[-1].parent)])
        for args in (first, second)
    )
    with pytest.raises(NotFound):
        b.pull_checkpoint()
    start(*first, "DIE_AFTER=8").join()
    a.push_checkpoint()
    assert b.pull_checkpoint().startswith("checkpoints/step-00000006-")
    assert "continues after step 6 of 12" in run(*second)
    run(*whole)
    weights = [args[-1] / "model.safetensors" for args in (whole, second)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    b.push()
    assert not [key for key in keys(server, bucket) if "checkpoint.json" in key]
    with pytest.raises(DataError, match="has an unfinished run, which goes on"):
        a.pull()
    shutil.rmtree(f"{a.folder}.part")
    a.pull()
    assert same(a, b)


TRAINER = """
mkdir -p {0}.part/checkpoints; echo {{}} >{0}.part/checkpoints/run.json; ls {0}.part/checkpoints
save() {{ echo $1 >{0}.part/metrics.jsonl; echo $1 >{0}.part/checkpoints/step-0000000$1-00000000.safetensors; }}
trap 'save 3; exit 143' TERM
save 1; save 2; kill -TERM $PPID & while :; do sleep 0.05; done
"""


@pytest.mark.parametrize("fails", [False, True])
def test_the_training_does_not_notice_the_mirror(tmp_path, fails):
    """Its signals and its status pass through; the checkpoint that it saves last is pushed, and then the only one."""
    model, there = tmp_path / "models/m", tmp_path / "mirror"
    if fails:
        there.write_text("a file where the folder should be")
    command = [ROOT / "bin/mirror-stage", "run", model, there, "--", "bash", "-c", TRAINER.format(model)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
    assert ("the training goes on without it" in done.stderr) == fails
    assert (model.parent / "m.part/metrics.jsonl").read_text() == "3\n"
    assert not (model.parent / ".m.checkpoint.part").exists()
    if not fails:
        assert [path.name[:13] for path in there.rglob("*.safetensors")] == ["step-00000003"]
        shutil.rmtree(f"{model}.part")
        mirror.Mirror(str(there), str(model)).pull_checkpoint()
        assert (model.parent / "m.part/metrics.jsonl").read_text() == "3\n"


# make


def test_a_second_machine_takes_what_the_first_one_has_made(tmp_path, sources):
    """Through make, with a folder as the mirror: the same bytes, without downloading the source, and then nothing is
    left to do.

    Before, the mirror fails: that is reported, nothing else is harmed, and the next make pushes what there is.
    """
    with serving(sources) as site:
        goal = ["shards-cc100-ja", "PROFILE=demo", "VOCAB_SIZE=1000", "CC100_NUM_FILES=1", "TOKENIZER_CORPUS=cc100-ja"]
        goal += [f"CC100_JA_URL={site.url}ja.txt.xz", f"MIRROR={tmp_path}/mirror/", f"DATA={tmp_path}/a"]
        (tmp_path / "mirror").write_text("a file where the folder should be")
        assert make(*goal).stderr.count("mirror-stage: ") == 5  # two fail to pull, three to push
        (tmp_path / "mirror").unlink()
        make("-q", *goal, status=1)
        again = make(*goal).stderr
        assert again.count(" put to ") == 3 and "split-sentences" not in again

        goal[-1] = f"DATA={tmp_path}/b"
        second = make(*goal).stderr
        assert second.count(" taken from ") == 3 and "split-sentences" not in second
        assert not (tmp_path / "b/raw").exists() and len(site.requests) == 1
    kinds = "text", "tokenizer", "shards"
    assert contents(tmp_path / "a", *kinds) == contents(tmp_path / "b", *kinds)
    shutil.move(tmp_path / "mirror", tmp_path / "gone")  # nothing is asked of it any more
    before = snapshot(tmp_path / "b")
    done = make(*goal)
    assert "Nothing to be done" in done.stdout and not done.stderr
    assert snapshot(tmp_path / "b") == before
    recipe = make("-n", "train-model-cc100-ja", *goal[1:], "MIRROR_CHECKPOINTS=1").stdout
    assert re.search(r"mirror-stage .* run \S*/b/models/\S+ \S+ -- +train-mlm ", recipe)
