"""A function mapped over blocks by forked workers, results in the order of the blocks.

Block n goes to worker n modulo jobs. Each worker has a pipe of its own each way and at most two blocks, the second
only if it fits into the pipe whole: so the one is at hand when the other is done, and nobody waits in a circle. When
this process ends, for whatever reason, the workers read the end of their pipes and go; when a worker dies, the
next look at its pipe tells.
"""

import os
import signal
from collections import deque
from contextlib import suppress
from multiprocessing import Pipe

from suzuri.cli import DataError, widen


def ordered_map(function, blocks, jobs):
    """Yield function(block) for every block, computed by `jobs` processes (1: by this one).

    Raises DataError when a worker fails or dies.
    """
    if jobs == 1:
        yield from map(function, blocks)
        return
    workers, waiting = [], deque()  # waiting: the worker of each block that is not done, in their order
    try:
        for n, block in enumerate(blocks):
            if len(workers) < jobs:
                workers.append(Worker(function, workers))
            worker = workers[n % jobs]
            while not worker.takes(block):
                yield waiting.popleft().result()
            worker.send(block)
            waiting.append(worker)
        while waiting:
            yield waiting.popleft().result()
    finally:
        for worker in workers:
            worker.close()
        for worker in workers:
            with suppress(ChildProcessError):  # the one that died has been asked already
                os.waitpid(worker.pid, 0)


class Worker:
    """A forked process, seen from the one that forked it."""

    def __init__(self, function, others):
        theirs_in, self.blocks = Pipe(duplex=False)
        self.results, theirs_out = Pipe(duplex=False)
        self.room = widen(self.blocks.fileno())
        widen(self.results.fileno())
        self.busy = 0  # blocks that it has
        self.pid = os.fork()
        if not self.pid:
            for worker in (self, *others):  # or a brother would never see the end of his
                worker.close()
            _work(function, theirs_in, theirs_out)
        theirs_in.close()
        theirs_out.close()

    def takes(self, block):
        return self.busy == 0 or (self.busy == 1 and len(block) + 16 <= self.room)  # 16: more than a block's header

    def send(self, block):
        self.busy += 1
        try:
            self.blocks.send_bytes(block)
        except ConnectionError:
            self.died()

    def result(self):
        self.busy -= 1
        try:
            result = self.results.recv()
        except (EOFError, OSError):
            self.died()
        if isinstance(result, Exception):
            raise result
        return result

    def died(self):
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        what = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise DataError("worker", f"{what}; out of memory? Try fewer --jobs") from None

    def close(self):
        self.blocks.close()
        self.results.close()


def _work(function, blocks, results):
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the pipe's end will tell us
        while True:
            block = blocks.recv_bytes()
            try:
                result = function(block)
            except Exception as e:
                result = e
            results.send(result)
    except (EOFError, OSError):
        status = 0
    finally:
        os._exit(status)
