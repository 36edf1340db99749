"""Functions compiled by Numba, and whatever else is made once and kept in the user's cache folder.

What is kept can always be made again; deleting the folder does no harm.
"""

import atexit
import fcntl
import os
import shutil
import sys
import tempfile
from functools import cache, wraps
from pathlib import Path
from pickle import UnpicklingError

from suzuri.cli import DataError, note


@cache
def folder():
    """$XDG_CACHE_HOME/suzuri, by default ~/.cache/suzuri; where that cannot be written, one of this process alone."""
    try:
        place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "suzuri"
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
        return place
    except (OSError, RuntimeError) as e:  # a folder or a disk that is only read; no home
        note(f"no place to keep what is made ready ({e}): made anew each time; set XDG_CACHE_HOME to a folder")
        place = tempfile.mkdtemp(prefix="suzuri-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        return Path(place)


def kept(name, make):
    """The folder `name` in the cache folder; if it is not there, `make(folder)` fills it first.

    Of several processes that want it one makes it and the others wait; it is there as a whole or not at all.
    """
    place = folder() / name
    try:
        if not place.exists():
            with open(folder() / ".lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not place.exists():
                    if sys.stderr.isatty():
                        note(f"making {place} ready, once: some ten seconds")
                    with tempfile.TemporaryDirectory(dir=folder(), prefix=".part-") as part:
                        made = Path(part) / "made"
                        made.mkdir()
                        make(made)
                        os.rename(made, place)
    except OSError as e:
        raise DataError(place, f"cannot be made ({e}): needs 110 MB; XDG_CACHE_HOME can name another folder") from e
    return place


def compiled(function):
    """numba.njit, with the machine code kept in the cache folder until the function's own file changes."""
    import numba

    numba.config.CACHE_DIR = str(folder())
    fast = numba.njit(cache=True)(function)

    @wraps(function)
    def call(*args):
        nonlocal fast
        try:
            return fast(*args)
        except (EOFError, UnpicklingError):  # the power went before it was on the disk
            shutil.rmtree(fast.stats.cache_path)
            fast = numba.njit(cache=True)(function)
            return fast(*args)

    return call
