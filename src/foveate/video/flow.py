"""A folder of optical flow as a video whose frames are stacks of successive flows.

The flow from one frame to the next is kept as two grey pictures, of its horizontal and of its vertical part,
in which the middle of the levels, 128, is no movement. A network reads five successive flows as ten channels
(Simonyan and Zisserman, "Two-Stream Convolutional Networks", NeurIPS 2014, section 3.1, with 10 flows; five
in TSN, Wang et al., ECCV 2016, section 4.2), here x, y, x, y .., as in the releases of TSM and bLVNet-TAM. So
of P flows there are P - 4 stacks, each of which is a frame here, and no sampling rule can run over the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.clip import CHANNELS, FLOW_PAIRS, FLOW_STILL
from foveate.video.base import DecodeError, Limits, Scan, VideoInfo
from foveate.video.images import PictureVideo, load_picture
from foveate.video.numbered import Series, flow_series, gaps

LAYOUT = "name them like flow_x_00001.jpg and flow_y_00001.jpg"


class FlowVideo(PictureVideo):
    """Stacks of five successive flows, uint8 (H, W, 10); frame i is made of the flows i to i + 4."""

    channels = CHANNELS["flow"]
    span = FLOW_PAIRS

    def __init__(
        self, folder: Path, template: str | None, fps: float, limits: Limits, quick: bool = False
    ) -> None:
        """quick: look at the first flow alone, also in `scan`.

        DecodeError for a folder without flow, with a picture of x or y that lacks the other, or with fewer
        than five.
        """
        horizontal, vertical = flow_series(folder, template)
        _check_pairs(folder, template, horizontal, vertical)
        numbers = sorted(horizontal)
        self._limits = limits
        self._quick = quick
        self._files = [(folder / horizontal[number], folder / vertical[number]) for number in numbers]
        self._near: dict[int, NDArray[np.uint8]] = {}  # flows of the last stack, which the next shares
        self.damage = gaps(numbers)
        self._size = load_picture(self._files[0][0], limits, "L").size
        self._flow(0)
        pairs = len(numbers)
        self.info = VideoInfo(str(folder), pairs - FLOW_PAIRS + 1, *self._size, fps, pairs / fps, "flow")

    def scan(self) -> Scan:
        """Decode all flows, which are the frames that it counts."""
        broken = []
        for place in () if self._quick else range(len(self._files)):
            try:
                self._flow(place)
            except DecodeError as error:
                broken.append(f"{Path(error.subject).name}: {error.cause}")
        total = len(self._files)
        left = [f"{total - len(broken)} of {total} flows can be read ({broken[0]})"] if broken else []
        cause, info = "; ".join(self.damage + left), self.info
        size, frames = (info.width, info.height), total - len(broken)
        return Scan("partial" if cause else "ok", cause, frames, *size, info.fps, info.duration_s)

    def _frame(self, position: int) -> NDArray[np.uint8]:
        places = range(position, position + FLOW_PAIRS)
        self._near = {
            place: self._near[place] if place in self._near else self._flow(place) for place in places
        }
        return np.concatenate([self._near[place] for place in places], axis=-1)

    def _flow(self, place: int) -> NDArray[np.uint8]:
        """The horizontal and vertical flow (H, W, 2) at a place; DecodeError for one of another size."""
        pictures = []
        for file in self._files[place]:
            picture = load_picture(file, self._limits, "L")
            if picture.size != self._size:
                sizes = "{}x{} pixels, the first {}x{}".format(*picture.size, *self._size)
                raise DecodeError(file, f"optical flow of {sizes}", "compute it for frames of one size")
            pictures.append(np.asarray(picture))
        self.frames_decoded += 1
        return np.stack(pictures, axis=-1)


def as_pictures(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames (.., C) as pictures (.., 3): of a stack of flow the first, x as red and y as green."""
    if frames.shape[-1] == 3:
        return frames
    blue = np.full_like(frames[..., :1], FLOW_STILL)
    return np.concatenate([frames[..., :2], blue], axis=-1)


def _check_pairs(folder: Path, template: str | None, horizontal: Series, vertical: Series) -> None:
    if not horizontal and not vertical:
        what = f"pictures like {template}" if template else "optical flow, which the model reads"
        raise DecodeError(folder, f"a folder without {what}", LAYOUT)
    alone = sorted(horizontal.keys() ^ vertical.keys())
    if alone:
        has, lacks = ("x", "y") if alone[0] in horizontal else ("y", "x")
        name = (horizontal if has == "x" else vertical)[alone[0]]
        more = f", and {len(alone) - 1} more" if len(alone) > 1 else ""
        raise DecodeError(folder, f"{name} has no picture of {lacks}{more}", "compute the flow again")
    if len(horizontal) < FLOW_PAIRS:
        cause = f"has {len(horizontal)} optical flows, and a model reads {FLOW_PAIRS} at a time"
        raise DecodeError(folder, cause, f"give a video of {FLOW_PAIRS + 1} frames or more")
