"""Read an official checkpoint file without executing code in it, in NumPy alone.

The format is found by the first bytes, not by the name: model zoos have torch files and gzip archives named
`.pkl`. What is unpacked has a limit, and tensors stay where they lie in the file until they are written. This
runs in a process of its own (weights/child.py).
"""

from __future__ import annotations

import gzip
import io
import json
import mmap
import os
import pickle
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from foveate.errors import ModelFileError
from foveate.weights import unpickle
from foveate.weights.stored import SIZES, Stored, stored_array, whole
from foveate.weights.torch_file import LEGACY, SAVE, TorchFileError, read_legacy, read_zip
from foveate.weights.unpickle import Placeholder

SMALL = 64 << 20  # bytes that a file of any size may unpack to
RATIO = 20  # bytes unpacked from one; weights hardly shrink, zeros do a thousandfold
LARGEST = 4 << 30  # bytes unpacked of any file
MOST_HEADER = 8 << 20  # bytes of the header of a safetensors file
MOST_ENTRIES = 1 << 16  # tensors and other values; the checkpoints of the zoos have a few thousand
DEPTH = 4  # of entries in entries: file, part, state dict, and what a script puts around them
MODULE = "a pickled module"  # stands for an object of torch.nn.Module

Content = dict[str, Any]
"""Nested dicts whose leaves are `Stored`, MODULE, or None for anything else."""


def read_container(file: BinaryIO) -> Content:
    """Read a torch file, a pickle of NumPy arrays or a safetensors file, plain or in a gzip archive.

    ModelFileError, without a subject, for damaged files and other formats. The content refers to the file.
    """
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise _refusal("the file is empty", "expected a .pth, .pyth, .pkl or .safetensors file")
    if size > SMALL and _stored_bytes(file.fileno(), size) < size // 2:
        raise _refusal("most of it is not there, as the file is sparse", "copy or download it again")
    data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if data[:2] == b"\x1f\x8b":
        unpacked = io.BytesIO(_unpack(file, size))
        return _checked(_read(unpacked, unpacked.getbuffer()), len(unpacked.getbuffer()))
    return _checked(_read(file, data), size)


def _refusal(cause: str, hint: str = "") -> ModelFileError:
    return ModelFileError("", cause, hint)


def _stored_bytes(descriptor: int, size: int) -> int:
    """Bytes of a file that are not in holes."""
    if not hasattr(os, "SEEK_HOLE"):
        return size
    found = end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # a hole up to the end
            break
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        found += end - start
    os.lseek(descriptor, 0, os.SEEK_SET)
    return found


def _read(file: BinaryIO, data: memoryview) -> Any:
    head = bytes(data[:512])
    try:
        if head.startswith(b"PK\x03\x04"):
            return read_zip(file, data)
        if head.startswith(LEGACY):
            return read_legacy(file, data)
        if head[8:9] == b"{":
            return _read_safetensors(data)
        if _is_pickle(head):
            return unpickle.Unpickler(file, encoding="latin1").load()
    except TorchFileError as error:
        raise _refusal(str(error), error.hint) from error
    except pickle.UnpicklingError as error:
        hint = "only tensors, arrays and plain values are read; " + SAVE
        raise _refusal(f"{str(error)[:80] or 'damaged'}; not loaded", hint) from error
    except EOFError as error:
        raise _refusal("damaged: it ends early") from error
    raise _refusal(f"the file is {kind_of(head)}", "expected a .pth, .pyth, .pkl or .safetensors file")


def kind_of(head: bytes) -> str:
    """What a file that is not a checkpoint contains, by its first bytes, for error messages."""
    start = head.lstrip().lower()
    known = {
        **{b"<": "a web page", b"{": "JSON", b"version https://git-lfs": "a Git LFS pointer"},
        b"\x1f\x8b": "a gzip archive in a gzip archive",
    }
    return next((name for magic, name in known.items() if start.startswith(magic)), "") or (
        "no checkpoint" if head else "empty"
    )


def _is_pickle(head: bytes) -> bool:
    """Whether these are the first bytes of a pickle: of protocol 2 to 5, or of a dict in protocol 0 or 1."""
    return head.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"(d", b"}q"))


def _unpack(file: BinaryIO, size: int) -> bytearray:
    """The content of a gzip archive, up to what an archive of its size may hold."""
    most, content = min(LARGEST, max(SMALL, RATIO * size)), bytearray()
    try:
        with gzip.GzipFile(fileobj=file) as archive:
            while chunk := archive.read(1 << 20):
                content += chunk
                if len(content) > most:
                    raise _refusal(f"unpacks to more than {most >> 20} MB; not read")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _refusal(f"a damaged gzip archive: {error}") from error
    return content


def _read_safetensors(data: memoryview) -> Content:
    size = int.from_bytes(data[:8], "little")
    if size > min(MOST_HEADER, len(data) - 8):
        raise ValueError("the header is too long")
    header, content = json.loads(bytes(data[8 : 8 + size])), data[8 + size :]
    found = {}
    for key, facts in header.items():
        if key != "__metadata__":
            start, end = facts["data_offsets"]
            tensor = whole(facts["dtype"], tuple(facts["shape"]), content[start:end])
            if end > len(content) or end - start != tensor.nbytes:
                raise ValueError(f"{key} does not lie in the file")
            found[key] = tensor
    return found


def _checked(content: Any, size: int) -> Content:
    """The content of a file of `size` bytes as nested dicts, within limits."""
    if isinstance(content, Placeholder):
        raise _refusal(f"holds a whole {type(content).__name__} object, not its weights", SAVE)
    if not isinstance(content, dict):
        raise _refusal(f"holds a {type(content).__name__}, not a dict of weights")
    found: list[Stored | None] = []
    tree = _tree(content, DEPTH, found)
    if sum(tensor.nbytes for tensor in found if tensor) > SMALL + 4 * size:  # by weights that are shared
        raise _refusal("its tensors take many times as much room as the file")
    return tree


def _tree(content: Mapping[Any, Any], depth: int, found: list[Stored | None]) -> Content:
    """What is of use in a dict; optimisers are left out. found: where its values are noted."""
    result: Content = {}
    for key, value in content.items():
        result[str(key)] = leaf = _leaf(value)
        found.append(leaf if isinstance(leaf, Stored) else None)
        if isinstance(value, Mapping) and "param_groups" not in value and depth:
            result[str(key)] = _tree(value, depth - 1, found)
        if len(found) > MOST_ENTRIES:
            raise _refusal(f"holds more than {MOST_ENTRIES} values")
    return result


def _leaf(value: Any) -> Any:
    if isinstance(value, Placeholder) and value.is_module:
        return MODULE
    tensor = stored_array(value) if isinstance(value, np.ndarray) else value
    if not isinstance(tensor, Stored):
        return None
    if tensor.block.kind not in SIZES:
        raise _refusal(f"has a tensor of type {tensor.block.kind}, which is not read")
    return tensor
