"""An HTTP server of one folder whose answers are disturbed: every fault that a download has met, and some more."""

import gzip
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from http_server import running

PAGE = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>Be back soon.</body></html>\n"


class Answer(BaseHTTPRequestHandler):
    """One request. `self.server.fault(self, body)` may answer it; if it returns a true value, it has."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        path = self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")
        self.close_connection = True
        if path.is_dir():
            names = sorted(p.name + "/" * p.is_dir() for p in path.iterdir())
            self.send(
                200, "".join(f'<a href="{name}">{name}</a>\n' for name in names).encode(), Content_Type="text/html"
            )
        elif not path.exists():
            self.send(404, b"")
        else:
            with self.server.lock:
                self.number = self.server.count = self.server.count + 1
            if not (self.server.fault and self.server.fault(self, path.read_bytes())):
                self.whole(path.read_bytes())

    do_HEAD = do_GET

    def whole(self, body, etag='"1"'):
        asked = self.headers["Range"]
        if asked and self.headers["If-Range"] in (None, etag):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(body):
                return self.send(416, b"", Content_Range=f"bytes */{len(body)}")
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return self.send(206, body[start:], Content_Range=span, ETag=etag)
        return self.send(200, body, ETag=etag, Accept_Ranges="bytes")

    def send(self, status, body=b"", cut=None, **headers):
        """An answer with a Content-Length; `cut`: the connection is closed after this many bytes."""
        self.send_response(status)
        for name, value in {"Content_Length": len(body), "Connection": "close", **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
        return True


def first(n: int, answer: Callable) -> Callable:
    """`answer` for the first n requests, then what is right."""
    return lambda request, body: answer(request, body) if request.number <= n else None


def always(status: int, body: bytes = b"", **headers) -> Callable:
    return lambda request, _: request.send(status, body, **headers)


def cut(size: int) -> Callable:
    """Every answer ends after `size` bytes; those who ask for the rest get on."""

    def answer(request, body):
        asked = request.headers["Range"]
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        span = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        return request.send(206 if start else 200, body[start:], cut=size, ETag='"1"', **span)

    return answer


def reset(request, _):
    request.connection.close()
    return True


def silent(request, body):
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body[:100])
    request.wfile.flush()
    time.sleep(6)
    return True


def drip(request, body):
    """A byte at a time: never silent, and never done."""
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    for i in range(600):
        request.wfile.write(body[i : i + 1])
        request.wfile.flush()
        time.sleep(0.1)
    return True


def garbled(request, _):
    request.wfile.write(b"\x1b[31mNOT HTTP\x07\r\n\r\n")
    return True


def changed(request, body):
    """The file is another one at each request: its ETag says so, and its bytes."""
    body, etag = bytes([request.number % 256]) * len(body), f'"changed {request.number}"'
    return request.whole(body, etag) if request.number > 1 else request.send(200, body, cut=len(body) // 2, ETag=etag)


def unasked_206(content_range) -> Callable:
    def answer(request, body):
        value = content_range and content_range.format(last=len(body) - 1, size=len(body), half=len(body) // 2)
        return request.send(206, body, Content_Range=value)

    return answer


def half_206(request, body):
    half = len(body) // 2
    return request.send(206, body[:half], Content_Range=f"bytes 0-{half - 1}/{len(body)}")


def wrong_start(request, body):
    """A range from elsewhere than asked for."""
    if request.headers["Range"]:
        return request.send(206, body[10:], Content_Range=f"bytes 10-{len(body) - 1}/{len(body)}", ETag='"1"')
    return request.send(200, body, cut=len(body) // 2, ETag='"1"', Accept_Ranges="bytes")


def gzipped(request, body):
    return request.send(200, gzip.compress(body), Content_Encoding="gzip")


# name -> (answer, whether the download must succeed, what an error must name)
FAULTS: dict[str, tuple[Callable, str, str]] = {
    "404": (always(404, PAGE), "stopped cleanly", "404"),
    "403": (always(403, PAGE), "stopped cleanly", "403"),
    "410": (always(410), "stopped cleanly", "410"),
    "500 then well": (first(2, always(500)), "survived", ""),
    "502 then well": (first(1, always(502, PAGE)), "survived", ""),
    "503 for ever": (always(503), "stopped cleanly", "503"),
    "429 then well": (first(1, always(429, Retry_After="0")), "survived", ""),
    "429 with a date": (first(1, always(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")), "survived", ""),
    "429 with nonsense": (first(1, always(429, Retry_After="soon")), "survived", ""),
    "redirect loop": (lambda r, _: r.send(302, Location=r.path), "stopped cleanly", "redirect"),
    "redirect to nowhere": (always(302, Location="http://127.0.0.1:1/"), "stopped cleanly", ""),
    "redirect without a place": (always(302), "stopped cleanly", ""),
    "redirect to a file": (always(302, Location="file:///etc/hostname"), "stopped cleanly", ""),
    "cut and resumed": (cut(4000), "survived", ""),
    "cut at once": (cut(0), "stopped cleanly", ""),
    "reset once": (first(1, reset), "survived", ""),
    "reset for ever": (reset, "stopped cleanly", ""),
    "silent": (silent, "stopped cleanly", ""),
    "silent once": (first(1, silent), "survived", ""),
    "drip": (drip, "stopped cleanly", ""),
    "not HTTP": (garbled, "stopped cleanly", ""),
    "HTML": (always(200, PAGE, Content_Type="text/html"), "stopped cleanly", "HTML|html"),
    "HTML as binary": (always(200, PAGE, Content_Type="application/octet-stream"), "stopped cleanly", "HTML|html"),
    "empty": (always(200), "stopped cleanly", "empty|0 bytes"),
    "204": (always(204, Content_Length=None), "stopped cleanly", "204|empty|0 bytes"),
    "Content-Encoding: gzip": (gzipped, "", ""),
    "length too long": (lambda r, b: r.send(200, b, Content_Length=len(b) + 7), "stopped cleanly", ""),
    "length is nonsense": (always(200, b"x", Content_Length="many"), "stopped cleanly", ""),
    "length is negative": (always(200, b"x", Content_Length="-1"), "stopped cleanly", ""),
    "no length": (lambda r, b: r.send(200, b, Content_Length=None), "survived", ""),
    "another file at each request": (changed, "stopped cleanly", ""),
    "206 unasked, whole": (unasked_206("bytes 0-{last}/{size}"), "survived", ""),
    "206 unasked, half": (half_206, "", ""),
    "206 unasked, no range": (unasked_206(None), "", ""),
    "206 unasked, nonsense": (unasked_206("elephants"), "", ""),
    "206 from elsewhere": (wrong_start, "", ""),
    "zeros": (lambda r, b: r.send(200, bytes(len(b))), "stopped cleanly", ""),
}


def website(folder: Path) -> AbstractContextManager[ThreadingHTTPServer]:
    """A server of FOLDER; its attribute `fault` may be changed at any time, `url` is its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    server.handle_error = lambda *args: None
    server.folder, server.fault, server.count, server.lock = folder, None, 0, threading.Lock()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    return running(server)
