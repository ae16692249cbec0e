"""Official origins of checkpoints, one file each. A new one is such a file and its line here."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from foveate.config import nearest
from foveate.errors import ModelFileError, UsageError
from foveate.weights.origins import (
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
from foveate.weights.origins.base import Origin

ORIGINS: tuple[Origin, ...] = (
    pyslowfast.ORIGIN,
    pytorchvideo.ORIGIN,
    caffe2.ORIGIN,
    efficientnet_lite.ORIGIN,
    adafocus_v2.ORIGIN,
    adafocus_tsm.ORIGIN,
    adafocus.ORIGIN,
    fullvideo.ORIGIN,
    blvnet.ORIGIN,
    arnet.ORIGIN,
    tsm.ORIGIN,
    ibm.ORIGIN,
    torchvision.ORIGIN,
)
"""In the order in which they are tried: the signs of a later one may be found in files of an earlier one."""


def get_origin(name: str) -> Origin:
    """The origin of that name; UsageError, with the nearest names, if there is none."""
    for origin in ORIGINS:
        if origin.name == name:
            return origin
    raise UsageError(name, "unknown origin", nearest(name, (origin.name for origin in ORIGINS)))


def find_origin(keys: Collection[str], path: Path) -> Origin:
    """The origin that names the weights of a state dict by these keys; ModelFileError if none does."""
    for origin in ORIGINS:
        if origin.recognises(keys):
            return origin
    raise ModelFileError(path, f"no known origin names its keys like '{next(iter(keys))}'", "give --origin")
