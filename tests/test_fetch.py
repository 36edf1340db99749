"""fetch-url and fetch-jawiki against a server with all the faults of real ones (tests/http_server.py)."""

import bz2
import errno
import fcntl
import gzip
import hashlib
import json
import lzma
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from urllib.parse import quote

import pytest
from conftest import killed_at_each_step, wait_for
from http_server import serving
from suzuri import manifest
from suzuri.errors import DataError
from suzuri.sources import download, http, jawiki_dumps

BODY = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = ("--wait", 0.01, "--timeout", 5)


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "file").write_bytes(BODY)
    return folder


@pytest.fixture
def target(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out/file"


def names(folder):
    return sorted(os.listdir(folder))


def check_whole(target, url, body=BODY):
    """The file and its record are there, nothing else, and the record is believed."""
    assert target.read_bytes() == body
    assert names(target.parent) == ["file", "file.json"]
    record = json.loads((target.parent / "file.json").read_text())
    assert (record["url"], record["size"]) == (url, len(body))
    assert record["sha256"] == hashlib.sha256(body).hexdigest() == manifest.recorded_sha256(target)
    target.write_bytes(bytes(len(body)))  # a later file of the same size: the record must not be believed
    os.utime(target, (time.time() + 10, time.time() + 10))
    assert manifest.recorded_sha256(target) == hashlib.sha256(bytes(len(body))).hexdigest()


# One file


@pytest.mark.parametrize(
    "settings, requests",
    [
        ({}, 1),
        ({"ranges": False}, 1),
        ({"chunked": True}, 1),
        ({"etag": False, "last_modified": False}, 1),
        ({"drop_after": 70_000}, 5),
        ({"drop_after": 70_000, "etag": False}, 5),
        ({"drop_after": 70_000, "drops": 2, "etag": False, "last_modified": False}, 3),
        ({"drop_after": 70_000, "drops": 2, "ranges": False}, 3),
        ({"drop_after": 70_000, "drops": 2, "chunked": True}, 3),
        ({"fail_first": 3}, 4),
        ({"fail_first": 2, "fail_status": 429, "drop_after": 200_000}, 4),
    ],
)
def test_whatever_the_server_does(site, target, settings, requests):
    with serving(site, **settings) as server:
        download.download(f"{server.url}file", str(target), wait=0.01, timeout=5)
        assert len(server.requests) == requests
        if "Range" in server.requests[-1].headers and server.etag:
            assert server.requests[-1].headers["If-Range"].startswith('"')
        assert all(r.headers["User-Agent"].startswith("suzuri/") for r in server.requests)
    check_whole(target, f"{server.url}file")


def test_nobody_can_tell_whether_it_changed(site, target):
    """Without ETag and Last-Modified, halves of two files of the same size could be joined, so it starts again."""
    with serving(site, drop_after=70_000, drops=1, etag=False, last_modified=False) as server:

        def change(seconds):
            (site / "file").write_bytes(b"B" * (site / "file").stat().st_size)

        download.download(f"{server.url}file", str(target), sleep=change)
    assert set(target.read_bytes()) == set(b"B")


def test_a_folder_is_not_a_file(run_tool, site, tmp_path):
    error = run_tool("fetch-url", site / "file", tmp_path, status=1).stderr.decode()
    assert "is a folder" in error and not tmp_path.with_name(f"{tmp_path.name}.part").exists()


def test_redirect(run_tool, site, target):
    with serving(site, redirect={"/old": "/file"}) as server:
        run_tool("fetch-url", *QUICK, f"{server.url}old", target)
    check_whole(target, f"{server.url}old")


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_local_file(run_tool, site, target, form):
    run_tool("fetch-url", form.format(site / "file"), target)
    assert not os.path.samefile(site / "file", target)
    check_whole(target, form.format(site / "file"))


def refused(run_tool, *arguments, tool="fetch-url"):
    """The one line that a tool ends with."""
    done = run_tool(tool, *QUICK, *arguments, status=1)
    lines = [line for line in done.stderr.decode().splitlines() if not line.endswith(" 5 files")]
    assert done.stdout == b"" and len(lines) == 1 and lines[0].startswith(f"{tool}: "), lines
    return lines[0].removeprefix(f"{tool}: ")


HTML = b"<!DOCTYPE html>\n<html><head><title>503</title></head><body>Maintenance</body></html>\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("name", "body", "what"),
    [
        ("file", b"", "is empty (0 bytes)"),
        ("ja.txt.xz", b"", "is empty (0 bytes)"),
        ("ja.txt.xz", HTML, "its name says xz, but it is an HTML page"),
        ("ja.txt.gz", b"  \n" + HTML.lower(), "its name says gzip, but it is an HTML page"),
        ("ja.txt", HTML, "its name says text, but it is an HTML page"),
        ("pages.JSON.BZ2", lzma.compress(b"text\n"), "its name says bzip2, but it is xz data"),
        ("ja.txt.zst", b"not found\n", "its name says zstd, but it is something else: b'not found"),
        ("ja.txt", b"PK\3\4" + bytes(600), "its name says text, but it is a zip archive"),
    ],
)
def test_what_came_is_not_what_its_name_says(run_tool, site, target, name, body, what, chunked):
    (site / name).write_bytes(body)
    with serving(site, chunked=chunked) as server:
        assert refused(run_tool, f"{server.url}{name}?v=1", target).startswith(f"{server.url}{name}?v=1: {what}")
        assert names(target.parent) == []
        if body:  # the name that it is to have counts, too
            (site / "download").write_bytes(body)
            assert what in refused(run_tool, f"{server.url}download", target.parent / name)
        assert what in refused(run_tool, f"{server.url}{name}?v=1", "-")
        assert names(target.parent) == []
    assert what in refused(run_tool, site / name, target)


