"""A model starts its training from the weights of another: whole, or one of its networks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from foveate.errors import ModelFileError, UsageError
from foveate.models.base import VideoModel
from foveate.weights.rename import Renames, rename

TO_PATHWAY: Renames = [  # from a ResNet of images to a 3D ResNet of one pathway
    (r"^backbone\.conv1\.", "net.stem.conv."),
    (r"^backbone\.bn1\.", "net.stem.bn."),
    *((rf"^backbone\.layer{stage}\.", f"net.res{stage + 1}.") for stage in range(1, 5)),
]


def start_from(model: VideoModel, source: VideoModel, made: Collection[str] = ()) -> None:
    """Copy the weights of another model of the same shape; its classifiers only if the class names agree.

    Kernels of images are spread over time where this one has kernels of clips (`inflate`). made: parts that
    the training to come will make, which the other one may lack as a whole. Aggregations over time that it
    lacks, being an image network, stay as they are; a policy that this one does without is left behind. Any
    other difference raises ModelFileError with the first five.
    """
    ours = model.state_dict()
    theirs = inflate(source.state_dict(), ours)
    theirs = {k: v for k, v in theirs.items() if k in ours or not k.startswith(("policy.", "skip_policy."))}
    if not model.labels or model.labels != source.labels:
        ours, theirs = (
            {k: v for k, v in s.items() if not k.startswith(model.head_names)} for s in (ours, theirs)
        )
    new = tuple(f"{part}." for part in made if not any(key.startswith(f"{part}.") for key in theirs))
    ours = {key: value for key, value in ours.items() if not key.startswith(new)}
    _copy(model, ours, theirs)


def start_part(model: VideoModel, part: str, source: VideoModel) -> None:
    """Copy the one network of another model into one of several of this one: `nets.0`, `glance`, `local`.

    Aggregations over time that it lacks stay as they are. UsageError for a network that the model has not,
    ModelFileError for one of another shape.
    """
    places = image_networks(model.config)
    if part not in places:
        hint = f"it has {', '.join(places)}" if places else "it has one network: start from a whole model"
        raise UsageError(part, f"is no network of {model.name}", hint)
    given = getattr(source, "backbone", None)
    if given is None:
        raise ModelFileError(source.name, "has no network to give", "give a model of one network")
    network = model.get_submodule(part)
    _copy(network, network.state_dict(), given.state_dict())


def image_networks(config: Any) -> dict[str, str]:
    """Of a model with several networks on images, where each stands (`glance`, `nets.0`) and its backbone."""
    single = {part: getattr(config, part) for part in ("glance", "local") if hasattr(config, part)}
    return single | {f"nets.{place}": kind for place, kind in enumerate(getattr(config, "nets", ()))}


def inflate(images: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an image model, shaped and named as a clip model wants it where that is all it lacks.

    A kernel (O, I, h, w) that is wanted as (O, I, t, h, w) is repeated t times and divided by t (Carreira and
    Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2.2); every other weight stays as it is.
    In a clip that does not change, the frames in the middle then have the features of the image; at the ends
    the padding takes part. IBM's release of I3D repeats without dividing, and leaves the rest to its norms.
    """
    if "net.stem.conv.weight" in wanted:
        images = rename(images, TO_PATHWAY, "start")
    return {key: _over_time(value, wanted.get(key)) for key, value in images.items()}


def _over_time(kernel: Tensor, wanted: Tensor | None) -> Tensor:
    if wanted is None or wanted.dim() != 5 or kernel.shape != (*wanted.shape[:2], *wanted.shape[3:]):
        return kernel
    return kernel.unsqueeze(2).expand_as(wanted) / wanted.shape[2]


def _copy(network: nn.Module, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Load what is given; ModelFileError where it is not what is wanted, aggregations over time aside."""
    problems = [key for key in wanted.keys() ^ given.keys() if ".temporal." not in key or key in given]
    problems += [key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape]
    if problems:
        raise ModelFileError("start", f"the two models differ in {', '.join(sorted(problems)[:5])}")
    network.load_state_dict(given, strict=False)
