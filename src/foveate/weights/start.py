"""Initialise a model, or one of its networks, from the weights of another model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from foveate.clip import CHANNELS, Modality
from foveate.config import to_dict
from foveate.errors import ModelFileError, UsageError
from foveate.models.base import VideoModel
from foveate.models.zoo import create_outline
from foveate.weights.rename import Renames, rename

TO_PATHWAY: Renames = [  # from a 2D ResNet to a 3D ResNet of one pathway
    (r"^backbone\.conv1\.", "net.stem.conv."),
    (r"^backbone\.bn1\.", "net.stem.bn."),
    *((rf"^backbone\.layer{stage}\.", f"net.res{stage + 1}.") for stage in range(1, 5)),
]
ADDED = (".temporal.", ".narrower.")  # in the keys of temporal modules, and of the norms of narrower widths


def start_from(model: VideoModel, source: VideoModel, new_parts: Collection[str] = ()) -> None:
    """Copy the weights of another model of the same architecture; classifiers only if the class names agree.

    2D kernels are inflated where this model has 3D ones (`inflate`), and the one that reads RGB becomes one
    of optical flow where this model reads that (`for_flow`). new_parts: submodules that training will
    initialise, which the source may lack. Temporal modules and norms of narrower widths that the source lacks
    keep their weights; a policy that this model lacks is ignored. ModelFileError for a model of flow where
    this one reads RGB, and with the first five of any other differences.
    """
    if source.spec.modality == "flow" and model.spec.modality == "rgb":
        raise ModelFileError("start", "it reads optical flow, and this model RGB", "add modality=flow")
    ours = model.state_dict()
    theirs = for_flow(inflate(source.state_dict(), ours), ours)
    theirs = {k: v for k, v in theirs.items() if k in ours or not k.startswith(("policy.", "skip_policy."))}
    if not model.labels or model.labels != source.labels:
        ours, theirs = (
            {k: v for k, v in s.items() if not k.startswith(model.head_names)} for s in (ours, theirs)
        )
    new = tuple(f"{part}." for part in new_parts if not any(key.startswith(f"{part}.") for key in theirs))
    ours = {key: value for key, value in ours.items() if not key.startswith(new)}
    try:
        _copy(model, ours, theirs)
    except ModelFileError as error:
        hint = _settings_apart(model, source)
        raise ModelFileError(error.subject, error.cause, hint) from None


def start_part(model: VideoModel, part: str, source: VideoModel) -> None:
    """Copy the backbone of another model into one of the networks of this one: `nets.0`, `glance` or `local`.

    What the source may lack is as in `start_from`. UsageError for a network that the model does not have,
    ModelFileError for one of another architecture.
    """
    own = {"glance", "local"} & {name for name, _ in model.named_children()}  # X3D's too
    networks = sorted({*image_networks(model.config), *own})
    if part not in networks:
        hint = f"it has {', '.join(networks)}" if networks else "it has one network: start from a whole model"
        raise UsageError(part, f"is no network of {model.name}", hint)
    given = getattr(source, "backbone", None)
    if given is None:
        raise ModelFileError(source.name, "has no backbone to copy", "give a model with a single backbone")
    network = model.get_submodule(part)
    _copy(network, network.state_dict(), given.state_dict())


def image_networks(config: Any) -> dict[str, str]:
    """The 2D networks of a model with several: submodule name (`glance`, `nets.0`) to backbone name."""
    single = {part: getattr(config, part) for part in ("glance", "local") if hasattr(config, part)}
    return single | {f"nets.{place}": kind for place, kind in enumerate(getattr(config, "nets", ()))}


def inflate(images: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inflate the 2D kernels in a state dict to 3D where `wanted`, the state dict of a 3D model, has 3D ones.

    A kernel (O, I, h, w) is repeated t times to (O, I, t, h, w) and divided by t (Carreira and Zisserman,
    "Quo Vadis, Action Recognition?", CVPR 2017, section 2.2); other weights are kept. The middle frames of a
    static clip then have the features of the image; those at the ends are affected by zero padding. IBM's
    release of I3D repeats without dividing.
    """
    if "net.stem.conv.weight" in wanted:
        images = rename(images, TO_PATHWAY, "start")
    return {key: _over_time(value, wanted.get(key)) for key, value in images.items()}


def for_flow(images: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn kernels that read RGB into kernels of optical flow where `wanted` has those.

    A kernel (O, 3, h, w) becomes (O, 10, h, w): the mean over its channels, for each of them (Wang et al.,
    "Temporal Segment Networks", ECCV 2016, section 3.2); other weights are kept.
    """
    return {key: _over_channels(value, wanted.get(key)) for key, value in images.items()}


def _over_channels(kernel: Tensor, wanted: Tensor | None) -> Tensor:
    if wanted is None or modalities_of(kernel, wanted) != ("rgb", "flow"):
        return kernel
    return kernel.mean(1, keepdim=True).expand_as(wanted).contiguous()


def modalities_of(*kernels: Tensor) -> tuple[Modality, ...] | None:
    """What kernels (O, C, h, w) read, by their channels, if they differ in nothing else; else None."""
    names: dict[int, Modality] = {channels: name for name, channels in CHANNELS.items()}
    if any(kernel.dim() != 4 or kernel.shape[1] not in names for kernel in kernels):
        return None
    if len({(kernel.shape[0], *kernel.shape[2:]) for kernel in kernels}) > 1:
        return None
    return tuple(names[kernel.shape[1]] for kernel in kernels)


def _over_time(kernel: Tensor, wanted: Tensor | None) -> Tensor:
    if wanted is None or wanted.dim() != 5 or kernel.shape != (*wanted.shape[:2], *wanted.shape[3:]):
        return kernel
    return kernel.unsqueeze(2).expand_as(wanted) / wanted.shape[2]


def _settings_apart(model: VideoModel, source: VideoModel) -> str:
    """The settings of another model of the same name with which this one would have other weights."""
    if model.name != source.name:
        return ""
    ours, theirs = to_dict(model.config), to_dict(source.config)
    apart = {name: value for name, value in theirs.items() if value != ours[name] and name != "num_classes"}
    shapes = _shapes(model.name, ours)
    causes = [f"{name}={v}" for name, v in apart.items() if _shapes(model.name, ours | {name: v}) != shapes]
    return f"set {' '.join(causes)}, as it has" if causes else ""


def _shapes(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The shapes of a model's weights; none for settings that do not go together."""
    try:
        return {key: value.shape for key, value in create_outline(name, **settings).state_dict().items()}
    except UsageError:
        return {}


def _copy(network: nn.Module, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Load `given`; ModelFileError if it differs from `wanted` in more than what it may lack, `ADDED`."""
    problems = [
        key for key in wanted.keys() ^ given.keys() if key in given or not any(part in key for part in ADDED)
    ]
    problems += [key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape]
    if problems:
        raise ModelFileError("start", f"the two models differ in {', '.join(sorted(problems)[:5])}")
    network.load_state_dict(given, strict=False)
