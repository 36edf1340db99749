"""An HTTP server for tests: a folder with index pages, and every fault that downloads meet.

python tests/http_server.py DIR --port 0 --no-range      prints its URL and serves until it is killed

with serving(folder, drop_after=1000) as server:          in a test
    fetch(server.url + "file")
    assert server.requests[1].headers["Range"] == "bytes=1000-"
"""

import argparse
import hashlib
import html
import os
import re
import threading
import time
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit


@dataclass
class Request:
    path: str
    headers: dict
    status: int = 0
    sent: int = 0  # bytes of the body


class Server(ThreadingHTTPServer):
    """Settings are attributes, which a test may change at any time."""

    daemon_threads = True

    def __init__(self, folder, port=0, **settings):
        super().__init__(("127.0.0.1", port), Handler)
        self.folder = Path(folder)
        self.ranges = True  # answers Range
        self.etag = True  # sends ETag and honours If-Range
        self.last_modified = True
        self.drop_after = None  # closes each connection after this many bytes of a body …
        self.drops = None  # … this many times (None: always)
        self.stall_after = None  # stops sending after this many bytes, `stalls` times
        self.stalls = 1
        self.fail_first = 0  # this many requests for files get `fail_status`
        self.fail_status = 503
        self.retry_after = None
        self.wrong_length = 0  # added to every Content-Length
        self.chunked = False  # no Content-Length at all
        self.delay = 0  # seconds before a file's body
        self.vanish = None  # a path: after `vanish_after` requests below it, it is neither listed nor found
        self.vanish_after = 0
        self.redirect = {}  # path -> location
        self.partial = None  # a Content-Range (or ""): every file comes with it and 206, whatever was asked for
        self.status = 200  # of a file asked for without Range
        self.reason = None  # beside an error's status
        self.encoding = None  # Content-Encoding
        self.drip = 0  # seconds before each byte of a body
        self.user = None  # "name:password", without which every answer is 401
        self.quote_equals = False  # index pages write = as %3D
        self.lock = threading.Lock()
        self.requests = []
        self.open_now = self.most_open = 0
        for name, value in settings.items():
            if not hasattr(self, name):
                raise TypeError(f"no such setting: {name}")
            setattr(self, name, value)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def files_asked(self):
        """Paths asked for, index pages left out."""
        return [r.path for r in self.requests if not r.path.endswith("/")]

    def handle_error(self, request, client_address):
        pass  # clients that leave in the middle are part of the tests


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        s = self.server
        with s.lock:
            self.request_ = Request(unquote(urlsplit(self.path).path), dict(self.headers))
            s.requests.append(self.request_)
            s.open_now += 1
            s.most_open = max(s.most_open, s.open_now)
            below = s.vanish and self.request_.path.startswith(s.vanish)
            gone = below and s.vanish_after <= 0
            if below and not self.request_.path.endswith("/"):
                s.vanish_after -= 1
        try:
            self.answer(gone)
        finally:
            with s.lock:
                s.open_now -= 1
            self.close_connection = True

    do_HEAD = do_GET

    def head(self, status, **headers):
        self.request_.status = status
        self.send_response(status, self.server.reason)
        for name, value in {"Connection": "close", **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def answer(self, gone):
        s = self.server
        path = s.folder / self.request_.path.lstrip("/")
        if s.user and self.headers["Authorization"] != f"Basic {b64encode(s.user.encode()).decode()}":
            self.head(401, Content_Length=0)
        elif self.request_.path in s.redirect:
            self.head(302, Location=s.redirect[self.request_.path], Content_Length=0)
        elif gone or ".." in path.parts or not path.exists():
            self.head(404, Content_Length=0)
        elif path.is_dir():
            self.index(path)
        else:
            with s.lock:
                failing = s.fail_first > 0
                s.fail_first -= failing
            if failing:
                self.head(s.fail_status, Retry_After=s.retry_after, Content_Length=0)
            else:
                self.file(path)

    def index(self, path):
        s = self.server
        names = sorted(p.name + "/" * p.is_dir() for p in path.iterdir())
        here = self.request_.path.rstrip("/") + "/"
        names = [n for n in names if not (s.vanish_after <= 0 and s.vanish == here + n)]
        safe = "/" if s.quote_equals else "/="
        rows = "".join(f'<a href="{quote(n, safe=safe)}">{html.escape(n)}</a>\n' for n in names)
        body = f'<html><body><h1>Index</h1><pre><a href="../">../</a>\n{rows}</pre></body></html>'.encode()
        self.head(200, Content_Type="text/html", Content_Length=len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def file(self, path):
        s = self.server
        body = path.read_bytes()
        etag = f'"{hashlib.md5(body).hexdigest()}"' if s.etag else None
        date = formatdate(os.path.getmtime(path), usegmt=True) if s.last_modified else None
        start, status, content_range = 0, s.status, None
        span = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        same = self.headers["If-Range"] in (None, etag, date)
        if s.ranges and span and same:
            start, status = int(span[1]), 206
            if start >= len(body):
                self.head(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
                return
            content_range = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if s.partial is not None:
            start, status, content_range = 0, 206, s.partial or None
        body = body[start:]
        self.head(
            status,
            ETag=etag,
            Last_Modified=date,
            Content_Range=content_range,
            Content_Encoding=s.encoding,
            Accept_Ranges="bytes" if s.ranges else None,
            Content_Length=None if s.chunked else len(body) + s.wrong_length,
            Transfer_Encoding="chunked" if s.chunked else None,
        )
        if self.command == "GET":
            time.sleep(s.delay)
            self.body(body)

    def body(self, body):
        s = self.server
        with s.lock:
            dropping = s.drop_after is not None and s.drops != 0 and len(body) > s.drop_after
            if dropping and s.drops is not None:
                s.drops -= 1
            stalling = s.stall_after is not None and s.stalls > 0 and len(body) > s.stall_after
            s.stalls -= stalling
        if dropping:
            body = body[: s.drop_after]
        while s.drip and body:
            self.send(body[:1])
            body = body[1:]
            time.sleep(s.drip)
        for at in range(0, len(body), 1 << 14):
            block = body[at : at + (1 << 14)]
            if stalling and at + len(block) > s.stall_after:
                self.send(block[: s.stall_after - at])
                time.sleep(30)
                return
            self.send(block)
        if s.chunked and not dropping:
            self.wfile.write(b"0\r\n\r\n")

    def send(self, block):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if self.server.chunked else block)
        self.request_.sent += len(block)


def serving(folder, **settings):
    return running(Server(folder, **settings))


@contextmanager
def running(server):
    """Let a server answer in a thread, until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", metavar="DIR")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--no-range", action="store_true", help="ignore Range")
    p.add_argument("--drop-after", type=int, metavar="N", help="close every connection after N bytes of a body")
    args = p.parse_args()
    server = Server(args.folder, args.port, ranges=not args.no_range, drop_after=args.drop_after)
    print(server.url, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
