"""A function mapped over blocks by forked workers, results in the order of the blocks.

Each worker has its own pipe and one block at a time, so nothing can fill up and wait for something else. When
this process ends, for whatever reason, the workers read the end of their pipes and go; when a worker dies, the
next look at its pipe tells.
"""

import os
import signal
from contextlib import suppress
from multiprocessing import Pipe

from suzuri.errors import DataError


def ordered_map(function, blocks, jobs):
    """Yield function(block) for every block, computed by `jobs` processes (1: by this one).

    Raises DataError when a worker fails or dies.
    """
    if jobs == 1:
        yield from map(function, blocks)
        return
    workers = []
    try:
        waiting = 0  # workers at work are those numbered first .. first + waiting - 1, modulo jobs
        first = 0
        for block in blocks:
            if waiting == jobs:
                yield _result(*workers[first])
                first, waiting = (first + 1) % jobs, waiting - 1
            if len(workers) < jobs:
                workers.append(_start(function, [pipe for _, pipe in workers]))
            pid, pipe = workers[(first + waiting) % jobs]
            try:
                pipe.send_bytes(block)
            except ConnectionError:
                _died(pid)
            waiting += 1
        for i in range(waiting):
            yield _result(*workers[(first + i) % jobs])
    finally:
        for _, pipe in workers:
            pipe.close()
        for pid, _ in workers:
            with suppress(ChildProcessError):  # the one that died has been asked already
                os.waitpid(pid, 0)


def _start(function, others):
    ours, theirs = Pipe()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the pipe's end will tell us
        for pipe in (ours, *others):  # or a brother would never see the end of his
            pipe.close()
        while True:
            block = theirs.recv_bytes()
            try:
                result = function(block)
            except Exception as e:
                result = e
            theirs.send(result)
    except (EOFError, OSError):
        status = 0
    finally:
        os._exit(status)


def _result(pid, pipe):
    try:
        result = pipe.recv()
    except (EOFError, OSError):
        _died(pid)
    if isinstance(result, Exception):
        raise result
    return result


def _died(pid):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    what = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    raise DataError("worker", f"{what}; out of memory? Try fewer --jobs") from None
