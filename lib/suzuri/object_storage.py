"""Object storage (s3://bucket/key) by fsspec and s3fs, and its errors in words.

Credentials, region and endpoint (AWS_ENDPOINT_URL) are found as boto3 finds them. No message has them: an error of
botocore is named by its kind, and its text, which may hold an address, is left out.
"""

import errno
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from suzuri.environment import install
from suzuri.errors import DataError, NotFound

SCHEMES = ("s3",)  # of sources; a mirror may be whatever fsspec knows
BLOCK = 8 << 20  # bytes of a ranged read
PARTS = 4  # of a large object that are sent at a time; s3fs holds each, 50 MB, in memory


def is_object(url: str) -> bool:
    return url.partition("://")[0].lower() in SCHEMES


def filesystem(url: str, timeout: float = 60) -> tuple[Any, str]:
    """(fsspec's file system, the path in it) of an address. Raises DataError if the package for it is missing.

    No listings are cached: another machine may write at the same time.
    """
    import fsspec  # not at the top: with s3fs it takes a second

    scheme, separator, rest = url.partition("://")
    if "@" in rest.partition("/")[0]:
        raise DataError(f"{scheme}://…", "an address must not have keys in it; they are found as boto3 finds them")
    options = {}
    if scheme == "s3":
        config = {"connect_timeout": min(timeout, 10), "read_timeout": timeout, "retries": {"max_attempts": 1}}
        options = {"use_listings_cache": False, "config_kwargs": config, "max_concurrency": PARTS}
    elif not separator or scheme == "file":
        options = {"auto_mkdir": True}
    try:
        return fsspec.url_to_fs(url, **options)
    except ImportError:
        raise DataError(url, f"needs a package that is not installed: {install('requirements-s3.txt')}") from None
    except ValueError as e:
        raise DataError(url, f"not an address that can be used ({e})") from None


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Raise what goes wrong in the block as NotFound, a DataError or, if it may pass, an OSError; all name `url`."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise NotFound(url, "not there: no such bucket or object") from None
    except PermissionError:
        raise DataError(url, "no permission (403); are the credentials right?") from None
    except OSError as e:
        raise OSError(e.errno or errno.EIO, e.strerror or _words(e), url) from None
    except Exception as e:
        if type(e).__module__.partition(".")[0] not in ("botocore", "aiobotocore", "aiohttp", "s3fs", "fsspec"):
            raise
        if "Credential" in type(e).__name__:
            what = "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run aws configure"
            raise DataError(url, what) from None
        raise OSError(errno.EIO, _words(e), url) from None


def _words(error):
    """'EndpointConnectionError' -> 'endpoint connection error'."""
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()


class Response:
    """An open object, read like an HTTP response from byte `offset` on. Each ranged read asks for the same ETag."""

    def __init__(self, url: str, offset: int, timeout: float):
        self.url = url
        with explained(url):
            fs, path = filesystem(url, timeout)
            self.file = fs.open(path, "rb", block_size=BLOCK, cache_type="readahead")
            self.info = self.file.details
            self.file.seek(min(offset, self.info["size"]))

    def read1(self, n: int) -> bytes:
        with explained(self.url):
            return self.file.read(n)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()


def connect(url: str, offset: int, known: dict | None, timeout: float) -> tuple[Response, int, dict]:
    """sources.http.connect for an object: (response, the offset at which it starts, description of the file)."""
    response = Response(url, offset, timeout)
    info = response.info
    now = {"url": url, "size": info["size"], "etag": info["ETag"], "last_modified": str(info["LastModified"])}
    if offset and (now["etag"] != known["etag"] or now["size"] != known["size"]):
        response.file.seek(0)
        offset = 0
    return response, offset, now


def list_folder(url: str) -> dict[str, str]:
    """{name: address} of what is in a folder; names of folders end with `/`."""
    base = url.rstrip("/") + "/"
    with explained(url):
        fs, path = filesystem(base)
        entries = fs.ls(path, detail=True)
    names = {e["name"].rstrip("/").rpartition("/")[2] + "/" * (e["type"] == "directory") for e in entries}
    return {name: base + name for name in sorted(names)}


def put(fs: Any, path: str, remote: str, bytes: int, sha256: str) -> None:
    """Upload a file, then read it back and compare. Raises DataError if another one is there now."""
    with explained(_shown(fs, remote)):
        fs.put_file(path, remote)
        if fs.info(remote)["size"] != bytes or _sha256(fs, remote) != sha256:
            raise DataError(_shown(fs, remote), "is not there as it was sent; run again to send it again")


def get(fs: Any, remote: str, path: str, bytes: int, sha256: str) -> None:
    """Download an object to `path`, which must then have this size and sum. Raises NotFound, DataError."""
    with explained(_shown(fs, remote)):
        fs.get_file(remote, path, max_concurrency=1)  # as a stream: s3fs would hold more parts in memory
    with open(path, "rb") as f:
        found, have = hashlib.file_digest(f, "sha256").hexdigest(), f.tell()
    if have != bytes:
        raise DataError(_shown(fs, remote), f"has {have:,} bytes instead of {bytes:,}: cut short or replaced")
    if found != sha256:
        raise DataError(_shown(fs, remote), f"its sha256 is {found}, not {sha256}: damaged or replaced")


def _sha256(fs, remote):
    with fs.open(remote, "rb", block_size=BLOCK, cache_type="readahead") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _shown(fs, remote):
    return fs.unstrip_protocol(remote)