@pytest.mark.parametrize(
    "content_range, requests", [("", 1), ("bytes 0-99/300000", 1), ("bytes 7-299999/300000", 1), ("bytes */9", 1)]
)
def test_a_part_that_nobody_asked_for(run_tool, site, target, content_range, requests):
    """206 without Range is refused unless the part is the whole: never asked for again and again."""
    with serving(site, partial=content_range) as server:
        assert "the server sends a part" in refused(run_tool, f"{server.url}file", target)
        assert len(server.requests) == requests
        assert "the server sends a part" in refused(run_tool, f"{server.url}file", "-")
        assert names(target.parent) == []
        server.partial, server.drop_after = None, 100_000
        run_tool("fetch-url", *QUICK, "--retries", 0, f"{server.url}file", target, status=1)
        server.partial, server.drop_after = content_range, None
        server.requests.clear()
        assert "the server sends a part" in refused(run_tool, f"{server.url}file", target)
        assert [r.headers.get("Range") for r in server.requests] == ["bytes=100000-", None]
        server.partial = "bytes 0-299999/300000"
        run_tool("fetch-url", *QUICK, f"{server.url}file", target)
    check_whole(target, f"{server.url}file")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"status": 204}, "the server answers 204 No Content"),
        ({"status": 205}, "the server answers 205 Reset Content"),
        ({"encoding": "gzip"}, "the server packs it (Content-Encoding: gzip), although asked not to"),
        ({"redirect": {"/file": "/other", "/other": "/file"}}, "redirects (302) endlessly"),
        ({"redirect": {"/file": "/file"}}, "redirects (302) endlessly"),
        ({"redirect": {"/file": "file:///etc/passwd"}}, "redirects (302) endlessly, too often or without a target"),
        ({"redirect": {"/file": "ftp://127.0.0.1/file"}}, "endlessly, too often or without a target"),
        ({"fail_first": 9, "fail_status": 418, "reason": "I\x1b[31m am\x07\x9b"}, "418 I\\x1b[31m am\\x07"),
    ],
)
def test_answers_that_are_not_the_file(run_tool, site, target, settings, what):
    with serving(site, **settings) as server:
        for out in (target, "-"):
            assert what in refused(run_tool, f"{server.url}file", out)
        assert len(server.requests) < 25
    assert names(target.parent) == []


def test_an_archive_may_be_called_an_encoding(run_tool, site, target):
    """Apache's AddEncoding: the file is what was asked for, and stays packed."""
    (site / "ja.txt.gz").write_bytes(gzip.compress(b"text\n"))
    with serving(site, encoding="x-gzip") as server:
        run_tool("fetch-url", f"{server.url}ja.txt.gz", target)
    check_whole(target, f"{server.url}ja.txt.gz", (site / "ja.txt.gz").read_bytes())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_server_that_drips(run_tool, site, target, chunked):
    """Some bytes per second are not silence, but it would take months."""
    with serving(site, drip=0.02, chunked=chunked) as server:
        done = run_tool(
            "fetch-url", "--wait", 0, "--timeout", 0.3, "--retries", 2, f"{server.url}file", target, status=1
        )
        assert len(server.requests) == 3
        last = done.stderr.decode().splitlines()[-1]
        assert re.search(r"file: only \d+ bytes in 0.3 s; gave up after 2 more tries", last)
        server.drip, server.drop_after = 0, 1  # a byte per connection
        run_tool("fetch-url", "--wait", 0, "--retries", 2, f"{server.url}file", target, status=1)
        assert len(server.requests) == 6
        server.drop_after = None
        run_tool("fetch-url", f"{server.url}file", target)
    check_whole(target, f"{server.url}file")


def test_addresses_outside_ascii(run_tool, site, target):
    (site / "墨 と").mkdir()
    (site / "墨 と/硯%.txt").write_bytes(BODY)
    with serving(site) as server:
        run_tool("fetch-url", f"{server.url}墨 と/硯%25.txt?版=一", target)
        assert server.requests[0].path == "/墨 と/硯%.txt"
    check_whole(target, f"{server.url}墨 と/硯%25.txt?版=一")
    request = http._request("https://墨.example:8080/硯/%E5%A2%A8?a=%20&b=水#部", {})
    assert request.full_url == "https://xn--2os.example:8080/%E7%A1%AF/%E5%A2%A8?a=%20&b=%E6%B0%B4"


SECRET = "s3/cr@t:墨"
LOGIN = f"ich:{quote(SECRET, safe='')}@"


def test_credentials(run_tool, site, target):
    """They are for one server, and in no message, record or manifest."""
    with serving(site, user=f"ich:{SECRET}", redirect={"/old": "/file"}) as server, serving(site) as other:
        url = server.url.replace("//", f"//{LOGIN}")
        for path in ("file", "old"):
            run_tool("fetch-url", *QUICK, f"{url}{path}", target)
        check_whole(target, f"{server.url}old")
        target.unlink()
        for wrong in (f"{url}nothing", url.replace("ich", "du") + "file"):
            said = refused(run_tool, wrong, target)
            assert "s3" not in said and said.startswith(server.url)
        assert "s3" not in refused(run_tool, f"http://ich:s3/cr@{server.url[7:]}file", target)
        server.redirect = {"/file": f"{other.url}file"}
        run_tool("fetch-url", *QUICK, f"{url}file", target)
        assert "Authorization" not in other.requests[-1].headers
    assert b"s3" not in target.with_name("file.json").read_bytes()


