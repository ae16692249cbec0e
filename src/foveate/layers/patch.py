"""Where a patch lies in a frame, and cutting it out.

A patch of P pixels in a frame of S is placed by its upper left corner, (row, column) in pixels, each in
[0, S - P]. AdaFocus (Wang et al., ICCV 2021) chooses among the n x n positions of a grid and cuts whole
pixels; AdaFocusV2 (Wang et al., CVPR 2022, section 3.2) takes any real position and samples bilinearly, so
that the gradient reaches the chooser. At whole pixels both give the same patch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def grid_corners(actions: Tensor, grid: int, room: int) -> Tensor:
    """Corners (..., 2), row then column in pixels, of grid positions `actions` (...) counted row by row.

    Whole-number arithmetic gives the corners of the released float32 code for every grid and patch; a float
    fraction widened on the way can fall one pixel short.
    """
    cell = torch.stack([actions // grid, actions % grid], dim=-1)
    return cell * room // (grid - 1)


def fraction_corners(fractions: Tensor, room: int) -> Tensor:
    """Corners (..., 2) in whole pixels, rounded down, of positions `fractions` (..., 2)."""
    return (fractions * room).long().clamp(0, room)


def crop_patches(images: Tensor, corners: Tensor, patch: int) -> Tensor:
    """Cut one patch out of each image. images: (N, C, S, S); corners: (N, 2) whole pixels.

    Returns (N, C, patch, patch), channels last.
    """
    side = torch.arange(patch, device=images.device)
    rows = corners[:, 0, None, None] + side[:, None]  # (N, P, 1)
    columns = corners[:, 1, None, None] + side  # (N, 1, P)
    number = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[number, rows, columns].permute(0, 3, 1, 2)


def sample_patches(images: Tensor, corners: Tensor, patch: int) -> Tensor:
    """Bilinear patches whose gradient reaches the positions. images: (N, C, S, S); corners: (N, 2), real.

    Returns (N, C, patch, patch). Kept in float32: a half-precision grid is off by pixels.
    """
    side = images.shape[-1]
    centre = (2 * corners.float() + patch) / side - 1  # (N, 2), the frame is [-1, 1]
    scale = torch.zeros(len(images), 2, 3, device=images.device)
    scale[:, 0, 0] = scale[:, 1, 1] = patch / side
    theta = scale + F.pad(centre.flip(-1).unsqueeze(-1), (2, 0))  # x before y
    grid = F.affine_grid(theta, [len(images), 1, patch, patch], align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def random_corners(count: int, room: int, generator: torch.Generator | None = None) -> Tensor:
    """Corners (count, 2), every whole pixel 0..room equally likely."""
    return torch.randint(0, room + 1, (count, 2), generator=generator)
