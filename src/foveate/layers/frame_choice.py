"""Frames by weight: how Uni-AdaFocus picks frames of a video, and the loss that teaches it which.

Wang et al., "Uni-AdaFocus: Spatial-temporal Dynamic Computation for Video Recognition", TPAMI 2024
(arXiv 2412.11228). T frames that were glanced at have weights (B, T) that sum to 1, and are read as a density
over the video that is constant on each of its T equal parts. The K frames are the quantiles of that density
among N candidates. No gradient passes the choice: the weights learn from the answer that a draw of frames by
weight would be expected to give.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DRAWS = 128  # of left-out frames, for each term of the expected answer


def glance_places(candidates: int, glances: int, within: float | Tensor = 0.5) -> Tensor:
    """Of the N candidates one in each of T equal parts, (..., T) int64.

    within: where in its part, in [0, 1), a number or (..., T); 0.5 is the middle. ValueError if there are
    fewer candidates than parts.
    """
    _check(candidates, glances)
    device = within.device if isinstance(within, Tensor) else None
    places = (torch.arange(glances, device=device) + within) * (candidates / glances)
    return places.long().clamp(max=candidates - 1)


def thresholds(count: int, within: float | Tensor = 0.5) -> Tensor:
    """Shares of the density at which the K frames lie, (..., K): (i + within) / K, within in [0, 1)."""
    device = within.device if isinstance(within, Tensor) else None
    return (torch.arange(count, device=device) + within) / count


def choose_frames(weights: Tensor, candidates: int, shares: Tensor) -> Tensor:
    """The K candidates at these shares of the density, (B, K) int64, strictly increasing, in 0..N-1.

    weights: (B, T), detached inside. candidates: N. shares: increasing `thresholds`, (K,) or (B, K). Equal
    weights give the middles of K equal parts. ValueError if there are fewer candidates than frames.
    """
    batch, parts = weights.shape
    count = shares.shape[-1]
    _check(candidates, count)
    edges = torch.nn.functional.pad(weights.detach().float().cumsum(1), (1, 0))  # c_0 = 0 .. c_T
    edges[:, -1] = 1  # whatever the rounding
    shares = shares.to(edges).expand(batch, count).contiguous()
    part = torch.searchsorted(edges[:, 1:].contiguous(), shares).clamp(max=parts - 1)  # j - 1
    low, high = edges.gather(1, part), edges.gather(1, part + 1)
    tiny = torch.finfo(edges.dtype).tiny  # a part without weight that begins at a share of exactly 0
    inside = (shares - low) / (high - low).clamp(min=tiny)
    frames = ((part + inside) * (candidates / parts)).long()
    return _increasing(frames, candidates)


def _increasing(frames: Tensor, candidates: int) -> Tensor:
    """Move each frame that is not behind the one before it, and leave room at the end for those after it."""
    steps = torch.arange(frames.shape[1], device=frames.device)
    return (frames - steps).cummax(1).values.clamp(max=candidates - len(steps)) + steps


def draw_left_out(weights: Tensor, most: int, draws: int = DRAWS) -> list[Tensor]:
    """Frames to leave out in each term of the expected answer: for i = 0 .. most - 1, (B, draws, i) int64.

    Drawn by weight (B, T) one after the other, without putting back, which is the order of the log-weights
    with Gumbel noise; frames without weight come last.
    """
    logs = weights.detach().float().log().unsqueeze(1).expand(-1, draws, -1)  # (B, draws, T)
    left_out = [logs.new_zeros(len(weights), 1, 0, dtype=torch.int64)]
    for count in range(1, most):
        noise = -torch.empty_like(logs).exponential_().log()
        left_out.append((logs + noise).topk(count, -1).indices)
    return left_out


def expected_logits(weights: Tensor, logits: Tensor, left_out: Sequence[Tensor]) -> Tensor:
    """The answer (B, classes) that frames drawn by weight without putting back are expected to give.

    weights: (B, T). logits: (B, T, classes), of each frame. left_out: `draw_left_out`. With a draw left out,
    the others' logits are averaged by their weights; then over draws and over the number left out. What the
    weights are divided by is detached, as in the release.
    """
    shares = []
    for draw in left_out:
        kept = torch.ones(*draw.shape[:2], weights.shape[1], device=weights.device).scatter(-1, draw, 0)
        total = (weights.detach().unsqueeze(1) * kept).sum(-1, keepdim=True)
        shares.append((kept / total.clamp(min=torch.finfo(total.dtype).eps)).mean(1))  # (B, T)
    return torch.einsum("bt,btc->bc", weights * torch.stack(shares).mean(0), logits)


def _check(candidates: int, frames: int) -> None:
    if candidates < frames:
        raise ValueError(f"a clip of {candidates} frames has no {frames} different ones to look at")
