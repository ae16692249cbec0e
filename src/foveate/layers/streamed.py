"""Temporal clustering of a video of any length in constant memory, forward and backward.

The gradient of a frame's map is that of its cluster divided by the cluster's size, so it is known without
the map. Pass 1 computes the distances, pass 2 sums the maps of each cluster, and the backward pass runs each
chunk of frames once more and back-propagates through it. Clusters and gradients equal those of one graph over
all frames if the early part treats each frame alone (batch norms in evaluation mode). Only one chunk is in
memory at a time.
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
    max_kept: float,
) -> Clusters:
    """Run `early` on chunks of frames and cluster the maps; `parameters` get their exact gradient.

    early: the first layers of the network, frames to maps. parameters: those of `early`. chunks: the frames
    of all videos one after another, iterated over up to three times, so not an iterator. lengths: frames of
    each video; None for a single video. max_kept: bytes of maps that may be kept from pass 1 to pass 2,
    which saves computing them again; if they take more, none are kept.
    """
    early = _same_precision(early, parameters[0].device.type)
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    kept: list[Tensor] = []
    with torch.no_grad():
        distances = hamming(_keep(map(early, chunks), kept, max_kept), clustering.max_gap)
    grouping = clustering.group(distances, lengths or [len(distances[0]) + 1])
    count = grouping.sizes.numel()
    grouping = grouping._replace(passes=1 if kept else 2)
    sums = _StreamedSums.apply(early, chunks, kept, grouping.rows, count, *trainable)
    maps = clustering.finish(sums, grouping).to(parameters[0].dtype)  # sums are at least float32
    return Clusters(maps, grouping)


class _StreamedSums(torch.autograd.Function):
    """Sum the maps of each cluster; the gradient of the parameters is computed chunk by chunk."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx,
        early: Early,
        chunks: Iterable[Tensor],
        kept: list[Tensor],
        rows: Tensor,
        count: int,
        *trainable: Tensor,
    ) -> Tensor:
        ctx.early, ctx.chunks = early, chunks
        ctx.save_for_backward(rows, *trainable)
        sums: Tensor | None = None
        for maps, own_rows in _with_rows(kept or map(early, chunks), rows):
            sums = empty_sums(maps, count) if sums is None else sums
            add_rows(sums, maps, own_rows)
        kept.clear()
        assert sums is not None  # no video is empty
        return sums

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        rows, *trainable = ctx.saved_tensors
        totals: list[Tensor | None] = [None] * len(trainable)
        with torch.enable_grad():
            for maps, own_rows in _with_rows(map(ctx.early, ctx.chunks), rows):
                parts = torch.autograd.grad(
                    maps, trainable, gradient[own_rows].to(maps.dtype), allow_unused=True
                )
                totals = [_add(total, part) for total, part in zip(totals, parts, strict=True)]
        return (None, None, None, None, None, *totals)


def _add(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if total is None or part is None:
        return part if total is None else total
    return total.add_(part)


def _with_rows(maps: Iterable[Tensor], rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each chunk of maps with the rows of its frames."""
    start = 0
    for part in maps:
        yield part, rows[start : start + len(part)]
        start += len(part)


def _keep(maps: Iterator[Tensor], kept: list[Tensor], max_bytes: float) -> Iterator[Tensor]:
    """Yield the maps and collect them in `kept`, which is emptied if they take more than `max_bytes`."""
    size = 0
    for part in maps:
        size += part.nbytes
        if size <= max_bytes:
            kept.append(part)
        else:
            kept.clear()
        yield part


def _same_precision(early: Early, device: str) -> Early:
    """`early` under the autocast settings of this moment, because the backward pass runs it later.

    Autocast's weight cache is off: a weight cached without a graph in pass 1 would get no gradient.
    """
    if not torch.amp.is_autocast_available(device):
        return early
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)

    def run(frames: Tensor) -> Tensor:
        with torch.autocast(device, dtype, enabled, cache_enabled=False):
            return early(frames)

    return run
