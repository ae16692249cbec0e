"""Convert official checkpoints to Foveate models; no weight may be missing or left over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from foveate.errors import ModelFileError
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model, model_spec
from foveate.weights.addresses import class_names
from foveate.weights.container import read_container, state_dict_of
from foveate.weights.origins import Origin, find_origin, get_origin
from foveate.weights.rename import load_strictly


def convert(
    state_dict: Mapping[str, Tensor], origin: str, name: str, num_classes: int | None = None, **fields: Any
) -> VideoModel:
    """Convert an official state dict, with the keys of its release, to the model `name` in eval mode.

    origin: the code base that wrote it (weights/origins/). fields: configuration fields to change. The
    model's ClipSpec resizes and crops as the authors did, and it has class names if all models of the origin
    have the same classes (ImageNet). ModelFileError for a missing or left-over key or a wrong shape, with the
    first five.
    """
    source, config = get_origin(origin), model_spec(name).config
    needed = {field: value for field, value in source.fields.items() if hasattr(config, field)}
    model = create_model(name, num_classes, **needed | fields)
    state = source.rename(state_dict, name)
    wants_policy = any(key.startswith("policy.") for key in model.state_dict())
    if wants_policy and not any(key.startswith("policy.") for key in state):
        hint = "files of training stage 1 have none: convert with the setting policy=random or policy=centre"
        raise ModelFileError(f"{name} from {origin}", "the checkpoint holds no policy", hint)
    load_strictly(model, state, f"{name} from {origin}")
    model.spec = replace(model.spec, **source.pixels)
    labels = class_names(source.classes) if source.classes else ()
    if len(labels) == model.num_classes:
        model.labels = labels
    return model.eval()


def load_official(
    path: str | Path, name: str, origin: str | None = None, num_classes: int | None = None, **fields: Any
) -> VideoModel:
    """Load a released file as the model `name`; origin and classes are found from its keys unless given.

    UsageError for an unknown origin or field, ModelFileError for a damaged file or one of another origin or
    model.
    """
    path = Path(path)
    content = read_container(path)
    state = state_dict_of(content, path)
    source = get_origin(origin) if origin else find_origin(state.keys(), path)
    state = source.state_dict(content, state)
    try:
        return convert(state, source.name, name, num_classes or _count_classes(state, source, path), **fields)
    except ModelFileError as error:
        found = find_origin(state.keys(), path).name
        if found != source.name and {found, source.name} != {"torchvision", "ibm"}:  # these share most names
            cause = f"names its keys as {found} does, not as {source.name}"
            raise ModelFileError(path, cause, "leave the origin out") from error
        raise ModelFileError(path, str(error)) from error


def _count_classes(state_dict: Mapping[str, Tensor], origin: Origin, path: Path) -> int:
    """Number of classes, from the rows of the classifier."""
    renamed = origin.rename(state_dict, str(path))
    for classifier in ("head.linear.weight", "local_head.weight", "policy_head.weight"):
        if classifier in renamed:
            return renamed[classifier].shape[0]
    raise ModelFileError(path, "has no classifier")
