"""Search-index dumps of the Japanese Wikipedia: the newest finished one, and its shards in a folder.

https://dumps.wikimedia.org/other/cirrus_search_index/
    20261115/
        index_name=jawiki_content/
            _SUCCESS                                    written last
            jawiki_content-20261115-00000.json.bz2 …
"""

import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from suzuri.errors import DataError
from suzuri.files import sha256, unlink_quietly
from suzuri.folders import NewFolder
from suzuri.manifest import MANIFEST, read_manifest, write_manifest
from suzuri.progress import Progress
from suzuri.sources import http
from suzuri.sources.download import download

ROOT_URL = "https://dumps.wikimedia.org/other/cirrus_search_index/"
INDEX = "index_name=jawiki_content/"
DONE = "_SUCCESS"
DATE = re.compile(r"\d{8}/")
SHARD = re.compile(r".+\.(json|ndjson|jsonl)(\.(gz|bz2|xz|zst))?")


@dataclass(frozen=True)
class Dump:
    url: str  # its folder, or its only file
    shards: dict[str, str]  # file name -> address, in the order of the names
    dated: bool  # chosen from the dates of a root folder


def find_dump(url: str, date: str | None = None, **options) -> Dump:
    """The dump at `url`. Raises DataError, which says what is there instead.

    `url` is a root of dated folders (the newest date with _SUCCESS is taken, or `date`), a dated folder, an
    index_name= folder, any folder of shards, or one file; over HTTP or local. `options` are those of `http.read`.
    """
    list_folder = partial(http.list_folder, **options)
    local = http.local_path(url)
    name = os.path.basename(unquote(url.partition("?")[0]) if local is None else local)
    if SHARD.fullmatch(name) and not (local and os.path.isdir(local)):
        return Dump(url, {name: url}, dated=False)
    names = list_folder(url)
    dates = [d for d in names if DATE.fullmatch(d)]
    if dates:
        return _newest(url, {d.strip("/"): names[d] for d in dates}, date, list_folder)
    if date:
        raise DataError(url, f"has no dated folders in which to find {date}; give the folder above them")
    if INDEX in names:
        url = names[INDEX]
        names = list_folder(url)
    unfinished = INDEX in f"{unquote(url).rstrip('/')}/" and DONE not in names
    if unfinished:
        raise DataError(url, f"is not finished: it has no {DONE} (yet); take another date")
    return Dump(url, _shards(url, names), dated=False)


def _newest(root, dates, wanted, list_folder):
    unfinished = []
    finished = []
    for date in sorted(dates, reverse=True):
        if wanted in (None, date):
            try:
                address = list_folder(dates[date])[INDEX]
                names = list_folder(address)
                if DONE in names:
                    return Dump(address, _shards(address, names), dated=True)
            except (http.NotFound, KeyError):  # of other wikis only, or removed since the listing was read
                pass
            unfinished.append(date)
        else:
            finished.append(date)
    if wanted:
        what = "is not finished" if wanted in dates else "is not there"
        raise DataError(root, f"the dump of {wanted} {what}; other dates: {', '.join(sorted(finished)) or 'none'}")
    raise DataError(root, f"no finished dump of jawiki there; unfinished: {', '.join(sorted(unfinished))}")


def _shards(url, names):
    """The data files among a folder's names; where there are files of other wikis too, only jawiki's articles."""
    found = {n: a for n, a in names.items() if SHARD.fullmatch(n) and n != "manifest.json"}
    found = {n: a for n, a in found.items() if not (n.endswith(".json") and n[:-5] in found)}  # fetch-url's records
    ours = {n: a for n, a in found.items() if re.match(r"jawiki[-_].*content", n)}
    if not found:
        raise DataError(url, "no dump there: neither dated folders nor files …json.bz2, …json.gz")
    return ours or found


class Abandoned(Exception):
    """Raised in a download when another one of the same dump has failed."""


