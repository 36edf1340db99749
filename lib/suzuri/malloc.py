"""What memory costs: pages given back and taken anew."""

import ctypes


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
