"""A lock that lets one run at a time work in a folder, and that leaves no processes of a killed run behind.

The lock belongs to the command's process tree: every process inherits its descriptor, so the lock is free when the
last of them has ended. On a file system that several machines share it counts for all of them, if that file
system's locks do; if they are known not to, a warning is printed. PR_SET_PDEATHSIG ends this process when its
parent dies, and the command when this process dies. If the command is killed, the processes that it leaves behind
become children of this one and are ended here.
"""

import fcntl
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from suzuri.environment import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
from suzuri.errors import DataError
from suzuri.files import is_at
from suzuri.progress import note

# Mount options and file systems with which flock(2) keeps out this machine's processes alone: nfs(5), lustre's
# mount.lustre(8), cifs's mount.cifs(8); BeeGFS by its default (tuneUseGlobalFileLocks), sshfs always.
LOCAL = {"nolock", "local_lock=all", "local_lock=flock", "localflock", "nobrl", "beegfs", "fuse.sshfs"}
HANDLED = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTSTP}


def why_local(fd: int, mounts: str = "/proc/self/mountinfo") -> str:
    """By what a lock of this file does not reach other machines: the mount's option or type; "" if it is not known."""
    device = os.fstat(fd).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(FileNotFoundError), open(mounts, encoding="utf-8", errors="replace") as f:
        for line in f:
            mount, _, kind = line.partition(" - ")
            if mount.split()[2] == number:
                words = [*kind.split()[:1], *kind.split()[-1].split(",")]
                return next((word for word in words if word in LOCAL), "")
    return ""


def _open(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(fd, True)
    return fd


def _acquire(path, wait):
    """Open and lock PATH; returns the descriptor, which children inherit."""
    fd = _open(path)
    deadline, reported = time.monotonic() + wait, False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(fd, path):
                break
            os.close(fd)  # it was removed with its folder (make clean-demo) while we waited
            fd = _open(path)
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
        except OSError as e:
            way = "mount it with locks (Lustre: -o flock), or put DATA elsewhere"
            raise DataError(path, f"cannot be locked on this file system ({e.strerror}); {way}") from None
    if why := why_local(fd):
        note(f"{path}: locks do not reach other machines here ({why}): let make run on one machine at a time")
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return fd


def run_locked(path: str, command: list[str], wait: float, parent: int | None = None) -> int:
    """Run `command` with the lock PATH, after at most `wait` seconds; returns its exit status, or 128 + its signal.

    `parent` is the make that asked for it. If that was killed while this one started, nothing is run.

    Under make the command, itself a make, has a process group of its own. A signal to the outer make's group (Ctrl-C,
    a closed terminal) reaches only this process, which kills the inner make and ends the tools by SIGTERM. If they all
    got the signal, tools that just start would end with a traceback, and GNU Make 4.3, which is confused by a signal
    while it reaps a child, with `wait: No child processes`.
    """
    alone = parent is not None
    parent = parent or os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # when the make above us is killed, we end too
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the command become our children
    if os.getppid() != parent:
        return 128 + signal.SIGTERM
    _acquire(path, wait)
    got, before = [], signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until the handlers know the child

    def begin():
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    child = subprocess.Popen(command, close_fds=False, process_group=0 if alone else None, preexec_fn=begin)

    def end(signum, frame):
        got.append(signum)
        child.send_signal(signal.SIGKILL if alone else signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    signal.signal(signal.SIGINT, end if alone else signal.SIG_IGN)  # in one group, the command has got it already
    if alone:
        signal.signal(signal.SIGTSTP, lambda *_: _pause(child.pid))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    status = child.wait()
    if status < 0:
        _end_orphans()
        return 128 + (got[0] if got else -status)
    return status


def _pause(group):
    """Ctrl-Z: stop the command's processes and this one; `fg` or `bg` lets this one go on, and then the others."""
    os.killpg(group, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    os.killpg(group, signal.SIGCONT)


def _end_orphans():
    """Send SIGTERM, and after a minute SIGKILL, to what a killed command left running; to a make SIGKILL at once."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    deadline = time.monotonic() + 60
    while children.exists() and (pids := [int(pid) for pid in children.read_text().split()]):
        for pid in pids:
            kill = time.monotonic() > deadline or Path(f"/proc/{pid}/comm").read_text() == "make\n"
            os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.05)
