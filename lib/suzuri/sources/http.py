"""Files and folders from disk, HTTP(S) or object storage, despite connections that drop, stall or are refused.

`read` connects again with Range and If-Range and yields what arrives, with its offset. `stream` is built on it
and yields each byte once, in order; `download` is built on it, too, and writes a file.
"""

import base64
import email.utils
import hashlib
import http.client
import os
import re
import socket
import ssl
import string
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from suzuri import __version__, content, object_storage
from suzuri.errors import DataError, NotFound
from suzuri.streams import peek

BLOCK = 1 << 18
PYTHON = ".".join(map(str, sys.version_info[:2]))
USER_AGENT = f"suzuri/{__version__} (tool chain that pre-trains Japanese BERTs; Python-urllib/{PYTHON})"
PASSING = (408, 425, 429, 500, 502, 503, 504)  # worth another try; any other error status is final
LONGEST_WAIT = 60  # seconds between two tries, unless the server asks for more with Retry-After …
LONGEST_OBEYED = 600  # … up to this


def local_path(url: str) -> str | None:
    """Path of a file:// URL or of a plain path; None for http, https and s3."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    if scheme.lower() in ("http", "https", *object_storage.SCHEMES):
        if not rest.partition("/")[0]:
            raise DataError(url, "does not name a server or a bucket")
        return None
    if scheme.lower() == "file":
        return unquote(rest[rest.find("/") :])  # also file://localhost/path
    raise DataError(url, "not an address that can be read; give https://, http://, s3://, file:// or a path")


CREDENTIALS = {}  # "https://host:port" -> the Authorization header for it


def address(url: str) -> str:
    """The address without `user:password@`, which `connect` will send to that server, and to no other.

    So messages, records and manifests, which have the address, do not have the password.
    """
    if local_path(url) is not None:
        return url
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises ValueError)
    except ValueError as e:
        if "@" not in url:
            raise DataError(url, f"not a valid address: {e}") from None
        what = "not a valid address; a / or @ in a user name or password is written %2F or %40"
        raise DataError(url.partition("://")[0] + "://…", what) from None
    if "@" not in parts.netloc:
        return url
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    CREDENTIALS[_origin(parts)] = f"Basic {base64.b64encode(user).decode()}"
    return urlunsplit(parts)


def _origin(parts):
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}"


def _request(url, headers):
    """The request for an address that may have characters outside ASCII, with the credentials for its server."""
    parts = urlsplit(url)
    safe = string.punctuation  # what is escaped already stays as it is
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    parts = parts._replace(netloc=host, path=quote(parts.path, safe), query=quote(parts.query, safe), fragment="")
    request = urllib.request.Request(urlunsplit(parts), headers=headers)
    if given := CREDENTIALS.get(_origin(parts)):
        request.add_unredirected_header("Authorization", given)
    return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Only to http and https. Credentials go along to another address on the same server, and nowhere else."""

    def redirect_request(self, request, *args):
        if not args[-1].lower().startswith(("http://", "https://")):
            return None  # an HTTPError
        new = super().redirect_request(request, *args)
        if new and (given := CREDENTIALS.get(_origin(urlsplit(new.full_url)))):
            new.add_unredirected_header("Authorization", given)
        return new


class _Answer(http.client.HTTPResponse):
    """A response whose head is there within the socket's time-out, which by itself begins again with each byte."""

    def __init__(self, sock, *args, **kwargs):
        super().__init__(sock, *args, **kwargs)
        self.sock = sock

    def begin(self):
        late = threading.Event()

        def end():
            late.set()
            with suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # not TLS's own, which another thread is reading

        timer = threading.Timer(self.sock.gettimeout(), end)
        timer.start()
        try:
            super().begin()
        finally:
            timer.cancel()
            if late.is_set():
                raise TimeoutError


class _Connection(http.client.HTTPConnection):
    response_class = _Answer


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Answer


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request):
        return self.do_open(_Connection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request):
        return self.do_open(_SecureConnection, request)


