"""The folder in which torch.compile keeps compiled code: one that nobody else can write to."""

import atexit
import os
import shutil
import stat
import tempfile

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def keep_compiler_cache_private() -> None:
    """Let torch use a folder in /tmp that is kept from run to run, but only if it is ours: anybody may have made one of
    that name, with code in it that we would run. Otherwise the code goes to a new folder, removed at the end.

    A folder that the environment names is the user's decision.
    """
    if VARIABLE in os.environ:
        return
    folder = os.path.join(tempfile.gettempdir(), f"torchinductor-{os.geteuid()}")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        folder = tempfile.mkdtemp(prefix="torchinductor-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[VARIABLE] = folder