@pytest.mark.parametrize("url, why", [("http://[::1", "Invalid IPv6 URL"), ("http://localhost:99999/", "out of range")])
def test_an_address_without_credentials_is_shown(run_tool, target, url, why):
    said = refused(run_tool, url, target)
    assert said.startswith(f"{url}: not a valid address: ") and why in said


def test_dump_with_credentials(run_tool, root, tmp_path):
    with serving(root, user=f"ich:{SECRET}") as server:
        done = run_tool("fetch-jawiki", server.url.replace("//", f"//{LOGIN}"), tmp_path / "jw")
    check_folder(tmp_path / "jw", "20261108", 5)
    assert b"s3" not in done.stderr + (tmp_path / "jw/manifest.json").read_bytes()


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy", "ALL_PROXY"])
def test_socks_proxy(run_tool, site, target, name):
    proxy = {name: "socks5h://ich:s3cret@127.0.0.1:9", "no_proxy": ""}
    done = run_tool("fetch-url", "http://127.0.0.1:9/file", target, status=1, env=proxy)
    assert b"names a SOCKS proxy, which is not supported" in done.stderr
    assert done.stderr.count(b"\n") == 1 and b"s3cret" not in done.stderr
    with serving(site) as server:
        run_tool("fetch-url", f"{server.url}file", target, env=proxy | {"no_proxy": "127.0.0.1"})
    check_whole(target, f"{server.url}file")


def test_a_page_may_be_asked_for(run_tool, site, target):
    (site / "index.html").write_bytes(HTML)
    with serving(site) as server:
        run_tool("fetch-url", f"{server.url}index.html", target)
    check_whole(target, f"{server.url}index.html", HTML)


def test_resumes_what_an_earlier_run_left(run_tool, site, target):
    with serving(site, drop_after=100_000) as server:
        failed = run_tool("fetch-url", *QUICK, "--retries", 0, f"{server.url}file", target, status=1)
        assert names(target.parent) == ["file.part", "file.part.json"]
        assert (
            failed.stderr.decode().count("\n") == 1
            and "closed after 100,000 of 300,000 bytes" in failed.stderr.decode()
        )
        server.drop_after = None
        done = run_tool("fetch-url", f"{server.url}file", target)
        assert server.requests[-1].headers["Range"] == "bytes=100000-"
        assert server.requests[-1].sent == 200_000
    assert "300,000 bytes, 100,000 bytes found from before" in done.stderr.decode()
    check_whole(target, f"{server.url}file")


@pytest.mark.parametrize("left", [300_000, 100_000])
def test_what_an_earlier_run_left_may_be_something_else(run_tool, site, target, left):
    """Bytes that are not of the file, all of them or some: the sum shows it, and the same command fetches the file."""
    part = target.with_name("file.part")
    with serving(site, drop_after=100_000) as server:
        run_tool("fetch-url", *QUICK, "--retries", 0, f"{server.url}file", target, status=1)
        part.write_bytes(b"\3" * left)
        server.drop_after = None
        done = run_tool("fetch-url", "--sha256", SHA256, f"{server.url}file", target).stderr.decode()
    assert "it was begun by an earlier run: now all of it is fetched again" in done and "found from before" not in done
    check_whole(target, f"{server.url}file")


@pytest.mark.parametrize("settings", [{}, {"etag": False}, {"etag": False, "last_modified": False}, {"ranges": False}])
@pytest.mark.parametrize("size", [50_000, 100_000, 100_001, 300_001])
def test_a_changed_file_starts_again(site, target, settings, size):
    with serving(site, drop_after=100_000, **settings) as server:
        url = f"{server.url}file"
        with pytest.raises(DataError, match="closed after 100,000 of 300,000 bytes"):
            download.download(url, str(target), retries=0)
        assert (target.parent / "file.part").stat().st_size == 100_000
        server.drop_after = None
        body = random.Random(1).randbytes(size)
        (site / "file").write_bytes(body)
        os.utime(site / "file", (1e9, 1e9))
        assert download.download(url, str(target))["resumed"] == 0
    check_whole(target, url, body)


def test_another_url_starts_again(run_tool, site, target):
    (site / "other").write_bytes(BODY[::-1])
    with serving(site, drop_after=100_000) as server:
        run_tool("fetch-url", *QUICK, "--retries", 0, f"{server.url}file", target, status=1)
        server.drop_after = None
        run_tool("fetch-url", f"{server.url}other", target)
    check_whole(target, f"{server.url}other", BODY[::-1])


def test_stall(run_tool, site, target):
    with serving(site, stall_after=120_000) as server:
        done = run_tool("fetch-url", "--timeout", 0.5, "--wait", 0, f"{server.url}file", target)
        assert "no data for 0.5 s; trying again in 0 s (1 of 8)" in done.stderr.decode()
    check_whole(target, f"{server.url}file")


def test_retry_after_is_obeyed(run_tool, site, target):
    with serving(site, fail_first=1, retry_after=1) as server:
        start = time.monotonic()
        done = run_tool("fetch-url", "--wait", 0, f"{server.url}file", target)
        assert time.monotonic() - start > 1
    assert "503 Service Unavailable; trying again in 1 s" in done.stderr.decode()


