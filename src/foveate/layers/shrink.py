"""Downsample frames, with an antialiasing filter or as a release does without."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


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
