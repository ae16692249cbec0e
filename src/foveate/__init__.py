"""Foveate: recognise human actions in video, spending computation only where the information is."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.api import Result, create_model, list_models, predict
    from foveate.weights.load import load_model

__version__ = "0.1.0"
__all__ = ["Result", "__version__", "create_model", "list_models", "load_model", "predict"]

_HOMES = {  # found at first use: a process that only decodes or draws then starts without PyTorch, 2 s sooner
    "create_model": "foveate.api",
    "list_models": "foveate.api",
    "load_model": "foveate.weights.load",
    "predict": "foveate.api",
    "Result": "foveate.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'foveate' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
