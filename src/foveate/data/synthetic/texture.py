"""Smooth random texture: a coarse grid of random colours, enlarged without visible cells."""

from __future__ import annotations

import numpy as np


def smooth_texture(
    rng: np.random.Generator, height: int, width: int, light: tuple[float, float], cells: int
) -> np.ndarray:
    """A float32 picture (3, height, width) with channel values inside `light` and `cells` patches a side."""
    grid = rng.uniform(*light, (cells + 1, cells + 1, 3)).astype(np.float32)
    rows = _blend_rows(grid, height)
    return np.ascontiguousarray(_blend_rows(rows.transpose(1, 0, 2), width).transpose(2, 1, 0))


def _blend_rows(grid: np.ndarray, size: int) -> np.ndarray:
    """Stretch the first axis to `size`, easing from each row to the next."""
    place = np.linspace(0, len(grid) - 1, size, dtype=np.float32)
    first = np.minimum(place.astype(int), len(grid) - 2)
    share = place - first
    ease = (share * share * (3 - 2 * share))[:, None, None].astype(np.float32)
    return grid[first] * (1 - ease) + grid[first + 1] * ease
