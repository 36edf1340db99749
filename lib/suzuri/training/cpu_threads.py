"""The cores of a CPU at a step: each has a micro-batch of its own, rather than all of them one.

Hundreds of small operations a micro-batch leave threads that share them waiting for one another; threads that share
nothing do not wait. Results come in the order of the micro-batches, so that sums of them are always the same.
"""

import contextlib
import weakref
from multiprocessing import TimeoutError
from multiprocessing.pool import ThreadPool

import torch

CHECK_SECONDS = 0.2  # how long a signal may wait to be seen


class Cores:
    """`workers` threads, among which the threads that torch has are divided."""

    def __init__(self, workers):
        self.threads, self.workers = torch.get_num_threads(), workers
        torch.set_num_threads(max(1, self.threads // workers))  # of each worker, too: it asks when it first works
        self.pool = ThreadPool(workers, torch.get_num_threads)
        weakref.finalize(self, self.pool.terminate)  # or Python complains of it at the end

    def map(self, function, items, check):
        """function(item) for each item, in order; `check()` is called while waiting, and may raise."""
        results = self.pool.imap(function, items)
        while True:
            check()
            try:
                yield results.next(CHECK_SECONDS)
            except TimeoutError:
                pass
            except StopIteration:
                return

    @contextlib.contextmanager
    def together(self):
        """All of torch's threads for what this thread does."""
        divided = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(divided)


def available_memory():
    """Bytes that new work may take, or None where the kernel does not say (no Linux)."""
    try:
        with open("/proc/meminfo", encoding="ascii") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
