"""Many frames become few maps: consecutive frames with similar activations are averaged.

The cheap first part of a network sees every frame of a video, the rest only the mean of each cluster (Liu et
al., "No Frame Left Behind: Full Video Action Recognition", CVPR 2021). No parameter is added. What the paper
leaves open: a video with fewer clusters than asked for repeats its last one. What differs from the released
code: it never computes the last cluster of the cumulative rule, copies activations to the host and loops over
frames; here the last cluster counts and nothing leaves the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from foveate.layers.cluster_rules import Rule, assign
from foveate.layers.hamming import above_noise, hamming, lasting
from foveate.layers.ragged import Ragged

Aggregate = Literal["mean", "sum"]


class Grouping(NamedTuple):
    """Which frame belongs where, for n videos of up to T frames, N in all, and g clusters each.

    assignment: (n, T), cluster of each frame, -1 after the end of a video. sizes: (n, g), frames of each
    cluster, 0 for the missing ones. distances: (n, T - 1), what the rule saw. rows: (N,), cluster of each
    frame, counted through all videos. shown: (n*g,), which cluster stands in each row of the output.
    """

    assignment: Tensor
    sizes: Tensor
    distances: Tensor
    rows: Tensor
    shown: Tensor


class Clusters(NamedTuple):
    """maps: (n*g, C, H, W), the clusters of each video in order of time. grouping: how they came about.

    passes: how often each frame has been run.
    """

    maps: Tensor
    grouping: Grouping
    passes: int = 1


class TemporalClustering(nn.Module):
    """Frames of any number of videos to g maps each.

    clusters: g. aggregate: the sum grows with the cluster, which suits no pretrained weight. lasting:
    distances that ignore single odd frames. floor: ones that ignore noise; for the cumulative rule, as slope
    cuts at the same places with it. lose_last: leave the last cluster out, and show the one before it again,
    as the released code does in its cumulative rule. The rule `random` draws new cuts each time in training
    mode; in evaluation mode they are the same for each video of a length.
    """

    def __init__(
        self,
        clusters: int,
        rule: Rule = "cumulative",
        aggregate: Aggregate = "mean",
        lasting: bool = False,
        floor: bool = False,
        lose_last: bool = False,
    ) -> None:
        super().__init__()
        if clusters < 1:
            raise ValueError(f"{clusters} clusters: at least one is needed")
        self.clusters = clusters
        self.rule: Rule = rule
        self.aggregate = aggregate
        self.lasting = lasting
        self.floor = floor
        self.lose_last = lose_last

    @property
    def apart(self) -> int:
        """How many frames ahead distances are needed."""
        return 2 if self.lasting else 1

    def forward(self, maps: Tensor, lengths: Sequence[int]) -> Clusters:
        """maps: (N, C, H, W), the frames of all videos one after the other. lengths: frames of each."""
        grouping = self.group(hamming([maps], self.apart), lengths)
        sums = sum_rows(maps, grouping.rows, grouping.sizes.numel())
        return Clusters(self.show(sums, grouping).to(maps.dtype), grouping)

    def group(self, distances: Sequence[Tensor], lengths: Sequence[int]) -> Grouping:
        """Cut by what `hamming` counted over all frames in their row. lengths: frames of each video."""
        frames = Ragged(lengths, distances[0].device)
        near = frames.table(distances[0], 1)
        if self.lasting:
            near = lasting(near, frames.table(distances[1], 2), frames.counts)
            near = torch.where(frames.times[:, 1:] < frames.counts, near, 0)
        if self.floor and self.rule == "cumulative":  # what slope sees, the order, no constant changes
            near = above_noise(near, frames.counts)
        lots = None if self.training else torch.Generator().manual_seed(0)
        found = assign(self.rule, near, frames.counts, self.clusters, lots)  # (n, T)
        first = self.clusters * torch.arange(len(found), device=found.device).unsqueeze(1)
        sizes = near.new_zeros(len(found), self.clusters)
        sizes.scatter_add_(1, found.clamp(0, self.clusters - 1), frames.inside.long())
        last = found.gather(1, frames.counts - 1) - int(self.lose_last)
        shown = torch.arange(self.clusters, device=found.device).minimum(last.clamp(min=0)) + first
        assignment = torch.where(frames.inside, found, -1)
        return Grouping(assignment, sizes, near, frames.row(found + first), shown.flatten())

    def show(self, sums: Tensor, grouping: Grouping) -> Tensor:
        """Sums (n*g, C, H, W) of clusters as means, in their places; missing ones repeat the last one."""
        if self.aggregate == "mean":
            sums = sums / grouping.sizes.clamp(min=1).view(-1, 1, 1, 1)
        maps: Tensor = _Repeated.apply(sums, grouping.shown)
        return maps

    def extra_repr(self) -> str:
        return f"clusters={self.clusters}, rule={self.rule}"


def sum_rows(maps: Tensor, rows: Tensor, count: int) -> Tensor:
    """Add up maps (N, C, H, W) by their row, (count, C, H, W), at least in float32; rows never fall."""
    sums = empty_sums(maps, count)
    add_rows(sums, maps, rows)
    return sums


def empty_sums(maps: Tensor, count: int) -> Tensor:
    """Zeros (count, C, H, W), channels last, to add maps like these to."""
    _, channels, height, width = maps.shape
    dtype = torch.promote_types(maps.dtype, torch.float32)
    return maps.new_zeros(count, height, width, channels, dtype=dtype).permute(0, 3, 1, 2)


def add_rows(sums: Tensor, maps: Tensor, rows: Tensor) -> None:
    """Add each of maps (k, C, H, W) to its row of channels-last sums, in the order of the frames.

    On a CPU, adding by index keeps that order and runs at the speed of memory. On a GPU it does not, and the
    last digit would differ from run to run; there, reducing the segments gives one thread each sum.
    """
    total = sums.permute(0, 2, 3, 1).flatten(1)  # channels last: no copy
    flat = maps.permute(0, 2, 3, 1).flatten(1).to(sums.dtype)
    if flat.is_cuda:
        sizes = rows.new_zeros(len(sums)).scatter_add_(0, rows, torch.ones_like(rows))
        total += torch.segment_reduce(flat, "sum", lengths=sizes, unsafe=True, initial=0)
    else:
        total.index_add_(0, rows, flat)


class _Repeated(torch.autograd.Function):
    """maps[rows] for rows that never fall, whose gradient adds repeated rows up in a fixed order."""

    @staticmethod
    def forward(ctx, maps: Tensor, rows: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(rows)
        ctx.count = len(maps)
        return maps.permute(0, 2, 3, 1)[rows].permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (rows,) = ctx.saved_tensors
        return sum_rows(gradient, rows, ctx.count), None
