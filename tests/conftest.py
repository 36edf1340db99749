"""Shared parts of the tests: the tools, the texts, deadlines, and which tests may be skipped."""

import bz2
import gzip
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lib"))

# A busy machine is not an error: no deadline for a single example, a generous one for what may hang.
hypothesis.settings.register_profile("suzuri", deadline=None)
hypothesis.settings.load_profile("suzuri")
# Programs inherit what is ignored, by nohup or in the background of a script, but not what is handled: those of the
# tests get signals that must not be ignored.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)
HANGS = 1800  # seconds; the longest test takes two minutes on an idle machine


@contextmanager
def ended_when_it_hangs():
    def end(*_):
        raise TimeoutError(f"still running after {HANGS} seconds")

    signal.signal(signal.SIGALRM, end)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)


LONGEST_FILES = ["test_make.py", "test_train_mlm.py", "test_finetune.py", "test_report.py", "test_fetch.py"]


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "fast: a fault that is injected in every run of the tests, not only with FAULTS=all"
    )
    config.addinivalue_line("markers", "slow: a test that takes long, for make test-slow")


def pytest_collection_modifyitems(config, items):
    """The files that take longest begin first, so that no process is left with one of them at the end.

    Faults are left out unless they are fast, or FAULTS=all asks for all of them (make test-faults). Slow tests are left
    out unless SUZURI_SLOW=1 asks for them (make test-slow).
    """
    left_out = []
    if os.environ.get("FAULTS") != "all":
        left_out += [i for i in items if i.path.name == "test_faults.py" and not i.get_closest_marker("fast")]
    if not os.environ.get("SUZURI_SLOW"):
        left_out += [i for i in items if i.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [i for i in items if i not in left_out]
    order = {name: i for i, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    with ended_when_it_hangs():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with ended_when_it_hangs():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """The tests of make prove that the chain works: one that is skipped has failed."""
    report = yield
    if report.skipped and item.path.name == "test_make.py" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which no test of make may be: {call.excinfo.value}"
    return report


OUTCOMES = ("survived", "stopped cleanly", "failed")


def pytest_terminal_summary(terminalreporter):
    """What came of the faults that were injected (tests/faults): a table by class, and the sum."""
    table = {}
    for report in (r for status in ("passed", "failed") for r in terminalreporter.stats.get(status, [])):
        properties = dict(report.user_properties)
        if "fault" in properties and report.when == "call":
            counts = table.setdefault(properties["fault"], dict.fromkeys(OUTCOMES, 0))
            counts[properties["outcome"] if report.passed else "failed"] += 1
    if table:
        terminalreporter.write_line(
            f"{'class':40} {'injected':>9} {'survived':>9} {'stopped cleanly':>16} {'failed':>7}"
        )
        for kind, counts in table.items():
            survived, stopped, failed = counts.values()
            terminalreporter.write_line(f"{kind:40} {sum(counts.values()):9} {survived:9} {stopped:16} {failed:7}")
        total = {outcome: sum(counts[outcome] for counts in table.values()) for outcome in OUTCOMES}
        sums = ", ".join(f"{n} {outcome}" for outcome, n in total.items())
        terminalreporter.write_line(f"faults: {sum(total.values())} injected, {sums}")


def wait_for(condition, seconds=600):
    """Wait until condition() is true; returns its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so after {seconds} seconds"
        time.sleep(0.01)
    return found


def killed_at_each_step(folder, function):
    """Kill function() before its first change of the file system, then before its second, and so on.

    After each kill, control is given to the caller, with the number of the step; FOLDER, in which it all happens, is
    put back for the next one. Each function() runs in a process of its own, which ends without any cleaning up.
    """
    before = folder.with_name(f"{folder.name}-before")
    shutil.copytree(folder, before, symlinks=True)
    for step in itertools.count(1):
        pid = os.fork()
        if pid == 0:
            _run_until(step, function)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, 9)
        yield step
        if status == 0:
            break
        shutil.rmtree(folder)
        shutil.copytree(before, folder, symlinks=True)
    shutil.rmtree(before)


def _run_until(step, function):
    """End this process before the given change of the file system (with 9), or after function() (with 0, or 1)."""
    steps = itertools.count(1)

    def killable(real):
        def call(*args, **kwargs):
            if next(steps) == step:
                os._exit(9)
            return real(*args, **kwargs)

        return call

    for name in ("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "link", "fsync", "truncate"):
        setattr(os, name, killable(getattr(os, name)))
    try:
        function()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


SLOW = pytest.mark.slow


def cpu_seconds():
    """CPU time of all processes that this one has started and waited for; other work does not affect it."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="session")
def bin_dir():
    return ROOT / "bin"


@pytest.fixture(scope="session")
def shared_data():
    """The real corpora, which few tests need: $SUZURI_DATA, by default ../shared/data beside the checkout."""
    path = Path(os.environ.get("SUZURI_DATA", ROOT.parent / "shared/data"))
    if not (path / "README.md").exists():
        pytest.skip("needs the real corpora: SUZURI_DATA (tests/README.md)")
    return path


@pytest.fixture(scope="session")
def sources(tmp_path_factory, run_tool):
    """data/sample as a folder like the real sites.

    ja.txt.xz                                                CC-100
    cirrus_search_index/20260101/index_name=jawiki_content/  the new layout: three shards and _SUCCESS
    cirrus_search_index/20260108/index_name=jawiki_content/  a newer dump that is not finished
    jawiki-20240701-cirrussearch-content.json.gz             the old layout: the same pages in another order
    """
    site = tmp_path_factory.mktemp("sources") / "site"
    run_tool("pack-sample", ROOT / "data/sample", site)
    (packed,) = site.glob("cirrus_search_index/*/*/*.bz2")
    lines = bz2.decompress(packed.read_bytes()).splitlines(keepends=True)
    pages = [b"".join(pair) for pair in zip(lines[::2], lines[1::2], strict=True)]
    for i in range(3):
        (packed.parent / f"jawiki_content-20260101-0000{i}.json.bz2").write_bytes(bz2.compress(b"".join(pages[i::3])))
    newer = site / "cirrus_search_index/20260108/index_name=jawiki_content"
    newer.mkdir(parents=True)
    (newer / "jawiki_content-20260108-00000.json.bz2").write_bytes(bz2.compress(b"".join(pages[:50])))
    old = [page.replace(b'{"_id"', b'{"_type":"_doc","_id"').replace(b"/", rb"\/") for page in sorted(pages)]
    (site / "jawiki-20240701-cirrussearch-content.json.gz").write_bytes(gzip.compress(b"".join(old)))
    return site


@pytest.fixture(scope="session")
def run_tool(bin_dir):
    """run_tool("split-sentences", "--jobs", 2, stdin=b"…") -> CompletedProcess with bytes; checks exit 0 by default."""

    def run(tool, *args, stdin=b"", status=0, cwd=None, env=None, timeout=300):
        if isinstance(stdin, str):
            stdin = stdin.encode()
        done = subprocess.run(
            [bin_dir / tool, *map(str, args)],
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            timeout=timeout,
        )
        if status is not None:
            assert done.returncode == status, done.stderr.decode(errors="replace")
        return done

    return run
