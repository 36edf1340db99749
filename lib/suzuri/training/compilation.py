"""torch.compile: whether it can work here, and training without it when it cannot."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable

import torch
from torch import nn

from suzuri.errors import DataError
from suzuri.progress import note

PROGRAM = "#include <stdint.h>\n#include <Python.h>\nint main(void) { return 0; }\n"


def why_not_compiled() -> str | None:
    """None if torch.compile can work on a GPU, otherwise the reason in words.

    triton compiles a small C program when it is first used, with the compiler that is looked for here in its order.
    """
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        return "there is no C compiler (apt-get install gcc libc6-dev python3-dev)"
    include = sysconfig.get_path("include")
    command = [compiler, "-fsyntax-only", "-x", "c", f"-I{include}", "-"]
    try:
        done = subprocess.run(command, input=PROGRAM, capture_output=True, text=True)
    except OSError as e:
        return f"the C compiler {compiler} does not start ({e.strerror})"
    if done.returncode:
        missing = "Python.h" if "Python.h" in done.stderr else "stdint.h" if "stdint.h" in done.stderr else None
        said = next((line for line in done.stderr.splitlines() if "error" in line), f"status {done.returncode}")
        packages = "apt-get install libc6-dev python3-dev"
        return f"{compiler} does not find {missing} ({packages})" if missing else f"{compiler} fails ({said})"
    return None


def in_pieces(size: int, backend: Callable | str = "inductor") -> Callable | str:
    """A backend for torch.compile that compiles a model in pieces of about `size` bytes of parameters.

    The backward pass of one piece gives all its gradients at its end. In pieces, those of the last layers come before
    those of the first. This is how torch compiles a model in DistributedDataParallel.
    """
    try:
        from torch._dynamo.backends.distributed import DDPOptimizer
        from torch._dynamo.backends.registry import lookup_backend
    except ImportError:  # they are not public; without them nothing is sent during the backward pass
        return backend
    return DDPOptimizer(size, lookup_backend(backend), first_bucket_cap=size).compile_fn


class CompiledModel:
    """A compiled `model`, in pieces of so many bytes if `pieces` is given.

    If its first call shows that the compiler fails, `fallback` means the model as one piece, and then not compiled.
    """

    def __init__(self, model: nn.Module, fallback: bool, pieces: int | None = None, **options):
        self.model, self.fallback, self.pieces, self.options = model, fallback, pieces, options
        backend = {"backend": in_pieces(pieces)} if pieces else {}
        self.callable = torch.compile(model, dynamic=False, **options | backend)
        self.graphs = options.get("mode") == "reduce-overhead"
        self.works = False

    def __call__(self, **tensors) -> torch.Tensor:
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()  # what the last call returned is not needed any more
        try:
            found = self.callable(**tensors)
            self.works = True
            return found
        except torch.OutOfMemoryError:
            raise
        except Exception as e:  # the compiler, its subprocesses and drivers raise many kinds
            if self.works or self.callable is self.model:
                raise
            why = next((line for line in str(e).splitlines() if line.strip()), type(e).__name__).strip()[:200]
            if not self.fallback:
                raise DataError("torch.compile", f"fails ({why}); set torch_compile to false") from e
            if self.pieces:
                note(f"torch.compile in pieces fails ({why}); training goes on with the model as one piece")
                self.pieces = None
                self.callable = torch.compile(self.model, dynamic=False, **self.options)
            else:
                note(f"torch.compile fails ({why}); training goes on without it")
                self.callable = self.model
            return self(**tensors)
