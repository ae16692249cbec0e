"""Which stretches of a video a full-video model took as one, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cluster:
    """A stretch whose frames the model averaged. frames: how many it looked at. cluster: number, from 0."""

    start_s: float
    end_s: float
    frames: int
    cluster: int


def clusters_of(
    trace: Any, frames: Sequence[int], times: NDArray[np.float64], span: tuple[float, float], first: int
) -> list[Cluster]:
    """The clusters of a window, in order of time; none for a model that makes none.

    trace: of the model, its first view of the frames that stand at `frames` of the video. times: seconds at
    which each frame of the video is shown. span: start and end of the window, in seconds. first: number of
    its first cluster.
    """
    if not hasattr(trace, "assignment"):
        return []
    numbers = trace.assignment[0].tolist()  # (T,), -1 for a frame that was not looked at
    looked = [(number, frame) for number, frame in zip(numbers, frames, strict=True) if number >= 0]
    members: dict[int, list[int]] = {}
    for number, frame in looked:
        members.setdefault(number, []).append(frame)
    starts = [span[0], *(float(times[own[0]]) for own in list(members.values())[1:])]
    ends = [*starts[1:], span[1]]
    return [
        Cluster(start_s, end_s, len(own), first + number)
        for (number, own), start_s, end_s in zip(members.items(), starts, ends, strict=True)
    ]
