"""A model in one safetensors file: weights, and in its header all that is needed to predict."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from foveate import __version__
from foveate.clip import ClipSpec
from foveate.config import from_dict, to_dict
from foveate.errors import FoveateError, ModelFileError, OutputError
from foveate.io import atomic_write
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.weights.rename import load_strictly

HEADER_LIMIT = 4 << 20  # bytes; ours stay below 100 kB, a hostile one can hold half a million empty tensors


@dataclass(frozen=True)
class ModelCard:
    """What a model file says of its model."""

    name: str  # of the zoo
    config: dict[str, Any]  # of the model, all fields
    spec: ClipSpec
    labels: tuple[str, ...] = ()  # class names in label order; empty if unknown
    training: dict[str, Any] = field(default_factory=dict)  # a summary: data, epochs, result
    version: str = __version__
    independent: bool = False  # a probability for each class (sigmoid) in place of one shared (softmax)
    trained_on: str = ""  # the data that it has learnt from, in words


def save_model(model: VideoModel, path: Path, training: dict[str, Any] | None = None) -> None:
    """Write the model whole or not at all; a full disk or a missing folder raises OutputError.

    training: a summary of how the weights came about, plain data.
    """
    card = ModelCard(
        model.name,
        to_dict(model.config),
        model.spec,
        model.labels,
        training or {},
        independent=model.independent,
        trained_on=model.trained_on,
    )
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    try:
        with atomic_write(path, durable=True) as part:
            safetensors.torch.save_file(state, part, {"foveate": json.dumps(to_dict(card))})
            part.chmod(_usual_mode())
    except safetensors.SafetensorError as error:
        cause = f"cannot be written: {error}"
        raise OutputError(path, cause, "is there space, and may you write there?") from error


def read_card(path: Path) -> ModelCard:
    """The header of a model file; ModelFileError if it is not one of ours or not whole."""
    header = _read_header(path)
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or "foveate" not in metadata:
        raise ModelFileError(path, "not a Foveate model", "`foveate convert` reads official checkpoints")
    try:
        return from_dict(ModelCard, _updated(json.loads(metadata["foveate"])), "header")
    except (FoveateError, ValueError) as error:
        raise ModelFileError(path, f"its description does not fit version {__version__}: {error}") from error


def read_model(path: Path) -> tuple[VideoModel, ModelCard]:
    """The model of a file, in eval mode, and its card. Anything odd raises ModelFileError; nothing is run."""
    card = read_card(path)
    try:
        model = create_model(card.name, **card.config)
        state = safetensors.torch.load_file(path)
    except (FoveateError, TypeError, ValueError, IndexError, RuntimeError) as error:
        cause = f"of version {card.version}, its configuration does not fit version {__version__}: {error}"
        raise ModelFileError(path, cause) from error
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelFileError(path, f"damaged: {error}") from error
    broken = [
        key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if broken:
        raise ModelFileError(path, f"{broken[0]} holds values that are not finite")
    load_strictly(model, state, str(path))
    model.spec, model.labels, model.independent = card.spec, card.labels, card.independent
    model.trained_on = card.trained_on
    return model.eval(), card


def _updated(header: Any) -> Any:
    """The header of an earlier version as this one writes it: the place for any field that moves or goes.

    A field that is new needs nothing here: it gets the value that the zoo gives it.
    """
    config = header.get("config") if isinstance(header, dict) else None
    if not isinstance(config, dict):
        return header
    if "shift" in config:  # TSN's `temporal` was called so
        rest = {key: value for key, value in config.items() if key != "shift"}
        config = rest | {"temporal": {"both": "shift"}.get(config["shift"], config["shift"])}
    return header | {"config": config}


def _usual_mode() -> int:
    """Permissions that a new file gets here; the library that writes ours gives none to others."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _read_header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > HEADER_LIMIT:
                raise ModelFileError(path, "not a safetensors file, or its header is too large")
            text = file.read(size)
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error), "is the path right?") from error
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
    except ValueError as error:
        raise ModelFileError(path, f"not a safetensors file: {error}") from error
    if len(text) != size or not isinstance(header, dict):
        raise ModelFileError(path, "not a safetensors file, or cut short")
    return header


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in the header")
    return result
