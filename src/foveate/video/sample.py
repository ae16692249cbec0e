"""Which frames of a video make a clip: index arithmetic only, no pixels and no files.

Five rules: one frame of each of T equal parts (TSN, section 3.1 of its paper), the same with parts cut at
whole frames (SlowFast's release on Something-Something), T frames a fixed stride apart (I3D and the Non-local
networks), every frame (full-video models), T frames evenly over a stretch of time (SlowFast on Kinetics).
Without a generator every rule gives its deterministic test indices; with one, a random training draw that
depends on the generator alone. Indices count from 0.

A video with fewer frames than the clip has parts follows a named policy:

- "spread": frames are repeated in place, evenly over the clip, so that order and pace survive. The test
  rule of TSM; bLVNet-TAM draws such repeats at random.
- "repeat_first": only the first frame, T times. TSM and AdaFocus-TSM in training and validation; it throws
  the motion away and is here to reproduce their numbers.
- "repeat_last": all frames, then the last one until the clip is full. AdaFocus on ActivityNet.
- "wrap": all frames, then again from the first. What the dense rules of TSM and bLVNet-TAM do with any
  short video.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from foveate.clip import ClipSpec, ShortPolicy
from foveate.errors import UsageError

Jitter = Literal["each", "shared"]  # a random offset for each segment (TSN, TSM) | one for all (bLVNet-TAM)


def segments(
    total: int,
    frames: int,
    rng: np.random.Generator | None = None,
    short: ShortPolicy = "spread",
    jitter: Jitter = "each",
) -> list[int]:
    """One index out of each of `frames` equal parts of a video of `total` frames.

    Test: the middle of each part, `int(tick / 2 + tick * i)` with `tick = total / frames`. Training: parts
    are `total // frames` long, and an offset into the part is drawn for each of them or once for all, which
    keeps the frames equally spaced. Sorted, except for the short policy "wrap". Raises ValueError unless
    both counts are >= 1.
    """
    _positive(total=total, frames=frames)
    if total < frames and short != "spread":
        return _short(total, frames, short)
    if rng is None:
        return _in_each_part(total, frames, 0.5)
    draws = frames if jitter == "each" else 1
    if total < frames:
        return _in_each_part(total, frames, rng.random(draws))
    length = total // frames
    picked: list[int] = (np.arange(frames) * length + rng.integers(0, length, draws)).tolist()
    return picked


def rounded_segments(
    total: int, frames: int, rng: np.random.Generator | None = None, place: float = 0.5
) -> list[int]:
    """One index out of each of `frames` parts of (total - 1) / frames, their ends rounded to whole frames.

    Test: at `place` of each part, by default its middle, rounded down. Training: any frame of it, both ends
    included. A short video repeats frames. Raises ValueError unless both counts are >= 1.
    """
    _positive(total=total, frames=frames)
    ends = np.round((total - 1) / frames * np.arange(frames + 1)).astype(int)
    first, last = ends[:-1], ends[1:]
    within = ((last - first) * place).astype(int) if rng is None else rng.integers(0, last - first + 1)
    picked: list[int] = (first + within).tolist()
    return picked


def dense(total: int, frames: int, stride: int, rng: np.random.Generator | None = None) -> list[int]:
    """`frames` indices, `stride` apart, from a random place (training) or the middle (test) of the video.

    A video shorter than `frames * stride` is read from its first frame and begins again when it ends. Every
    start is equally likely, the last one included. Raises ValueError unless all counts are >= 1.
    """
    _positive(total=total, frames=frames, stride=stride)
    room = max(0, total - frames * stride)
    start = room // 2 if rng is None else int(rng.integers(0, room + 1))
    return _from_start(total, frames, stride, start)


def every(total: int, limit: int | None = None) -> list[int]:
    """All indices, or every k-th with the smallest whole k that leaves at most `limit`: time stays even."""
    _positive(total=total)
    if limit is None:
        return list(range(total))
    _positive(limit=limit)
    return list(range(0, total, -(-total // limit)))


def even(total: int, frames: int, span: float, rng: np.random.Generator | None = None) -> list[int]:
    """`frames` indices evenly from the first to the last of `span` frames, from a random place or the middle.

    The distance is a real number, (span - 1) / (frames - 1), and indices are truncated: slightly more than
    span / frames, as SlowFast was trained. Past the end of a shorter video its last frame is repeated.
    Raises ValueError unless both counts and the span are >= 1.
    """
    _positive(total=total, frames=frames)
    room = max(0.0, total - span)
    start = room // 2 if rng is None else float(rng.uniform(0, room))
    return _evenly(total, frames, span, start)


def span_of(spec: ClipSpec, fps: float | None) -> float:
    """How many frames of a video of `fps` frames a second an even clip of `spec` covers, at least 1."""
    pace = fps / spec.fps if fps and spec.fps else 1.0
    return max(1.0, spec.frames * spec.stride * pace)


def clip_indices(
    total: int,
    spec: ClipSpec,
    rng: np.random.Generator | None = None,
    jitter: Jitter = "each",
    fps: float | None = None,
) -> list[int]:
    """The indices of one clip by the rule of `spec`: `spec.frames` of them, or fewer under the rule "all".

    `spec.short` and `jitter` concern plain segments; dense clips of short videos always wrap. `fps`, the
    frames a second of the video, concerns even clips; None takes it for what the spec counts in.
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
    """The test clips of one video: one index list for each.

    Segments: clip k takes the place 1/2 + k / clips (modulo 1) of each part, so that two clips are the
    middles and the beginnings, the "twice sample" of TSM; rounded ones likewise. Dense: the middle for one
    clip, else starts spread evenly from the first to the last possible one. Even: the middle for one clip,
    else starts at k / clips of the room, so that the last clip ends short of the end (the release's rule).
    "all" leaves nothing for a second clip: UsageError.
    """
    if clips < 1 or (clips > 1 and spec.sampling == "all"):
        raise UsageError("clips", f"{clips} test clips of a '{spec.sampling}' sampling", "ask for one clip")
    if clips == 1 or (spec.sampling == "segments" and total < spec.frames and spec.short != "spread"):
        return [clip_indices(total, spec, fps=fps) for _ in range(clips)]
    _positive(total=total)
    if spec.sampling == "even":
        span = span_of(spec, fps)
        room = max(0.0, total - span)
        return [_evenly(total, spec.frames, span, room * k / clips) for k in range(clips)]
    if spec.sampling == "rounded_segments":
        return [rounded_segments(total, spec.frames, place=(0.5 + k / clips) % 1.0) for k in range(clips)]
    if spec.sampling == "segments":
        return [_in_each_part(total, spec.frames, (0.5 + k / clips) % 1.0) for k in range(clips)]
    room = max(0, total - spec.frames * spec.stride)
    starts = np.linspace(0, room, clips).astype(int).tolist()
    return [_from_start(total, spec.frames, spec.stride, start) for start in starts]


def _in_each_part(total: int, frames: int, place: float | np.ndarray) -> list[int]:
    """The index at `place` (0 the beginning, 1 the end, excluded) of each of `frames` equal parts."""
    tick = total / frames
    indices = (tick * place + tick * np.arange(frames)).astype(int)
    picked: list[int] = np.minimum(indices, total - 1).tolist()  # rounding may reach the end of the last part
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


def _positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; a clip needs at least 1")
