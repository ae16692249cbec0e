"""Official checkpoint files, read by a child process with limits (weights/child.py).

What a file claims is known before its numbers are read: `content` has all names, shapes and types, on
PyTorch's meta device, so that what does not fit is refused before memory is taken.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from foveate.errors import ModelFileError
from foveate.io import open_regular

TYPES = {  # by the names that safetensors gives them
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    **{"BOOL": torch.bool, "C64": torch.complex64, "C128": torch.complex128},
}
HEADER_LIMIT = 64 << 20  # bytes of what the child says of names and shapes
CHUNK = 1 << 20  # bytes that are passed over at once
SIGNALS = {
    getattr(signal, "SIGPROF", None): "takes far more time than its size; not loaded",
    getattr(signal, "SIGKILL", None): "takes far more memory than its size; not loaded",
}


class CheckpointFile:
    """A checkpoint file that is being read.

    content: its entries as nested dicts; tensors are on the meta device, an object of torch.nn.Module is
    `container.MODULE`, anything else None.
    """

    def __init__(
        self, content: dict[str, Any], tensors: list[Tensor], numbers: IO[bytes], path: Path
    ) -> None:
        self.content = content
        self._tensors = tensors
        self._numbers = numbers
        self._path = path

    def read(self, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The numbers of tensors of `content`, by the same keys; all others are passed over. Only once."""
        keys: dict[int, list[str]] = {}
        for key, tensor in wanted.items():
            keys.setdefault(id(tensor), []).append(key)
        found: dict[str, Tensor] = {}
        for tensor in self._tensors:
            if len(found) == len(wanted):
                break
            names = keys.get(id(tensor))
            if names is None:
                self._pass_over(tensor.nbytes)
            else:
                found |= dict.fromkeys(names, self._next(tensor))
        return {key: found[key] for key in wanted}

    def _next(self, outline: Tensor) -> Tensor:
        tensor = torch.empty(outline.shape, dtype=outline.dtype)
        if tensor.numel():
            into = tensor.reshape(-1).view(torch.uint8).numpy().data
            while into:
                count = self._numbers.readinto(into)  # type: ignore[attr-defined]
                if not count:
                    raise ModelFileError(self._path, "damaged: the process that read it has ended")
                into = into[count:]
        return tensor

    def _pass_over(self, count: int) -> None:
        while count > 0 and (chunk := self._numbers.read(min(count, CHUNK))):
            count -= len(chunk)


@contextmanager
def open_checkpoint(path: Path) -> Iterator[CheckpointFile]:
    """A torch file, a pickle of NumPy arrays or a safetensors file, opened; ModelFileError if it cannot."""
    command = [sys.executable, "-P", "-W", "ignore", "-m", "foveate.weights.child"]
    places = os.pathsep.join(place for place in sys.path if place)  # what is imported here is imported there
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each thread would take memory
    pipe = subprocess.PIPE
    try:
        with open_regular(path) as file:
            child = subprocess.Popen(
                command,
                stdin=file,
                stdout=pipe,
                stderr=pipe,
                env=os.environ | single | {"PYTHONPATH": places},
            )
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from error
    with child:  # which waits for its end
        try:
            yield _opened(child, path)
        finally:
            child.kill()


def _opened(child: subprocess.Popen[bytes], path: Path) -> CheckpointFile:
    assert child.stdout and child.stderr
    size = int.from_bytes(child.stdout.read(8), "little")
    text = child.stdout.read(size) if size <= HEADER_LIMIT else b""
    if not size or len(text) != size:
        said = child.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        ended = f"the process that read it ended with {child.wait()}: {said}"
        cause = SIGNALS.get(-child.returncode, ended)
        raise ModelFileError(path, cause)
    header = json.loads(text)
    if "cause" in header:
        raise ModelFileError(path, header["cause"], header["hint"])
    tensors = [torch.empty(shape, dtype=TYPES[kind], device="meta") for kind, shape in header["tensors"]]
    return CheckpointFile(_placed(header["content"], tensors), tensors, child.stdout, path)


def _placed(tree: dict[str, Any], tensors: list[Tensor]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        inner = _placed(value, tensors) if isinstance(value, dict) else value
        result[key] = tensors[value] if isinstance(value, int) else inner
    return result
