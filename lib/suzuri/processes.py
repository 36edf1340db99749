"""Work shared among forked processes, with results in the order of the input.

There are two ways, for two kinds of work:

* `ordered_map`: this process reads the blocks and collects the results, which are small; workers compute. This is the
  pool of concurrent.futures with a bounded number of blocks in it.
* `work_in_turns`: the results are as large as the input, so the workers themselves read the input and write the
  output, in turns, and no text goes from one process to another. With the pool, `split-sentences` takes a fifth more
  CPU, and the ranges of `shuffle-split`, each of them a share of its --memory, would be in memory three times.

Both raise DataError when a worker dies. Ctrl-C ends the workers silently, and they do not outlive this process, even
if it is killed with kill -9.
"""

import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import connection, get_context
from typing import Any

from suzuri.environment import PR_SET_PDEATHSIG, prctl
from suzuri.errors import DataError

FORK = get_context("fork")
OUT_OF_MEMORY = "out of memory? Ask for less (--jobs, --memory)"


def begin_worker(parent: int) -> None:
    """Prepare a forked process: it ignores Ctrl-C and is killed when `parent` (a process id) ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def ordered_map(function: Callable[[bytes], Any], blocks: Iterable[bytes], jobs: int) -> Iterator[Any]:
    """Yield function(block) for every block, computed by `jobs` processes (1: by this one)."""
    if jobs == 1:
        yield from map(function, blocks)
        return
    pool = ProcessPoolExecutor(jobs, FORK, begin_worker, (os.getpid(),))
    waiting = deque()
    try:
        for block in blocks:
            waiting.append(pool.submit(function, block))
            if len(waiting) > jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError("worker", f"has died; {OUT_OF_MEMORY}") from None
    finally:
        pool.shutdown(cancel_futures=True)


def work_in_turns(
    read: Callable, work: Callable, write: Callable, state, jobs: int, *, start, ahead: int = 4, progress=None
):
    """Work through an input with `jobs` processes (1: with this one); returns the last state.

    read(position) -> (item, next position), item None at the end; `start` is the first position.
    work(item) -> result.
    write(result, state) -> state.
    progress(n) is called when n more units of len(item) are done.

    A free worker reads the next item, and the worker that has the next result writes it, so results are written in the
    order in which items were read. A worker holds up to `ahead` results that wait for their turn. Raises what a worker
    raised.
    """
    if jobs == 1:
        item, position = read(start)
        while item is not None:
            state = write(work(item), state)
            if progress:
                progress(len(item))
            item, position = read(position)
        return state

    shared = Shared(start, state, jobs * ahead)
    workers = [
        FORK.Process(target=_take_turns, args=(read, work, write, shared, ahead, os.getpid()), daemon=True)
        for _ in range(jobs)
    ]
    reported = 0
    try:
        for worker in workers:
            worker.start()
        living = {worker.sentinel: worker for worker in workers}
        while living:
            ended = connection.wait([shared.failure, *living], timeout=0.2 if progress else None)
            if shared.failure.poll():
                raise shared.failure.recv()
            for worker in [living.pop(sentinel) for sentinel in ended]:
                _check(worker)
            if progress:
                progress(shared.done.value - reported)
                reported = shared.done.value
        return shared.state.get()
    finally:
        for worker in workers:
            if worker.pid:
                worker.kill()  # the work is done or has failed, so nothing is lost
                worker.join()


def _check(worker):
    worker.join()
    if status := worker.exitcode:
        what = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise DataError("worker", f"{what}; {OUT_OF_MEMORY}")


class Shared:
    """What the workers of `work_in_turns` share."""

    def __init__(self, start, state, most):
        self.position = FORK.SimpleQueue()  # (number of the next item to read, its position); whoever has it reads
        self.position.put((0, start))
        self.state = FORK.SimpleQueue()
        self.state.put(state)
        # Result i may be written when semaphore i % most is up; at most `most` results wait at a time.
        self.turns = [FORK.Semaphore(i == 0) for i in range(most)]
        self.done = FORK.Value("q", 0, lock=False)  # total len(item) of what is written
        self.failure, self.tell_failure = FORK.Pipe(duplex=False)  # an exception; only the first is read


def _take_turns(read, work, write, shared, ahead, parent):
    """The work of one worker, to the end of the input."""
    begin_worker(parent)
    results = []  # (number of the item, its length, its result), to be written
    try:
        while os.getppid() == parent:
            number, position = shared.position.get()
            item, position = read(position)
            shared.position.put((number + (item is not None), position))
            if item is None:
                break
            results.append((number, len(item), work(item)))
            _write_results(write, shared, results, ahead)
        _write_results(write, shared, results, 1)
    except Exception as e:
        e.add_note(traceback.format_exc())  # shown if the exception is a bug
        with suppress(OSError):
            shared.tell_failure.send(e)


def _write_results(write, shared, results, limit):
    """Write those results whose turn it is; wait for turns while there are `limit` or more."""
    most = len(shared.turns)
    while results and shared.turns[results[0][0] % most].acquire(block=len(results) >= limit):
        number, length, result = results.pop(0)
        shared.state.put(write(result, shared.state.get()))
        shared.done.value += length
        shared.turns[(number + 1) % most].release()
