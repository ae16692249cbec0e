"""Making frames smaller so that each pixel is an average of those it stands for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def shrink(images: Tensor, size: int) -> Tensor:
    """Resize (N, 3, S, S) to (N, 3, size, size), each pixel an average; unchanged at the same size.

    The releases of AdaFocus and AR-Net take the nearest pixel; averaging is kinder to small things, and no
    released AdaFocus shrinks its glance.
    """
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
