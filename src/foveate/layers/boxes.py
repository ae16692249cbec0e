"""Boxes of variable place, height and width, as fractions of what they may be (Uni-AdaFocus).

A box is (row, column, height, width), each in [0, 1]: the sides between a smallest and a largest one, the
upper left corner between the two ends that the sides leave room for. So every box lies inside the image.
Wang et al., "Uni-AdaFocus", TPAMI 2024 (arXiv 2412.11228).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def box_pixels(boxes: Tensor, side: float, least: float, most: float | None = None) -> Tensor:
    """Top, left, height and width (..., 4) in pixels of an image of `side` pixels, from boxes (..., 4).

    least, most: the sides that a height or width of 0 and of 1 mean, pixels; by default `most` is `side`.
    """
    corner, extent = boxes.float().split(2, -1)
    sides = least + ((side if most is None else most) - least) * extent
    return torch.cat([corner * (side - sides), sides], -1)


def box_edges(pixels: Tensor) -> Tensor:
    """Left, top, right, bottom (..., 4) of boxes given as top, left, height and width (..., 4)."""
    top, left, height, width = pixels.unbind(-1)
    return torch.stack([left, top, left + width, top + height], -1)


def boxes_between(boxes: Tensor, candidates: int) -> Tensor:
    """The box of every candidate, (B, N, 4), from those (B, T, 4) of T equally spaced frames, linearly.

    One box for the whole video, (B, 1, 4), is that of every frame.
    """
    spread = F.interpolate(boxes.float().transpose(1, 2), candidates, mode="linear", align_corners=False)
    return spread.transpose(1, 2)


def random_boxes(corners: Tensor, extent: float) -> Tensor:
    """Boxes (..., 4) of one height and width `extent` at corners (..., 2); all are fractions."""
    return torch.cat([corners, torch.full_like(corners, extent)], -1)