@pytest.mark.parametrize("text, seconds", [("7", 7), ("99999", 600), (None, 0), ("soon", 0), ("-3", 0)])
def test_retry_after_header(text, seconds):
    assert http._retry_after(text) == seconds


def test_retry_after_date():
    assert 50 < http._retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert http._retry_after(formatdate(time.time() - 60, usegmt=True)) == 0


def test_gives_up(run_tool, site, target):
    with serving(site, drop_after=70_000, ranges=False) as server:  # it never gets further
        done = run_tool("fetch-url", *QUICK, "--retries", 2, f"{server.url}file", target, status=1)
        assert len(server.requests) == 3
    assert "gave up after 2 more tries; run again" in done.stderr.decode()


def test_promised_more_than_there_is(run_tool, site, target):
    with serving(site, wrong_length=10) as server:
        run_tool("fetch-url", *QUICK, "--retries", 2, f"{server.url}file", target, status=1)
    assert not target.exists()


@pytest.mark.parametrize("status", [404, 403, 410, 400])
def test_refusals_are_not_tried_again(site, target, status):
    with serving(site, fail_first=9, fail_status=status) as server:
        with pytest.raises(DataError, match=rf"^{server.url}file: .*{status}.*_URL="):
            download.download(f"{server.url}file", str(target))
        assert len(server.requests) == 1
    assert names(target.parent) == []


def test_not_there(run_tool, site, target):
    with serving(site) as server:
        done = run_tool("fetch-url", f"{server.url}nothing", target, status=1)
    assert done.stderr.decode().startswith(f"fetch-url: {server.url}nothing: 404: not there")
    assert done.stderr.count(b"\n") == 1
    assert names(target.parent) == []


@pytest.mark.parametrize("url", ["/no/such/file", "file:///no/such/file", "ftp://host/file", "http://", "http://[x/"])
def test_bad_addresses(target, url):
    with pytest.raises(DataError):
        download.download(url, str(target), retries=0)
    assert names(target.parent) == []


def test_nobody_there(run_tool, site, target):
    with serving(site) as server:
        pass
    done = run_tool("fetch-url", *QUICK, "--retries", 1, f"{server.url}file", target, status=1)
    assert "Connection refused; gave up after 1 more tries" in done.stderr.decode()
    assert names(target.parent) == []


def test_sha256(run_tool, site, target):
    with serving(site) as server:
        done = run_tool("fetch-url", "--sha256", "0" * 64, f"{server.url}file", target, status=1)
        assert SHA256 in done.stderr.decode() and names(target.parent) == []
        run_tool("fetch-url", "--sha256", SHA256.upper(), f"{server.url}file", target)
        run_tool("fetch-url", "--sha256", "12", f"{server.url}file", target, status=2)
    check_whole(target, f"{server.url}file")


def test_full_disk_keeps_the_part(bin_dir, site, target):
    with serving(site) as server:
        limited = 'ulimit -f 128; exec "$0" "$@"'  # blocks of 1,024 bytes; a write beyond fails with EFBIG
        command = ["bash", "-c", limited, bin_dir / "fetch-url", f"{server.url}file", target]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert "131,072 of 300,000 bytes are kept: make room and run again" in done.stderr
        assert done.stderr.count("\n") == 1
        assert (target.parent / "file.part").stat().st_size == 131_072
        subprocess.run([bin_dir / "fetch-url", f"{server.url}file", target], check=True)
        assert server.requests[-1].headers["Range"] == "bytes=131072-"
    check_whole(target, f"{server.url}file")


def test_a_file_that_is_there_stands_until_the_new_one_is_whole(run_tool, site, target):
    with serving(site) as server:
        run_tool("fetch-url", f"{server.url}file", target)
        (site / "file").write_bytes(BODY[::-1])
        os.utime(site / "file", (1e9, 1e9))
        server.drop_after = 1000
        run_tool("fetch-url", *QUICK, "--retries", 0, f"{server.url}file", target, status=1)
        assert target.read_bytes() == BODY and manifest.recorded_sha256(target) == SHA256
        server.drop_after = None
        run_tool("fetch-url", f"{server.url}file", target)
    check_whole(target, f"{server.url}file", BODY[::-1])


