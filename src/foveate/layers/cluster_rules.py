"""Rules that cut a video into clusters of consecutive frames, in closed form.

Slope cuts at the largest distances; cumulative cuts each time the summed distance has grown by another
g-th of its total (Liu et al., "No Frame Left Behind", CVPR 2021). Both are integer arithmetic on padded
tensors (videos, frames), without a loop. "even" and "random" are baselines. A rule takes the distances
(n, T - 1) between neighbouring frames, 0 after the end of a video, the number of frames (n, 1) of each video
and g; it returns the cluster of each frame (n, T), which starts at 0 and grows by 0 or 1 from frame to frame.
Values after the end of a video are meaningless.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Rule = Literal["cumulative", "slope", "even", "random"]


def assign(
    rule: Rule, distances: Tensor, counts: Tensor, clusters: int, generator: torch.Generator | None = None
) -> Tensor:
    """Cluster of each frame (n, T) by the named rule.

    generator: for "random", draws one set of cuts that all videos share; None draws them for each video.
    """
    if rule == "cumulative":
        return cumulative(distances, counts, clusters)
    if rule == "slope":
        return slope(distances, counts, clusters)
    if rule == "random":
        return slope(_random_like(distances, generator), counts, clusters)
    return even(counts, distances.shape[1] + 1, clusters)


def slope(distances: Tensor, counts: Tensor, clusters: int) -> Tensor:
    """Cut after the g - 1 frames with the largest distance to the next; ties go to the later frame."""
    pairs = distances.shape[1]
    position = torch.arange(pairs, device=distances.device)
    rank = torch.where(position < counts - 1, distances * pairs + position, -1)  # unique: no tie is left
    highest = rank.topk(min(clusters - 1, pairs), dim=1)
    cuts = torch.zeros_like(distances).scatter(1, highest.indices, (highest.values >= 0).long())
    return _cumulative_sum(cuts)


def cumulative(distances: Tensor, counts: Tensor, clusters: int) -> Tensor:
    """Start a new cluster whenever another g-th of the total distance is passed, at most one per frame.

    If one distance spans several g-ths, each of the next frames starts a cluster until the number has caught
    up. In closed form: a[t] = t + min over s <= t of (k[s] - s) - 1, with k from `equal_steps`. A video
    without any change is cut evenly.
    """
    time = torch.arange(distances.shape[1] + 1, device=distances.device)
    labels = time + (equal_steps(distances, clusters) - time).cummin(1).values
    moves = distances.sum(1, keepdim=True) > 0
    return torch.where(moves, labels, even(counts, len(time), clusters))


def equal_steps(distances: Tensor, clusters: int) -> Tensor:
    """Number of g-ths of the total distance before each frame, (n, T): k[t] - 1 = ceil(C[t] g / C) - 1.

    Numbers may be skipped, unlike in the result of `cumulative`.
    """
    so_far = _cumulative_sum(distances)  # C[t]
    total = so_far[:, -1:].clamp(min=1)
    return ((so_far * clusters + total - 1) // total - 1).clamp(min=0)


def even(counts: Tensor, frames: int, clusters: int) -> Tensor:
    """Parts of equal length, (n, frames); one per frame if there are fewer frames than clusters."""
    time = torch.arange(frames, device=counts.device)
    return time * clusters // counts.clamp(min=clusters)


def middle_frames(lengths: Sequence[int], clusters: int) -> list[int]:
    """Uniform sampling: the middle frame of each of g equal parts of each video, or all frames if at most g.

    lengths: frames of each video. Returns indices into the concatenated frames of all videos.
    """
    indices, start = [], 0
    for length in lengths:
        parts = min(clusters, length)
        indices += [start + (2 * part + 1) * length // (2 * parts) for part in range(parts)]
        start += length
    return indices


def _random_like(distances: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random numbers in position of distances; with a generator, the same ones in every row."""
    if generator is None:
        return torch.randint_like(distances, 1 << 31)
    row = torch.randint(1 << 31, distances.shape[1:], generator=generator)
    return row.to(distances.device).expand_as(distances)


def _cumulative_sum(steps: Tensor) -> Tensor:
    """Cumulative sums of (n, T - 1) with a leading 0, (n, T)."""
    return torch.cat([steps.new_zeros(len(steps), 1), steps.cumsum(1)], dim=1)
