"""A file downloaded whole or not at all."""

import errno
import hashlib
import json
import os

from suzuri import content
from suzuri.errors import DataError
from suzuri.files import free_space, is_at, lock, named, unlink_quietly
from suzuri.manifest import download_record
from suzuri.progress import note
from suzuri.sources import http
from suzuri.streams import write_all


class _Spoilt(DataError):
    """The file is not sound, and a part of it was left by an earlier run."""


RECORD = b'{\n  "url":'  # the beginning of each record


def download(url: str, path: str, **options) -> dict:
    """Fetch `url` to `path`, which appears only when whole -> {url, size, sha256, etag, last_modified, resumed}.

    Unfinished work is PATH.part, and PATH.part.json describes the file that it is a part of. Both survive a failure
    or a kill, and the next call continues from there (`resumed`: bytes that it found). If that does not give a sound
    file, all is fetched again, once. With `record` (the default), all but `resumed` is kept beside the file as
    PATH.json. `sha256` is checked; the other options are `progress` and those of `http.read`. A link at PATH stays, and
    its target is made.
    """
    try:
        return _download(url, path, **options)
    except _Spoilt as e:
        (options.get("say") or note)(f"{e}; it was begun by an earlier run: now all of it is fetched again")
        return _download(url, path, **options)


def _download(url, path, *, sha256=None, record=True, progress=None, **options):
    """One attempt of download()."""
    if os.path.isdir(path):
        raise DataError(path, "is a folder; give the name of a file in it")
    path = os.path.realpath(path)
    part, side = f"{path}.part", f"{path}.part.json"
    exists = os.path.exists
    if record:
        _refuse_others_record(f"{path}.json")
        _refuse_record(path)
    if exists(part) and exists(f"{path}.json") and not exists(side) and not exists(path):
        os.rename(f"{path}.json", side)  # killed between the two renames at the end
    with open(lock(part, os.O_RDWR | os.O_APPEND | os.O_CREAT), "ab", buffering=0) as f, named(part):
        if f.tell() and not exists(side):
            raise DataError(part, "is not the beginning of a download of ours; move it away, or give another name")
        try:
            known = _read_side(side, url)
            have = f.tell() if known else 0
            digest = hashlib.sha256()
            if have:
                digest = _digest(part)
                if progress:
                    progress.expect(known["size"] or have)
                    progress.skip(have)
            resumed = have
            if not have or have != known["size"]:
                for now, offset, block in http.read(url, have, known, **options):
                    need = 0 if block else (now["size"] or 0) - offset
                    if need > (free := free_space(os.path.dirname(os.path.abspath(path)))):
                        what = f"needs {need / 1e9:.2f} GB more, {free / 1e9:.2f} GB free"
                        raise DataError(path, f"{what}; make room or choose another disk (make DATA=/big/disk)")
                    if offset == 0 and not block:
                        if progress and not have:
                            progress.expect(now["size"] or 0)
                        f.seek(0)
                        f.truncate()
                        _write_json(side, now)
                        known, digest, resumed = now, hashlib.sha256(), 0
                    digest.update(block)
                    write_all(f.fileno(), block)
                    if progress:
                        progress.update(len(block))
            try:
                http.check_sha256(url, digest, sha256)
                check_content(url, path)
            except DataError as e:
                f.seek(0)
                f.truncate()
                if resumed:
                    raise _Spoilt(*e.args) from None
                raise
            answer = {"url": url, "size": f.tell(), "sha256": digest.hexdigest()}
            answer |= {k: known[k] for k in ("etag", "last_modified") if known[k]}
            os.fsync(f.fileno())
            if record:
                # Whenever a kill comes, PATH does not have another file's record: PATH.json changes only
                # while there is no PATH. It must not be older than PATH (manifest.recorded_sha256).
                _write_json(side, answer)
                unlink_quietly(path)
                os.rename(side, f"{path}.json")
            os.rename(part, path)
            if not record:
                unlink_quietly(side)
            return answer | {"resumed": resumed}
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                whole = (known or {}).get("size")
                kept = f"{f.tell():,} of {whole:,} bytes are kept" if whole else f"{f.tell():,} bytes are kept"
                raise DataError(part, f"{e.strerror}; {kept}: make room and run again to continue") from None
            raise
        finally:
            if not f.tell() and is_at(f.fileno(), part):
                unlink_quietly(part)
                unlink_quietly(side)


def check_content(url: str, path: str) -> None:
    """Raise DataError if what has come, PATH.part, is empty or cannot be what its address or its name says."""
    with open(f"{path}.part", "rb") as f:
        head = f.read(content.HEAD)
    for name in http.name_in(url), str(path):
        content.check_fetched(name, head, url)


def _read_side(side, url):
    """The description of the file that PATH.part is a part of; None when that is unknown or not `url`."""
    try:
        with open(side, encoding="utf-8") as f:
            known = json.load(f)
        if known["url"] == url and http.local_path(url) is None:
            return {k: known.get(k) for k in ("url", "size", "etag", "last_modified")}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return None


def _refuse_others_record(path):
    """Raise DataError if the file in the place of a record is not one, whole or damaged."""
    if os.path.isfile(path) and os.path.getsize(path):
        with open(path, "rb") as f:
            start = f.read(16)
        if start.strip(b"\0") and not start.startswith(RECORD):
            raise DataError(path, "is not a record of fetch-url, which needs the name; move it away")


def _refuse_record(path):
    """Raise DataError if PATH is the record of a file that is there."""
    of = path.removesuffix(".json")
    if of != path and os.path.exists(of) and os.path.isfile(path):
        with open(path, "rb") as f:
            if f.read(16).startswith(RECORD):
                raise DataError(path, f"is fetch-url's record of {os.path.basename(of)}; give another name")


def is_download(path: str) -> bool:
    """Whether PATH is the file that its record describes, or one with a damaged record, or is not there."""
    return (
        not os.path.exists(path) or download_record(path) is not None or _is_damaged(f"{os.path.realpath(path)}.json")
    )


def _is_damaged(record):
    """Whether a file that was a record cannot be read any more."""
    try:
        with open(record, "rb") as f:
            data = f.read()
        if data.startswith(RECORD):
            json.loads(data)
            return False
        return bool(data) and not data.strip(b"\0")  # the power was cut
    except FileNotFoundError:
        return False
    except ValueError:
        return True


def remove(path: str) -> bool:
    """Remove a download with its record and what a stopped run has left; returns whether there was anything. A link
    at PATH stays.

    Raises DataError, before it removes anything, if PATH or PATH.part is not from fetch-url, or if a run writes it.
    """
    given, path = path, os.path.realpath(path)
    record, part, side = (f"{path}.{end}" for end in ("json", "part", "part.json"))
    found = [name for name in (path, record, part, side) if os.path.isfile(name)]
    _refuse_others_record(record)
    if not is_download(path):
        raise DataError(given, "was not made by a tool of suzuri")
    if part in found:
        if side not in found and record not in found:
            raise DataError(part, "is not the beginning of a download of ours")
        os.close(lock(part, os.O_RDWR))
    for name in found:
        os.unlink(name)
    return bool(found)


def _write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=2)
        f.write("\n")


def _digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256")
