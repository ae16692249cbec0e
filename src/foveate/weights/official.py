"""Checkpoints as their authors released them become Foveate models, strict both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from foveate.config import nearest
from foveate.errors import ModelFileError, UsageError
from foveate.models.arnet import ARNetConfig
from foveate.models.base import VideoModel
from foveate.models.x3d import X3DConfig
from foveate.models.zoo import create_model, entry
from foveate.weights import (
    adafocus,
    adafocus_tsm,
    adafocus_v2,
    arnet,
    blvnet,
    caffe2,
    efficientnet_lite,
    fullvideo,
    ibm,
    pyslowfast,
    pytorchvideo,
    torchvision,
    tsm,
)
from foveate.weights.container import read_container, state_dict_of
from foveate.weights.rename import Naming, load_strictly, rename

Origin = Literal[
    "torchvision",
    "efficientnet_lite",
    "tsm",
    "fullvideo",
    "ibm",
    "blvnet",
    "arnet",
    "adafocus",
    "adafocus_tsm",
    "adafocus_v2",
    "pyslowfast",
    "pytorchvideo",
    "caffe2",
]

TABLES: dict[str, Naming] = {
    "torchvision": torchvision.TABLE,
    "efficientnet_lite": efficientnet_lite.TABLE,
    "tsm": tsm.TABLE,
    "fullvideo": fullvideo.TABLE,
    "ibm": ibm.TABLE,
    "blvnet": blvnet.TABLE,
    "arnet": arnet.table,
    "adafocus": adafocus.TABLE,
    "adafocus_tsm": adafocus_tsm.TABLE,
    "adafocus_v2": adafocus_v2.TABLE,
    "pyslowfast": pyslowfast.table,
    "pytorchvideo": pytorchvideo.table,
    "caffe2": caffe2.table,
}


NEEDS: dict[tuple[str, type], dict[str, Any]] = {
    ("arnet", ARNetConfig): arnet.NEEDS,
    ("pyslowfast", X3DConfig): pyslowfast.X3D_NEEDS,
}
"""Fields of a configuration without which released weights of an origin do not fit or give their numbers."""

PIXELS: dict[str, dict[str, Any]] = {
    origin: {"antialias": False, "crop_up": True} for origin in ("pyslowfast", "pytorchvideo", "caffe2")
}
"""Fields of a ClipSpec that say how the authors resized and cropped the frames of their weights."""


def convert(
    state_dict: Mapping[str, Tensor], origin: str, name: str, num_classes: int | None = None, **fields: Any
) -> VideoModel:
    """An official state dict, its keys as released, as our model `name` in eval mode.

    fields: fields of the model's configuration that differ from the named one's, and from what weights of
    this origin need. The model's ClipSpec then makes pixels as the authors did. A key that is missing, left
    over or of another shape raises ModelFileError with the first five.
    """
    if origin not in TABLES:
        raise UsageError(origin, "unknown origin", nearest(origin, get_args(Origin)))
    needs = NEEDS.get((origin, type(entry(name).config)), {})
    model = create_model(name, num_classes, **needs | fields)
    state = rename(state_dict, TABLES[origin], name)
    wants_policy = any(key.startswith("policy.") for key in model.state_dict())
    if wants_policy and not any(key.startswith("policy.") for key in state):
        hint = "a file of stage 1 has none: convert it with the setting policy=random or policy=centre"
        raise ModelFileError(f"{name} from {origin}", "the checkpoint holds no policy", hint)
    load_strictly(model, state, f"{name} from {origin}")
    model.spec = replace(model.spec, **PIXELS.get(origin, {}))
    return model.eval()


def find_origin(state_dict: Mapping[str, Tensor], path: Path) -> Origin:
    """Whose naming a state dict follows; ModelFileError if nobody's."""
    keys = {key.removeprefix("module.").removeprefix("model.") for key in state_dict}
    signs: dict[Origin, bool] = {
        "pyslowfast": "s1.pathway0_stem.conv.weight" in keys,
        "pytorchvideo": any(key.startswith(("blocks.0.conv.", "blocks.0.multipathway")) for key in keys),
        "caffe2": "conv1_w" in keys,
        "efficientnet_lite": "_conv_stem.weight" in keys,
        "adafocus_v2": any(key.startswith("global_CNN.") for key in keys),
        "adafocus_tsm": any(key.startswith("focuser.net.base_model.") for key in keys),
        "adafocus": any(key.startswith(("glancer.", "focuser.")) for key in keys),
        "fullvideo": "base_model.layer2.0.conv1.net.weight" in keys
        and "base_model.layer1.0.conv1.weight" in keys,
        "blvnet": any(key.startswith("baseline_model.") for key in keys) or "b_conv0.weight" in keys,
        "arnet": "lite_fc.weight" in keys,
        "tsm": any(key.startswith(("base_model.", "new_fc.")) for key in keys)
        or "features.1.conv.0.weight" in keys,
        "ibm": "module.conv1.weight" in state_dict or any(".tam." in key for key in keys),
        "torchvision": "conv1.weight" in keys or "features.1.conv.0.0.weight" in keys,
    }
    for origin, found in signs.items():
        if found:
            return origin
    raise ModelFileError(path, f"no known origin names its keys like '{next(iter(keys))}'", "give --origin")


def count_classes(state_dict: Mapping[str, Tensor], origin: str, path: Path) -> int:
    """Rows of the classifier, told by its name in ours."""
    renamed = rename(state_dict, TABLES[origin], str(path))
    for classifier in ("head.linear.weight", "local_head.weight", "policy_head.weight"):
        if classifier in renamed:
            return renamed[classifier].shape[0]
    raise ModelFileError(path, "holds no classifier")


def load_official(
    path: str | Path, name: str, origin: str | None = None, num_classes: int | None = None, **fields: Any
) -> VideoModel:
    """Read a released file and convert it; the origin and the class count are found out unless given."""
    path = Path(path)
    state = state_dict_of(read_container(path), path)
    origin = origin or find_origin(state, path)
    if origin not in TABLES:
        raise UsageError(origin, "unknown origin", nearest(origin, TABLES))
    try:
        return convert(state, origin, name, num_classes or count_classes(state, origin, path), **fields)
    except ModelFileError as error:
        found = find_origin(state, path)
        if found != origin and {found, origin} != {"torchvision", "ibm"}:  # these two share most names
            cause = f"names its keys as {found} does, not as {origin}"
            raise ModelFileError(path, cause, "leave the origin out") from error
        raise ModelFileError(path, str(error)) from error
