"""The process itself: where the project is, the tool's name, and the settings of libraries that hold for all of it.

Whatever one part sets for the whole process is set here, so that nothing is set twice or in secret.
"""

import ctypes
import os
import sys

# NumPy's BLAS starts a thread a core, which no tool uses: a tenth of a second of CPU each time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
TOOL = os.path.basename(sys.argv[0])


def install(requirements):
    """The command that installs the packages of a file in configs/."""
    return f"{sys.executable} -m pip install -r {ROOT}/configs/{requirements}"


def keep_memory():
    """Ask glibc's malloc to keep what is freed, up to 2 GB, rather than give it back at once.

    Blocks of text and activations on a CPU are hundreds of kilobytes to tens of megabytes each; taking them from the
    kernel anew every time costs a page fault every 4 KB. Without glibc nothing happens.
    """
    M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_ARENA_MAX, 1)  # other arenas keep nothing above 64 MB
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    except (OSError, AttributeError):
        pass
