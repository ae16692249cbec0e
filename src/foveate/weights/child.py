"""The process that reads an official checkpoint for another one: `python -m foveate.weights.child < FILE`.

A pickle from a stranger can ask for any amount of memory and time. So it is read here, with limits on both,
no file that could be opened or written, and nothing of PyTorch. What is found goes to standard output, laid
out as a safetensors file: 8 bytes with the length of a header, the header in JSON, the numbers of one tensor
after the other. A refusal is a header with its cause.
"""

from __future__ import annotations

import codecs
import gc
import json
import os
import signal
import sys
from typing import Any, BinaryIO

import numpy as np

from foveate.errors import ModelFileError
from foveate.weights.container import Content, read_container
from foveate.weights.stored import Stored

MEMORY = 256 << 20  # bytes, and four times the size of the file
SECONDS = 0.7  # of processor time, and one more for each
BYTES_A_SECOND = 20 << 20
CHUNK = 1 << 24  # bytes written at once


def main() -> None:
    """Read standard input, write standard output."""
    file, out = sys.stdin.buffer, sys.stdout.buffer
    codecs.lookup("cp437")  # of names in zip archives: loaded now, as nothing can be opened later
    gc.disable()  # which looks through millions of objects again and again
    _limit(os.fstat(file.fileno()).st_size)
    try:
        tensors: list[Stored] = []
        tree = _numbered(read_container(file), tensors)
        arrays = [tensor.array() for tensor in tensors]  # which is where those that reach too far are found
        header = {"content": tree, "tensors": [[one.block.kind, list(one.shape)] for one in tensors]}
    except ModelFileError as error:
        arrays, header = [], {"cause": error.cause, "hint": error.hint}
    except MemoryError:
        arrays, header = [], {"cause": "takes far more memory than its size; not loaded", "hint": ""}
    except RecursionError:
        arrays, header = [], {"cause": "damaged: it nests too deep", "hint": ""}
    except Exception as error:  # of whatever kind: a pickle can bring any about
        cause = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        arrays, header = [], {"cause": f"damaged: {cause[:120] or 'it ends early'}", "hint": ""}
    text = json.dumps(header).encode()
    out.write(len(text).to_bytes(8, "little") + text)
    for array in arrays:
        _write(array, out)
    out.flush()


def _limit(size: int) -> None:
    """Take from this process what reading a file of `size` bytes does not need, where the system can."""
    if hasattr(signal, "setitimer"):  # ends the process, whatever it is doing
        signal.setitimer(signal.ITIMER_PROF, SECONDS + size / BYTES_A_SECOND)
    try:
        import resource
    except ImportError:  # on Windows
        return
    memory = MEMORY + 4 * size
    for which, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 4),  # the three that there are, and one by which the file is mapped
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (most, most))


def _numbered(content: Content, tensors: list[Stored]) -> dict[str, Any]:
    """The content with the number of each tensor in its place. tensors: where they are noted."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Stored):
            result[key] = len(tensors)
            tensors.append(value)
        else:
            result[key] = _numbered(value, tensors) if isinstance(value, dict) else value
    return result


def _write(array: np.ndarray, out: BinaryIO) -> None:
    numbers = np.ascontiguousarray(array).reshape(-1).view("u1")
    for start in range(0, numbers.size, CHUNK):
        out.write(numbers[start : start + CHUNK].data)


if __name__ == "__main__":
    main()
