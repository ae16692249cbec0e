"""When reading may stop: conditional exit of AdaFocus and AdaFocusV2, which answer after every frame.

After step k the probability of the best class is compared with a threshold T_k. The thresholds are solved on
training data so that a wanted mean number of frames is read: the share of videos that stop at step k follows
a geometric law q^k (Wang et al., "AdaFocus V2", CVPR 2022, section 3.4). The released code calls the largest
logit the confidence; here it is the probability.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NEVER = 1.01  # a threshold that no probability reaches


def exit_shares(steps: int, mean_frames: float, after: Sequence[int] = ()) -> Tensor:
    """Shares (steps,) of a geometric law with which `mean_frames` are read on average.

    after: frames read before each step's answer, increasing; by default 1, 2, .. steps.
    """
    read = torch.tensor(after or range(1, steps + 1), dtype=torch.float64)
    if not read[0] <= mean_frames <= read[-1]:
        bounds = f"{int(read[0])} and {int(read[-1])}"
        raise ValueError(f"a budget of {mean_frames} frames does not lie within {bounds}")
    number = torch.arange(1, steps + 1, dtype=torch.float64)
    low, high = -20.0, 20.0  # of log q
    for _ in range(80):
        middle = (low + high) / 2
        shares = (middle * (number - 1)).softmax(0)
        low, high = (middle, high) if (shares * read).sum() < mean_frames else (low, middle)
    return ((low + high) / 2 * (number - 1)).softmax(0)


def solve_thresholds(step_logits: Tensor, mean_frames: float, after: Sequence[int] = ()) -> tuple[float, ...]:
    """Thresholds for each step such that the given videos read `mean_frames` on average.

    step_logits: (N, T, classes) of training videos. after: see `exit_shares`. The last threshold is 0:
    everybody stops there.
    """
    confidence = step_logits.softmax(-1).amax(-1).double()  # (N, T)
    shares = exit_shares(confidence.shape[1], mean_frames, after)
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
        return NEVER
    if leave == len(ranked):
        return float(ranked[-1]) / 2
    return float(ranked[leave - 1] + ranked[leave]) / 2


def hold_first_sure(step_logits: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Let the first sure answer of each video stand for the frames after it.

    step_logits: (B, T, classes). thresholds: (T,). Returns the answers (B, T, classes), and which
    videos are not sure after any of these frames, (B,).
    """
    unsure = step_logits.softmax(-1).amax(-1) < thresholds  # (B, T)
    before = unsure.cumprod(1).sum(1, keepdim=True)  # frames before the first sure one
    last = len(thresholds) - 1
    places = torch.arange(last + 1, device=before.device).minimum(before)  # (B, T)
    held = step_logits.gather(1, places.unsqueeze(-1).expand_as(step_logits))
    return held, before.squeeze(1) > last


def check_exits(thresholds: Sequence[float], frames: int, group: int = 1) -> None:
    """ValueError unless there is a threshold for every answer, one a frame of a clip, or none at all.

    group: frames between two decisions, at least 1.
    """
    if group < 1:
        raise ValueError(f"exit_group is {group}; it must be at least 1 frame")
    if thresholds and len(thresholds) != frames:
        raise ValueError(f"{len(thresholds)} exit thresholds do not fit {frames} answers")
