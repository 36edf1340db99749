"""A mirror of finished stages in object storage, from which another machine takes them instead of computing them.

MIRROR/STAGE/KEY.json            the index: {format, tool, settings, inputs, folder, files: {name: {bytes, sha256}}}
MIRROR/STAGE/SUM/…               the files of `folder`, SUM being the sha256 of what the index says about them
MIRROR/STAGE/KEY-checkpoint.json the same for the newest checkpoint of a run that is not finished

KEY is the sha256 of the settings and of the inputs' sha256, so that "made with the same settings from the same inputs"
is "the key is there". Text that is made from a download has a second index, whose KEY is of its settings and those of
the download: so it is found without downloading.

An index is written last. Machines that finish the same stage at the same time do no harm: equal work has equal names,
and unequal work (weights of another GPU) has two folders, of which the last index names one.
"""

import glob
import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from suzuri import __version__
from suzuri.errors import DataError, NotFound
from suzuri.files import JSON_LIMIT, free_space, sha256
from suzuri.folders import NewFolder, aside
from suzuri.manifest import MANIFEST, files_below, read_manifest, recorded_sha256
from suzuri.object_storage import explained, filesystem, get, put
from suzuri.progress import note

FORMAT = "suzuri-mirror/1"
DOWNLOADS = 4  # at a time
POLL = 1.0  # seconds between two looks for a new checkpoint
CHECKPOINT = "-checkpoint"
TRAINER = "train-mlm"
CHECKPOINTS, RUN, LOGS = "checkpoints", "checkpoints/run.json", ("metrics.jsonl", "runs")  # in its unfinished folder


