"""Folders that appear whole or not at all, and that never take the place of what is not ours.

A tool works in PATH.part/, in which a file .TOOL.part says whose it is. At the end that file becomes the manifest:

    PATH.part/{.TOOL.part, manifest.json, …}    the work is done, and PATH/ may still be an earlier result
    PATH.part/{.TOOL.part, …}                   manifest.json, renamed to .TOOL.part
    PATH/{.TOOL.part, …}                        the earlier result, marked in the same way
    .PATH.old.part/{.TOOL.part, …}              then moved aside
    PATH/{.TOOL.part, …}                        PATH.part/, renamed
    PATH/{manifest.json, …}                     .TOOL.part, renamed; .PATH.old.part/ is removed

A kill between any two of these steps is recognised by the next run, and nothing is ever removed without that file.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from suzuri.environment import TOOL
from suzuri.errors import DataError
from suzuri.files import lock, named
from suzuri.manifest import MANIFEST, read_manifest, record_sums, strangers

MARKER = re.compile(r"\.[a-z-]+\.part")
ASIDES = ("old", "checkpoint")  # what exists only for a moment: an earlier result, the mirror's copy of a run


class NewFolder:
    """PATH.part/, which `finish` puts in the place of PATH/; a PATH that is a link stays one, and its target is filled.

    Raises DataError if PATH cannot be a tool's result: a file, a mounted disk, the current folder or one above it, or a
    folder that holds one of `inputs`.
    """

    def __init__(self, path: str, inputs: Iterable[str] = (), tool: str = TOOL):
        self.given, self.tool = os.path.normpath(path), tool
        self.path = os.path.realpath(path) if os.path.islink(self.given) else self.given
        self.part, self.old = f"{self.path}.part", aside(self.path, "old")
        self.marker = f".{tool}.part"
        self.fd = None  # of PATH.part/ while it is locked
        if os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise DataError(path, "is not a folder; choose another name, or move it away")
        if _is_within(os.getcwd(), self.path):
            raise DataError(path or "''", "is the current folder or one above it; give the name of a folder to make")
        if os.path.ismount(self.path):
            raise DataError(path, "is where a disk is mounted, and cannot be replaced; give a folder in it")
        for name in inputs:
            if os.path.exists(name) and _is_within(name, self.path):
                raise DataError(path, f"is or holds the input {name}; choose another folder")

    def begin(self, keep: bool = False) -> None:
        """Make PATH.part/ and lock it. What a killed run left in it is removed, or with `keep` taken over.

        Raises DataError if another run works in it, or if it, or PATH, holds what this tool did not make.
        """
        self._lock()
        try:
            self._recover()
            refuse_others_folder(self.path, self.tool)
            if os.path.lexists(self.old):
                raise DataError(self.old, f"is in the way of {self.tool}; move it away")
            names = os.listdir(self.part)
            if names and self.marker not in names:
                raise DataError(self.part, f"is not unfinished work of {self.tool}, which needs the name; move it away")
        except BaseException:
            self.close()
            raise
        open(os.path.join(self.part, self.marker), "a").close()
        if not keep:
            self.clear()

    def clear(self) -> None:
        """Remove what is in PATH.part/."""
        for name in os.listdir(self.part):
            if name != self.marker:
                _remove(os.path.join(self.part, name))

    def recover(self) -> None:
        """Repair PATH if a run was killed in `finish`."""
        if os.path.exists(self.old) or os.path.exists(os.path.join(self.path, self.marker)):
            self._lock()
            self._recover()
            self.close()

    def finish(self) -> None:
        """Put PATH.part/, which has a manifest, in the place of PATH/.

        If by now PATH holds what this tool did not make, DataError is raised and PATH.part/ stays.
        """
        try:
            self._refuse_strangers()
            self._mark(self.part)
            if os.path.isdir(self.path) and os.listdir(self.path):
                self._mark(self.path)
                os.rename(self.path, self.old)
            os.rename(self.part, self.path)
            with open(os.path.join(self.path, self.marker), "rb") as f:
                record_sums(self.given, f.read())
            self._recover()
        finally:
            self.close()

    def _refuse_strangers(self):
        try:
            refuse_others_folder(self.path, self.tool)
        except DataError as e:
            what = f"{e.args[1]}; the result is whole, in {self.part}: then finish-folder {self.given}"
            raise DataError(e.args[0], what) from None

    def close(self) -> None:
        """Unlock PATH.part/, which stays unless it is empty."""
        if self.fd is not None:
            with suppress(OSError):
                os.rmdir(self.part)
            os.close(self.fd)
            self.fd = None

    def discard(self) -> None:
        """Remove PATH.part/."""
        self._remove_ours(self.part)
        self.close()

    def _lock(self):
        if os.path.lexists(self.part) and (os.path.islink(self.part) or not os.path.isdir(self.part)):
            raise DataError(self.part, f"is not unfinished work of {self.tool}, which needs the name; move it away")
        while self.fd is None:
            os.makedirs(self.part, exist_ok=True)
            with suppress(FileNotFoundError):  # its writer has just finished
                self.fd = lock(self.part, os.O_RDONLY | os.O_DIRECTORY)

    def _mark(self, folder):
        os.replace(os.path.join(folder, MANIFEST), os.path.join(folder, self.marker))

    def _recover(self):
        """Do the last steps of `finish`, or undo the first ones."""
        marked = os.path.exists(os.path.join(self.old, self.marker))
        if marked and not os.path.exists(self.path):
            os.rename(self.old, self.path)
        if not os.path.exists(os.path.join(self.path, MANIFEST)):
            with suppress(FileNotFoundError):
                os.rename(os.path.join(self.path, self.marker), os.path.join(self.path, MANIFEST))
        if marked or (os.path.isdir(self.old) and not os.listdir(self.old)):
            self._remove_ours(self.old)

    def _remove_ours(self, folder):
        """Remove a folder, its marker last."""
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(folder), key=self.marker.__eq__):
                _remove(os.path.join(folder, name))
            os.rmdir(folder)


@contextmanager
def replacing_folder(path: str, inputs: Iterable[str] = (), unfinished: bool = False) -> Iterator[str]:
    """Yield PATH.part/, a folder to work in and to write a manifest into, which becomes PATH/ at the end.

    With `unfinished` it stays PATH.part/, for finish-folder. On failure it is removed. Errors: see NewFolder.
    """
    folder = NewFolder(path, inputs)
    folder.begin()
    try:
        with named(folder.part):
            yield folder.part
    except BaseException:
        folder.discard()
        raise
    if unfinished:
        folder.close()
    else:
        folder.finish()


def aside(path: str, what: str) -> str:
    """A name beside PATH for what exists only for a moment. It is not the PATH.part/ of any other folder."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{what}.part")


