"""Where a video is cut into clusters of consecutive frames, in closed form.

Slope cuts at the largest distances; cumulative cuts each time the summed distance has grown by another
g-th of its total (Liu et al., "No Frame Left Behind", CVPR 2021). Both are whole-number arithmetic on a table
(videos, frames), with no loop. The others are what they must beat. A rule takes distances (n, T - 1) of
neighbours, 0 where a video has ended, counts (n, 1) of frames and g; it returns cluster numbers (n, T)
that start at 0, never fall and grow by at most 1. What it says after the end of a video means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Rule = Literal["cumulative", "slope", "even", "random"]


def assign(
    rule: Rule, distances: Tensor, counts: Tensor, clusters: int, draw: torch.Generator | None = None
) -> Tensor:
    """Cluster numbers (n, T) by the named rule. draw: of one row of lots that all videos share (random)."""
    if rule == "cumulative":
        return cumulative(distances, counts, clusters)
    if rule == "slope":
        return slope(distances, counts, clusters)
    if rule == "random":
        return slope(_lots(distances, draw), counts, clusters)
    return even(counts, distances.shape[1] + 1, clusters)


def slope(distances: Tensor, counts: Tensor, clusters: int) -> Tensor:
    """Cut after the g - 1 frames with the largest distance to the next one; of equal ones, the later."""
    pairs = distances.shape[1]
    place = torch.arange(pairs, device=distances.device)
    rank = torch.where(place < counts - 1, distances * pairs + place, -1)  # unique: no tie is left
    highest = rank.topk(min(clusters - 1, pairs), dim=1)
    cuts = torch.zeros_like(distances).scatter(1, highest.indices, (highest.values >= 0).long())
    return _from_zero(cuts)


def cumulative(distances: Tensor, counts: Tensor, clusters: int) -> Tensor:
    """A new cluster each time another g-th of the total distance is passed, at most one a frame.

    After a jump over several g-ths the next frames open a cluster each until the number has caught up. In
    closed form: a[t] = t + min over s <= t of (k[s] - s) - 1, with k from `equal_steps`. A video in which
    nothing changes is cut evenly.
    """
    time = torch.arange(distances.shape[1] + 1, device=distances.device)
    walked = time + (equal_steps(distances, clusters) - time).cummin(1).values
    moves = distances.sum(1, keepdim=True) > 0
    return torch.where(moves, walked, even(counts, len(time), clusters))


def equal_steps(distances: Tensor, clusters: int) -> Tensor:
    """How many g-ths of the total distance lie before each frame, (n, T): k[t] - 1 = ceil(C[t] g / C) - 1.

    A jump over several of them leaves numbers out.
    """
    so_far = _from_zero(distances)  # C[t]
    total = so_far[:, -1:].clamp(min=1)
    return ((so_far * clusters + total - 1) // total - 1).clamp(min=0)


def even(counts: Tensor, frames: int, clusters: int) -> Tensor:
    """Parts of equal length; with fewer frames than clusters, each frame is one. Returns (n, frames)."""
    time = torch.arange(frames, device=counts.device)
    return time * clusters // counts.clamp(min=clusters)


def middles(lengths: Sequence[int], clusters: int) -> list[int]:
    """Places in the row of the middle frame of each of g equal parts of each video: uniform sampling.

    A video of at most g frames gives all of them.
    """
    places, start = [], 0
    for length in lengths:
        parts = min(clusters, length)
        places += [start + (2 * part + 1) * length // (2 * parts) for part in range(parts)]
        start += length
    return places


def _lots(distances: Tensor, draw: torch.Generator | None) -> Tensor:
    """A number by lot for each distance; those of a short video are the first ones of a longer one's."""
    if draw is None:
        return torch.randint_like(distances, 1 << 31)
    row = torch.randint(1 << 31, distances.shape[1:], generator=draw)
    return row.to(distances.device).expand_as(distances)


def _from_zero(steps: Tensor) -> Tensor:
    """Running sums (n, T) of (n, T - 1), the first one 0."""
    return torch.cat([steps.new_zeros(len(steps), 1), steps.cumsum(1)], dim=1)
