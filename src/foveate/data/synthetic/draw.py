"""Anti-aliased shapes on a float picture, from signed distances.

A pixel's cover falls from one to zero over the pixel that the outline crosses. Distances are worked out only
in the small area around a shape, so a picture full of small shapes stays cheap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Point = Sequence[float]  # x to the right, y down, in pixels; (0, 0) is the first pixel's centre
Colour = np.ndarray  # (3,) float32, RGB in 0..255
_Area = tuple[np.ndarray, np.ndarray, np.ndarray]


def capsule(
    picture: np.ndarray, a: Point, b: Point, radius_a: float, radius_b: float, colour: Colour
) -> None:
    """Paint a stick with round ends, `radius_a` thick at `a` and `radius_b` at `b`; a disc where they meet.

    `picture` is float32 (3, H, W) and is painted in place; what lies outside is cut off.
    """
    area = _area(picture, a, b, max(radius_a, radius_b) + 1)
    if area is None:
        return
    patch, x, y = area
    along_x, along_y = b[0] - a[0], b[1] - a[1]
    from_x, from_y = x - np.float32(a[0]), y - np.float32(a[1])
    length = max(along_x * along_x + along_y * along_y, 1e-6)
    share = np.clip(from_x * np.float32(along_x / length) + from_y * np.float32(along_y / length), 0, 1)
    away = np.hypot(from_x - share * np.float32(along_x), from_y - share * np.float32(along_y))
    _paint(patch, away - np.float32(radius_a) - share * np.float32(radius_b - radius_a), colour)


def rectangle(picture: np.ndarray, centre: Point, half: Point, angle: float, colour: Colour) -> None:
    """Paint a rectangle of half sides `half`, turned by `angle` radians, on float32 (3, H, W) in place."""
    area = _area(picture, centre, centre, math.hypot(*half) + 1)
    if area is None:
        return
    patch, x, y = area
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    beyond_x = np.abs(cos * x + sin * y) - np.float32(half[0])
    beyond_y = np.abs(cos * y - sin * x) - np.float32(half[1])
    _paint(patch, np.maximum(beyond_x, beyond_y), colour)


def _area(picture: np.ndarray, a: Point, b: Point, reach: float) -> _Area | None:
    """The part of the picture within `reach` of two points, its x (1, w) and its y (h, 1); None if empty."""
    # Plain numbers: arrays of two would cost more than the painting of a small shape.
    height, width = picture.shape[1:]
    left = max(math.floor(min(a[0], b[0]) - reach), 0)
    top = max(math.floor(min(a[1], b[1]) - reach), 0)
    right = min(math.ceil(max(a[0], b[0]) + reach) + 1, width)
    bottom = min(math.ceil(max(a[1], b[1]) + reach) + 1, height)
    if left >= right or top >= bottom:
        return None
    x, y = np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32)
    return picture[:, top:bottom, left:right], x[None, :], y[:, None]


def _paint(patch: np.ndarray, distance: np.ndarray, colour: Colour) -> None:
    patch += np.clip(np.float32(0.5) - distance, 0, 1) * (colour[:, None, None] - patch)
