"""How feature maps are averaged over space."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Pooling = Literal["average", "max"]


def pool_space(maps: Tensor, pool: Pooling) -> Tensor:
    """Pool maps (..., C, h, w) over space to (..., C). Equal maxima share the gradient, as in `amax`."""
    return maps.mean((-2, -1)) if pool == "average" else maps.amax((-2, -1))
