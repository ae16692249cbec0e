"""Clusters of a video of any length, its frames run chunk by chunk and never kept for the gradient.

The gradient of a frame's map is that of its cluster, divided by the cluster's size: it is known without the
map. So pass 1 counts distances, pass 2 sums maps by cluster, and the backward pass runs each chunk once more,
with a graph of its own, and back-propagates through it. Same clusters and gradient as from one graph over all
frames, if the early part treats each frame alone, norms in evaluation mode included; memory for one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from foveate.layers.cluster import Clusters, TemporalClustering, add_rows, empty_sums
from foveate.layers.hamming import hamming

Early = Callable[[Tensor], Tensor]


def stream_clusters(
    clustering: TemporalClustering,
    early: Early,
    parameters: Sequence[Tensor],
    chunks: Iterable[Tensor],
    lengths: Sequence[int] | None,
    hold: float,
) -> Clusters:
    """Run `early` on chunks of frames, cluster what comes, and give `parameters` their exact gradient.

    parameters: of `early`. chunks: of the frames of all videos in a row, anything that `early` takes; they
    are gone through one to three times, so not an iterator. lengths: frames of each video, None for one
    video of them all. hold: bytes of maps to keep at most from pass 1 to pass 2, which saves computing them
    again; where they are more, none is kept.
    """
    early = _same_precision(early, parameters[0].device.type)
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    kept: list[Tensor] = []
    with torch.no_grad():
        distances = hamming(_held(map(early, chunks), kept, hold), clustering.apart)
    grouping = clustering.group(distances, lengths or [len(distances[0]) + 1])
    count = grouping.sizes.numel()
    passes = 1 if kept else 2
    sums = _StreamedSums.apply(early, chunks, kept, grouping.rows, count, *learning)
    shown = clustering.show(sums, grouping).to(parameters[0].dtype)  # sums are at least float32
    return Clusters(shown, grouping, passes)


class _StreamedSums(torch.autograd.Function):
    """Maps summed by cluster; the gradient of the parameters of `early` is computed chunk by chunk."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx,
        early: Early,
        chunks: Iterable[Tensor],
        kept: list[Tensor],
        rows: Tensor,
        count: int,
        *learning: Tensor,
    ) -> Tensor:
        ctx.early, ctx.chunks = early, chunks
        ctx.save_for_backward(rows, *learning)
        sums: Tensor | None = None
        for maps, own in _with_rows(kept or map(early, chunks), rows):
            sums = empty_sums(maps, count) if sums is None else sums
            add_rows(sums, maps, own)
        kept.clear()
        assert sums is not None  # no video is empty
        return sums

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        rows, *learning = ctx.saved_tensors
        totals: list[Tensor | None] = [None] * len(learning)
        with torch.enable_grad():
            for maps, own in _with_rows(map(ctx.early, ctx.chunks), rows):
                parts = torch.autograd.grad(maps, learning, gradient[own].to(maps.dtype), allow_unused=True)
                totals = [_added(total, part) for total, part in zip(totals, parts, strict=True)]
        return (None, None, None, None, None, *totals)


def _added(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if total is None or part is None:
        return part if total is None else total
    return total.add_(part)


def _with_rows(maps: Iterable[Tensor], rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each chunk of maps with the rows of its frames."""
    start = 0
    for part in maps:
        yield part, rows[start : start + len(part)]
        start += len(part)


def _held(maps: Iterator[Tensor], kept: list[Tensor], most: float) -> Iterator[Tensor]:
    """The maps as they come; in the end `kept` has them all, or none if they take more than `most` bytes."""
    held = 0
    for part in maps:
        held += part.nbytes
        if held <= most:
            kept.append(part)
        else:
            kept.clear()
        yield part


def _same_precision(early: Early, device: str) -> Early:
    """`early` under the autocast of now, whenever it runs.

    Autocast's cache is off: a weight that is first met without a graph would have none later on.
    """
    if not torch.amp.is_autocast_available(device):
        return early
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)

    def run(frames: Tensor) -> Tensor:
        with torch.autocast(device, dtype, enabled, cache_enabled=False):
            return early(frames)

    return run
