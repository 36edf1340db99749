"""One run at a time in a folder, and no orphans of a killed one."""

import ctypes
import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

from suzuri.errors import DataError
from suzuri.progress import note

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2), Linux


def prctl(option, value):
    try:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # no Linux: a killed run's children then live on until their pipes break


def _acquire(path, wait):
    """Open and lock PATH; returns the descriptor, which children inherit: the last of them to end unlocks."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(fd, True)
    deadline, told = time.monotonic() + wait, False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(fd, 100, 0).decode().strip() or "unknown"
            if time.monotonic() > deadline:
                raise DataError(
                    path, f"another run (process {holder}) is at work here; wait for it or end it"
                ) from None
            if not told:
                note(f"{path}: waiting for process {holder} to end")
                told = True
            time.sleep(0.1)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def run_locked(path, command, wait):
    """Run `command` under the lock; returns its exit status, 128 + n when signal n ended it."""
    parent = os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # when the make above us is killed, so are we
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the command become our children, to be found below
    if os.getppid() != parent:
        return 128 + signal.SIGTERM
    _acquire(path, wait)
    child = subprocess.Popen(command, close_fds=False, preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM))
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the command decides
    status = child.wait()
    if status < 0:
        _end_orphans()
    return status if status >= 0 else 128 - status


def _end_orphans():
    """SIGTERM, then after ten seconds SIGKILL, to what a killed command left running."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    deadline = time.monotonic() + 10
    while children.exists() and (pids := [int(pid) for pid in children.read_text().split()]):
        for pid in pids:
            os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.05)
