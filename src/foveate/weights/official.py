"""Convert official checkpoints to Foveate models; no weight may be missing or left over."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from foveate.errors import ModelFileError
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model, create_outline, model_spec
from foveate.weights.addresses import class_names
from foveate.weights.checkpoint_file import open_checkpoint
from foveate.weights.origins import ORIGINS, Origin, find_origin, get_origin
from foveate.weights.rename import demand_fit, load_strictly
from foveate.weights.start import modalities_of
from foveate.weights.state_dict import state_dict_of

log = logging.getLogger(__name__)


def convert(
    state_dict: Mapping[str, Tensor], origin: str, name: str, num_classes: int | None = None, **fields: Any
) -> VideoModel:
    """Convert an official state dict, with the keys of its release, to the model `name` in eval mode.

    origin: the code base that wrote it (weights/origins/). fields: configuration fields to change; the
    modality is that of the weights. The model's ClipSpec resizes and crops as the authors did, and it has
    class names if all models of the origin have the same classes (ImageNet). ModelFileError for a missing or
    left-over key or a wrong shape, with the first five.
    """
    source = get_origin(origin)
    state, subject = source.rename(state_dict, name), f"{name} from {origin}"
    outline, fields = _outline(name, state, _fields(source, name, num_classes, fields))
    _demand_fit(outline, state, subject)
    model = create_model(name, **fields)
    load_strictly(model, state, subject)
    model.spec = replace(model.spec, **source.pixels)
    labels = class_names(source.classes) if source.classes else ()
    if len(labels) == model.num_classes:
        model.labels = labels
    return model.eval()


def _fields(source: Origin, name: str, num_classes: int | None, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of the configuration to change: what the origin needs, the classes, what was asked for."""
    config = model_spec(name).config
    needed = {field: value for field, value in source.fields.items() if hasattr(config, field)}
    classes = {} if num_classes is None else {"num_classes": num_classes}
    return needed | classes | fields


def _outline(
    name: str, state: Mapping[str, Tensor], fields: dict[str, Any]
) -> tuple[VideoModel, dict[str, Any]]:
    """The model without values, and its fields: of optical flow where the weights read it.

    ModelFileError for weights of RGB where flow is asked for, and for weights of flow where that cannot be.
    """
    outline = create_outline(name, **fields)
    wanted = outline.state_dict()
    found = {modalities_of(state[key], kernel) for key, kernel in wanted.items() if key in state}
    if ("rgb", "flow") in found:
        hint = "leave modality=flow out; a training of flow starts from the converted file by --weights"
        raise ModelFileError(name, "the checkpoint reads RGB, not optical flow", hint)
    if ("flow", "rgb") not in found:
        return outline, fields
    if not hasattr(outline.config, "modality") or "modality" in fields:
        raise ModelFileError(name, "the checkpoint reads optical flow, and this model RGB")
    log.info("%s: the checkpoint reads optical flow (modality=flow)", name)
    fields = fields | {"modality": "flow"}
    return create_outline(name, **fields), fields


def _demand_fit(outline: VideoModel, state: Mapping[str, Tensor], subject: str) -> None:
    wants_policy = any(key.startswith("policy.") for key in outline.state_dict())
    if wants_policy and not any(key.startswith("policy.") for key in state):
        hint = "files of training stage 1 have none: convert with the setting policy=random or policy=centre"
        raise ModelFileError(subject, "the checkpoint holds no policy", hint)
    demand_fit(outline, state, subject)


def load_official(
    path: str | Path,
    name: str,
    origin: str | None = None,
    num_classes: int | None = None,
    entry: str | None = None,
    **fields: Any,
) -> VideoModel:
    """Load a released file, or one of somebody's own script, as the model `name`.

    The file is read by a process of its own, without executing what is in it, and its numbers only once all
    names, shapes and types fit the model.

    Origin and classes are found from its keys unless given. What a wrapper put in front of all keys, such as
    `model.` of Lightning, is taken off, and what stands beside the network is left out with a log line.
    entry: the part of the file with the weights, if several hold some. UsageError for an unknown origin or
    field, ModelFileError for a damaged file or one of another origin or model.
    """
    path = Path(path)
    with open_checkpoint(path) as file:
        given = state_dict_of(file.content, path, entry)
        state, source = _unwrapped(given, name, get_origin(origin) if origin else None, path)
        if len(state) < len(given):
            beside = [key for key in given if not key.endswith(tuple(state))]
            log.info("%s: %d entries beside the network left out, such as %s", path, len(beside), beside[0])
        state = source.state_dict(file.content, state)
        num_classes = num_classes or _count_classes(state, source, path)
        try:
            renamed = source.rename(state, name)
            outline, _ = _outline(name, renamed, _fields(source, name, num_classes, fields))
            _demand_fit(outline, renamed, f"{name} from {source.name}")
            return convert(file.read(state), source.name, name, num_classes, **fields)
        except ModelFileError as error:
            found = find_origin(state.keys(), path).name
            if found != source.name and {found, source.name} != {"torchvision", "ibm"}:  # same names, mostly
                cause = f"names its keys as {found} does, not as {source.name}"
                raise ModelFileError(path, cause, "leave the origin out") from error
            raise ModelFileError(path, str(error)) from error


def _unwrapped(
    state: dict[str, Tensor], name: str, origin: Origin | None, path: Path
) -> tuple[dict[str, Tensor], Origin]:
    """The state dict without what wraps the network, and its origin: those that fit the model best."""
    wanted = create_outline(name).state_dict().keys()
    forms, rest = [state], state
    for _ in range(3):
        first = Counter(key.partition(".")[0] for key in rest).most_common(1)[0][0]
        rest = {
            key.removeprefix(f"{first}."): value for key, value in rest.items() if key.startswith(f"{first}.")
        }
        if not rest:
            break
        forms.append(rest)
    best: tuple[int, dict[str, Tensor], Origin] | None = None
    for form in forms:
        sources = [origin] if origin else [one for one in ORIGINS if one.recognises(form.keys())][:1]
        for source in sources:
            try:
                fitting = len(source.rename(form, str(path)).keys() & wanted)
            except ModelFileError:
                if form is state:
                    raise
                continue
            if best is None or fitting > best[0]:
                best = fitting, form, source
    return (best[1], best[2]) if best else (state, find_origin(state.keys(), path))


def _count_classes(state_dict: Mapping[str, Tensor], origin: Origin, path: Path) -> int:
    """Number of classes, from the rows of the classifier."""
    renamed = origin.rename(state_dict, str(path))
    for classifier in ("head.linear.weight", "local_head.weight", "policy_head.weight", "box_aux.weight"):
        if classifier in renamed:
            return renamed[classifier].shape[0]
    raise ModelFileError(path, "has no classifier")
