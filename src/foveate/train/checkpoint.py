"""Checkpoints that are whole or not there.

A file is written beside its place, forced to the disk and renamed over it: whenever the process or the
machine dies, the old file or the new one is found, never half of one. The content carries its own checksum,
because a torch file with one flipped byte loads without complaint; and it is read as plain data, so a
checkpoint cannot run code.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from foveate.errors import ModelFileError
from foveate.io import atomic_write

MAGIC = b"foveate checkpoint 1\n"


def write_atomic(path: Path, *parts: bytes) -> None:
    """Replace a file by these bytes, wholly or not at all; a full disk or the like raises OutputError."""
    with atomic_write(path, durable=True) as part, part.open("wb") as file:
        file.writelines(parts)


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values; errors as `write_atomic`."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    payload = buffer.getvalue()
    write_atomic(path, MAGIC, hashlib.sha256(payload).digest(), payload)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU; ModelFileError if it is foreign or damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(path, (error.strerror or str(error)).lower()) from error
    if not data.startswith(MAGIC):
        raise ModelFileError(path, "not a checkpoint of a training run", "expected last.ckpt of a run folder")
    digest, payload = data[len(MAGIC) : len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if hashlib.sha256(payload).digest() != digest:
        raise ModelFileError(path, "damaged, its checksum does not match", "start the run anew")
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ModelFileError(path, "holds more than tensors and plain values; not loaded") from error
