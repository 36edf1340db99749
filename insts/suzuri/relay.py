"""A filter worked by several processes, which read and write in turns.

Two batons go round a ring of forked workers. Who holds the first reads the next block and hands on the rest, the
beginning of a line that is not whole yet; who holds the second writes what has become of its block. So blocks leave
in the order in which they came, and no text ever goes from one process to another.
"""

import os
import signal
from contextlib import suppress
from multiprocessing import Pipe

from suzuri.cli import DataError
from suzuri.lock import PR_SET_PDEATHSIG, prctl


def relay(read, work, write, state, jobs, done):
    """Work a filter to its end with `jobs` processes (1: this one); -> the last state.

    read(rest) -> (block, rest), block None at the end, rest b"" at first; work(block) -> result;
    write(result, state) -> state; done(n) is told the length of each block that is written.
    Raises what a worker raised, DataError when one dies.
    """
    if jobs == 1:
        block, rest = read(b"")
        while block is not None:
            state = write(work(block), state)
            done(len(block))
            block, rest = read(rest)
        return state

    reading, writing = [[Pipe(duplex=False) for _ in range(jobs)] for _ in "rw"]  # worker i receives at [i][0]
    reading[0][1].send([b""])
    writing[0][1].send(state)
    news, tell = Pipe(duplex=False)
    ends = {end for pipe in (*reading, *writing, (news, tell)) for end in pipe}
    pids, parent = [], os.getpid()
    try:
        for i in range(jobs):
            pids.append(os.fork())
            if not pids[i]:
                after = (i + 1) % jobs
                mine = reading[i][0], reading[after][1], writing[i][0], writing[after][1], tell
                _close(ends.difference(mine))
                _run(read, work, write, *mine, parent)
        _close(ends - {news})
        while True:
            try:
                what, value = news.recv()
            except EOFError:
                _died(pids)
            if what == "end":
                return value
            if what == "failed":
                raise value
            done(value)
    finally:
        for pid in filter(None, pids):
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)  # after the end, or a failure: it has nothing to lose
                os.waitpid(pid, 0)


def _died(pids):
    status = 0
    while pids and not status:
        status = os.waitstatus_to_exitcode(os.waitpid(pids.pop(), 0)[1])
    what = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    raise DataError("worker", f"{what}; out of memory? Try fewer --jobs") from None


def _close(ends):
    for end in ends:
        end.close()


def _run(read, work, write, read_baton, next_reader, write_baton, next_writer, tell, parent):
    """A worker's life; does not return. The baton of reading is [rest], [] after the end."""

    def attempt(function, *args):
        try:
            return function(*args)
        except Exception as e:
            tell.send(("failed", e))
            os._exit(1)

    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent will end us
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        results = []  # of blocks not written yet: rather than wait for its turn a worker takes one more block

        def write_next():
            result, size = results.pop(0)
            next_writer.send(attempt(write, result, write_baton.recv()))
            tell.send(("done", size))

        while os.getppid() == parent and (baton := read_baton.recv()):
            block, *baton = attempt(read, *baton)
            next_reader.send(baton if block is not None else [])
            if block is None:
                break
            results.append((attempt(work, block), len(block)))
            while results and (len(results) > 1 or write_baton.poll()):
                write_next()
        else:
            block = b""
            next_reader.send([])
        while results:
            write_next()
        if block is None:  # those before us had all the blocks there were: the next state is the last
            tell.send(("end", write_baton.recv()))
    except (EOFError, OSError):
        pass  # one of us is gone, and the parent will say so; or all is done
    finally:
        os._exit(0)