def _open(url, headers, timeout):
    """GET -> the response. Only http and https, whatever the server redirects to, and no proxy that speaks SOCKS."""
    request = _request(url, headers)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(request.type) or proxies.get("all") or ""
    if proxy.startswith("socks") and not urllib.request.proxy_bypass(request.host):
        what = "the environment names a SOCKS proxy, which is not supported"
        raise DataError(url, f"{what}; set {request.type}_proxy to an http:// proxy, or no_proxy={request.host}")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        _Http(),
        _Https(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener.open(request, timeout=timeout)


def connect(url: str, offset: int, known: dict | None, timeout: float):
    """GET `url` from byte `offset` on -> (response, the offset at which it starts, description of the file).

    The description is {url, size, etag, last_modified}, with None where the server does not say. `known` describes
    the file that the bytes already here are from. If the file has changed since, or may have (the server does not know
    Range, or sends neither ETag nor Last-Modified), the response starts at 0. Raises DataError if the answer is not
    the file.
    """
    if offset and not (known["etag"] or known["last_modified"]):
        offset = 0
    for start in dict.fromkeys((offset, 0)):  # what cannot be continued is asked for once more, as a whole
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if same_as := _validator(known):
                headers["If-Range"] = same_as
        try:
            response = _open(url, headers, timeout)
        except urllib.error.HTTPError as e:
            if e.code == 416 and start:  # the file is shorter than what is here: another file
                e.close()
                continue
            raise
        answer = response.headers
        now = {"url": url, "size": None, "etag": answer["ETag"], "last_modified": answer["Last-Modified"]}
        packed = answer["Content-Encoding"] or "identity"
        if packed.lower() != "identity" and content.suffix(urlsplit(url).path) not in content.SUFFIXES:
            # To undo it would be to lose resuming: offsets and sizes are those of the packed bytes.
            response.close()
            what = f"the server packs it (Content-Encoding: {packed}), although asked not to"
            raise DataError(url, f"{what}; fetch it with curl --compressed")
        if response.status in (200, 203):
            if not response.chunked and (answer["Content-Length"] or "").isdigit():
                now["size"] = int(answer["Content-Length"])
            return response, 0, now
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer["Content-Range"] or "")
        if response.status == 206 and span and int(span[1]) == start:
            now["size"] = int(span[3])
            same = start and all(now[k] == known[k] for k in ("size", "etag", "last_modified") if known[k])
            if same or (int(span[2]) == now["size"] - 1 and not start):
                return response, start, now
        response.close()
    what = f"the server answers {response.status} {response.reason}"
    if response.status == 206:
        what = f"the server sends a part ({answer['Content-Range']}) of what was asked for as a whole"
    raise DataError(url, f"{what}; try another address")


def _validator(known):
    """What If-Range takes: a strong ETag, else the date (RFC 9110, 13.1.5); None where there is neither."""
    etag = known["etag"]
    return etag if etag and not etag.startswith("W/") else known["last_modified"]


def read(
    url: str,
    offset: int = 0,
    known: dict | None = None,
    *,
    retries: int = 8,
    timeout: float = 60,
    wait: float = 1,
    min_rate: float = 1000,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] | None = None,
) -> Iterator[tuple[dict, int, bytes]]:
    """Yield (description, offset, block) to the last byte of `url`; each connection begins with an empty block.

    Offsets follow one another, except that they return to 0 when the file must be read again from its beginning. A
    connection that drops, is silent for `timeout` seconds, brings less than `min_rate` bytes per second in that time or
    answers "busy" is opened again after `wait` seconds, which double each time. It gives up after `retries` retries
    that brought nothing to speak of. Raises NotFound, DataError.
    """
    path = local_path(url)
    if path is not None:
        yield from _read_local(url, path)
        return
    failures, farthest = 0, offset
    while True:
        asked_wait = came = waited = seen = 0  # bytes and seconds of this connection; bytes in its last `timeout` s
        try:
            open_at = object_storage.connect if object_storage.is_object(url) else connect
            response, offset, known = open_at(url, offset, known, timeout)
            with response:
                yield known, offset, b""
                while offset != known["size"]:
                    begin = time.monotonic()
                    block = response.read1(BLOCK)
                    waited_before, waited = waited, waited + time.monotonic() - begin
                    if not block:
                        break
                    yield known, offset, block
                    offset += len(block)
                    came += len(block)
                    if waited // timeout > waited_before // timeout:
                        if came - seen < min_rate * timeout:
                            raise OSError(f"only {came - seen:,} bytes in {timeout:g} s")
                        seen = came
            if known["size"] in (None, offset):
                return
            problem = f"connection closed after {offset:,} of {known['size']:,} bytes"
        except urllib.error.HTTPError as e:
            e.close()
            if e.code not in PASSING:
                raise _refusal(url, e) from None
            problem, asked_wait = f"{e.code} {e.reason}", _retry_after(e.headers["Retry-After"])
        except (http.client.InvalidURL, ValueError) as e:
            raise DataError(url, f"not a valid address: {e}") from None
        except (OSError, http.client.HTTPException) as e:
            reason = getattr(e, "reason", e)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise DataError(url, f"{reason.verify_message}; is this the right server?") from None
            stalled = isinstance(reason, TimeoutError)
            problem = f"no data for {timeout:g} s" if stalled else _message(reason)
        if offset > farthest and came >= min_rate * max(1, waited):  # a byte now and then is not progress
            failures = 0
        farthest = max(farthest, offset)
        failures += 1
        if failures > retries:
            raise DataError(url, f"{problem}; gave up after {retries} more tries; run again to continue")
        seconds = max(min(wait * 2 ** (failures - 1), LONGEST_WAIT), asked_wait)
        if say:
            say(f"{url}: {problem}; trying again in {seconds:g} s ({failures} of {retries})")
        sleep(seconds)


