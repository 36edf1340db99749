"""Files and folders that tools make: whole or not at all, with the umask's mode, and never in place of another's."""

import errno
import hashlib
import json
import os
import shlex
import stat
import subprocess
import threading

import pytest
from conftest import ROOT, killed_at_each_step, wait_for
from suzuri import files, folders
from suzuri.errors import DataError
from suzuri.manifest import SUMS, read_manifest, verify, verify_sums, write_manifest

TEXT = "昔々あるところにおじいさんがいました。\n短い。\n"
PAGE = '{"index":{"_id":1}}\n{"title":"硯","namespace":0,"text":"硯は墨をする道具である。"}\n{"title":"無","text":""}\n'
TOKENIZER = ROOT / "tests/pack-tokens/lines/files/tokenizer"
# Every tool that writes a file: its arguments, of which OUT is the file, and its input.
WRITERS = {
    "split-sentences": (["--stats", "OUT"], TEXT),
    "filter-sentences": (["--dropped", "OUT"], TEXT),
    "extract-wiki": (["--dropped", "OUT"], PAGE),
    "fetch-url": ([ROOT / "README.md", "OUT"], ""),
    "pack-tokens": (["--tokenizer", TOKENIZER, "OUT"], TEXT),
}
writers = pytest.mark.parametrize("tool", WRITERS)


def write(run_tool, tool, out, **kwargs):
    args, text = WRITERS[tool]
    return run_tool(tool, *(out if a == "OUT" else a for a in args), stdin=text, **kwargs)


@pytest.fixture(scope="module")
def expected(run_tool, tmp_path_factory):
    """{tool: what it writes to an ordinary file}"""
    folder = tmp_path_factory.mktemp("expected")
    for tool in WRITERS:
        write(run_tool, tool, folder / tool)
        assert (folder / tool).stat().st_size
    return {tool: (folder / tool).read_bytes() for tool in WRITERS}


def names(folder):
    return sorted(os.listdir(folder))


# --- files ------------------------------------------------------------------------------------------------------------


@writers
def test_a_device_stays_one(run_tool, tmp_path, tool):
    """As root, /dev/null would become a regular file for the whole machine."""
    try:
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("needs to be root, to make a device")
    write(run_tool, tool, tmp_path / "null")
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode) and names(tmp_path) == ["null"]


@writers
def test_a_fifo_is_written(run_tool, tmp_path, tool, expected):
    os.mkfifo(tmp_path / "fifo")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    write(run_tool, tool, tmp_path / "fifo")
    reader.join()
    assert read == [expected[tool]] and (tmp_path / "fifo").is_fifo()


