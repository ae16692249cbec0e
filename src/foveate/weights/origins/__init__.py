"""The code bases whose checkpoints can be read, one file each; a new one is a file and its line here."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from foveate.config import nearest
from foveate.errors import ModelFileError, UsageError
from foveate.weights.origins import (
    adafocus,
    adafocus_tsm,
    adafocus_v2,
    adafocus_v2_tsm,
    arnet,
    blvnet,
    caffe2,
    efficientnet_lite,
    foveate,
    fullvideo,
    ibm,
    mmaction2,
    pyslowfast,
    pytorchvideo,
    torchvision,
    tsm,
    uni_adafocus,
    uni_adafocus_tsm,
    uni_adafocus_x3d,
)
from foveate.weights.origins.base import Origin

ORIGINS: tuple[Origin, ...] = (
    pyslowfast.ORIGIN,
    pytorchvideo.ORIGIN,
    caffe2.ORIGIN,
    mmaction2.ORIGIN,
    efficientnet_lite.ORIGIN,
    uni_adafocus_tsm.ORIGIN,
    uni_adafocus_x3d.ORIGIN,
    uni_adafocus.ORIGIN,
    adafocus_v2_tsm.ORIGIN,
    adafocus_v2.ORIGIN,
    adafocus_tsm.ORIGIN,
    adafocus.ORIGIN,
    fullvideo.ORIGIN,
    blvnet.ORIGIN,
    arnet.ORIGIN,
    tsm.ORIGIN,
    ibm.ORIGIN,
    torchvision.ORIGIN,
    foveate.ORIGIN,
)
"""In the order in which they are tried: files of an earlier one may have the signs of a later one too."""


def get_origin(name: str) -> Origin:
    """The origin of that name; UsageError with similar names for an unknown one."""
    for origin in ORIGINS:
        if origin.name == name:
            return origin
    raise UsageError(name, "unknown origin", nearest(name, (origin.name for origin in ORIGINS)))


def find_origin(keys: Collection[str], path: Path) -> Origin:
    """The origin whose state dicts have such keys; ModelFileError if there is none."""
    for origin in ORIGINS:
        if origin.recognises(keys):
            return origin
    raise ModelFileError(path, f"no known origin has keys like '{next(iter(keys))}'", "give --origin")
