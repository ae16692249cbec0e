"""Downsample frames, with an antialiasing filter or as a release does without."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.layers.macs import uncounted

ROWS_AT_ONCE = 8  # of the shrunk image: few enough that what they are made of stays in the cache
FRAMES_AT_ONCE = 16


def shrink(images: Tensor, size: int) -> Tensor:
    """Resize (N, 3, S, S) to (N, 3, size, size), bilinear with antialiasing; unchanged if S is `size`.

    The releases of AdaFocus and AR-Net take the nearest pixel; averaging preserves small objects better.
    """
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)


def shrink_to_corners(images: Tensor, size: int) -> Tensor:
    """Resize (N, 3, S, S) to (N, 3, size, size), bilinear between four pixels, corner onto corner.

    The release of AdaFocusV2 shrinks what its ResNet glances at so (align_corners=True).
    """
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=True)


def shrink_stored(frames: Tensor, size: int, antialias: bool = True) -> Tensor:
    """Resize frames (N, S, S, C) of any type, as they are stored, to float32 (N, size, size, C).

    The values of `shrink`, to rounding, or without antialiasing of plain bilinear resizing, in less than half
    of the time: both directions are products with a matrix that is nothing but zeros off a narrow band.
    """
    if frames.shape[1] == size:
        return frames.float()
    with uncounted(), torch.autocast(frames.device.type, enabled=False):
        pieces = [
            _fewer_rows(_fewer_rows(some, size, antialias).transpose(1, 2), size, antialias)
            for some in frames.split(FRAMES_AT_ONCE)
        ]
    return torch.cat(pieces).transpose(1, 2)


def _fewer_rows(frames: Tensor, size: int, antialias: bool) -> Tensor:
    """(N, S, W, C) to (N, size, W, C)."""
    made = [
        torch.matmul(band.weights.to(frames.device), frames[:, band.first : band.end].flatten(2).float())
        for band in _bands(frames.shape[1], size, antialias)
    ]
    return torch.cat(made, 1).unflatten(2, frames.shape[2:])


class _Band(NamedTuple):
    """Some rows of the shrunk image: rows `first` to `end` of the image by weights (rows made, rows used)."""

    first: int
    end: int
    weights: Tensor


@lru_cache(maxsize=64)
def _bands(side: int, size: int, antialias: bool) -> list[_Band]:
    """How all rows are made: resizing the unit matrix gives the weights."""
    unit = torch.eye(side)[None, None]
    weights = F.interpolate(unit, (size, side), mode="bilinear", antialias=antialias, align_corners=False)
    bands = []
    for some in weights[0, 0].split(ROWS_AT_ONCE):
        used = some.any(0).nonzero()
        first, end = int(used[0]), int(used[-1]) + 1
        bands.append(_Band(first, end, some[:, first:end].contiguous()))
    return bands
