"""How far apart neighbouring frames are: the number of activations that are on in one and off in the other.

A ReLU network is linear where the signs of its activations agree, so frames of equal signs may be averaged
without changing what the rest of the network says of their mean (Liu et al., "No Frame Left Behind", CVPR
2021). A bit is "activation > 0"; counts are whole numbers, so that every device agrees on every tie.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

SLICE = 1 << 22  # activations compared at once: their bits stay in the cache


def hamming(chunks: Iterable[Tensor], apart: int = 1) -> tuple[Tensor, ...]:
    """Differing bits of frames 1, 2, .. `apart` frames from each other: one row of counts for each.

    chunks: maps (k, C, H, W) of consecutive frames, N in all; only the bits of the last frames are kept from
    one to the next. Returns int64 tensors (N - 1,), (N - 2,), ..
    """
    counts: list[list[Tensor]] = [[] for _ in range(apart)]
    kept: Tensor | None = None
    for maps in chunks:
        for bits in _bits(maps):
            before = 0 if kept is None else len(kept)
            both = bits if kept is None else torch.cat([kept, bits])
            for step, found in enumerate(counts, start=1):
                new = max(before, step)  # the first frame that is new and has a partner
                found.append(_set(both[new:] ^ both[new - step : max(0, len(both) - step)]))
            kept = both[-apart:]
    return tuple(torch.cat(found) for found in counts)


def _bits(maps: Tensor) -> Iterator[Tensor]:
    """Bits (k, F) of a few frames at a time, in channels-last order, which costs no copy for such maps."""
    frames = max(1, SLICE // max(1, maps[0].numel()))
    for part in maps.detach().split(frames):
        yield (part > 0).permute(0, 2, 3, 1).flatten(1)


def _set(bits: Tensor) -> Tensor:
    """How many of each row (k, F) are set, (k,).

    They are bytes of 0 or 1, so eight at a time are added as one whole number, up to 128 of which leave no
    carry from byte to byte. Counting takes longer than comparing otherwise.
    """
    if bits.shape[1] % 8:
        return bits.sum(1)
    eights = bits.view(torch.uint8).view(torch.int64)
    together = math.gcd(eights.shape[1], 128)
    return eights.unflatten(1, (-1, together)).sum(2).view(torch.uint8).sum(1)


def lasting(near: Tensor, far: Tensor, counts: Tensor) -> Tensor:
    """Distances in which a single odd frame does not show: the least of d(t,t+1), d(t-1,t+1), d(t,t+2).

    A flash makes two large distances, which would take two cuts from the motion (own addition).
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
    """Distances less what noise makes of them, at least 0: median + `deviations` * median deviation.

    In a long quiet video small changes of every frame add up to more than a short motion (own addition).
    Medians are per video and the lower one of two, hence whole numbers. distances: (n, T - 1), 0 where a
    video has ended. counts: (n, 1), frames of each video.
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
