"""Load models: from Foveate files (safetensors), official checkpoints, and published weights by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.weights.load import load_model
    from foveate.weights.official import convert, load_official

__all__ = ["convert", "load_model", "load_official"]

_HOMES = {  # found at first use: the process that reads a checkpoint (child.py) does without PyTorch
    "convert": "foveate.weights.official",
    "load_model": "foveate.weights.load",
    "load_official": "foveate.weights.official",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'foveate.weights' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