def download_shards(
    dump: Dump, folder: str, *, connections: int = 3, progress: Progress | None = None, **options
) -> int:
    """Fetch the shards of `dump` into `folder` -> the number of those that were there already.

    An unfinished one is continued; those with their final name are whole. Local shards are linked, not copied, where
    the file system allows it: a dump is tens of gigabytes. `options` are those of `http.read`.
    """
    stop = threading.Event()

    def pause(seconds):
        if stop.wait(seconds):
            raise Abandoned

    class SharedProgress:
        """The progress bar that all downloads share; it also ends the others when one has failed."""

        expect = staticmethod(progress.expect if progress else lambda n: None)

        @staticmethod
        def update(n):
            if stop.is_set():
                raise Abandoned
            if progress:
                progress.update(n)

        skip = update

    def fetch(name, address):
        path = os.path.join(folder, name)
        source = http.local_path(address)
        if source is None or not _link(source, path):
            download(address, path, record=False, progress=SharedProgress, sleep=pause, **options)

    missing = {n: a for n, a in dump.shards.items() if not _is_there(os.path.join(folder, n), http.local_path(a))}
    pool = ThreadPoolExecutor(connections)
    try:
        for done in as_completed([pool.submit(fetch, *item) for item in missing.items()]):
            done.result()
    except http.NotFound:
        stop.set()  # and wait: if the caller starts again, nothing else may write into the folder
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    return len(dump.shards) - len(missing)


def _is_there(path, source):
    """Is the shard at `path` whole, and the same as its local `source`? (Those from a URL do not change.)"""
    if not os.path.exists(path) or source is None or not os.path.exists(source):
        return os.path.exists(path)
    have, wanted = os.stat(path), os.stat(source)
    if os.path.samestat(have, wanted) or (have.st_size == wanted.st_size and have.st_mtime >= wanted.st_mtime):
        return True
    os.unlink(path)
    return False


def _link(source, path):
    """Make a hard link, which stays valid whatever happens to the other name; False where that is impossible."""
    try:
        os.link(os.path.realpath(source), path)
    except FileNotFoundError:
        raise http.NotFound(source, "no such file") from None
    except OSError:
        return False
    return True


SOURCE = "source.part"  # in the unfinished folder: the address of its dump


def begin_folder(folder: str, dump: Dump) -> NewFolder:
    """The unfinished FOLDER, ready for the shards of `dump`: what an earlier run left of the same dump is kept."""
    local = http.local_path(dump.url)
    new = NewFolder(folder, [local] if local else [])
    new.begin(keep=True)
    with open(os.path.join(new.part, SOURCE), "a+", encoding="utf-8") as f:
        f.seek(0)
        same = f.read() == dump.url
        f.truncate(0)
        f.write(dump.url)
    there = set(os.listdir(new.part))
    wanted = {n + end for n in dump.shards for end in ("", ".part", ".part.json")} if same else set()
    wanted -= {f"{n}.part.json" for n in there}  # of a whole shard: the run ended just after it got its name
    for name in there - {SOURCE, new.marker} - wanted:
        os.unlink(os.path.join(new.part, name))
    made = read_manifest(new.path) if os.path.exists(os.path.join(new.path, MANIFEST)) else None
    if made and made["settings"].get("source") == dump.url:  # the same dump again: keep the files that have not changed
        for name, was in made["outputs"].items():
            path, kept = os.path.join(new.path, name), os.path.join(new.part, name)
            wanted = name in dump.shards and os.path.exists(path) and not os.path.exists(kept)
            if wanted and sha256(path) == was["sha256"] and not _link(path, kept):
                shutil.copy2(path, kept)
    return new


def finish_folder(new: NewFolder, dump: Dump) -> None:
    """Complete the unfinished folder, which has all shards, with its manifest, and give it its name."""
    write_manifest(new.part, counts={"shards": len(dump.shards)}, settings={"source": dump.url}, name=new.given)
    unlink_quietly(os.path.join(new.part, SOURCE))
    new.finish()