class Mirror:
    """A stage in the mirror. `url` is MIRROR/STAGE, `folder` the stage's folder here, which was, or would be, made from
    the files `inputs` with the settings in the file `stamp`. If these are a download, `source` is a file with its
    settings: where the download is not here, the stage is found by them.
    """

    def __init__(
        self, url: str, folder: str, stamp: str | None = None, inputs: Iterable[str] = (), source: str | None = None
    ):
        self.url, self.folder, self.inputs = url.rstrip("/"), folder, list(inputs)
        self.work = os.path.realpath(folder) if os.path.islink(folder) else os.path.normpath(folder)
        self.part = f"{self.work}.part"  # where the work is done until it is finished
        settings = _read(stamp) if stamp else ""
        self.made_from = []  # {settings, inputs}: the first is what the stage is looked for by, all are pushed
        if not source or all(map(os.path.exists, self.inputs)):
            self.made_from.append({"settings": settings, "inputs": [recorded_sha256(path) for path in self.inputs]})
        if source and (not self.made_from or all(_is_download(path, _read(source)) for path in self.inputs)):
            self.made_from.append({"settings": f"{settings}\n{_read(source)}", "inputs": []})
        self.keys = [_sum({"format": FORMAT, "suzuri": __version__} | made_from) for made_from in self.made_from]
        self.key = self.keys[0]
        self.fs, self.base = filesystem(self.url)
        self.last: str | None = None  # the folder there of the last checkpoint that was pushed or pulled from here

    def push(self) -> int:
        """Put the finished folder there; returns its bytes. Whatever is there is put again: it may be damaged."""
        manifest = read_manifest(self.folder)
        files = _described(self.folder)
        for name, recorded in manifest["outputs"].items():
            if files.get(name) != recorded:
                raise DataError(os.path.join(self.folder, name), "is not what its manifest says; make verify")
        self._put("", self.folder, files, manifest["tool"])
        if manifest["tool"] == TRAINER:
            with suppress(DataError, OSError):
                checkpoint = self._index(CHECKPOINT)["folder"]
                self._remove(f"{self.key}{CHECKPOINT}.json")
                self._remove(checkpoint)
        return _bytes(files)

    def pull(self) -> int:
        """Make the folder from what is there; returns its bytes.

        Raises NotFound, or DataError for what is not as it was pushed: the folder is then as it was before. A run that
        is not finished here is not replaced.
        """
        try:
            index = self._index()
        except NotFound:
            what = f"has nothing with these settings and inputs ({self.key[:12]}….json)"
            raise NotFound(self.url, what) from None
        if os.path.exists(os.path.join(self.part, RUN)):
            what = f"has an unfinished run, which goes on; to take {self.url} instead: make clean-model-"
            raise DataError(self.part, what + os.path.basename(self.folder))
        new = NewFolder(self.folder, self.inputs, tool=index["tool"])
        new.begin()
        try:
            self._get(index, new.part)
            manifest = read_manifest(new.part)
            self._refuse_other_run(manifest)
            if index["inputs"] and not set(manifest["inputs"].values()) <= self._known_sums(index["inputs"]):
                raise DataError(f"{self.url}/{self.key}.json", "names a folder that was made from other inputs")
            os.utime(os.path.join(new.part, MANIFEST))  # newer than the other files, as make wants it
        except BaseException:
            new.discard()
            raise
        new.finish()
        return _bytes(index["files"])

    def _refuse_other_run(self, there: dict) -> None:
        """Raise DataError if a model is finished here that was trained with other settings, or for longer."""
        path = os.path.join(self.folder, MANIFEST)
        here = read_manifest(self.folder) if os.path.exists(path) else {}
        if here.get("tool") == TRAINER and there["tool"] == TRAINER:
            steps = [made["counts"].get("steps", 0) for made in (here, there)]
            if here["settings"] != there["settings"] or steps[0] > steps[1]:
                what = f"is finished, with other settings; to take {self.url} instead: make clean-model-"
                raise DataError(self.folder, what + os.path.basename(self.folder))

    def push_checkpoint(self) -> None:
        """Put the newest checkpoint of the unfinished run there, and what it needs to go on; the one before is removed.

        Nothing is done if there is none (any more).
        """
        frozen, name = aside(self.work, "checkpoint"), self.newest_checkpoint()
        shutil.rmtree(frozen, ignore_errors=True)
        try:
            if name is None or not _freeze(self.part, frozen, name):
                return
            last, self.last = self.last, self._put(CHECKPOINT, frozen, _described(frozen), TRAINER)
            if last not in (None, self.last):
                self._remove(last)
        finally:
            shutil.rmtree(frozen, ignore_errors=True)

    def pull_checkpoint(self) -> str:
        """Make the unfinished folder of a run from the checkpoint that is there; returns the checkpoint's name."""
        index = self._index(CHECKPOINT)
        self.last = index["folder"]
        new = NewFolder(self.folder, self.inputs, tool=TRAINER)
        new.begin()
        try:
            self._get(index, new.part)
        except BaseException:
            new.discard()
            raise
        new.close()
        return self.newest_checkpoint()

    def newest_checkpoint(self) -> str | None:
        """The newest checkpoint of the unfinished run here, relative to its folder; None if there is none."""
        found = glob.glob("step-*.safetensors", root_dir=os.path.join(self.part, CHECKPOINTS))
        return os.path.join(CHECKPOINTS, max(found)) if found else None

    def _index(self, end=""):
        name = f"{self.key}{end}.json"
        url = f"{self.url}/{name}"
        with explained(url):
            text = self.fs.cat_file(f"{self.base}/{name}", end=JSON_LIMIT)
        try:
            index = json.loads(text)
            if index["format"] != FORMAT or {k: index[k] for k in ("settings", "inputs")} != self.made_from[0]:
                raise ValueError("of another format, other settings or other inputs")
            for name, recorded in index["files"].items():
                if name != os.path.normpath(name) or name.startswith(("/", "..")):
                    raise ValueError(f"with the name {name}")
                if not (isinstance(recorded["bytes"], int) and isinstance(recorded["sha256"], str)):
                    raise ValueError(f"without a size or sum of {name}")
            if index["folder"] != _sum(index["files"]) or not isinstance(index["tool"], str):
                raise ValueError("of another folder")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise DataError(url, f"not an index of a mirror ({e}); remove it") from None
        return index

    def _put(self, end, folder, files, tool):
        """Put `files` of a folder there, then their index, as KEY + `end`; returns the name of the folder there."""
        there = _sum(files)
        for name, recorded in files.items():
            put(self.fs, os.path.join(folder, name), f"{self.base}/{there}/{name}", **recorded)
        for key, made_from in zip(self.keys, self.made_from, strict=True):
            index = {"format": FORMAT, "tool": tool, **made_from, "folder": there, "files": files}
            with explained(f"{self.url}/{key}{end}.json"):
                text = json.dumps(index, ensure_ascii=False, indent=2) + "\n"
                self.fs.pipe_file(f"{self.base}/{key}{end}.json", text.encode())
        return there

    def _remove(self, name):
        """Remove an index or a folder, if that is allowed: it costs room, nothing else."""
        with suppress(Exception):
            self.fs.rm(f"{self.base}/{name}", recursive=True)

    def _get(self, index, folder):
        """Download the files of an index; those by which the folder is known to be whole after the others."""
        files = index["files"]
        if (need := _bytes(files)) > (free := free_space(folder)):
            raise DataError(folder, f"{need / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free; make room")

        def fetch(name):
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            get(self.fs, f"{self.base}/{index['folder']}/{name}", path, **files[name])

        pool = ThreadPoolExecutor(DOWNLOADS)
        try:
            list(pool.map(fetch, files.keys() - {RUN, MANIFEST}))
            list(map(fetch, [name for name in (RUN, MANIFEST) if name in files]))
        finally:
            pool.shutdown(cancel_futures=True)

    def _known_sums(self, sums):
        """The sha256 that a manifest may name as inputs: of our inputs, and of the files of folders among them."""
        sums = set(sums)
        for path in self.inputs:
            if os.path.basename(path) == MANIFEST:
                sums |= {output["sha256"] for output in read_manifest(os.path.dirname(path))["outputs"].values()}
        return sums


