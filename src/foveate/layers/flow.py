"""Dense optical flow by least squares in small windows, from coarse to fine.

Lucas and Kanade, "An Iterative Image Registration Technique", IJCAI 1981, on a pyramid: in each window the
displacement that best explains the change of brightness by its gradient is the solution of a 2 x 2 system.
Coarse levels find large displacements, finer ones correct them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 7  # pixels, side of the window that shares one displacement
LEVELS = 3  # of the pyramid, each half as wide as the one below
STIFF = 1e-2  # added to the system, so that a flat window stays where it is (brightness has unit spread)


def optical_flow(before: Tensor, after: Tensor, levels: int = LEVELS) -> Tensor:
    """Where each pixel of `before` has gone in `after`: (N, 2, H, W), right and down in pixels.

    before, after: (N, 1, H, W), brightness of about unit spread. Meant for displacements up to some
    2 ** levels pixels; a picture too small for a level is solved without it.
    """
    if levels > 1 and min(before.shape[2:]) >= 2 * WINDOW:
        coarse = optical_flow(F.avg_pool2d(before, 2), F.avg_pool2d(after, 2), levels - 1)
        flow = 2 * F.interpolate(coarse, size=before.shape[2:], mode="bilinear")
    else:
        flow = before.new_zeros(len(before), 2, *before.shape[2:])
    return flow + _correction(before, _moved_back(after, flow))


def _correction(before: Tensor, after: Tensor) -> Tensor:
    """One Lucas-Kanade step: the window's displacement, at most one pixel each way, by Cramer's rule."""
    gx, gy = _gradient(0.5 * (before + after))
    change = after - before
    xx, xy, yy, xt, yt = (_window_mean(p) for p in (gx * gx, gx * gy, gy * gy, gx * change, gy * change))
    xx, yy = xx + STIFF, yy + STIFF
    determinant = xx * yy - xy * xy
    step = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / determinant
    return step.clamp(-1, 1)


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y, the border repeated."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return across, down


def _window_mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, WINDOW, 1, WINDOW // 2, count_include_pad=False)


def _moved_back(image: Tensor, flow: Tensor) -> Tensor:
    """The image read at each pixel plus its flow, bilinear, the border repeated."""
    height, width = image.shape[2:]
    y = torch.arange(height, device=image.device, dtype=image.dtype).view(1, -1, 1)
    x = torch.arange(width, device=image.device, dtype=image.dtype).view(1, 1, -1)
    across = (2 * (x + flow[:, 0]) + 1) / width - 1  # grid_sample's coordinates: pixel edges at -1 and 1
    down = (2 * (y + flow[:, 1]) + 1) / height - 1
    grid = torch.stack([across, down], dim=-1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)
