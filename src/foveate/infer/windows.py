"""Long videos are named piece by piece: from the times of frames to windows, and from labels to segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from foveate.infer.result import Segment

LONG = 20.0  # seconds; a longer video gets labels over time unless told otherwise
WINDOW = 5.0  # seconds for each of them


@dataclass(frozen=True)
class Window:
    """Frames `first` to `end`, which is the first one after them, and the time they are shown."""

    first: int
    end: int
    start_s: float
    end_s: float


def cut(times: NDArray[np.float64], end_s: float, seconds: float | None) -> list[Window]:
    """Windows of equal time, as near to `seconds` as they go into the whole; one without frames is left out.

    times: seconds at which each frame is shown, (frames,), never falling. end_s: when the last one ends.
    seconds: 0 makes one window; None makes one of up to 20 s of video and windows of 5 s of a longer one.
    """
    duration = end_s - float(times[0])
    if seconds is None:
        seconds = WINDOW if duration > LONG else 0.0
    count = max(1, round(duration / seconds)) if seconds > 0 else 1
    number = np.zeros(len(times)) if count == 1 else (times - times[0]) * (count / duration) // 1
    firsts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist()]
    edges = [*firsts, len(times)]
    shown = [*times[firsts].tolist(), end_s]
    return [Window(*frames, *span) for frames, span in zip(pairwise(edges), pairwise(shown), strict=True)]


def join(windows: Sequence[Window], scores: Tensor, labels: Sequence[str]) -> tuple[Segment, ...]:
    """Neighbouring windows of one label as one segment with their mean score. scores: (windows, classes)."""
    best = scores.argmax(1).tolist()
    segments = []
    for index, group in groupby(range(len(windows)), key=best.__getitem__):
        run = list(group)
        start_s, end_s = windows[run[0]].start_s, windows[run[-1]].end_s
        score = float(scores[run, index].mean())
        segments.append(Segment(start_s, end_s, labels[index], index, score))
    return tuple(segments)