def _freeze(part, frozen, checkpoint):
    """Copy what a run needs to go on; returns whether that is still there. The run itself goes on meanwhile: its logs
    grow, and it removes old checkpoints, so that the one that is wanted gets a second name.
    """
    os.makedirs(os.path.join(frozen, CHECKPOINTS))
    open(os.path.join(frozen, f".{TRAINER}.part"), "w").close()  # whose it is
    try:
        os.link(os.path.join(part, checkpoint), os.path.join(frozen, checkpoint))
        for name in RUN, *LOGS:
            path, copy = os.path.join(part, name), os.path.join(frozen, name)
            if os.path.isdir(path):
                shutil.copytree(path, copy)
            elif name == RUN or os.path.exists(path):  # TensorBoard and so its events may not be there
                shutil.copyfile(path, copy)
    except (FileNotFoundError, shutil.Error):  # the run has finished, or saved another one
        return False
    return True


def _described(folder):
    """{name: {bytes, sha256}} of the files below a folder, without unfinished ones."""
    names = [name for name in files_below(folder) if not name.endswith(".part")]
    paths = {name: os.path.join(folder, name) for name in names}
    return {name: {"bytes": os.path.getsize(path), "sha256": sha256(path)} for name, path in paths.items()}


def _is_download(path, settings):
    """Whether a file, or the folder of a manifest, was fetched from the address in `settings`, NAME=ADDRESS …"""
    with suppress(OSError, ValueError, KeyError, TypeError, DataError):
        if os.path.basename(path) == MANIFEST:
            address = read_manifest(os.path.dirname(path))["settings"]["source"]
        else:
            address = json.loads(_read(f"{path}.json"))["url"]
        date = settings.partition("JAWIKI_DATE=")[2]
        return date in address and address.startswith(settings.partition("=")[2].partition(" ")[0])
    return False


def _read(path):
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


def _bytes(files):
    return sum(recorded["bytes"] for recorded in files.values())


def _sum(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def run_pushing(command: list[str], *stage) -> int:
    """Run `command`, which trains, and push the run's checkpoints meanwhile; returns its exit status.

    `stage` are the arguments of Mirror. If nothing of the run is here, it begins with the checkpoint in the mirror. A
    mirror that fails is reported, and does not end the training. Signals go to the command, which saves a last
    checkpoint; that one is pushed, too.
    """
    mirror = pushed = None
    try:
        mirror = Mirror(*stage)
        if not (os.path.exists(mirror.folder) or os.path.exists(os.path.join(mirror.part, RUN))):
            pushed = mirror.pull_checkpoint()
            note(f"{mirror.folder}: goes on from {pushed}, taken from {mirror.url}")
    except NotFound:
        pass
    except Exception as e:
        _report(e)
    child = subprocess.Popen(command)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(signum, lambda signum, _: child.send_signal(signum))
    status = None
    while status is None:
        with suppress(subprocess.TimeoutExpired):
            status = child.wait(POLL)
        if mirror and (newest := mirror.newest_checkpoint()) != pushed:
            pushed = newest  # or not: then the next one is
            try:
                mirror.push_checkpoint()
            except Exception as e:
                _report(e)
    return 128 - status if status < 0 else status


def _report(error):
    """Say that the mirror has failed. Of errors that are not ours only the kind is shown: their text may have keys."""
    if isinstance(error, OSError):
        error = f"{error.filename or 'mirror'}: {error.strerror}"
    elif not isinstance(error, DataError):
        error = f"mirror: {type(error).__name__}"
    note(f"{error}; the training goes on without it")
