"""Model files: one safetensors file with the weights and, in its header, all that is needed to predict."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from foveate import __version__
from foveate.clip import ClipSpec
from foveate.config import from_dict, shown, to_dict
from foveate.errors import FoveateError, ModelFileError, OutputError
from foveate.io import atomic_write, open_regular
from foveate.models.base import VideoModel
from foveate.models.budget import Curve
from foveate.models.zoo import create_model, create_outline
from foveate.weights.checkpoint_file import TYPES
from foveate.weights.rename import demand_fit, load_strictly

LARGEST = 1 << 20  # number in a configuration, apart from the number of classes
HEADER_LIMIT = 2 << 20  # bytes; those of the zoo take 150 kB at most, and class names as much as they need


@dataclass(frozen=True)
class ModelCard:
    """The metadata in the header of a model file."""

    name: str  # in models/zoo.py
    config: dict[str, Any]  # all fields of the model's configuration
    spec: ClipSpec
    labels: tuple[str, ...] = ()  # class names in label order; empty if unknown
    training: dict[str, Any] = field(default_factory=dict)  # summary of the training: data, epochs, result
    version: str = __version__
    independent: bool = False  # multi-label: sigmoid per class in place of one softmax
    trained_on: str = ""  # description of the training data
    curve: Curve | None = None  # accuracy against cost; None: not measured


def save_model(model: VideoModel, path: Path, training: dict[str, Any] | None = None) -> None:
    """Write a model file atomically; OutputError if it cannot be written.

    training: a summary of how the weights were trained, as plain data for the header.
    """
    card = ModelCard(
        model.name,
        to_dict(model.config),
        model.spec,
        model.labels,
        training or {},
        independent=model.independent,
        trained_on=model.trained_on,
        curve=model.curve,
    )
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    described = to_dict(card)
    if card.curve is None:
        del described["curve"]  # which earlier versions do not know
    header = json.dumps(described)
    if len(header) > HEADER_LIMIT // 2:
        cause = f"its description of {len(header)} bytes is too long"
        raise OutputError(path, cause, "give the classes shorter names")
    try:
        with atomic_write(path, durable=True) as part:
            safetensors.torch.save_file(state, part, {"foveate": header})
            part.chmod(_default_mode())
    except safetensors.SafetensorError as error:
        cause = f"cannot be written: {error}"
        raise OutputError(path, cause, "is there space, and may you write there?") from error


def read_card(path: Path) -> ModelCard:
    """Read the metadata of a model file; ModelFileError if it is damaged or not a Foveate file."""
    return _card_in(_read_header(path), path)


def _card_in(header: dict[str, Any], path: Path) -> ModelCard:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or "foveate" not in metadata:
        raise ModelFileError(path, "not a Foveate model", "`foveate convert` reads official checkpoints")
    try:
        return from_dict(ModelCard, _migrated(json.loads(metadata["foveate"])), "header")
    except RecursionError as error:
        raise ModelFileError(path, "its description nests too deep") from error
    except (FoveateError, ValueError) as error:
        raise ModelFileError(path, f"its description does not fit version {__version__}: {error}") from error


def read_model(path: Path) -> tuple[VideoModel, ModelCard]:
    """Read a model, in eval mode, and its metadata; ModelFileError if it cannot be used."""
    header = _read_header(path)
    card = _card_in(header, path)
    _check_sizes(header, card, path)
    try:
        model = create_model(card.name, **card.config)
        state = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelFileError(path, f"damaged: {error}") from error
    load_strictly(model, state, str(path))
    model.spec, model.labels, model.independent = card.spec, card.labels, card.independent
    model.trained_on = card.trained_on
    try:
        if card.curve:
            card.curve.check(model.dial)
    except ValueError as error:
        raise ModelFileError(path, f"its budgets do not fit: {error}", "make them anew") from error
    model.curve = card.curve
    return model.eval(), card


def _check_sizes(header: dict[str, Any], card: ModelCard, path: Path) -> None:
    """Compare what the file holds with what its description asks for, before anything is allocated."""
    for key, value in card.config.items():
        if key != "num_classes" and _largest(value) > LARGEST:
            raise ModelFileError(path, f"its configuration has {shown(key)} above {LARGEST}")
    try:
        outline = create_outline(
            card.name, 1000 + 2 * len(header), **card.config
        )  # some are made and dropped
    except (FoveateError, TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        why = str(error)[:200]
        cause = f"of version {card.version}, its configuration does not fit version {__version__}: {why}"
        raise ModelFileError(path, cause) from error
    if card.spec.modality != outline.spec.modality:
        raise ModelFileError(path, f"its clips are of {card.spec.modality}, which its configuration is not")
    if card.labels and len(card.labels) != outline.num_classes:
        raise ModelFileError(path, f"names {len(card.labels)} classes and answers for {outline.num_classes}")
    try:
        tensors = {
            key: torch.empty(facts["shape"], dtype=TYPES[facts["dtype"]], device="meta")
            for key, facts in header.items()
            if key != "__metadata__"
        }
    except (TypeError, KeyError, RuntimeError) as error:
        raise ModelFileError(path, f"damaged: {error}") from error
    demand_fit(outline, tensors, str(path))


def _largest(value: Any, depth: int = 8) -> float:
    """The largest number in a value of a configuration; 0 without any, infinite if it nests deeper."""
    if isinstance(value, dict | list | tuple):
        inside = value.values() if isinstance(value, dict) else value
        return max((_largest(one, depth - 1) for one in inside), default=0) if depth else math.inf
    return abs(value) if isinstance(value, int | float) else 0


def _migrated(header: Any) -> Any:
    """Migrate the header of an earlier version to the present fields.

    Renamed and removed fields are handled here; new fields get the value that the zoo has for the model.
    """
    config = header.get("config") if isinstance(header, dict) else None
    if not isinstance(config, dict):
        return header
    if "shift" in config:  # the old name of TSN's `temporal`
        rest = {key: value for key, value in config.items() if key != "shift"}
        config = rest | {"temporal": {"both": "shift"}.get(config["shift"], config["shift"])}
    return header | {"config": config}


def _default_mode() -> int:
    """Default permissions of new files; safetensors writes files that only the owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _read_header(path: Path) -> dict[str, Any]:
    try:
        with open_regular(path) as file:
            head = file.read(9)
            size, whole = int.from_bytes(head[:8], "little"), os.fstat(file.fileno()).st_size
            if head[8:] != b"{":
                hint = "`foveate convert` reads official checkpoints, and no other verb does"
                raise ModelFileError(path, "not a safetensors file", hint)
            if size > HEADER_LIMIT:
                raise ModelFileError(path, f"its header is larger than {HEADER_LIMIT >> 20} MB")
            text = head[8:] + file.read(size - 1)
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error), "is the path right?") from error
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
        ends = [facts["data_offsets"][1] for key, facts in header.items() if key != "__metadata__"]
        missing = 8 + size + max(ends, default=0) - whole
    except RecursionError as error:
        raise ModelFileError(path, "not a safetensors file: its header nests too deep") from error
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise ModelFileError(path, f"not a safetensors file, or damaged: {error}") from error
    if missing:
        what = f"is cut short by {missing} bytes" if missing > 0 else f"holds {-missing} bytes too many"
        raise ModelFileError(path, what)
    return header


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key in the header")
    return result