def test_the_reader_of_a_fifo_sees_its_end_when_the_tool_fails(run_tool, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    reader = subprocess.Popen(["cat", tmp_path / "fifo"], stdout=subprocess.PIPE)
    run_tool("shuffle-split", "--stats", tmp_path / "fifo", tmp_path / "out", stdin="", status=1)
    assert reader.communicate(timeout=300)[0] == b""


@writers
def test_a_link_is_followed(run_tool, tmp_path, tool, expected):
    (tmp_path / "disk").mkdir()
    for there in (False, True):
        if there:
            (tmp_path / "disk/file").write_text("of before")
        else:
            (tmp_path / "link").symlink_to("disk/file")
        write(run_tool, tool, tmp_path / "link")
        assert os.readlink(tmp_path / "link") == "disk/file"
        assert (tmp_path / "disk/file").read_bytes() == expected[tool]
        assert [n for n in names(tmp_path / "disk") if n != "file.json"] == ["file"]  # fetch-url's record
    assert names(tmp_path) == ["disk", "link"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@writers
def test_standard_output_by_name(tmp_path, tool, expected, name):
    """A file or a pipe: what the tool has printed to it before stays."""
    args, text = WRITERS[tool]
    command = shlex.join([f"{ROOT}/bin/{tool}", *(name if a == "OUT" else str(a) for a in args)])
    for to in (">out", "| cat >out"):
        subprocess.run(["bash", "-c", f"{command} {to}"], input=text.encode(), cwd=tmp_path, check=True)
        written = (tmp_path / "out").read_bytes()
        assert expected[tool] in written and not (tmp_path / "out").is_symlink()
        if tool == "split-sentences":
            assert written == TEXT.encode() + expected[tool]


@writers
def test_a_folder_or_no_folder_is_noticed_at_once(bin_dir, tmp_path, tool):
    """Before anything is read."""
    args, _ = WRITERS[tool]
    for out, why in (
        (tmp_path, "is a folder"),
        (tmp_path / "no/file", "no folder" if tool != "fetch-url" else "No such"),
    ):
        command = [bin_dir / tool, *(out if a == "OUT" else a for a in args)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            error = process.stderr.read()  # standard input is still open
        assert process.returncode == 1 and why in error and str(out) in error and error.count("\n") == 1
    assert names(tmp_path) == []


@writers
def test_a_file_of_the_user_with_a_like_name_stays(run_tool, tmp_path, tool):
    """fetch-url continues FILE.part; one that it did not begin is in its way."""
    (tmp_path / "out.part").write_text("mine")
    done = write(run_tool, tool, tmp_path / "out", status=1 if tool == "fetch-url" else 0)
    assert tool != "fetch-url" or b"out.part: is not the beginning of a download of ours; move it" in done.stderr
    assert (tmp_path / "out.part").read_text() == "mine"


def test_two_that_write_one_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    monkeypatch.setattr(files, "WAIT", 0)
    with files.replacing(path, "w") as f:
        f.write("first")
        with pytest.raises(DataError, match="another run is writing it"), files.replacing(path, "w", wait=0):
            pass
    assert path.read_text() == "first" and names(tmp_path) == ["file"]


def test_a_file_is_replaced_at_one_moment(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "file").write_text("old")

    def replace():
        with files.replacing(folder / "file", "w") as f:
            f.write("new")

    for _ in killed_at_each_step(folder, replace):
        assert (folder / "file").read_text() in ("old", "new")
        replace()
        assert (folder / "file").read_text() == "new" and names(folder) == ["file"]


def test_the_umask_decides(tmp_path):
    """Of all files, also those that other libraries make for their owner alone."""
    tools = f"""umask 027; set -e; touch reference; PATH={ROOT}/bin:$PATH
        printf '%s\\n' {{硯,墨,筆,紙}}がある。 >text
        filter-sentences --min-chars 1 --dropped dropped --stats stats <text | shuffle-split --valid-lines 1 data
        train-tokenizer --vocab-size 128 tok <text
        train-tokenizer --type unigram --vocab-size 128 uni <text
        pack-tokens --tokenizer tok shard.safetensors <text
        fetch-url text copy; pack-sample {ROOT}/data/sample sample; fetch-jawiki sample/cirrus_search_index jw"""
    subprocess.run(["bash", "-c", tools], cwd=tmp_path, check=True, capture_output=True)
    found = {
        str(path.relative_to(tmp_path)): oct(path.stat().st_mode & 0o777)
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert len(found) > 20 and set(found.values()) == {"0o640"}


# --- messages and errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["2>/dev/full", "2>&-", "2> >(exec true)"], ids=["full", "closed", "reader gone"])
@pytest.mark.parametrize("tool", ["split-sentences", "filter-sentences", "shuffle-split --valid-lines 1 out"])
def test_work_goes_on_when_messages_cannot_be_written(tmp_path, tool, to):
    run = f"{ROOT}/bin/{tool}"
    done = subprocess.run(["bash", "-c", f"{run} {to}"], input=TEXT.encode(), cwd=tmp_path, capture_output=True)
    assert done.returncode == 0
    if "shuffle" in tool:
        assert not [problem for _, problem in verify(str(tmp_path / "out")) if problem]
    else:
        assert done.stdout == subprocess.run(run, input=TEXT.encode(), capture_output=True).stdout != b""


@pytest.mark.parametrize("tool", ["split-sentences", "filter-sentences", "shuffle-split out", "segment-words"])
def test_a_read_error_names_standard_input(tmp_path, tool):
    """What is open for writing only cannot be read, like a file on a broken disk."""
    done = subprocess.run(["bash", "-c", f"{ROOT}/bin/{tool} 0>file"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"{tool.split()[0]}: standard input: Bad file descriptor\n")


@pytest.mark.parametrize("call, error", [("fsync", errno.EIO), ("fsync", errno.ENOSPC)])
def test_a_write_error_names_its_file(tmp_path, monkeypatch, call, error):
    def fail(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError) as raised, files.replacing(tmp_path / "file") as f:
        f.write(b"x")
    assert raised.value.filename == tmp_path / "file"
    monkeypatch.undo()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "tool, name",
    [("split-sentences", "standard output"), ("filter-sentences", "standard output"),
     ("fetch-url README.md -", "standard output"),
     ("verify-manifest tests/verify-manifest/damaged/files", "standard output"),
     ("split-sentences --stats /dev/full", "/dev/full"), ("fetch-url README.md /dev/full", "/dev/full"),
     (f"pack-tokens --tokenizer {TOKENIZER} /dev/full", "/dev/full")],
)  # fmt: skip
def test_a_full_disk_names_the_file(tool, name):
    to = ">/dev/full" if name == "standard output" else ""
    done = subprocess.run(["bash", "-c", f"bin/{tool} {to}"], cwd=ROOT, input=TEXT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"{tool.split()[0]}: {name}: No space left on device"
    assert "Traceback" not in done.stderr


# --- folders ----------------------------------------------------------------------------------------------------------


def make(path, text="new", **kwargs):
    """What each tool does that makes a folder."""
    with folders.replacing_folder(str(path), **kwargs) as part:
        os.makedirs(f"{part}/sub")
        for name in ("a", "sub/b"):
            with open(f"{part}/{name}", "w") as f:
                f.write(text)
        write_manifest(part, name=str(path), settings={"text": text})


def check(path, text="new"):
    assert names(path) == ["a", "manifest.json", "sub"] and (path / "sub/b").read_text() == text
    assert not [problem for _, problem in verify(str(path)) if problem]


def test_a_folder_is_replaced_at_one_moment(tmp_path):
    """A kill at any step: the old folder or the new one is whole, in its place or put back by the next run."""
    here = tmp_path / "here"
    make(here / "out", "old")
    steps = 0
    for _ in killed_at_each_step(here, lambda: make(here / "out")):
        steps += 1
        assert (here / "out/manifest.json").exists() or {"out.part", ".out.old.part"} & set(names(here)) or steps == 0
        if (here / "out/manifest.json").exists():
            check(here / "out", read_manifest(str(here / "out"))["settings"]["text"])
        folders.NewFolder(str(here / "out")).recover()
        check(here / "out", read_manifest(str(here / "out"))["settings"]["text"])
        make(here / "out", "newest")
        check(here / "out", "newest")
        assert names(here) == ["out"]
    assert steps > 15


def test_names_that_end_alike(tmp_path):
    """Neither the unfinished work nor the result of x.old is what a run of x moves aside."""
    for name in ("x.old", "x.checkpoint", "x"):
        make(tmp_path / name, name)
    unfinished = folders.NewFolder(str(tmp_path / "x.old"))
    unfinished.begin()
    make(tmp_path / "x", "new")
    unfinished.close()
    assert names(tmp_path) == ["x", "x.checkpoint", "x.old", "x.old.part"]
    check(tmp_path / "x.old", "x.old")
    folders.remove(str(tmp_path / "x"))
    assert names(tmp_path) == ["x.checkpoint", "x.old", "x.old.part"]


def test_what_a_killed_run_left_is_removed(tmp_path):
    """At any step; and nothing while another run works there."""
    here = tmp_path / "here"
    make(here / "out", "old")
    for _ in killed_at_each_step(here, lambda: make(here / "out")):
        folders.remove(str(here / "out"))
        assert names(here) == []
    running = folders.NewFolder(str(here / "out"))
    running.begin()
    with pytest.raises(DataError, match="another run is writing it"):
        folders.remove(str(here / "out"))
    running.close()


def test_verify_follows_links(run_tool, tmp_path):
    """Also in a circle."""
    make(tmp_path / "disk/out", "old")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/out").symlink_to(tmp_path / "disk/out")
    (tmp_path / "data/again").symlink_to(tmp_path / "data")
    run_tool("verify-manifest", tmp_path / "data")
    (tmp_path / "disk/out/a").write_text("changed")
    done = run_tool("verify-manifest", tmp_path / "data", status=1)
    assert done.stdout.decode().count("data/out/a: ") == 1
    run_tool("verify-manifest", tmp_path / "disk/out", tmp_path / "none", status=1)


def test_a_name_that_is_not_utf8_is_refused_at_once(bin_dir, tmp_path):
    source = os.fsencode(tmp_path) + b"/s\x83.txt"
    with open(source, "wb") as f:
        f.write(TEXT.encode())
    with subprocess.Popen(
        [bin_dir / "shuffle-split", "--source", source, "out"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        error = process.stderr.read().decode()
    assert (
        process.returncode == 1
        and "its name is not UTF-8, and so cannot be in a manifest; rename it" in error
        and error.count("\n") == 1
    )


def test_other_files_are_not_replaced(run_tool, tmp_path):
    """By a shard whose name was given in the place of its text, or by a manifest."""
    (tmp_path / "text.txt").write_text(TEXT)
    args = ("--tokenizer", TOKENIZER, tmp_path / "text.txt", tmp_path / "text.txt")
    assert "text.txt is a text" in run_tool("pack-tokens", *args, status=2).stderr.decode()
    (tmp_path / "manifest.json").write_text('{"name": "an application"}')
    error = run_tool("write-manifest", tmp_path, status=1).stderr.decode()
    assert "is not a manifest of suzuri, so it is not replaced" in error
    assert (tmp_path / "text.txt").read_text() == TEXT


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("tool", ["shuffle-split", "train-tokenizer", "pack-sample", "fetch-jawiki"])
def test_a_link_to_a_folder_stays(run_tool, tmp_path, tool, there):
    """People keep what is large on another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk/out")
    if there:
        (tmp_path / "disk/out").mkdir()
    if tool == "fetch-jawiki":
        run_tool("pack-sample", ROOT / "data/sample", tmp_path / "s")
    args = {
        "shuffle-split": ["link"],
        "train-tokenizer": ["--vocab-size", 128, "link"],
        "pack-sample": [ROOT / "data/sample", "link"],
        "fetch-jawiki": ["s/cirrus_search_index", "link/"],
    }[tool]
    for _ in range(2):
        run_tool(tool, *args, stdin=TEXT, cwd=tmp_path)
        assert (tmp_path / "link").is_symlink() and names(tmp_path / "disk") == ["out"]
        assert not [problem for _, problem in verify(str(tmp_path / "link")) if problem]
    assert set(names(tmp_path)) - {"s"} == {"disk", "link"}


@pytest.mark.parametrize(
    "out, why",
    [
        ("file", "file: is not a folder"),
        ("file/x", "Not a directory"),
        ("dangling-file", "dangling-file: is not a folder"),
        (".", "is the current folder or one above it"),
        ("..", "is the current folder or one above it"),
        ("", "is the current folder or one above it"),
        ("../here/", "is the current folder or one above it"),
        ("/", "is the current folder or one above it"),
        ("/proc", "is where a disk is mounted"),
        ("others", "holds files but no manifest.json"),
        ("input", "is or holds the input input/raw"),
        ("taken", "taken.part: is not unfinished work of shuffle-split"),
        ("taken2", "taken2.part: is not unfinished work of shuffle-split"),
        ("taken3", "taken3.part: is not unfinished work of shuffle-split"),
        ("taken4", ".taken4.old.part: is in the way of shuffle-split; move it away"),
    ],
)
def test_what_cannot_be_a_result_is_noticed_at_once(bin_dir, tmp_path, out, why):
    """Before standard input has been read, and nothing is touched."""
    here = tmp_path / "here"
    for folder in ("others", "input", "taken.part", "taken2.part", ".taken4.old.part"):
        (here / folder).mkdir(parents=True)
    for file in ("file", "others/mine", "input/raw", "taken.part/mine", "taken2.part/.train-mlm.part", "taken3.part"):
        (here / file).write_text("mine")
    (here / "dangling-file").symlink_to("file")
    (here / ".taken4.old.part/mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    command = [bin_dir / "shuffle-split", "--source", "input/raw", out]
    with subprocess.Popen(command, cwd=here, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        error = process.stderr.read().decode()
    assert process.returncode == 1 and why in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_two_runs_into_one_folder(bin_dir, run_tool, tmp_path):
    """The second one fails at its beginning; what the first one does is not disturbed. A kill leaves no lock."""
    with subprocess.Popen([bin_dir / "shuffle-split", "out"], cwd=tmp_path, stdin=subprocess.PIPE) as first:
        wait_for(lambda: (tmp_path / "out.part/.shuffle-split.part").exists())
        second = run_tool("shuffle-split", "out", stdin=TEXT, cwd=tmp_path, status=1)
        assert second.stderr == b"shuffle-split: out.part: another run is writing it; wait for it, or end it\n"
        first.communicate(TEXT.encode())
    assert first.returncode == 0 and len((tmp_path / "out/train-000.txt").read_text().splitlines()) == 2
    with subprocess.Popen([bin_dir / "shuffle-split", "out"], cwd=tmp_path, stdin=subprocess.PIPE) as first:
        wait_for(lambda: (tmp_path / "out.part/.shuffle-split.part").exists())
        first.kill()
    run_tool("shuffle-split", "out", stdin=TEXT, cwd=tmp_path)
    assert names(tmp_path) == ["out"]


def test_a_copy_that_the_user_made_stays(tmp_path):
    make(tmp_path / "out", "old")
    for name in ("out.part", ".out.old.part"):
        (tmp_path / "out").rename(tmp_path / name)
        make(tmp_path / "out2", "old")
        (tmp_path / "out2").rename(tmp_path / "out")
        with pytest.raises(DataError, match="move it away"):
            make(tmp_path / "out")
        check(tmp_path / name, "old")
        check(tmp_path / "out", "old")
        (tmp_path / name).rename(tmp_path / f"backup-{name}")


@pytest.mark.parametrize("name", ["mine.txt", "sub/mine.txt", "link"])
def test_what_was_put_there_stays(run_tool, tmp_path, monkeypatch, name):
    """Before the run, or during it: then its result waits in out.part, and finish-folder takes it."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "out", "old")

    def put():
        if name == "link":
            (tmp_path / "out/link").symlink_to("/")
        else:
            (tmp_path / "out" / name).write_text("mine")

    late = pytest.raises(DataError, match=f"holds {name}, which .* move it away; the result is whole, in out.part")
    with late, folders.replacing_folder("out") as part:
        put()
        write_manifest(part, settings={"text": "new"})
    assert os.path.lexists(tmp_path / "out" / name) and os.path.exists("out.part/manifest.json")
    with pytest.raises(DataError, match=f"holds {name}"):
        make("out")
    os.unlink(tmp_path / "out" / name)
    folders.finish("out")
    assert names(tmp_path) == ["out"] and names("out") == ["manifest.json"]


# --- checking ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder like make's DATA with three finished folders, one with a file that its manifest does not list."""
    (tmp_path / SUMS).touch()
    make(tmp_path / "text/x", unfinished=False)
    make(tmp_path / "tokenizer")
    with folders.replacing_folder(str(tmp_path / "models/m")) as part:
        os.makedirs(f"{part}/checkpoints")
        for name in ("weights", "checkpoints/run.json"):
            with open(f"{part}/{name}", "w") as f:
                f.write("{}")
        write_manifest(
            part, name=str(tmp_path / "models/m"), inputs=[tmp_path / "tokenizer"], unlisted=["checkpoints", "log"]
        )
    return tmp_path


def problems(run_tool, data, status=1):
    done = run_tool("verify-manifest", data, status=status)
    return done.stdout.decode().replace(f"{data}/", "").splitlines()


def test_verify_covers_everything(run_tool, data):
    """One byte flipped in any file, or any file gone, is noticed; sha256sum reads the same list."""
    assert problems(run_tool, data, status=0) == []
    subprocess.run(["sha256sum", "--quiet", "-c", SUMS], cwd=data, check=True)
    everything = [p for p in sorted(data.rglob("*")) if p.is_file()]
    assert {p.name for p in everything} == {SUMS, "manifest.json", "a", "b", "weights", "run.json"}
    for path in everything:
        whole = path.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 2}:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            found = [*verify_sums(str(data))]
            for folder in ("text/x", "tokenizer", "models/m"):
                found += verify(str(data / folder))
            assert [p for p, problem in found if problem], (path, place)
        if path.name != SUMS:
            path.unlink()
            assert any(str(path.relative_to(data)) in line for line in problems(run_tool, data)), path
        path.write_bytes(whole)


def test_verify_what_is_gone_or_does_not_belong(run_tool, data):
    (data / "tokenizer/manifest.json").write_text("{")
    (data / "text/x/sub/stranger").touch()
    (data / "models/m/checkpoints/stranger").touch()
    (data / "text/x/a").unlink()
    (data / "text/x/a").mkdir()
    found = problems(run_tool, data)
    assert f"models/m/checkpoints/stranger: not in {SUMS}" in found
    assert "text/x/sub/stranger: not in the manifest" in found
    assert "text/x/a: is not a file" in found
    assert any(line.startswith("tokenizer/manifest.json: not a manifest of suzuri (Expecting") for line in found)
    subprocess.run(["rm", "-r", data / "text/x"], check=True)
    assert "text/x: missing, the whole folder" in problems(run_tool, data)
    subprocess.run(["rm", "-r", data / "text", data / "models", data / "tokenizer"], check=True)
    assert len(problems(run_tool, data)) == 3


def test_what_is_made_again_has_new_checksums(run_tool, data):
    make(data / "text/x", "newer")
    assert problems(run_tool, data, status=0) == []
    lines = (data / SUMS).read_text().splitlines()
    digest = hashlib.sha256((data / "text/x/manifest.json").read_bytes()).hexdigest()
    assert f"{digest}  text/x/manifest.json" in lines and len(lines) == 4


@pytest.mark.parametrize(
    "spoil", ["{", "[]", "null", '{"format": "suzuri-manifest/1"}', '{"format": []}', "", "\0", "[" * 99999]
)
def test_any_manifest_is_read_or_refused(tmp_path, spoil):
    (tmp_path / "manifest.json").write_text(spoil)
    with pytest.raises(DataError, match="not a manifest of suzuri"):
        read_manifest(str(tmp_path))


def test_a_flipped_record_of_fetch_url_is_noticed(run_tool, tmp_path):
    run_tool("fetch-url", ROOT / "README.md", tmp_path / "raw")
    (tmp_path / "out").mkdir()
    run_tool("write-manifest", "--source", tmp_path / "raw", tmp_path / "out")
    record = tmp_path / "raw.json"
    changed = json.loads(record.read_text())
    record.write_text(json.dumps(changed | {"sha256": "0" * 64}))
    assert any("raw.json: does not have the sha256 of raw" in line for line in problems(run_tool, tmp_path))
