"""Process-wide settings: the project's folder, the tool's name, and the environment variables that libraries read.

Each is set here, once, before the library that reads it is imported: all modules that need one import this module,
and `cli` imports it first.
"""

import ctypes
import os
import sys
from contextlib import suppress

SETTINGS = {
    # NumPy's BLAS would start a thread per core. No tool uses them, and they cost a tenth of a second of CPU per start.
    "OPENBLAS_NUM_THREADS": "1",
    # torch's threads sleep while they wait: threads that spin lose much time when other processes are busy.
    "OMP_WAIT_POLICY": "PASSIVE",
    # make runs as many tools at a time as there are cores.
    "TOKENIZERS_PARALLELISM": "false",
    # transformers' warnings (special ids, attention, a new head) are about other uses; our tools have their own bars.
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
TOOL = os.path.basename(os.path.realpath(sys.argv[0]))  # the program's own name, not a symbolic link's


def install(requirements: str) -> str:
    """The command that installs the packages of a file in configs/."""
    return f"{sys.executable} -m pip install -r {ROOT}/configs/{requirements}"


PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2), Linux


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process. Other systems than Linux have none: a killed run's children live until their
    pipes break."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def keep_memory() -> None:
    """Ask glibc's malloc to keep what is freed, up to 2 GB, for the next allocation.

    Blocks of text and activations on a CPU are hundreds of kilobytes to tens of megabytes each. If they are returned to
    the kernel and taken again, each costs a page fault per 4 KB. Without glibc this does nothing.
    """
    M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_ARENA_MAX, 1)  # other arenas keep nothing above 64 MB
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    except (OSError, AttributeError):
        pass
