"""The last seconds of a stream as a video, with the labels drawn."""

from __future__ import annotations

import io
from collections import deque
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveate.errors import OutputError
from foveate.infer.live import LiveAnswer
from foveate.io import atomic_write
from foveate.report.overlay import Mark, drawn

TALLEST = 480  # pixels of its height
TICK = Fraction(1, 1000)  # seconds
QUALITY = 85  # of the JPEGs that are held until the end


class OverlayWindow:
    """Keeps the labelled frames of the last `seconds`, small and as JPEG, and writes them as H.264."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._kept: deque[tuple[float, bytes]] = deque()
        self._sides: tuple[int, int] | None = None

    def add(self, rgb: NDArray[np.uint8], answer: LiveAnswer) -> None:
        """Draw a frame, uint8 (H, W, 3), with the label after it and where the model looked."""
        self._sides = self._sides or _even_sides(rgb)
        best = answer.predictions[0]
        text = f"{answer.time_s:.1f} s  {best.label} {best.score:.0%}"
        box = answer.boxes[-1] if answer.boxes else None
        mark = Mark(0, text, box.box if box else None, box.looked if box else True)
        held = io.BytesIO()
        drawn(rgb, mark, text, *self._sides).save(held, "JPEG", quality=QUALITY)
        self._kept.append((answer.time_s, held.getvalue()))
        while self._kept[0][0] < answer.time_s - self.seconds:
            self._kept.popleft()

    def write(self, out: Path) -> int:
        """Write them as an .mp4, if there are any, and return how many. OutputError if it fails."""
        if self._sides is None:
            return 0
        try:
            with atomic_write(out) as part, av.open(str(part), "w", format="mp4") as container:
                self._encode(container)
        except av.error.FFmpegError as error:
            raise OutputError(out, f"cannot be written: {error}", "is there room on the disk?") from error
        return len(self._kept)

    def _encode(self, container: av.container.OutputContainer) -> None:
        assert self._sides is not None
        stream = container.add_stream("libx264", options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height = self._sides
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = TICK
        first = self._kept[0][0]
        last = -1
        for time_s, jpeg in self._kept:
            frame = av.VideoFrame.from_image(Image.open(io.BytesIO(jpeg)))
            frame.time_base, frame.pts = TICK, max(round((time_s - first) / TICK), last + 1)
            last = frame.pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _even_sides(rgb: NDArray[np.uint8]) -> tuple[int, int]:
    scale = min(1.0, TALLEST / rgb.shape[0])
    width, height = (2 * max(1, round(side * scale / 2)) for side in (rgb.shape[1], rgb.shape[0]))
    return width, height