def _read_local(url, path):
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
    if 300 <= e.code < 400:
        return DataError(url, f"redirects ({e.code}) endlessly, too often or without a target; give its final address")
    if e.code in (404, 410):
        return NotFound(url, f"{e.code}: not there; find its new address and set it (make … *_URL=https://…)")
    return DataError(url, f"the server refuses: {e.code} {e.reason}; try another address (make … *_URL=https://…)")


def _message(reason):
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


def name_in(url: str) -> str:
    """The path in an address, without the query; of a local file its path."""
    return urlsplit(url).path if local_path(url) is None else local_path(url)


def stream(url: str, **options) -> Iterator[bytes]:
    """Yield the bytes of `url`, each once, whatever happens to the connection. `options` are those of `read`.

    A server without Range sends the beginning again: its hash is compared with that of what was yielded, and it is not
    yielded again. Raises DataError when they differ: the reader then has half of another file. Also for what is empty
    or cannot be what its name says, and at the end if its `sha256` is another one.
    """
    head, blocks = peek(_stream(url, **options))
    content.check_fetched(name_in(url), head, url)
    yield from blocks


def _stream(url, *, sha256=None, progress=None, **options):
    sent, digest, again = 0, hashlib.sha256(), None
    for now, offset, block in read(url, **options):
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
    check_sha256(url, digest, sha256)


def check_sha256(url: str, digest, expected: str | None) -> None:
    if expected and digest.hexdigest() != expected.lower():
        raise DataError(url, f"its sha256 is {digest.hexdigest()}, not {expected}: another file, or damaged")


def list_folder(url: str, **options) -> dict[str, str]:
    """{name: address} of what is in a folder; names of folders end with `/`. `url`: an index page, or a local folder.

    Of …/20261115/index_name=jawiki_content/: {"_SUCCESS": "https://…/_SUCCESS", …}.
    """
    path = local_path(url)
    if path is not None:
        try:
            names = sorted(os.listdir(path))
        except FileNotFoundError:
            raise NotFound(path, "no such folder") from None
        return {n + "/" * os.path.isdir(os.path.join(path, n)): os.path.join(path, n) for n in names}
    if object_storage.is_object(url):
        return object_storage.list_folder(url)
    base = url if url.endswith("/") else f"{url}/"
    page = b"".join(stream(base, **options)).decode("utf-8", "replace")
    found = {}
    for link in re.findall(r"""href=["']?([^"'?#> ]+)""", page, re.IGNORECASE):
        address = urljoin(base, link.replace("&amp;", "&"))
        # Servers differ in what they escape (`=` is %3D for some): compare without escapes.
        name = unquote(address).removeprefix(unquote(base))
        if re.fullmatch(r"[^/]+/?", name) and unquote(address) != unquote(base):
            found[name] = address
    return dict(sorted(found.items()))
