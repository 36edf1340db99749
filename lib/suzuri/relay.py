"""A filter worked by several processes, which read and write in turns.

Forked workers share the input and the output. Whoever is free takes the next block of the input, and hands on the
beginning of a line that is not whole yet; whoever has the block whose turn it is writes what has become of it. So
blocks leave in the order in which they came, and no text ever goes from one process to another.
"""

import os
import signal
from contextlib import suppress
from multiprocessing import connection, get_context

from suzuri.errors import DataError
from suzuri.lock import PR_SET_PDEATHSIG, prctl

AHEAD = 4  # results that a worker holds while it waits for their turn
NEWS = 1 << 23  # bytes after which a worker tells what it has done: the parent takes a core's time, too


def relay(read, work, write, state, jobs, done):
    """Work a filter to its end with `jobs` processes (1: this one); -> the last state.

    read(rest) -> (block, rest), block None at the end, rest b"" at first; work(block) -> result;
    write(result, state) -> state; done(n) is told of n more bytes of the input that are done.
    Raises what a worker raised, DataError when one dies.
    """
    if jobs == 1:
        block, rest = read(b"")
        while block is not None:
            state = write(work(block), state)
            done(len(block))
            block, rest = read(rest)
        return state

    shared = Shared(state)
    news, tell = shared.context.Pipe(duplex=False)
    workers = [
        shared.context.Process(target=_run, args=(read, work, write, shared, tell, os.getpid()), daemon=True)
        for _ in range(jobs)
    ]
    try:
        for worker in workers:
            worker.start()
        living = {worker.sentinel: worker for worker in workers}
        while living:
            for ready in connection.wait([news, *living]):
                if ready is not news:
                    _check(living.pop(ready))
                    continue
                what, value = news.recv()
                if what == "failed":
                    raise value
                done(value)
        while news.poll():
            done(news.recv()[1])
        return shared.states.get()
    finally:
        for worker in workers:
            if worker.pid:
                worker.kill()  # after the end, or a failure: it has nothing to lose
                worker.join()


def _check(worker):
    worker.join()
    if status := worker.exitcode:
        what = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise DataError("worker", f"{what}; out of memory? Try fewer --jobs") from None


class Shared:
    """What the workers pass round: the next block's number with the rest before it, and the state, by turns."""

    def __init__(self, state):
        self.context = get_context("fork")
        self.input = self.context.SimpleQueue()  # (number of the next block, rest); (n, None) after the end
        self.input.put((0, b""))
        self.states = self.context.SimpleQueue()
        self.states.put(state)
        self.turn = self.context.Value("q", 0, lock=False)  # the number of the next block to be written
        self.turns = self.context.Condition()


def _run(read, work, write, shared, tell, parent):
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent will end us
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    results, done = [], 0
    try:
        while os.getppid() == parent:
            number, rest = shared.input.get()
            block = None
            if rest is not None:
                block, rest = read(rest)
            shared.input.put((number + (block is not None), rest))
            if block is None:
                break
            results.append((number, work(block), len(block)))
            done += _write(write, shared, results, AHEAD)
            if done >= NEWS:
                tell.send(("done", done))
                done = 0
        tell.send(("done", done + _write(write, shared, results, 1)))
    except Exception as e:
        with suppress(OSError):
            tell.send(("failed", e))


def _write(write, shared, results, most):
    """Write those results whose turn it is; wait for turns while there are `most` or more; -> bytes of their input."""
    done = 0
    while results:
        number, result, size = results[0]
        with shared.turns:
            if len(results) >= most:
                shared.turns.wait_for(lambda: shared.turn.value == number)  # noqa: B023
            elif shared.turn.value != number:
                break
        shared.states.put(write(result, shared.states.get()))
        del results[0]
        with shared.turns:
            shared.turn.value += 1
            shared.turns.notify_all()
        done += size
    return done
