"""Patches of a frame: positions, and cropping at them.

The position of a P x P patch in an S x S frame is its upper left corner, (row, column) in pixels, each in
[0, S - P]; S - P is called `room`. AdaFocus (Wang et al., ICCV 2021) chooses among the positions of an n x n
grid and crops at whole pixels; AdaFocusV2 (Wang et al., CVPR 2022, section 3.2) takes any real position and
samples bilinearly, so that the gradient reaches the policy. At whole pixels both give the same patch.
Uni-AdaFocus (Wang et al., TPAMI 2024) samples boxes of any height and width to patches of one size.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def grid_corners(actions: Tensor, grid: int, room: int) -> Tensor:
    """Corners (..., 2), row then column in pixels, of grid cells `actions` (...), numbered row by row.

    Integer arithmetic gives the corners of the released float32 code for every grid and patch; a fraction in
    higher precision can end up one pixel short.
    """
    cell = torch.stack([actions // grid, actions % grid], dim=-1)
    return cell * room // (grid - 1)


def fraction_corners(fractions: Tensor, room: int) -> Tensor:
    """Corners (..., 2) in pixels, rounded down, from positions (..., 2) as fractions of `room` in [0, 1]."""
    return (fractions * room).long().clamp(0, room)


def crop_patches(images: Tensor, corners: Tensor, patch: int) -> Tensor:
    """Crop one patch from each image. images: (N, C, S, S); corners: (N, 2) int64, row and column in pixels.

    Returns (N, C, patch, patch), channels last.
    """
    every = (
        images.permute(0, 2, 3, 1).unfold(1, patch, 1).unfold(2, patch, 1)
    )  # (N, S-P+1, S-P+1, C, P, P), a view
    number = torch.arange(len(images), device=images.device)
    patches = every[number, corners[:, 0], corners[:, 1]]
    return patches.contiguous(memory_format=torch.channels_last)


def sample_patches(images: Tensor, corners: Tensor, patch: int) -> Tensor:
    """Sample one patch from each image bilinearly, differentiable with respect to the corners.

    images: (N, C, S, S); corners: (N, 2) float, row and column in pixels. Returns float32
    (N, C, patch, patch).
    """
    sides = torch.full_like(corners, patch, dtype=torch.float32)
    return sample_boxes(images, torch.cat([corners.float(), sides], -1), patch)


def sample_boxes(
    images: Tensor, boxes: Tensor, points: int, padding: Literal["border", "zeros"] = "border"
) -> Tensor:
    """Sample one box from each image bilinearly at points x points, differentiable with respect to the boxes.

    images: (N, C, S, S); boxes: (N, 4) float, top, left, height and width in pixels. padding: what lies
    beyond the image, which a box at its edge meets if it is enlarged. Returns float32 (N, C, points, points):
    a sampling grid in half precision is off by pixels. Nothing is filtered where a box is shrunk.
    """
    side = images.shape[-1]
    corner, extent = boxes.float().split(2, -1)  # each (N, 2), rows before columns
    centre = (2 * corner + extent) / side - 1  # the image is [-1, 1]
    steps = (2 * torch.arange(points, device=boxes.device) + 1) / points - 1  # and so is the box
    rows, columns = (centre.unsqueeze(-1) + extent.unsqueeze(-1) / side * steps).unbind(1)  # each (N, points)
    grid = torch.stack(torch.broadcast_tensors(columns.unsqueeze(1), rows.unsqueeze(2)), -1)
    return F.grid_sample(images.float(), grid, padding_mode=padding, align_corners=False)


def random_corners(count: int, room: int, generator: torch.Generator | None = None) -> Tensor:
    """Random corners (count, 2) int64, uniform over 0..room."""
    return torch.randint(0, room + 1, (count, 2), generator=generator)