def test_a_file_of_your_own_is_not_removed(run_tool, site, target):
    """Whether it was always there, or took the place of a download."""
    for begin in (lambda: None, lambda: run_tool("fetch-url", site / "file", target)):
        begin()
        target.write_bytes(b"mine")
        stays = run_tool("remove-made", target).stderr.decode()
        assert stays.endswith("was not made by a tool of suzuri; it stays\n")
        assert target.read_bytes() == b"mine"
    for end in ("", ".json", ".part"):
        (target.parent / f"file{end}").unlink(missing_ok=True)
    target.write_bytes(b"mine")
    said = refused(run_tool, "--no-clobber", site / "file", target)
    assert "is not as fetch-url downloads it, and is not replaced" in said
    (target.parent / "file.json").touch()  # not a record
    assert "it stays" in run_tool("remove-made", target).stderr.decode()
    (target.parent / "file.json").unlink()
    run_tool("fetch-url", site / "file", target)
    run_tool("fetch-url", "--no-clobber", site / "file", target)
    target.rename(target.parent / "file.part")  # killed between the two renames at the end
    run_tool("remove-made", target)
    assert names(target.parent) == []
    run_tool("fetch-url", site / "file", target)
    with open(target.parent / "file.part", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert "another run is writing it" in run_tool("remove-made", target).stderr.decode()
    (target.parent / "file.part").unlink()
    assert "is fetch-url's record of file" in refused(run_tool, site / "file", f"{target}.json")
    run_tool("remove-made", target)
    assert names(target.parent) == []


@pytest.mark.parametrize("call", ["_write_json", "fsync", "unlink_quietly", "rename 1", "rename 2"])
@pytest.mark.parametrize("there", [False, True])
def test_killed_at_the_end(site, target, monkeypatch, call, there):
    """A kill between any two of the last steps leaves no file with another's record, and the next run ends well."""

    class Killed(BaseException):
        pass

    old = bytes(len(BODY))
    with serving(site) as server:
        url = f"{server.url}file"
        if there:
            (site / "file").write_bytes(old)
            download.download(url, str(target))
            (site / "file").write_bytes(BODY)
        countdown = {"_write_json": 2, "rename 2": 2}.get(call, 1)
        owner = download if call in ("_write_json", "unlink_quietly") else os
        name = call.split()[0]
        real = getattr(owner, name)

        def dying(*args):
            nonlocal countdown
            countdown -= 1
            if countdown == 0:
                raise Killed
            return real(*args)

        monkeypatch.setattr(owner, name, dying)
        with pytest.raises(Killed):
            download.download(url, str(target))
        monkeypatch.undo()
        if target.exists():
            assert target.read_bytes() == old and manifest.recorded_sha256(target) == hashlib.sha256(old).hexdigest()
        server.requests.clear()
        download.download(url, str(target))
        assert not server.requests  # everything was there already
    check_whole(target, url)


def test_kill_9_then_again(bin_dir, run_tool, site, target):
    with serving(site, stall_after=150_000) as server:
        process = subprocess.Popen([bin_dir / "fetch-url", f"{server.url}file", target], stderr=subprocess.DEVNULL)
        part = target.parent / "file.part"
        wait_for(lambda: part.exists() and part.stat().st_size == 150_000)
        again = run_tool("fetch-url", f"{server.url}file", target, status=1)
        assert b"another run is writing it" in again.stderr
        process.kill()
        process.wait()
        run_tool("fetch-url", f"{server.url}file", target)
        assert server.requests[-1].headers["Range"] == "bytes=150000-"
    check_whole(target, f"{server.url}file")


# To standard output


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"drop_after": 70_000},
        {"drop_after": 70_000, "drops": 3, "ranges": False},
        {"drop_after": 70_000, "drops": 3, "etag": False, "last_modified": False, "ranges": False},
        {"stall_after": 90_000},
    ],
)
def test_stream(site, tmp_path, settings):
    with serving(site, **settings) as server:
        assert b"".join(http.stream(f"{server.url}file", wait=0, timeout=0.5, sha256=SHA256)) == BODY
        with pytest.raises(DataError, match="sha256"):
            list(http.stream(f"{server.url}file", wait=0, timeout=0.5, sha256="0" * 64))
    assert names(tmp_path) == ["site"]


@pytest.mark.parametrize("settings", [{}, {"ranges": False}])
def test_stream_of_a_file_that_changes(site, settings):
    """Bytes already written cannot be taken back: it is an error, never half of one file and half of another."""
    with serving(site, drop_after=100_000, **settings) as server:
        out = b""
        with pytest.raises(DataError, match="changed on the server"):
            for block in http.stream(f"{server.url}file", wait=0):
                out += block
                if len(out) == 100_000:
                    server.drop_after = None
                    (site / "file").write_bytes(BODY[::-1])
                    os.utime(site / "file", (1e9, 1e9))
        assert out == BODY[:100_000]


def test_stream_ends_with_its_reader(bin_dir, site):
    (site / "file").write_bytes(bytes(50_000_000))
    with serving(site) as server:
        command = f"'{bin_dir}/fetch-url' {server.url}file - | head -c 1000 | wc -c; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
        wait_for(lambda: not server.open_now)
        assert done.stdout.split() == ["1000", str(128 + signal.SIGPIPE)] and done.stderr == ""
        assert server.requests[0].sent < 20_000_000


def test_usage(run_tool, target):
    for arguments in [(), ("x",), ("x", target, "--timeout", 0), ("x", target, "--retries", -1)]:
        assert run_tool("fetch-url", *arguments, status=2).stderr


# fetch-jawiki


@pytest.fixture
def root(tmp_path):
    """A root of dated folders as Wikimedia has it, small; the newest is unfinished."""
    root = tmp_path / "site"
    for date, shards, done in [("20261101", 2, True), ("20261108", 5, True), ("20261115", 1, False)]:
        folder = root / date / "index_name=jawiki_content"
        folder.mkdir(parents=True)
        (root / date / "index_name=jawiki_general").mkdir()
        for n in range(shards):
            (folder / f"jawiki_content-{date}-{n:05}.json.bz2").write_bytes(shard(date, n))
        if done:
            (folder / "_SUCCESS").touch()
    return root


def shard(date, n):
    noise = random.Random(f"{date} {n}").randbytes(20_000).hex()
    return bz2.compress(f'{{"index":{{"_id":{n}}}}}\n{{"title":"{date}-{n}","text":"{noise}"}}\n'.encode())


def check_folder(folder, date, shards):
    expected = {f"jawiki_content-{date}-{n:05}.json.bz2": shard(date, n) for n in range(shards)}
    assert names(folder) == [*expected, "manifest.json"]
    for name, body in expected.items():
        assert (folder / name).read_bytes() == body
    assert sorted(manifest.read_manifest(folder)["outputs"]) == list(expected)
    assert [(path, problem) for path, problem in manifest.verify(folder) if problem] == []
    assert not os.path.exists(f"{folder}.part")


