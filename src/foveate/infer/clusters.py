"""Which stretches of a video a full-video model took as one, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from foveate.models.base import VideoModel
from foveate.models.fullvideo import FullVideo


@dataclass(frozen=True)
class Cluster:
    """A stretch whose frames the model averaged. frames: different ones it saw. cluster: number, from 0."""

    start_s: float
    end_s: float
    frames: int
    cluster: int


def makes_clusters(model: VideoModel) -> bool:
    """Whether the model averages neighbouring frames when it answers; single frames are no stretches."""
    return isinstance(model, FullVideo) and model.config.eval_mode == "cluster"


def clusters_of(
    assignment: Sequence[int],
    frames: Sequence[int],
    times: NDArray[np.float64],
    span: tuple[float, float],
    first: int,
) -> list[Cluster]:
    """The clusters of a window, in order of time; none where the clip begins again at the end of the video.

    assignment: cluster of each frame of the clip. frames: where they stand in the video; one that is repeated
    counts once, in its first cluster, and a cluster of nothing else is left out. times: seconds at which
    each frame of the video is shown. span: start and end of the window, in seconds. first: number of its
    first cluster.
    """
    if any(before > after for before, after in pairwise(frames)):
        return []
    clusters: dict[int, int] = {}
    for frame, number in zip(frames, assignment, strict=True):
        clusters.setdefault(frame, number)
    members = [list(own) for _, own in groupby(clusters, key=clusters.__getitem__)]
    starts = [span[0], *(float(times[own[0]]) for own in members[1:])]
    ends = [*starts[1:], span[1]]
    return [
        Cluster(start_s, end_s, len(own), number)
        for number, (own, start_s, end_s) in enumerate(zip(members, starts, ends, strict=True), start=first)
    ]
