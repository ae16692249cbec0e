"""How time and memory of `predict` grow: with length and size of a video, frames read, number of files.

Each row is of a process of its own, which opens H.264 files as a user has them. The model is small, so that
what is left is mostly reading.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np

from benchmarks.child import in_child
from benchmarks.decode import long_clip, real_clips
from benchmarks.record import WORK, Table, Value, seconds
from foveate.infer.predict import Predictor
from foveate.measure.cost import peak_memory_mb
from foveate.models.zoo import create_model
from foveate.video import open_video

MODEL = "tsm_r10_8"
MINUTES = (1, 10, 120)
SIDES = (240, 480, 1080, 2160)  # short sides, pixels
CLIPS = (1, 10, 100)  # of 8 frames a window
FILES = (1, 100, 1000)


def run() -> Table:
    """One row for each length, size, number of clips and number of files."""
    rows: list[dict[str, Value]] = []
    for minutes in MINUTES:
        path = long_clip(6 * minutes)  # copies of a clip of 10 s
        rows.append({"grows": "length", "of": f"{minutes} min, 640x272, label every 5 s"})
        rows[-1] |= in_child(measure, [path], 1)
    for side in SIDES:
        rows.append({"grows": "size", "of": f"10 s, {side * 16 // 9}x{side}"})
        rows[-1] |= in_child(measure, [sized(side)], 1)
    for clips in CLIPS:
        rows.append({"grows": "frames", "of": f"10 s, 640x272, {clips} x 8 frames"})
        rows[-1] |= in_child(measure, [real_clips()[1]], clips)
    with tempfile.TemporaryDirectory() as folder:
        for files in FILES:
            paths = [Path(folder) / f"{number}.mp4" for number in range(files)]
            for path in paths:
                if not path.exists():
                    shutil.copy(real_clips()[0], path)
            rows.append({"grows": "files", "of": f"{files} of 176x144, 3 s"})
            rows[-1] |= in_child(measure, paths, 1)
    about = (
        f"`Predictor.predict_all` with {MODEL} (untrained, 1.6 GMACs a clip) in eager float32, one process a "
        "row. Memory is the peak of the whole process, Python and PyTorch included; seconds are those of all "
        f"videos after the model is there. Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
    )
    columns = {
        "grows": "what grows",
        "of": "videos",
        "seconds": "seconds",
        "each": "seconds a video",
        "memory": "peak memory, MB",
    }
    return Table(about, columns, rows)


def measure(paths: list[Path], clips: int) -> dict[str, Value]:
    """Seconds and peak memory of the answers to some videos."""
    predictor = Predictor(create_model(MODEL).eval(), clips=clips)
    predictor.warmup()

    def answer() -> None:
        for result in predictor.predict_all(paths):
            assert result.status == "ok", result.cause

    took = seconds(answer)
    return {"seconds": took, "each": took / len(paths), "memory": peak_memory_mb()}


def sized(side: int) -> Path:
    """A clip of 10 s and 16:9 with this short side, enlarged from a real one, made once."""
    path = WORK / f"size{side}.mp4"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.mp4")
    with open_video(real_clips()[2]) as video, av.open(str(part), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = side * 16 // 9 // 2 * 2, side, "yuv420p"
        pictures = cycle(video.read(range(50)))
        for picture in islice(pictures, 250):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame.reformat(stream.width, stream.height, "yuv420p")))
        container.mux(stream.encode(None))
    part.replace(path)
    return path
