"""Dense optical flow by the Lucas-Kanade method on an image pyramid.

Lucas and Kanade, "An Iterative Image Registration Technique", IJCAI 1981: around each pixel, the displacement
that best explains the change of brightness is the least-squares solution of a 2 x 2 system. Coarse levels
find large displacements, finer ones correct them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 7  # pixels, side of the neighbourhood that shares one displacement
LEVELS = 3  # of the pyramid, each half as wide as the previous
DAMPING = 1e-2  # added to the diagonal, so that a flat region gets no flow (brightness has unit variance)


def optical_flow(before: Tensor, after: Tensor, levels: int = LEVELS) -> Tensor:
    """Displacement of each pixel of `before` in `after`: (N, 2, H, W), x then y in pixels.

    before, after: (N, 1, H, W), brightness of about unit variance. For displacements up to about
    2 ** levels pixels; levels that would be too small for the image are left out.
    """
    if levels > 1 and min(before.shape[2:]) >= 2 * WINDOW:
        coarse = optical_flow(F.avg_pool2d(before, 2), F.avg_pool2d(after, 2), levels - 1)
        flow = 2 * F.interpolate(coarse, size=before.shape[2:], mode="bilinear")
    else:
        flow = before.new_zeros(len(before), 2, *before.shape[2:])
    return flow + _correction(before, _warp(after, flow))


def _correction(before: Tensor, after: Tensor) -> Tensor:
    """One Lucas-Kanade step, solved by Cramer's rule: displacement, at most one pixel in x and y."""
    gx, gy = _gradient(0.5 * (before + after))
    change = after - before
    xx, xy, yy, xt, yt = (_local_mean(p) for p in (gx * gx, gx * gy, gy * gy, gx * change, gy * change))
    xx, yy = xx + DAMPING, yy + DAMPING
    determinant = xx * yy - xy * xy
    step = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / determinant
    return step.clamp(-1, 1)


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y with replicated borders."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return across, down


def _local_mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, WINDOW, 1, WINDOW // 2, count_include_pad=False)


def _warp(image: Tensor, flow: Tensor) -> Tensor:
    """Warp an image: sample it bilinearly at each pixel plus its flow, with replicated borders."""
    height, width = image.shape[2:]
    y = torch.arange(height, device=image.device, dtype=image.dtype).view(1, -1, 1)
    x = torch.arange(width, device=image.device, dtype=image.dtype).view(1, 1, -1)
    across = (2 * (x + flow[:, 0]) + 1) / width - 1  # grid_sample's coordinates: pixel edges at -1 and 1
    down = (2 * (y + flow[:, 1]) + 1) / height - 1
    grid = torch.stack([across, down], dim=-1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)
