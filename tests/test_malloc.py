"""A file's mapping is put on huge pages, and reads as before."""

import mmap
import os
from pathlib import Path

import pytest
from suzuri.malloc import on_huge_pages

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def mapped(path):
    return f" {path}\n" in Path("/proc/self/maps").read_text(errors="surrogateescape")


@pytest.mark.skipif(
    not ENABLED.exists() or "[never]" in ENABLED.read_text(), reason="the kernel has no transparent huge pages"
)
@pytest.mark.parametrize("size", [5 << 20, (5 << 20) + 123])
def test_the_mapping_becomes_memory_with_the_same_bytes(tmp_path, size):
    path, data = tmp_path / "a file.bin", os.urandom(size)
    path.write_bytes(data)
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert mapped(path)
        on_huge_pages(path)
        assert not mapped(path)
        assert view[:] == data


def test_what_is_not_mapped_as_a_whole_stays(tmp_path):
    path, data = tmp_path / "file.bin", os.urandom(5 << 20)
    path.write_bytes(data)
    on_huge_pages(path)
    on_huge_pages(tmp_path / "not there")
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 1 << 20, prot=mmap.PROT_READ) as view:
        on_huge_pages(path)
        assert mapped(path) and view[:] == data[: 1 << 20]