@pytest.mark.parametrize("settings", [{}, {"quote_equals": True}, {"ranges": False}, {"drop_after": 9000}])
def test_newest_whole_dump(run_tool, root, tmp_path, settings):
    with serving(root, delay=0.05, **settings) as server:
        done = run_tool("fetch-jawiki", *QUICK, server.url, tmp_path / "jw")
        assert server.most_open == 3
    check_folder(tmp_path / "jw", "20261108", 5)
    assert "5 files" in done.stderr.decode()


def test_one_connection(run_tool, root, tmp_path):
    with serving(root, delay=0.02) as server:
        run_tool("fetch-jawiki", "--connections", 1, server.url, tmp_path / "jw")
        assert server.most_open == 1
    check_folder(tmp_path / "jw", "20261108", 5)


def test_pinned_date(run_tool, root, tmp_path):
    with serving(root) as server:
        run_tool("fetch-jawiki", "--date", "20261101", server.url, tmp_path / "jw")
        check_folder(tmp_path / "jw", "20261101", 2)
        absent = run_tool("fetch-jawiki", "--date", "20260101", server.url, tmp_path / "x", status=1)
        assert "20260101 is not there; other dates: 20261101, 20261108, 20261115" in absent.stderr.decode()
        unfinished = run_tool("fetch-jawiki", "--date", "20261115", server.url, tmp_path / "x", status=1)
        assert "20261115 is not finished; other dates: 20261101, 20261108" in unfinished.stderr.decode()
        run_tool("fetch-jawiki", "--date", "newest", server.url, tmp_path / "x", status=2)
    assert names(tmp_path) == ["jw", "site"]


def test_no_whole_dump(run_tool, root, tmp_path):
    for done in root.glob("*/*/_SUCCESS"):
        done.unlink()
    with serving(root) as server:
        done = run_tool("fetch-jawiki", server.url, tmp_path / "jw", status=1)
    assert "no finished dump of jawiki there; unfinished: 20261101, 20261108, 20261115" in done.stderr.decode()


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize(
    "below, date, shards",
    [
        ("", "20261108", 5),
        ("20261101", "20261101", 2),
        ("20261101/", "20261101", 2),
        ("20261101/index_name=jawiki_content/", "20261101", 2),
        ("20261101/index_name%3Djawiki_content", "20261101", 2),
        ("20261101/index_name=jawiki_content/jawiki_content-20261101-00000.json.bz2", "20261101", 1),
    ],
)
def test_every_form_of_address(root, tmp_path, local, below, date, shards):
    with serving(root) as server:
        fetch_dump(f"file://{root}/{below}" if local else f"{server.url}{below}", tmp_path / "jw")
    check_folder(tmp_path / "jw", date, shards)


def fetch_dump(url, folder, date=None):
    """What bin/fetch-jawiki does, except for dates that vanish."""
    dump = jawiki_dumps.find_dump(url, date)
    new = jawiki_dumps.begin_folder(str(folder), dump)
    jawiki_dumps.download_shards(dump, new.part)
    jawiki_dumps.finish_folder(new, dump)


@pytest.mark.parametrize("local", [False, True])
def test_stream_of_shards(run_tool, root, tmp_path, local):
    with serving(root, drop_after=9000) as server:
        text = run_tool("fetch-jawiki", *QUICK, root if local else server.url, "-").stdout.decode()
    assert [json.loads(line)["title"] for line in text.splitlines()[1::2]] == [f"20261108-{n}" for n in range(5)]
    assert names(tmp_path) == ["site"]


def test_unfinished_folder_is_refused(run_tool, root, tmp_path):
    for below in ("20261115", "20261115/index_name=jawiki_content"):
        done = run_tool("fetch-jawiki", root / below, tmp_path / "jw", status=1)
        assert b"is not finished: it has no _SUCCESS" in done.stderr


def test_local_shards_are_linked(run_tool, root, tmp_path):
    name = "jawiki_content-20261101-00000.json.bz2"
    run_tool("fetch-jawiki", root / "20261101", tmp_path / "jw")
    source = root / "20261101/index_name=jawiki_content" / name
    assert os.path.samefile(source, tmp_path / "jw" / name)
    shutil.rmtree(root)
    check_folder(tmp_path / "jw", "20261101", 2)


def test_a_changed_local_shard_is_taken_again(run_tool, root, tmp_path):
    name = "jawiki_content-20261101-00001.json.bz2"
    run_tool("fetch-jawiki", root / "20261101", tmp_path / "jw")
    source = root / "20261101/index_name=jawiki_content" / name
    source.unlink()
    source.write_bytes(b"another one")
    run_tool("fetch-jawiki", root / "20261101", tmp_path / "jw")
    assert (tmp_path / "jw" / name).read_bytes() == b"another one"


def test_copies_where_links_cannot_be(root, tmp_path, monkeypatch):
    def refused(*args):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refused)
    fetch_dump(str(root), tmp_path / "jw", "20261101")
    check_folder(tmp_path / "jw", "20261101", 2)


