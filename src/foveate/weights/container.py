"""Read the state dict of an official checkpoint file without executing code in it.

The format is found by the first bytes, not by the name: model zoos have torch files and gzip archives named
`.pkl`.
"""

from __future__ import annotations

import gzip
import io
import pickle
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from foveate.errors import ModelFileError

# keys of a checkpoint under which the field stores its weights
WEIGHT_KEYS = ("state_dict", "model_state", "model_state_dict", "blobs")
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # first bytes of files from torch before 1.6
UNPACKED_LIMIT = 4 << 30  # bytes of a gzip archive, unpacked


def read_container(path: Path) -> dict[str, Any]:
    """Read a torch file, a pickle of NumPy arrays or a safetensors file, plain or in a gzip archive.

    ModelFileError for damaged files and other formats.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
            file.seek(0)
            return _read(file, head, path)
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from error


def _read(file: IO[bytes], head: bytes, path: Path) -> dict[str, Any]:
    if head.startswith((b"PK\x03\x04", LEGACY_TORCH)):
        return _read_torch(file, path)
    if head.startswith(b"\x1f\x8b"):
        return _read_gzip(file, path)
    if head[8:9] == b"{":
        return _read_safetensors(file, path)
    if _is_pickle(head):
        return _read_arrays(file, path)
    hint = "expected a .pth, .pyth, .pkl or .safetensors file"
    raise ModelFileError(path, f"the file is {kind_of(head)}", hint)


def kind_of(head: bytes) -> str:
    """What a file that is not a checkpoint contains, by its first bytes, for error messages."""
    start = head.lstrip().lower()
    known = {b"<": "a web page", b"{": "JSON", b"version https://git-lfs": "a Git LFS pointer"}
    return next((name for magic, name in known.items() if start.startswith(magic)), "") or (
        "no checkpoint" if head else "empty"
    )


def _is_pickle(head: bytes) -> bool:
    """Whether these are the first bytes of a pickle: of protocol 2 to 5, or of a dict in protocol 0 or 1."""
    return head.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"(d", b"}q"))


def state_dict_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors in the content of a checkpoint file: under one of the usual keys, or at the top level."""
    inner = next((content[key] for key in WEIGHT_KEYS if isinstance(content.get(key), Mapping)), content)
    state = {key: value for key, value in inner.items() if isinstance(value, Tensor)}
    if not state:
        raise ModelFileError(path, f"holds no tensors, only {', '.join(list(map(str, content))[:5])}")
    return state


def _read_torch(file: IO[bytes], path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():  # about pickle protocols, of no use to users
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            path, "would run code, or is damaged; not loaded", "only tensors and plain values are read"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
        raise ModelFileError(path, f"damaged: {str(error) or 'it ends early'}") from error
    return _check_dict(content, path)


def _read_safetensors(file: IO[bytes], path: Path) -> dict[str, Any]:
    try:
        return dict(safetensors.torch.load(file.read()))
    except safetensors.SafetensorError as error:
        raise ModelFileError(path, f"damaged safetensors file: {error}") from error


def _read_gzip(file: IO[bytes], path: Path) -> dict[str, Any]:
    try:
        content = gzip.GzipFile(fileobj=file).read(UNPACKED_LIMIT + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ModelFileError(path, f"a damaged gzip archive: {error}") from error
    if len(content) > UNPACKED_LIMIT:
        raise ModelFileError(path, "a gzip archive of more than 4 GB; not unpacked")
    if content.startswith(b"\x1f\x8b"):
        raise ModelFileError(path, "a gzip archive in a gzip archive", "unpack it first")
    return _read(io.BytesIO(content), content[:512], path)


def _read_arrays(file: IO[bytes], path: Path) -> dict[str, Any]:
    """Read a pickle of nested dicts of NumPy arrays, of Python 2 or 3; arrays become tensors."""
    try:
        content = _ArrayUnpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        cause = str(error) or "damaged"
        raise ModelFileError(path, f"{cause}; not loaded", "only arrays and plain values are read") from error
    except (EOFError, AttributeError, ValueError, TypeError, KeyError, IndexError, MemoryError) as error:
        raise ModelFileError(path, f"a damaged pickle: {error}") from error
    return _tensors(_check_dict(content, path))


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that can build NumPy arrays and plain values only."""

    def find_class(self, module: str, name: str) -> Any:
        found = _BUILDERS.get((module.removeprefix("numpy.core.").removeprefix("numpy._core."), name))
        if found is None:
            raise pickle.UnpicklingError(f"would call {module}.{name}")
        return found


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


_BUILDERS: dict[tuple[str, str], Any] = {
    ("multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("multiarray", "scalar"): np.float32(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,  # used by Python 3 for bytes in protocol 2
}


def _tensors(content: Mapping[str, Any]) -> dict[str, Any]:
    """Convert numeric arrays to tensors, in nested dicts too; other values are kept."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            result[key] = _tensors(value)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            result[key] = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), copy=True))
        else:
            result[key] = value
    return result


def _check_dict(content: object, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ModelFileError(path, f"holds a {type(content).__name__}, not a dict of weights")
    return content
