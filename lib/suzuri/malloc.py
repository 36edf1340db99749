"""What memory costs: pages given back and taken anew, and the tables of small ones."""

import ctypes
import errno
import mmap
import os


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


def on_huge_pages(path):
    """Replace this process's mapping of the file `path`, which is only read, by a copy of it on huge pages.

    Random reads all over a large file wait for the table of its small pages as much as for itself. Where the kernel has
    no huge pages to give, or the file is not mapped as a whole, nothing happens.
    """
    PRIVATE_FIXED_ANONYMOUS, MADV_HUGEPAGE = 0x02 | 0x10 | 0x20, 14  # mman.h, of Linux
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as f:
            if "[never]" in f.read():
                return
        libc = ctypes.CDLL("libc.so.6", use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        path = os.path.realpath(path)
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            places = [line.split()[0].split("-") for line in maps if line.rstrip("\n").endswith(f" {path}")]
    except (OSError, AttributeError):
        return
    if not places:
        return
    with open(path, "rb", buffering=0) as f:
        size = os.fstat(f.fileno()).st_size
        for start, end in ((int(a, 16), int(b, 16)) for a, b in places):
            if not size <= end - start < size + mmap.PAGESIZE:
                continue
            at, length = ctypes.c_void_p(start), ctypes.c_size_t(end - start)
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            if libc.mmap(at, length, protection, PRIVATE_FIXED_ANONYMOUS, -1, ctypes.c_long(0)) != start:
                return
            libc.madvise(at, length, MADV_HUGEPAGE)
            f.seek(0)
            if f.readinto((ctypes.c_char * size).from_address(start)) != size:
                raise OSError(errno.EIO, "cannot be read as a whole", path)