def test_any_folder_of_shards(run_tool, tmp_path):
    """Files of the old layout, records and manifests beside them, other wikis' files, nested folders."""
    folder = tmp_path / "mine"
    (folder / "below").mkdir(parents=True)
    ours = ["jawiki-20240701-cirrussearch-content.json.gz", "jawiki-20240708-cirrussearch-content.json.gz"]
    others = [f"{ours[0]}.json", "manifest.json", "README", "enwiki-20240701-cirrussearch-content.json.gz"]
    for name in [
        *ours,
        *others,
        "jawiki-20240701-cirrussearch-general.json.gz",
        "jawikibooks-20240701-content.json.gz",
    ]:
        (folder / name).write_text(name)
    run_tool("fetch-jawiki", folder, tmp_path / "jw")
    assert names(tmp_path / "jw") == [*ours, "manifest.json"]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/b.jsonl.zst").write_text("b")
    (tmp_path / "plain/a.json").write_text("a")
    run_tool("fetch-jawiki", tmp_path / "plain", tmp_path / "jw")
    assert names(tmp_path / "jw") == ["a.json", "b.jsonl.zst", "manifest.json"]
    done = run_tool("fetch-jawiki", folder / "below", tmp_path / "x", status=1)
    assert b"no dump there" in done.stderr


def test_shards_of_a_killed_run_are_kept(bin_dir, run_tool, root, tmp_path):
    with serving(root) as server:
        server.stall_after = 15_000
        server.stalls = 3
        process = subprocess.Popen([bin_dir / "fetch-jawiki", server.url, tmp_path / "jw"], stderr=subprocess.DEVNULL)
        wait_for(lambda: sum(r.sent == 15_000 for r in server.requests) == 3)
        # What has been sent is not on the disk yet.
        wait_for(lambda: [path.stat().st_size for path in (tmp_path / "jw.part").iterdir()].count(15_000) == 3)
        process.kill()
        process.wait()
        assert len(names(tmp_path / "jw.part")) == 8  # three beginnings, with what they are of, the source, whose it is
        before = len(server.requests)
        run_tool("fetch-jawiki", server.url, tmp_path / "jw")
        ranges = [r.headers.get("Range") for r in server.requests[before:] if not r.path.endswith("/")]
        assert sorted(ranges, key=str) == [None] * 2 + ["bytes=15000-"] * 3
        check_folder(tmp_path / "jw", "20261108", 5)
        server.stall_after = None
        before = len(server.requests)
        done = run_tool("fetch-jawiki", server.url, tmp_path / "jw")
        assert all(r.path.endswith("/") for r in server.requests[before:])  # whole already: listings only
        assert b"5 files kept from before" in done.stderr
    check_folder(tmp_path / "jw", "20261108", 5)


def test_a_damaged_shard_is_fetched_again(run_tool, root, tmp_path):
    with serving(root) as server:
        run_tool("fetch-jawiki", server.url, tmp_path / "jw")
        damaged = tmp_path / "jw/jawiki_content-20261108-00003.json.bz2"
        damaged.write_bytes(damaged.read_bytes()[:-1])
        before = len(server.files_asked())
        run_tool("fetch-jawiki", server.url, tmp_path / "jw")
        assert [path.rpartition("/")[2] for path in server.files_asked()[before:]] == [damaged.name]
    check_folder(tmp_path / "jw", "20261108", 5)


def test_replaced_only_when_the_new_one_is_whole(run_tool, root, tmp_path):
    with serving(root) as server:
        run_tool("fetch-jawiki", "--date", "20261101", server.url, tmp_path / "jw")
        server.drop_after = 10_000
        run_tool("fetch-jawiki", *QUICK, "--retries", 0, server.url, tmp_path / "jw", status=1)
        server.drop_after = None
        assert os.path.exists(tmp_path / "jw.part")
        assert manifest.read_manifest(tmp_path / "jw")["counts"] == {"shards": 2}
        run_tool("fetch-jawiki", server.url, tmp_path / "jw")
    check_folder(tmp_path / "jw", "20261108", 5)


def test_killed_while_it_is_replaced(root, tmp_path):
    """A kill at any step leaves the old folder or the new one whole, and the next run puts the new one there."""
    folder = tmp_path / "jw"
    dump = jawiki_dumps.find_dump(str(root), "20261108")

    def replace():
        new = jawiki_dumps.begin_folder(str(folder), dump)
        jawiki_dumps.download_shards(dump, new.part)
        jawiki_dumps.finish_folder(new, dump)

    fetch_dump(str(root), folder, "20261101")
    for _ in killed_at_each_step(tmp_path, replace):
        if (folder / "manifest.json").exists():
            assert not any(problem for _, problem in manifest.verify(str(folder)))
        replace()
        check_folder(folder, "20261108", 5)
        assert sorted(names(tmp_path)) == ["jw", "site"]


def test_somebody_elses_folder_is_left_alone(run_tool, root, tmp_path):
    (tmp_path / "jw").mkdir()
    (tmp_path / "jw/thesis.txt").write_text("mine")
    done = run_tool("fetch-jawiki", root, tmp_path / "jw", status=1)
    assert b"holds files but no manifest.json" in done.stderr
    assert (tmp_path / "jw/thesis.txt").read_text() == "mine"


def test_a_date_that_vanishes_half_way(run_tool, root, tmp_path):
    with serving(root, vanish="/20261108/", vanish_after=2, delay=0.02) as server:
        done = run_tool("fetch-jawiki", *QUICK, server.url, tmp_path / "jw")
    check_folder(tmp_path / "jw", "20261101", 2)
    assert "removed during the download: starting again with" in done.stderr.decode()
    assert "20261101" in done.stderr.decode().splitlines()[-2]


