"""What a child process sends of a video, checked: one that was taken over may send anything."""

from __future__ import annotations

import math
from typing import Any

from foveate.infer.read import ClipReader, VideoFacts, Window
from foveate.video.base import CHUNK

MOST_SHOWN = 2000  # characters of a cause


def plausible(shape: list[int], reader: ClipReader, chunk: bool) -> bool:
    """Whether `reader` can have cut clips of this shape: (clips x crops, T, S, S, C), or (k, S, S, C)."""
    spec = reader.spec
    picture = [spec.size, spec.size, spec.channels]
    views, most = reader.clips * reader.crops, spec.frames
    if chunk:
        return 1 <= shape[0] <= CHUNK and shape[1:] == picture
    kept = len(reader.needed(most)) if reader.needed else most
    frames = range(1, most + 1) if spec.sampling == "all" else (kept,)
    return shape[0] == views and shape[1] in frames and shape[2:] == picture


def window_sent(sent: dict[str, Any]) -> Window:
    clips = tuple(tuple(map(whole_sent, clip)) for clip in sent["clips"])
    first, end, crops = (whole_sent(sent[name]) for name in ("first", "end", "crops"))
    start_s, end_s = number_sent(sent["start_s"]), number_sent(sent["end_s"])
    times = tuple(map(number_sent, sent["times"]))
    return Window(first, end, start_s, end_s, clips, times, crops, bool(sent["keyframes"]))


def facts_sent(name: str, sent: dict[str, Any]) -> VideoFacts:
    duration_s, fps = number_sent(sent["duration_s"]), number_sent(sent["fps"])
    width, height, decoded = (whole_sent(sent[name]) for name in ("width", "height", "frames_decoded"))
    damage = tuple(str(line)[:MOST_SHOWN] for line in sent["damage"])
    return VideoFacts(name, duration_s, fps, width, height, damage, decoded)


def number_sent(sent: Any) -> float:
    """A finite number that was sent; ValueError or TypeError for anything else."""
    if not math.isfinite(number := float(sent)):
        raise ValueError(number)
    return number


def whole_sent(sent: Any) -> int:
    """A whole number of 63 bits that was sent; ValueError or TypeError for anything else."""
    if not 0 <= (number := int(sent)) < 1 << 63:
        raise ValueError(number)
    return number