def remove(path: str) -> bool:
    """Remove PATH/ and what stopped runs have left beside it, or for a PATH.part only that; returns whether there was
    anything.

    A PATH that is a link stays, with nothing in it. Raises DataError, before it removes anything, if PATH or PATH.part/
    holds what no tool made, or if a run works there.
    """
    path = os.path.normpath(path)
    work = os.path.realpath(path) if os.path.islink(path) else path
    beside = [] if work.endswith(".part") else [f"{work}.part", *(aside(work, what) for what in ASIDES)]
    found = [name for name in (*beside, work) if os.path.lexists(name)]
    for name in reversed(found):
        _refuse_others_work(name)
    locks = [lock(name, os.O_RDONLY | os.O_DIRECTORY) for name in found]
    for name in found:
        for entry in sorted(os.listdir(name), key=lambda entry: MARKER.fullmatch(entry) is not None):  # markers last
            _remove(os.path.join(name, entry))
        if name != work or not os.path.islink(path):
            os.rmdir(name)
    for fd in locks:
        os.close(fd)
    return bool(found)


def _refuse_others_work(folder):
    """Raise DataError unless a folder is a result, unfinished work, or empty."""
    if (
        not os.path.isdir(folder)
        or os.path.islink(folder)
        or os.path.ismount(folder)
        or _is_within(os.getcwd(), folder)
    ):
        raise DataError(folder, "was not made by a tool of suzuri")
    names = os.listdir(folder)
    if any(map(MARKER.fullmatch, names)) or not names:
        return
    if MANIFEST not in names or folder.endswith(".part"):
        raise DataError(folder, "was not made by a tool of suzuri")
    for stranger in strangers(folder, read_manifest(folder)):
        raise DataError(folder, f"holds {stranger}, which no tool of suzuri made; move it away")


def finish(path: str) -> None:
    """Put PATH.part/, which a tool has left with `unfinished`, in the place of PATH/."""
    part = NewFolder(path).part
    if not os.path.exists(os.path.join(part, MANIFEST)):
        raise DataError(part, f"is not there, or not whole (it has no {MANIFEST}); make it first, with --unfinished")
    folder = NewFolder(path, tool=read_manifest(part)["tool"])
    folder.begin(keep=True)
    folder.finish()


def refuse_others_folder(path: str, tool: str = TOOL) -> None:
    """Raise DataError unless PATH can be replaced: it is missing, empty, or holds only the files of `tool`."""
    names = os.listdir(path) if os.path.exists(path) else ()
    if not names:
        return
    if MANIFEST not in names:
        raise DataError(path, f"holds files but no {MANIFEST}, so {tool} did not make it; choose another folder")
    manifest = read_manifest(path)
    if manifest.get("tool") != tool:
        raise DataError(path, f"was made by {manifest.get('tool')}, not by {tool}; choose another folder")
    for stranger in strangers(path, manifest):
        raise DataError(path, f"holds {stranger}, which {tool} did not make and would remove; move it away")


def _is_within(path, folder):
    """Whether PATH is FOLDER or in it, links resolved."""
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([path, folder]) == folder


def _remove(path):
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
