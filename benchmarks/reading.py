"""Where the time of one clip goes before the model, and what an index of packets that is kept would save.

Opening a file goes through all its packets. A video that was opened before and pickled has what was found, so
reading from it shows what a cache of that would save, without the cost of the cache. Processor time of one
thread: other processes of the machine do not count.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.decode import long_clip, real_clips
from benchmarks.folder import make_folder
from benchmarks.record import WORK, Spread, Table, Value, in_turns, ratio
from foveate.clip import ClipSpec
from foveate.data.dataset import cut_each
from foveate.video import Limits, Video, open_video
from foveate.video.sample import clip_indices
from foveate.video.transform import Augment, test_transform, train_transform

SPEC = ClipSpec(frames=8, size=224, resize=256)
DRAWS = {
    "one of each eighth": SPEC,
    "every 8th of 64": ClipSpec(frames=8, size=224, resize=256, sampling="dense", stride=8),
}
REPEATS = 21


def run() -> Table:
    """Random clips of 8 frames out of short files and a long one."""
    torch.set_num_threads(1)
    paths = [make_folder(WORK / "folder")[0], *real_clips(), long_clip()]
    about = (
        "Milliseconds of processor time, in one thread if nothing else is said, for 8 random frames of an "
        "H.264 file, cut to 224 pixels. Read: the file is opened, the frames are decoded and converted to "
        "RGB. Index kept: the same by a video that was opened before and pickled. Transforms: resize, crop "
        "and flip of frames in memory."
    )
    columns = {
        "clip": "clip",
        "frames": "frames",
        "open": "open",
        "read": "open and read",
        "kept": "open and read, index kept",
        "saved": "with index / without",
        "threads": "open and read, 2 threads",
        "more": "2 threads / 1",
        "test": "test transform",
        "train": "train transform",
        "colour": "train transform, colour",
    }
    return Table(about, columns, [_row(path, drawn) for path in paths for drawn in DRAWS])


def _row(path: Path, drawn: str) -> dict[str, Value]:
    with open_video(path) as video:
        info, spec = video.info, DRAWS[drawn]
        clip = torch.from_numpy(video.read(_clip(info.frames, info.fps, spec, np.random.default_rng(0))))
    kept = pickle.dumps(video)

    def reading(opened: Callable[[], Video]) -> Callable[[], np.ndarray]:
        rng = np.random.default_rng(0)  # of its own, so that both draw the same clips
        return lambda: _read(opened(), _clip(info.frames, info.fps, spec, rng))

    ways = {
        "read": partial(open_video, path),
        "kept": partial(pickle.loads, kept),
        "threads": partial(open_video, path, limits=Limits(threads=2)),
    }
    expected = reading(ways["read"])()
    for name, way in ways.items():
        if not np.array_equal(reading(way)(), expected):
            raise AssertionError(f"{path.name}, {name}: other frames")
    frames, rng = [frame.numpy() for frame in clip], np.random.default_rng(0)
    cuts = {
        "test": partial(test_transform, spec=spec),
        "train": lambda part: train_transform(part, spec, Augment(), rng)[None],
        "colour": lambda part: train_transform(part, spec, Augment(colour=0.4), rng)[None],
    }
    calls: dict[str, Callable[[], object]] = {"open": lambda: open_video(path).close()}
    calls |= {name: reading(way) for name, way in ways.items()}
    calls |= {cut: partial(lambda function: cut_each(iter(frames), function), cuts[cut]) for cut in cuts}
    times = in_turns({call: partial(_processor_seconds, calls[call]) for call in calls}, REPEATS)
    clip_of = f"{path.name}, {info.width}x{info.height}, {info.frames} frames"
    row: dict[str, Value] = {"clip": clip_of, "frames": drawn}
    row |= {"saved": ratio(times["kept"], times["read"]), "more": ratio(times["threads"], times["read"])}
    return row | {call: Spread.of([1000 * each for each in times[call]]) for call in calls}


def _clip(frames: int, fps: float, spec: ClipSpec, rng: np.random.Generator) -> list[int]:
    return clip_indices(frames, spec, rng, "each", fps)


def _read(video: Video, wanted: list[int]) -> np.ndarray:
    with video:
        return video.read(wanted)


def _processor_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
