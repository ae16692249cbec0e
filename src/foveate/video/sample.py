"""Sampling rules: which frame indices of a video make a clip.

Five rules: one frame from each of T equal segments (TSN, section 3.1 of its paper), the same with borders
rounded to whole frames (SlowFast's release on Something-Something), T frames a fixed stride apart (I3D and
the Non-local networks), every frame (full-video models), T frames spread evenly over a duration (SlowFast on
Kinetics). Without a random generator each rule gives its deterministic test indices, with one a random
training sample. Indices count from 0.

For a video with fewer frames than the clip, `ClipSpec.short` names a policy:

- "spread": frames are repeated evenly over the clip, which keeps their order and pace. The test rule of TSM;
  bLVNet-TAM samples such repeats at random.
- "repeat_first": only the first frame, T times. TSM and AdaFocus-TSM in training and validation; it loses all
  motion and is here to reproduce their numbers.
- "repeat_last": all frames, then the last one until the clip is full. AdaFocus on ActivityNet.
- "wrap": all frames, then again from the first. What the dense rules of TSM and bLVNet-TAM do with any
  short video.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foveate.clip import ClipSpec, ShortPolicy
from foveate.errors import UsageError

Jitter = Literal["each", "shared"]  # one random offset per segment (TSN, TSM) | one for all (bLVNet-TAM)


def segments(
    total: int,
    frames: int,
    rng: np.random.Generator | None = None,
    short: ShortPolicy = "spread",
    jitter: Jitter = "each",
) -> list[int]:
    """One index from each of `frames` equal segments of a video of `total` frames.

    Test: the middle of each segment, `int(tick / 2 + tick * i)` with `tick = total / frames`. Training:
    segments are `total // frames` long, with one random offset for each or one for all, which keeps the
    frames equally spaced. Sorted, except with the short policy "wrap". ValueError for counts below 1.
    """
    _check_positive(total=total, frames=frames)
    if total < frames and short != "spread":
        return _short(total, frames, short)
    if rng is None:
        return _in_each_segment(total, frames, 0.5)
    draws = frames if jitter == "each" else 1
    if total < frames:
        return _in_each_segment(total, frames, rng.random(draws))
    length = total // frames
    picked: list[int] = (np.arange(frames) * length + rng.integers(0, length, draws)).tolist()
    return picked


def rounded_segments(
    total: int, frames: int, rng: np.random.Generator | None = None, place: float = 0.5
) -> list[int]:
    """One index from each of `frames` segments of (total - 1) / frames, their ends rounded to whole frames.

    Test: the frame at the fraction `place` of each segment, rounded down. Training: any frame of it, both
    ends included. A short video repeats frames. ValueError for counts below 1.
    """
    _check_positive(total=total, frames=frames)
    ends = np.round((total - 1) / frames * np.arange(frames + 1)).astype(int)
    first, last = ends[:-1], ends[1:]
    within = ((last - first) * place).astype(int) if rng is None else rng.integers(0, last - first + 1)
    picked: list[int] = (first + within).tolist()
    return picked


def dense(total: int, frames: int, stride: int, rng: np.random.Generator | None = None) -> list[int]:
    """`frames` indices, `stride` apart, from a uniformly random start (training) or the middle (test).

    A video shorter than `frames * stride` is read from its first frame and wraps around at its end.
    ValueError for counts below 1.
    """
    _check_positive(total=total, frames=frames, stride=stride)
    room = max(0, total - frames * stride)
    start = room // 2 if rng is None else int(rng.integers(0, room + 1))
    return _from_start(total, frames, stride, start)


def every(total: int, limit: int | None = None) -> list[int]:
    """All indices, or every k-th with the smallest integer k that leaves at most `limit` of them."""
    _check_positive(total=total)
    if limit is None:
        return list(range(total))
    _check_positive(limit=limit)
    return list(range(0, total, -(-total // limit)))


def even(total: int, frames: int, span: float, rng: np.random.Generator | None = None) -> list[int]:
    """`frames` indices spread evenly over `span` frames, from a random start (training) or the middle (test).

    They are (span - 1) / (frames - 1) apart, rounded down: slightly more than span / frames, as SlowFast was
    trained. A shorter video repeats its last frame. ValueError for counts below 1.
    """
    _check_positive(total=total, frames=frames)
    room = max(0.0, total - span)
    start = room // 2 if rng is None else float(rng.uniform(0, room))
    return _evenly(total, frames, span, start)


def span_of(spec: ClipSpec, fps: float | None) -> float:
    """Number of frames (float, >= 1) that an "even" clip covers in a video of `fps` frames per second."""
    pace = fps / spec.fps if fps and spec.fps else 1.0
    return max(1.0, spec.frames * spec.stride * pace)


def clip_indices(
    total: int,
    spec: ClipSpec,
    rng: np.random.Generator | None = None,
    jitter: Jitter = "each",
    fps: float | None = None,
) -> list[int]:
    """The indices of one clip by the rule of `spec`: `spec.frames` of them, or at most as many with "all".

    total: frames of the video. rng: for a random training clip; None gives the test clip. jitter: of
    "segments". fps: frame rate of the video, for "even"; None assumes `spec.fps`. `spec.short` applies to
    "segments" only; "dense" always wraps around.
    """
    if spec.sampling == "even":
        return even(total, spec.frames, span_of(spec, fps), rng)
    if spec.sampling == "segments":
        return segments(total, spec.frames, rng, spec.short, jitter)
    if spec.sampling == "rounded_segments":
        return rounded_segments(total, spec.frames, rng)
    if spec.sampling == "dense":
        return dense(total, spec.frames, spec.stride, rng)
    return every(total, spec.frames)


def views(total: int, spec: ClipSpec, clips: int = 1, fps: float | None = None) -> list[list[int]]:
    """The indices of each of `clips` test clips of one video.

    segments, rounded_segments: clip k takes the fraction 1/2 + k / clips (modulo 1) of each segment, so that
    two clips are the middles and the beginnings, the "twice sample" of TSM. dense: the middle for one clip,
    else starts spread evenly from the first to the last possible one. even: the middle for one clip, else
    starts at k / clips of the range of starts, so that the last clip ends before the end of the video (the
    release's rule). all: UsageError for more than one clip.
    """
    if clips < 1 or (clips > 1 and spec.sampling == "all"):
        raise UsageError("clips", f"{clips} test clips with sampling '{spec.sampling}'", "use one clip")
    if clips == 1 or (spec.sampling == "segments" and total < spec.frames and spec.short != "spread"):
        return [clip_indices(total, spec, fps=fps) for _ in range(clips)]
    _check_positive(total=total)
    if spec.sampling == "even":
        span = span_of(spec, fps)
        room = max(0.0, total - span)
        return [_evenly(total, spec.frames, span, room * k / clips) for k in range(clips)]
    if spec.sampling == "rounded_segments":
        return [rounded_segments(total, spec.frames, place=(0.5 + k / clips) % 1.0) for k in range(clips)]
    if spec.sampling == "segments":
        return [_in_each_segment(total, spec.frames, (0.5 + k / clips) % 1.0) for k in range(clips)]
    room = max(0, total - spec.frames * spec.stride)
    starts = np.linspace(0, room, clips).astype(int).tolist()
    return [_from_start(total, spec.frames, spec.stride, start) for start in starts]


def nearest(indices: Sequence[int], allowed: NDArray[np.int64]) -> list[int]:
    """For each index the nearest of the increasing `allowed` ones, of two equally near ones the earlier."""
    wanted = np.asarray(indices, dtype=np.int64)
    after = np.minimum(np.searchsorted(allowed, wanted), len(allowed) - 1)
    before = np.maximum(after - 1, 0)
    closer = np.abs(allowed[after] - wanted) < np.abs(wanted - allowed[before])
    picked: list[int] = np.where(closer, allowed[after], allowed[before]).tolist()
    return picked


def _in_each_segment(total: int, frames: int, place: float | np.ndarray) -> list[int]:
    """The index at the fraction `place`, in [0, 1), of each of `frames` equal segments."""
    tick = total / frames
    indices = (tick * place + tick * np.arange(frames)).astype(int)
    picked: list[int] = np.minimum(indices, total - 1).tolist()  # rounding may reach the end of the video
    return picked


def _evenly(total: int, frames: int, span: float, start: float) -> list[int]:
    points = np.linspace(start, start + span - 1, frames)
    picked: list[int] = np.clip(points, 0, total - 1).astype(int).tolist()
    return picked


def _from_start(total: int, frames: int, stride: int, start: int) -> list[int]:
    return [(start + stride * i) % total for i in range(frames)]


def _short(total: int, frames: int, policy: ShortPolicy) -> list[int]:
    if policy == "repeat_first":
        return [0] * frames
    if policy == "repeat_last":
        return [min(i, total - 1) for i in range(frames)]
    return [i % total for i in range(frames)]


def _check_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; a clip needs at least 1")
