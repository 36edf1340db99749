"""processes: the order of results, bounded memory, and how workers end."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import wait_for
from suzuri.errors import DataError
from suzuri.processes import ordered_map, work_in_turns

LIB = Path(__file__).resolve().parent.parent / "lib"


def double(item):
    """Work that takes longer for small items than for large ones, or fails."""
    if item == b"full":
        raise OSError(errno.ENOSPC, "No space left on device", "there")
    if item == b"bad":
        raise DataError("here", "bad data")
    if item == b"killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02 if len(item) == 1 else 0)
    return 2 * item


def by_map(items, jobs):
    return tuple(ordered_map(double, items, jobs))


def by_turns(items, jobs, ahead=4):
    def read(i):
        return (items[i], i + 1) if i < len(items) else (None, i)

    lengths = []
    state = work_in_turns(
        read, double, lambda result, state: (*state, result), (), jobs, start=0, ahead=ahead, progress=lengths.append
    )
    assert sum(lengths) == sum(map(len, items))
    return state


both = pytest.mark.parametrize("shared", [by_map, by_turns])


@both
@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 9, 100])
def test_results_are_in_order(shared, n, jobs):
    items = [b"%d" % i for i in range(n)]
    assert shared(items, jobs) == tuple(map(double, items))


def test_each_holds_one_result():
    items = [b"%d" % i for i in range(20)]
    assert by_turns(items, 3, ahead=1) == tuple(map(double, items))


@both
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_is_raised_here(shared, jobs):
    with pytest.raises(OSError, match=r"No space left on device: 'there'"):
        shared([b"1", b"2", b"full", b"4"], jobs)
    with pytest.raises(DataError, match="here: bad data"):
        shared([b"1", b"bad", b"3"], jobs)


@both
def test_a_worker_that_dies(shared):
    with pytest.raises(DataError, match=r"worker: (has died|was killed by signal 9); out of memory\?"):
        shared([b"1", b"2", b"3", b"killed", *[b"5"] * 100], 2)


def test_map_reads_no_further_than_it_must():
    """Only a few items are read ahead, however long the input is."""
    taken = 0

    def blocks():
        for i in range(50):
            assert i - taken <= 3
            yield b"%d" % i

    for _ in ordered_map(double, blocks(), 2):
        taken += 1
    assert taken == 50


def test_a_map_that_is_left_early():
    results = ordered_map(double, (b"%d" % i for i in range(10**9)), 2)
    assert next(results) == b"00"
    results.close()


PROGRAM = {
    "map": "for _ in ordered_map(work, map(str, range(10**9)), 3): pass",
    "turns": "work_in_turns(lambda i: (str(i), i + 1), work, lambda result, state: None, None, 3, start=0)",
}


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("way", PROGRAM)
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_no_process_is_left(tmp_path, way, signum):
    """Neither after kill -9 of the parent alone nor after Ctrl-C, which reaches all of them; workers print nothing."""
    code = f"""
import os, signal, sys, time
sys.path.insert(0, {str(LIB)!r})
from suzuri.processes import *
def work(item):
    open(f"{tmp_path}/{{os.getpid()}}", "w").close()
    time.sleep(0.2)
try:
    {PROGRAM[way]}
except KeyboardInterrupt:
    os._exit(130)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.iterdir())) >= 3)
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)
        assert process.wait(300) == 130
    else:
        process.kill()
        process.wait()
    wait_for(lambda: not any(running(path.name) for path in tmp_path.iterdir()))
    assert process.stderr.read() == b""
    process.stderr.close()
