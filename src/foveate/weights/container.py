"""The state dict inside an official checkpoint file, read without running anything the file says."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from foveate.errors import ModelFileError

ENTRIES = (
    "state_dict",
    "model_state",
    "model_state_dict",
)  # where the field keeps weights beside other things


def read_container(path: Path) -> dict[str, Any]:
    """Everything in a torch file, or the tensors of a safetensors file. Damage raises ModelFileError."""
    head = _head(path)
    if head.startswith(b"PK") or head.startswith(b"\x80"):
        return _read_torch(path)
    if head[8:9] == b"{":
        try:
            return dict(safetensors.torch.load_file(path))
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelFileError(path, f"damaged safetensors file: {error}") from error
    known = {b"\x1f\x8b": "a gzip archive", b"<": "a web page", b"{": "JSON", b"": "empty"}
    what = next((name for magic, name in known.items() if magic and head.startswith(magic)), "no checkpoint")
    raise ModelFileError(
        path, f"the file is {what if head else 'empty'}", "expected a .pth or .safetensors file"
    )


def state_dict_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights among the content of a checkpoint file."""
    inner = next((content[entry] for entry in ENTRIES if isinstance(content.get(entry), Mapping)), content)
    state = {key: value for key, value in inner.items() if isinstance(value, Tensor)}
    policy = content.get(
        "policy"
    )  # AdaFocus-TSM keeps it apart; AdaFocus has it in both places or in neither
    if state and isinstance(policy, Mapping) and not any("policy" in key for key in state):
        state |= {f"policy.{key}": value for key, value in policy.items()}
    if not state:
        raise ModelFileError(path, f"holds no tensors, only {', '.join(list(map(str, content))[:5])}")
    return state


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from error


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():  # of pickle protocols, which mean nothing to a user
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            path, "asks to run code, or is damaged; not loaded", "only tensors and plain values are read"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
        raise ModelFileError(path, f"damaged: {error}") from error
    if not isinstance(content, dict):
        raise ModelFileError(path, f"holds a {type(content).__name__}, not a dict of weights")
    return content
