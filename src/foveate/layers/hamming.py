"""Hamming distance between frames: the number of activations that are positive in only one of the two.

A ReLU network is linear in a region where the signs of its activations do not change, so averaging frames
with equal signs commutes with the rest of the network (Liu et al., "No Frame Left Behind", CVPR 2021). A bit
is "activation > 0"; distances are integers, so that ties are resolved alike on every device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

SLICE = 1 << 22  # activations compared at once, few enough for their bits to stay in the cache


def hamming(chunks: Iterable[Tensor], max_gap: int = 1) -> tuple[Tensor, ...]:
    """Hamming distances between frames that are 1, 2, .. `max_gap` frames apart.

    chunks: maps (k, C, H, W) of consecutive frames, N in all; only the bits of the last `max_gap` frames are
    kept from one chunk to the next. Returns int64 tensors (N - 1,), (N - 2,), ..
    """
    counts: list[list[Tensor]] = [[] for _ in range(max_gap)]
    kept: Tensor | None = None
    for maps in chunks:
        for bits in _bits(maps):
            before = 0 if kept is None else len(kept)
            both = bits if kept is None else torch.cat([kept, bits])
            for step, found in enumerate(counts, start=1):
                new = max(before, step)  # the first new frame that has a partner
                found.append(_count_set(both[new:] ^ both[new - step : max(0, len(both) - step)]))
            kept = both[-max_gap:]
    return tuple(torch.cat(found) for found in counts)


def _bits(maps: Tensor) -> Iterator[Tensor]:
    """Yield bits (k, F) of a few frames at a time, channels last (no copy for channels-last maps)."""
    frames = max(1, SLICE // max(1, maps[0].numel()))
    for part in maps.detach().split(frames):
        yield (part > 0).permute(0, 2, 3, 1).flatten(1)


def _count_set(bits: Tensor) -> Tensor:
    """Count the set bits in each row of a bool tensor (k, F): (k,).

    A bool is a byte of 0 or 1, so eight of them are added at once as an int64; up to 128 of these sum without
    a carry between bytes. A plain sum takes longer than the comparison itself.
    """
    if bits.shape[1] % 8:
        return bits.sum(1)
    eights = bits.view(torch.uint8).view(torch.int64)
    group = math.gcd(eights.shape[1], 128)
    return eights.unflatten(1, (-1, group)).sum(2).view(torch.uint8).sum(1)


def lasting(near: Tensor, far: Tensor, counts: Tensor) -> Tensor:
    """Distances that ignore single outlier frames: min of d(t,t+1), d(t-1,t+1) and d(t,t+2) (own addition).

    A flash makes two large distances, which would use up two cuts.
    near: d(t,t+1), (n, T - 1). far: d(t,t+2), (n, T - 2). counts: (n, 1), frames of each video.
    """
    if far.shape[1] < 1:
        return near
    never = torch.iinfo(near.dtype).max
    known = torch.arange(far.shape[1], device=near.device) < counts - 2
    far = torch.where(known, far, never)
    edge = far.new_full((len(far), 1), never)
    return torch.minimum(near, torch.minimum(torch.cat([edge, far], 1), torch.cat([far, edge], 1)))


def above_noise(distances: Tensor, counts: Tensor, deviations: int = 2) -> Tensor:
    """Subtract a noise floor, median + `deviations` * median absolute deviation; at least 0 (own addition).

    In a long static video the small changes of every frame add up to more than a short motion. Medians are
    taken per video, the lower of two, hence integers. distances: (n, T - 1), 0 after the end of a video.
    counts: (n, 1), frames of each video.
    """
    if distances.shape[1] < 1:
        return distances
    known = torch.arange(distances.shape[1], device=distances.device) < counts - 1
    middle = _median(distances, known, counts)
    deviation = _median((distances - middle).abs(), known, counts)
    return torch.where(known, (distances - middle - deviations * deviation).clamp(min=0), 0)


def _median(values: Tensor, known: Tensor, counts: Tensor) -> Tensor:
    """The lower median of the known values of each row, (n, 1)."""
    ordered = torch.where(known, values, torch.iinfo(values.dtype).max).sort(1).values
    middle: Tensor = ordered.gather(1, (counts - 2).clamp(min=0) // 2)
    return middle
