"""Temporal clustering: average the feature maps of consecutive frames with similar activations.

The cheap early part of a network runs on every frame of a video, the rest only on the mean of each cluster
(Liu et al., "No Frame Left Behind: Full Video Action Recognition", CVPR 2021). No parameters are added. The
paper does not say what happens to a video with fewer clusters than g; here its last cluster is repeated.
Differences from the released code: it drops the last cluster of the cumulative rule, copies activations to
the host and loops over frames; here the last cluster is kept and everything stays on the device.
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
    """Clusters of n videos of up to T frames, N frames in all, with g clusters each; all int64.

    assignment: (n, T), cluster of each frame, -1 after the end of a video. sizes: (n, g), frames in each
    cluster, 0 for missing ones. distances: (n, T - 1) between neighbouring frames, as the rule received them.
    rows: (N,), cluster of each frame, numbered across all videos. output_rows: (n*g,), the cluster in each
    row of the output, in which missing clusters repeat the last one. passes: how often each frame was run.
    """

    assignment: Tensor
    sizes: Tensor
    distances: Tensor
    rows: Tensor
    output_rows: Tensor
    passes: int = 1


class Clusters(NamedTuple):
    """maps: (n*g, C, H, W), one per cluster, in temporal order. grouping: which frames are in each."""

    maps: Tensor
    grouping: Grouping


class TemporalClustering(nn.Module):
    """Reduce the frames of each video to g feature maps.

    clusters: g. aggregate: mean or sum over the frames of a cluster; a sum grows with the cluster, which
    does not fit pretrained weights. lasting: use distances that ignore single outlier frames. floor: subtract
    a noise floor from the distances; cumulative rule only, because slope depends on their order alone.
    lose_last: drop the last cluster and repeat the one before it, as the released code does in its cumulative
    rule. The rule "random" draws new cuts at each call in training mode and fixed ones in evaluation mode.
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

    def of(self, clusters: int) -> TemporalClustering:
        """The same with another number of clusters."""
        options = (self.rule, self.aggregate, self.lasting, self.floor, self.lose_last)
        return TemporalClustering(clusters, *options).train(self.training)

    @property
    def max_gap(self) -> int:
        """Largest distance in frames between two frames that are compared: 1, or 2 with `lasting`."""
        return 2 if self.lasting else 1

    def forward(self, maps: Tensor, lengths: Sequence[int]) -> Clusters:
        """maps: (N, C, H, W), the frames of all videos one after another. lengths: frames of each video."""
        grouping = self.group(hamming([maps], self.max_gap), lengths)
        sums = sum_rows(maps, grouping.rows, grouping.sizes.numel())
        return Clusters(self.finish(sums, grouping).to(maps.dtype), grouping)

    def group(self, distances: Sequence[Tensor], lengths: Sequence[int]) -> Grouping:
        """Cluster by distances, as `hamming` returns them for the N frames. lengths: frames of each video."""
        frames = Ragged(lengths, distances[0].device)
        near = frames.pad(distances[0], 1)
        if self.lasting:
            near = lasting(near, frames.pad(distances[1], 2), frames.counts)
            near = torch.where(frames.times[:, 1:] < frames.counts, near, 0)
        if self.floor and self.rule == "cumulative":  # a constant does not change the order that slope uses
            near = above_noise(near, frames.counts)
        generator = None if self.training else torch.Generator().manual_seed(0)
        labels = assign(self.rule, near, frames.counts, self.clusters, generator)  # (n, T)
        first = self.clusters * torch.arange(len(labels), device=labels.device).unsqueeze(1)
        sizes = near.new_zeros(len(labels), self.clusters)
        sizes.scatter_add_(1, labels.clamp(0, self.clusters - 1), frames.inside.long())
        last = labels.gather(1, frames.counts - 1) - int(self.lose_last)
        output_rows = torch.arange(self.clusters, device=labels.device).minimum(last.clamp(min=0)) + first
        assignment = torch.where(frames.inside, labels, -1)
        return Grouping(assignment, sizes, near, frames.flatten(labels + first), output_rows.flatten())

    def finish(self, sums: Tensor, grouping: Grouping) -> Tensor:
        """Cluster sums (n*g, C, H, W) to the output: means if so configured, missing clusters filled in."""
        if self.aggregate == "mean":
            sums = sums / grouping.sizes.clamp(min=1).view(-1, 1, 1, 1)
        maps: Tensor = _TakeRows.apply(sums, grouping.output_rows)
        return maps

    def extra_repr(self) -> str:
        return f"clusters={self.clusters}, rule={self.rule}"


def sum_rows(maps: Tensor, rows: Tensor, count: int) -> Tensor:
    """Sum maps (N, C, H, W) that share a row, (N,) sorted: (count, C, H, W), at least float32."""
    sums = empty_sums(maps, count)
    add_rows(sums, maps, rows)
    return sums


def empty_sums(maps: Tensor, count: int) -> Tensor:
    """Zeros (count, C, H, W), channels last, to which `add_rows` adds maps of this shape."""
    _, channels, height, width = maps.shape
    dtype = torch.promote_types(maps.dtype, torch.float32)
    return maps.new_zeros(count, height, width, channels, dtype=dtype).permute(0, 3, 1, 2)


def add_rows(sums: Tensor, maps: Tensor, rows: Tensor) -> None:
    """Add maps (k, C, H, W) to the rows (k,) of channels-last sums, in the order of the frames.

    On a CPU, index_add_ keeps that order and is bound by memory bandwidth. On a GPU it uses atomics, so the
    last digit would vary between runs; segment_reduce computes each sum in one thread.
    """
    total = sums.permute(0, 2, 3, 1).flatten(1)  # channels last: no copy
    flat = maps.permute(0, 2, 3, 1).flatten(1).to(sums.dtype)
    if flat.is_cuda:
        sizes = rows.new_zeros(len(sums)).scatter_add_(0, rows, torch.ones_like(rows))
        total += torch.segment_reduce(flat, "sum", lengths=sizes, unsafe=True, initial=0)
    else:
        total.index_add_(0, rows, flat)


class _TakeRows(torch.autograd.Function):
    """maps[rows] for sorted rows, with a deterministic gradient: repeated rows are added in a fixed order."""

    @staticmethod
    def forward(ctx, maps: Tensor, rows: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(rows)
        ctx.count = len(maps)
        return maps.permute(0, 2, 3, 1)[rows].permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (rows,) = ctx.saved_tensors
        return sum_rows(gradient, rows, ctx.count), None
