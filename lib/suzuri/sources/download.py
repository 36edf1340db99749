"""Reading a file over HTTP(S) to its last byte, through drops, stalls and restarts.

`blocks` is the engine: it reconnects with Range and If-Range and yields what arrives, with its place.
`to_file` and `in_order` are its two consumers: a file that appears whole, and a stream that never repeats
a byte.
"""

import email.utils
import errno
import fcntl
import hashlib
import http.client
import json
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from urllib.parse import unquote, urljoin

from suzuri import __version__
from suzuri.errors import DataError
from suzuri.files import free_space, unlink_quietly
from suzuri.progress import note
from suzuri.streams import write_all

BLOCK = 1 << 18
PYTHON = ".".join(map(str, sys.version_info[:2]))
USER_AGENT = f"suzuri/{__version__} (tool chain that pre-trains Japanese BERTs; Python-urllib/{PYTHON})"
PASSING = (408, 425, 429, 500, 502, 503, 504)  # worth another try; any other error status is an answer
LONGEST_WAIT = 60  # seconds between two tries, unless the server asks for more with Retry-After
LONGEST_OBEYED = 600


class NotFound(DataError):
    """The server (or the disk) says that there is no such thing."""


def local_path(url):
    """Path of a file:// URL or of a plain path; None for http and https."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    if scheme.lower() in ("http", "https"):
        if not rest.partition("/")[0]:
            raise DataError(url, "there is no host in it")
        return None
    if scheme.lower() == "file":
        return unquote(rest[rest.find("/") :])  # file://localhost/path, too
    raise DataError(url, "not an address this tool reads: give https://, http://, file:// or a path")


# The engine


def connect(url, offset, known, timeout):
    """GET `url` from byte `offset` on -> (response, the offset it really starts at, what it is).

    What it is: {url, size, etag, last_modified}, None where the server does not say. `known` is the same of
    the bytes held already: when the file is another one by now, or nobody can tell (the server knows no Range, or
    said neither ETag nor Last-Modified), the response starts at 0.
    """
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if offset and not (known["etag"] or known["last_modified"]):
        offset = 0
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if same_as := _validator(known):
            headers["If-Range"] = same_as
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as e:
        if e.code == 416 and offset:  # shorter than what we hold: another file
            e.close()
            return connect(url, 0, None, timeout)
        raise
    now = {
        "url": url,
        "size": None,
        "etag": response.headers["ETag"],
        "last_modified": response.headers["Last-Modified"],
    }
    if response.status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers["Content-Range"] or "")
        if span and int(span[1]) == offset:
            now["size"] = int(span[2])
            if all(now[k] == known[k] for k in ("size", "etag", "last_modified") if known[k]):
                return response, offset, now
        response.close()
        return connect(url, 0, None, timeout)
    length = response.headers["Content-Length"]
    if length and not response.chunked:
        now["size"] = int(length)
    return response, 0, now


def _validator(known):
    """What If-Range takes: a strong ETag, else the date (RFC 9110, 13.1.5); None where there is neither."""
    etag = known["etag"]
    return etag if etag and not etag.startswith("W/") else known["last_modified"]


def blocks(url, offset=0, known=None, *, retries=8, timeout=60, wait=1, sleep=time.sleep, say=note):
    """Yield (what it is, offset, block) until the last byte of `url`; every (re)start begins with an empty block.

    Offsets follow one another, save that they fall back to 0 when the file must be read anew. A connection
    that drops, stalls for `timeout` seconds or answers "busy" is opened again after `wait` seconds, twice as
    long each time; `retries` times in a row without a new byte is the end. Raises NotFound, DataError.
    """
    path = local_path(url)
    if path is not None:
        yield from _local_blocks(url, path)
        return
    failures, farthest = 0, offset
    while True:
        asked_wait = 0
        try:
            response, offset, known = connect(url, offset, known, timeout)
            with response:
                yield known, offset, b""
                while offset != known["size"] and (block := response.read1(BLOCK)):
                    yield known, offset, block
                    offset += len(block)
                    if offset > farthest:
                        farthest, failures = offset, 0
            if known["size"] in (None, offset):
                return
            problem = f"connection closed after {offset:,} of {known['size']:,} bytes"
        except urllib.error.HTTPError as e:
            e.close()
            if e.code not in PASSING:
                raise _refusal(url, e) from None
            problem, asked_wait = f"{e.code} {e.reason}", _retry_after(e.headers["Retry-After"])
        except (http.client.InvalidURL, ValueError) as e:
            raise DataError(url, f"no way to read it: {e}") from None
        except (OSError, http.client.HTTPException) as e:
            reason = getattr(e, "reason", e)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise DataError(url, f"{reason.verify_message}; is this the right server?") from None
            stalled = isinstance(reason, TimeoutError)
            problem = f"no data for {timeout:g} s" if stalled else _words(reason)
        failures += 1
        if failures > retries:
            raise DataError(url, f"{problem}; gave up after {retries} more tries; run again to go on from there")
        seconds = max(min(wait * 2 ** (failures - 1), LONGEST_WAIT), asked_wait)
        say(f"{url}: {problem}; again in {seconds:g} s ({failures} of {retries})")
        sleep(seconds)


def _local_blocks(url, path):
    try:
        with open(path, "rb") as f:
            known = {"url": url, "size": os.fstat(f.fileno()).st_size, "etag": None, "last_modified": None}
            offset = 0
            yield known, offset, b""
            while block := f.read(BLOCK):
                yield known, offset, block
                offset += len(block)
    except FileNotFoundError:
        raise NotFound(path, "no such file") from None


def _refusal(url, e):
    if e.code in (404, 410):
        return NotFound(url, f"{e.code}: no longer there; find its new address and give that (make … *_URL=https://…)")
    return DataError(url, f"the server refuses: {e.code} {e.reason}; try another address (make … *_URL=https://…)")


def _words(reason):
    """What an exception says, without its number: 'Connection refused'."""
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _retry_after(text):
    """Seconds of a Retry-After header, which is a number or a date; 0 for none."""
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        try:
            seconds = (email.utils.parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return 0
    return min(max(seconds, 0), LONGEST_OBEYED)


# To a file


def to_file(url, path, *, sha256=None, record=True, progress=None, **options):
    """Fetch `url` to `path`, which appears only when whole -> {url, size, sha256, etag, last_modified, resumed}.

    Work is PATH.part, with PATH.part.json saying of what it is a part; both outlive a failure or a kill, and
    the next call goes on from there (`resumed`: bytes that it found). With `record`, the answer stays beside
    the file as PATH.json. `sha256` is checked; `options` are those of `blocks`.
    """
    if os.path.isdir(path):
        raise DataError(path, "is a folder; name the file that is to be in it")
    part, side = f"{path}.part", f"{path}.part.json"
    exists = os.path.exists
    if exists(part) and exists(f"{path}.json") and not exists(side) and not exists(path):
        os.rename(f"{path}.json", side)  # killed between the two renames at the end
    with open(part, "ab", buffering=0) as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = _is_file_at(f, part)  # else its writer has just given it its final name
        except BlockingIOError:
            held = False
        if not held:
            raise DataError(part, "another run is writing it")
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
                for now, offset, block in blocks(url, have, known, **options):
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
            if sha256 and digest.hexdigest() != sha256.lower():
                f.seek(0)
                f.truncate()
                raise DataError(url, f"its sha256 is {digest.hexdigest()}, not {sha256}: another file, or damaged")
            answer = {"url": url, "size": f.tell(), "sha256": digest.hexdigest()}
            answer |= {k: known[k] for k in ("etag", "last_modified") if known[k]}
            os.fsync(f.fileno())
            if record:
                # Whatever moment a kill comes at, there is no PATH with another file's record: PATH.json
                # changes only while there is no PATH. It must not be older than PATH (files.recorded_sha256).
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
                raise DataError(part, f"{e.strerror}; {kept}: make room and run again to go on") from None
            raise
        finally:
            if not f.tell() and _is_file_at(f, part):
                unlink_quietly(part)
                unlink_quietly(side)


def _is_file_at(f, path):
    return os.path.exists(path) and os.path.samestat(os.fstat(f.fileno()), os.stat(path))


def _read_side(side, url):
    """What PATH.part is a part of; None when that is unknown or not `url`."""
    try:
        with open(side, encoding="utf-8") as f:
            known = json.load(f)
        if known["url"] == url and local_path(url) is None:
            return {k: known.get(k) for k in ("url", "size", "etag", "last_modified")}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return None


def _write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=2)
        f.write("\n")


def _digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256")


# To a stream


def in_order(url, *, sha256=None, progress=None, **options):
    """Yield the bytes of `url`, each once, whatever happens to the connection.

    A server without Range sends the beginning again: it is compared (by hash) with what was yielded, and left
    out. Raises DataError when it differs: the reader has half of another file.
    """
    sent, digest, again = 0, hashlib.sha256(), None
    for now, offset, block in blocks(url, **options):
        if offset == 0 and not block:
            again = hashlib.sha256()
            if progress and not sent:
                progress.expect(now["size"] or 0)
        if offset < sent:
            seen = block[: sent - offset]
            again.update(seen)
            if offset + len(seen) == sent and again.digest() != digest.digest():
                raise DataError(url, "changed on the server while it was being read; run again")
            block = block[len(seen) :]
        if block:
            digest.update(block)
            sent += len(block)
            yield block
            if progress:
                progress.update(len(block))
    if sha256 and digest.hexdigest() != sha256.lower():
        raise DataError(url, f"its sha256 is {digest.hexdigest()}, not {sha256}: another file, or damaged")


# Folders


def listing(url, **options):
    """Names in a folder -> {name: address}; names of folders end with `/`. `url`: an index page, or a local folder.

    >>> listing("https://…/20261115/index_name=jawiki_content/")
    {'_SUCCESS': 'https://…/_SUCCESS', 'jawiki_content-20261115-00000.json.bz2': 'https://…', …}
    """
    path = local_path(url)
    if path is not None:
        try:
            names = sorted(os.listdir(path))
        except FileNotFoundError:
            raise NotFound(path, "no such folder") from None
        return {n + "/" * os.path.isdir(os.path.join(path, n)): os.path.join(path, n) for n in names}
    base = url if url.endswith("/") else f"{url}/"
    page = b"".join(in_order(base, **options)).decode("utf-8", "replace")
    found = {}
    for link in re.findall(r"""href=["']?([^"'?#> ]+)""", page, re.IGNORECASE):
        address = urljoin(base, link.replace("&amp;", "&"))
        # Servers differ in what they escape (`=` is %3D for some): compare what the escapes stand for.
        name = unquote(address).removeprefix(unquote(base))
        if re.fullmatch(r"[^/]+/?", name) and unquote(address) != unquote(base):
            found[name] = address
    return dict(sorted(found.items()))