def test_a_pinned_date_that_vanishes(run_tool, root, tmp_path):
    with serving(root, vanish="/20261108/", vanish_after=2) as server:
        done = run_tool("fetch-jawiki", *QUICK, "--date", "20261108", server.url, tmp_path / "jw", status=1)
    assert b"404: not there" in done.stderr
    assert not os.path.exists(tmp_path / "jw")


def test_a_page_among_the_shards(run_tool, root, tmp_path):
    """A third of the dump is not silently missing."""
    path = root / "20261108/index_name=jawiki_content/jawiki_content-20261108-00001.json.bz2"
    good = path.read_bytes()
    path.write_bytes(HTML)
    with serving(root) as server:
        said = refused(run_tool, server.url, tmp_path / "jw", tool="fetch-jawiki")
        assert f"{path.name}: its name says bzip2, but it is an HTML page" in said
        path.write_bytes(good)
        run_tool("fetch-jawiki", server.url, tmp_path / "jw")
    check_folder(tmp_path / "jw", "20261108", 5)


def test_a_run_that_ended_just_after_a_shard_got_its_name(run_tool, root, tmp_path):
    """What describes the shard's unfinished part does not stay beside it."""
    dump = root / "20261108/index_name=jawiki_content"
    first, second = (dump / f"jawiki_content-20261108-{n:05}.json.bz2" for n in (0, 1))
    good = second.read_bytes()
    second.write_bytes(HTML)
    with serving(root) as server:
        refused(run_tool, "--connections", 1, server.url, tmp_path / "jw", tool="fetch-jawiki")
        assert (tmp_path / "jw.part" / first.name).exists()
        (tmp_path / "jw.part" / f"{first.name}.part.json").write_text("{}")
        second.write_bytes(good)
        run_tool("fetch-jawiki", server.url, tmp_path / "jw")
    check_folder(tmp_path / "jw", "20261108", 5)


def test_a_damaged_download_is_fetched_again_by_the_command_in_the_message(run_tool, root, target, tmp_path):
    site = tmp_path / "other site"
    site.mkdir()

    def mend(*arguments):
        done = run_tool("cat-text", *arguments, status=1)
        command = re.search("(damaged or cut short|its name says).*; fetch it again: (.*)", done.stderr.decode())[2]
        subprocess.run(["bash", "-ec", command], check=True, capture_output=True)
        return run_tool("cat-text", *arguments).stdout

    packed = target.with_name("ja 墨.txt.xz")
    (site / "ja.txt.xz").write_bytes(lzma.compress(b"text\n" * 9))
    with serving(site) as server, serving(root) as dumps:
        run_tool("fetch-url", f"{server.url}ja.txt.xz", packed)
        for damaged in (packed.read_bytes()[:-9], b"", b"<html>"):
            packed.write_bytes(damaged)
            assert mend(packed) == b"text\n" * 9
        run_tool("fetch-jawiki", dumps.url, tmp_path / "jw 墨")
        whole = run_tool("cat-text", tmp_path / "jw 墨").stdout
        for damage in (lambda path: path.write_bytes(HTML), lambda path: os.truncate(path, 900)):
            damage(tmp_path / "jw 墨/jawiki_content-20261108-00003.json.bz2")
            assert mend(tmp_path / "jw 墨") == whole
    check_folder(tmp_path / "jw 墨", "20261108", 5)


def test_stream_of_shards_ends_with_its_reader(bin_dir, root):
    with serving(root) as server:
        command = f"'{bin_dir}/fetch-jawiki' {server.url} - | head -n 1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
        assert done.stdout == '{"index":{"_id":0}}\n141\n'
        assert len(server.files_asked()) < 5


def test_stream_of_a_damaged_shard(run_tool, root):
    path = root / "20261108/index_name=jawiki_content/jawiki_content-20261108-00001.json.bz2"
    path.write_bytes(path.read_bytes()[:-100])
    with serving(root) as server:
        done = run_tool("fetch-jawiki", server.url, "-", status=1)
    assert path.name in done.stderr.decode() and "damaged or cut short" in done.stderr.decode()


def test_the_layout_of_the_real_site(run_tool, sources, tmp_path):
    """The unfinished date is passed over, and every shard unpacks."""
    with serving(sources) as server:
        run_tool("fetch-jawiki", f"{server.url}cirrus_search_index/", tmp_path / "jw")
    (old,) = sources.glob("*.json.gz")
    texts = [run_tool("cat-text", dump).stdout for dump in (tmp_path / "jw", old)]
    assert texts[0].count(b'\n{"page_id"') == texts[1].count(b'\n{"page_id"') > 300


def test_no_room_is_reported_before_the_first_byte(tmp_path, monkeypatch):
    (tmp_path / "source").write_bytes(b"x" * 1000)
    monkeypatch.setattr(download, "free_space", lambda folder: 999)
    with serving(tmp_path) as server, pytest.raises(DataError, match=r"needs 0\.00 GB more"):
        download.download(f"{server.url}/source", tmp_path / "copy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]
    monkeypatch.setattr(download, "free_space", lambda folder: 1000)
    download.download(f"file://{tmp_path}/source", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x" * 1000


def test_a_head_that_drips_is_given_up():
    """Each byte comes in time, but the head of the answer does not end."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def answer():
            with suppress(OSError):
                connection, _ = server.accept()
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.02)

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        with pytest.raises(DataError, match="gave up after 0 more tries"):
            list(http.read(url, timeout=0.3, retries=0))
