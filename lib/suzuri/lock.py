"""A lock that lets one run at a time work in a folder, and that leaves no processes of a killed run behind.

The lock belongs to the command's process tree: every process inherits its descriptor, so the lock is free when the
last of them has ended. PR_SET_PDEATHSIG ends this process when its parent dies, and the command when this process
dies. If the command is killed, the processes that it leaves behind become children of this one and are ended here.
"""

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

from suzuri.errors import DataError
from suzuri.processes import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
from suzuri.progress import note


def _acquire(path, wait):
    """Open and lock PATH; returns the descriptor, which children inherit."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(fd, True)
    deadline, reported = time.monotonic() + wait, False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(fd, 100, 0).decode().strip() or "unknown"
            if time.monotonic() > deadline:
                raise DataError(
                    path, f"another run (process {holder}) is using this folder; wait for it or end it"
                ) from None
            if not reported:
                note(f"{path}: waiting for process {holder} to end")
                reported = True
            time.sleep(0.1)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def run_locked(path: str, command: list[str], wait: float, parent: int | None = None) -> int:
    """Run `command` with the lock PATH, after at most `wait` seconds; returns its exit status, or 128 + its signal.

    `parent` is the process that asked for it. If that was killed while this one started, nothing is run.
    """
    parent = parent or os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # when the make above us is killed, we end too
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the command become our children
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
    """Send SIGTERM, and after ten seconds SIGKILL, to what a killed command left running."""
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
