"""Stop reading once the answer is sure: conditional exit of AdaFocus, which answers after every frame.

After step k the probability of the best class is compared with a threshold T_k. The thresholds are solved on
training data so that a wanted mean number of frames is read: the share of videos that stop at step k follows
a geometric law q^k (Wang et al., "AdaFocus V2", CVPR 2022, section 3.4). The released code calls the largest
logit the confidence; here it is the probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

Step = Callable[[Tensor, Sequence[Any]], tuple[Any, list[Any]]]
"""(frames (B, 3, H, W), kept) -> (a trace with `logits` (B, classes) and `corners`, `looked`; kept)."""


def exit_shares(steps: int, mean_steps: float) -> Tensor:
    """Shares (steps,) of a geometric law whose mean step, counted from 1, is `mean_steps`."""
    if not 1 <= mean_steps <= steps:
        raise ValueError(f"a budget of {mean_steps} frames does not lie within 1 and {steps}")
    number = torch.arange(1, steps + 1, dtype=torch.float64)
    low, high = -20.0, 20.0  # of log q
    for _ in range(80):
        middle = (low + high) / 2
        shares = (middle * (number - 1)).softmax(0)
        low, high = (middle, high) if (shares * number).sum() < mean_steps else (low, middle)
    return ((low + high) / 2 * (number - 1)).softmax(0)


def solve_thresholds(step_logits: Tensor, mean_steps: float) -> tuple[float, ...]:
    """Thresholds for each step such that the given videos read `mean_steps` frames on average.

    step_logits: (N, T, classes) of training videos. The last threshold is 0: everybody stops there.
    """
    confidence = step_logits.softmax(-1).amax(-1).double()  # (N, T)
    shares = exit_shares(confidence.shape[1], mean_steps)
    reading = torch.ones(len(confidence), dtype=torch.bool)
    thresholds = []
    for step in range(confidence.shape[1] - 1):
        leave = min(round(float(shares[step]) * len(confidence)), int(reading.sum()))
        threshold = _between(confidence[reading, step].sort(descending=True).values, leave)
        thresholds.append(threshold)
        reading &= confidence[:, step] < threshold
    return (*thresholds, 0.0)


def _between(ranked: Tensor, leave: int) -> float:
    """Half way from the last confidence that leaves to the first that stays, or beyond the end."""
    if leave == 0:
        return 1.01  # nobody is that sure
    if leave == len(ranked):
        return float(ranked[-1]) / 2
    return float(ranked[leave - 1] + ranked[leave]) / 2


def exit_steps(step_logits: Tensor, thresholds: Sequence[float]) -> Tensor:
    """The step, from 0, at which each video stops. step_logits: (N, T, classes). Returns (N,)."""
    sure = step_logits.softmax(-1).amax(-1) >= torch.tensor(thresholds, device=step_logits.device)
    sure[:, -1] = True
    return sure.int().argmax(1)


def check_exits(thresholds: Sequence[float], frames: int) -> None:
    """ValueError unless there is a threshold for every frame of a clip, or none at all."""
    if thresholds and len(thresholds) != frames:
        raise ValueError(f"{len(thresholds)} exit thresholds do not fit a clip of {frames} frames")


def read_until_sure(step: Step, clip: Tensor, order: Tensor, thresholds: Sequence[float]) -> Any:
    """Run `step` frame by frame on the videos that are not sure yet; nothing is computed for the others.

    clip: (B, 3, T, S, S) in the order read. Returns a FocusTrace; after a video has stopped its logits are
    repeated, and its frames count as not looked at.
    """
    batch, frames = len(clip), clip.shape[2]
    check_exits(thresholds, frames)
    active = torch.arange(batch, device=clip.device)
    kept: list[Any] = []
    rows: list[tuple[Tensor, Any]] = []
    steps = torch.full((batch,), frames)
    for number, threshold in enumerate(thresholds):
        trace, kept = step(clip[active, :, number], kept)
        rows.append((active, trace))
        sure = trace.logits.softmax(-1).amax(-1) >= threshold
        steps[active[sure].cpu()] = number + 1
        active = active[~sure]
        if not len(active):
            break
        kept = [None if state is None else _rows(state, ~sure) for state in kept]
    return _joined(rows, batch, frames, order, steps)


def _rows(state: Tensor, chosen: Tensor) -> Tensor:
    """The states of the chosen videos: GRUs hold them in dimension 1, (1, B, width), others in 0."""
    return state[:, chosen] if state.shape[0] == 1 and state.shape[1] == len(chosen) else state[chosen]


def _joined(rows: Sequence[tuple[Tensor, Any]], batch: int, frames: int, order: Tensor, steps: Tensor) -> Any:
    first = rows[0][1]
    step_logits = first.logits.new_zeros(batch, frames, first.logits.shape[-1])
    corners = first.corners.new_zeros(batch, frames, 2)
    looked = torch.zeros(batch, frames, dtype=torch.bool, device=first.looked.device)
    for number, (active, trace) in enumerate(rows):
        step_logits[active, number:] = trace.logits.unsqueeze(1)  # stands until a later step replaces it
        corners[active, number:] = trace.corners
        looked[active, number] = trace.looked[:, 0]
    return replace(
        first,
        logits=step_logits[:, -1],
        step_logits=step_logits,
        corners=corners,
        looked=looked,
        order=order,
        steps=steps,
    )
