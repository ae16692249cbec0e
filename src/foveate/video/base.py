"""What every kind of video offers, whether a container file, a folder of pictures or frames in memory.

Frame `i` is the i-th frame that one plain pass from the first frame to the last yields. Asking for a
frame, asking for a time and running through the whole stream all agree on that numbering.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from foveate.errors import DataError

DEFAULT_FPS = 25.0  # of a source that says nothing about time
CHUNK = 16  # frames in memory as they were decoded, where a video is read piece by piece


class DecodeError(DataError):
    """A video that cannot be read, or a frame that it does not hold."""


@dataclass(frozen=True)
class Limits:
    """How much a single video may ask of the machine."""

    max_pixels: int = 4096 * 4096  # of one picture; a file of 32 KB can unfold to 768 MB
    max_frames: int = 10_000_000  # of one video, about four days at 25 a second
    max_bytes: int = 2 << 30  # of a URL, a file object or an iterator of frames, held in memory whole
    threads: int = 1  # of one decoder; loaders run several workers rather than several threads


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video without decoding more than its first frame."""

    name: str  # the path or URL, or what stands for it: <bytes>, <file>, <frames>
    frames: int
    width: int  # pixels of the upright picture, after rotation; pixels that are not square stay as stored
    height: int
    fps: float  # frames a second, on average over the video
    duration_s: float  # from the start of the first frame to the end of the last one
    codec: str


@dataclass(frozen=True)
class Scan:
    """What became of decoding a whole video once."""

    status: Literal["ok", "partial", "refused"]
    cause: str  # one line in words; empty when the status is "ok"
    frames: int = 0  # frames that can be had; this and all below are zero when the status is "refused"
    width: int = 0
    height: int = 0
    fps: float = 0.0
    duration_s: float = 0.0


class Video(ABC):
    """Frames by position, by time or as a stream; close it or use it in a `with` block."""

    info: VideoInfo
    damage: list[str]  # what was found broken while opening and reading, one line each
    frames_decoded: int = 0  # by all reading so far, including frames on the way to those asked for
    tick_s: float = 0.0  # the grid to which the container rounded its times

    @property
    @abstractmethod
    def times(self) -> NDArray[np.float64]:
        """Seconds from the first frame to each frame, shape (frames,), never falling."""

    @abstractmethod
    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the asked frames in the asked order, repeats allowed: uint8 RGB (N, H, W, 3).

        Raises DecodeError when one of them cannot be had; another frame never takes its place.
        """

    def pick(self, places: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield what `read` returns of rising positions one by one, uint8 (H, W, 3), in memory for one."""
        for place in places:
            yield self.read([place])[0]

    def chunks(self, places: Sequence[int], size: int = CHUNK) -> Iterator[NDArray[np.uint8]]:
        """Yield what `pick` yields, up to `size` frames at a time: uint8 (k, H, W, 3)."""
        frames = self.pick(places)
        while chunk := list(islice(frames, size)):
            yield np.stack(chunk)

    @abstractmethod
    def stream(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield (seconds, uint8 RGB (H, W, 3)) of every frame in order, in memory that does not grow."""

    @abstractmethod
    def scan(self) -> Scan:
        """Decode everything once and judge it."""

    def at(self, seconds: Sequence[float] | NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the frame shown at each time, in seconds from the first frame: uint8 RGB (N, H, W, 3).

        Raises DecodeError for a time before the first frame or after the end of the last one.
        """
        asked = np.asarray(seconds, dtype=np.float64).reshape(-1)
        slack = min(self.tick_s / 2, 0.1 / self.info.fps)  # times are stored rounded to a tick
        inside = (asked >= -slack) & (asked <= self.info.duration_s + slack)
        if not inside.all():
            lasts = f"the video lasts {self.info.duration_s:g} s"
            raise DecodeError(self.info.name, f"no frame is shown at {asked[~inside][0]:g} s", lasts)
        shown = np.searchsorted(self.times, asked + slack + 1e-9, side="right") - 1
        return self.read(np.maximum(shown, 0))

    def close(self) -> None:
        """Let go of what is held between two readings, which for files that are reopened is nothing."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wanted(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions asked for, shape (N,), after checking that each exists."""
        asked = np.asarray(indices).reshape(-1)
        if asked.size and asked.dtype.kind not in "iu":
            raise TypeError(f"frame positions are whole numbers, not {asked.dtype}")
        asked = asked.astype(np.int64)
        self._require(asked)
        return asked

    def _require(self, positions: NDArray[np.int64]) -> None:
        outside = positions[(positions < 0) | (positions >= self.info.frames)]
        if len(outside):
            why, hint = f"the video has {self.info.frames} frames", "frames count from 0"
            if self.damage:
                why, hint = self.damage[0], "the file is damaged: foveate data check says where"
            raise DecodeError(self.info.name, f"frame {outside[0]} does not exist: {why}", hint)
