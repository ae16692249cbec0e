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
    """Resize uint8 frames (N, S, S, C), as they are stored, to float32 (N, size, size, C), 0 to 255.

    The values of `shrink`, or without antialiasing of plain bilinear resizing. With it, on a CPU, in
    less time: in both directions that is a product with a matrix of zeros but for a narrow band.
    """
    if frames.shape[1] == size:
        return frames.float()
    if not antialias or frames.device.type != "cpu":
        images = frames.movedim(-1, 1).float()
        small = F.interpolate(images, (size, size), mode="bilinear", antialias=antialias, align_corners=False)
        return small.movedim(1, -1)
    with uncounted(), torch.autocast(frames.device.type, enabled=False):
        pieces = [
            _fewer_rows(_fewer_rows(some, size).transpose(1, 2), size)
            for some in frames.split(FRAMES_AT_ONCE)
        ]
    return torch.cat(pieces).transpose(1, 2)


def _fewer_rows(frames: Tensor, size: int) -> Tensor:
    """(N, S, W, C) to (N, size, W, C)."""
    made = [
        torch.matmul(band.weights, frames[:, band.first : band.end].flatten(2).float())
        for band in _bands(frames.shape[1], size)
    ]
    return torch.cat(made, 1).unflatten(2, frames.shape[2:])


class _Band(NamedTuple):
    """Some rows of the shrunk image: rows `first` to `end` of the image by weights (rows made, rows used)."""

    first: int
    end: int
    weights: Tensor


@lru_cache(maxsize=64)
def _bands(side: int, size: int) -> list[_Band]:
    """How all rows are made: resizing the unit matrix gives the weights."""
    unit = torch.eye(side, dtype=torch.float32)[None, None]
    weights = F.interpolate(unit, (size, side), mode="bilinear", antialias=True, align_corners=False)
    bands = []
    for some in weights[0, 0].split(ROWS_AT_ONCE):
        used = some.any(0).nonzero()
        first, end = int(used[0]), int(used[-1]) + 1
        bands.append(_Band(first, end, some[:, first:end].contiguous()))
    return bands
