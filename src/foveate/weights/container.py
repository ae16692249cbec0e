"""Read the state dict of an official checkpoint file without executing code in it.

The format is found by the first bytes, not by the name: model zoos have torch files and gzip archives named
`.pkl`.
"""

from __future__ import annotations

import gzip
import io
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from foveate.errors import ModelFileError
from foveate.io import open_regular
from foveate.weights import unpickle
from foveate.weights.unpickle import Placeholder

# keys of a checkpoint under which the field stores its weights
WEIGHT_KEYS = (
    *("state_dict", "model_state", "model_state_dict", "blobs"),
    *("model", "net", "network", "module", "weights", "params"),
)
WRAPPERS = re.compile(r"^((module|model|ema_model|_orig_mod|net|network)\.)+")
DAMAGE = (
    *(RuntimeError, EOFError, KeyError, ValueError, OSError, AttributeError, TypeError, IndexError),
    zipfile.BadZipFile,
)
SAVE = "where its code is: torch.save(model.state_dict(), FILE)"
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # first bytes of files from torch before 1.6
UNPACKED_LIMIT = 4 << 30  # bytes of a gzip archive, unpacked


def read_container(path: Path) -> dict[str, Any]:
    """Read a torch file, a pickle of NumPy arrays or a safetensors file, plain or in a gzip archive.

    ModelFileError for damaged files and other formats.
    """
    try:
        with open_regular(path) as file:
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


def state_dict_of(content: Mapping[str, Any], path: Path, entry: str | None = None) -> dict[str, Tensor]:
    """The tensors in the content of a checkpoint file: under `entry`, one of the usual keys, or any other.

    ModelFileError where there are none, or where two entries hold weights of the same network, such as those
    of a model and their average, and none is named.
    """
    found = _weights_in(content)
    if entry is not None and entry not in found:
        there = f"there are {', '.join(found)[:80]}" if any(found) else "leave it out"
        raise ModelFileError(path, f"has no weights under '{entry}'", there)
    if not found:
        if any(isinstance(value, Placeholder) and value.is_module for value in content.values()):
            raise ModelFileError(path, "holds a whole module object, not its weights", SAVE)
        raise ModelFileError(path, f"holds no tensors, only {', '.join(list(map(str, content))[:5])}")
    usual = [key for key in (*WEIGHT_KEYS[:4], "", *WEIGHT_KEYS[4:]) if key in found]
    key = entry if entry is not None else (usual or [*found])[0]
    same = [other for other in found if entry is None and _same_network(found[other], found[key])]
    if len(same) > 1:
        cause = f"holds weights under {' and '.join(same)}"
        raise ModelFileError(path, cause, f"choose one: --entry {same[-1]}")
    return found[key]


def _weights_in(content: Mapping[str, Any], depth: int = 2) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a checkpoint by the entry that holds them; "" is the top level."""
    found: dict[str, dict[str, Tensor]] = {}
    own = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if own:
        found[""] = own
    for key, value in content.items():
        if isinstance(value, Mapping) and "param_groups" not in value:
            state = {str(name): each for name, each in value.items() if isinstance(each, Tensor)}
            if state:
                found[str(key)] = state
            elif depth > 1 and not found:
                inner = _weights_in(value, depth - 1)
                found |= {f"{key}.{name}".rstrip("."): each for name, each in inner.items()}
    return found


def _same_network(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    keys, others = ({WRAPPERS.sub("", key) for key in state} for state in (one, other))
    return 2 * len(keys & others) > max(len(keys), len(others))


def _read_torch(file: IO[bytes], path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():  # about pickle protocols, of no use to users
            warnings.simplefilter("ignore")
            return _check_dict(_load_torch(file, path), path)
    except pickle.UnpicklingError as error:
        hint = "only tensors and plain values are read; " + SAVE
        raise ModelFileError(path, f"{str(error)[:80] or 'damaged'}; not loaded", hint) from error
    except DAMAGE as error:
        raise ModelFileError(path, f"damaged: {str(error)[:120] or 'it ends early'}") from error


def _load_torch(file: IO[bytes], path: Path) -> Any:
    """By PyTorch's own restricted reader, or, where other objects lie beside the weights, by ours."""
    if zipfile.is_zipfile(file):
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise ModelFileError(path, "a TorchScript archive, which is code; not loaded", SAVE)
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=False, pickle_module=unpickle)


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
        content = unpickle.load(file, encoding="latin1")
    except pickle.UnpicklingError as error:
        cause = str(error)[:80] or "damaged"
        raise ModelFileError(path, f"{cause}; not loaded", "only arrays and plain values are read") from error
    except (EOFError, AttributeError, ValueError, TypeError, KeyError, IndexError, MemoryError) as error:
        raise ModelFileError(path, f"a damaged pickle: {error}") from error
    return _tensors(_check_dict(content, path))


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
    if isinstance(content, Placeholder):
        what = f"holds a whole {type(content).__name__} object, not its weights"
        raise ModelFileError(path, what, SAVE)
    if not isinstance(content, dict):
        raise ModelFileError(path, f"holds a {type(content).__name__}, not a dict of weights")
    return content
