"""The interface of all videos: container files, folders of images, frames in memory.

Frame i is the i-th frame (from 0) that decoding from start to end yields. Access by index, access by time and
streaming agree on this numbering.
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

DEFAULT_FPS = 25.0  # for sources without a frame rate
CHUNK = 16  # frames per chunk where a video is read piece by piece
CHUNK_BYTES = 8 << 20  # of the frames in a chunk; more at once would be fresh memory for every chunk


class DecodeError(DataError):
    """A video that cannot be read, or a frame index or time that it does not have."""


@dataclass(frozen=True)
class Limits:
    """Limits on the resources that reading one video may use."""

    max_pixels: int = 4096 * 4096  # of one frame; a file of 32 KB can claim frames of 768 MB
    max_frames: int = 10_000_000  # of one video, about four days at 25 fps
    max_bytes: int = 2 << 30  # of a URL, a file object or an iterator of frames, which are kept in memory
    threads: int = 1  # to read frames of one file; a pass over all of it, to judge it, takes one


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video, known without decoding more than its first frame."""

    name: str  # the path or URL, or <bytes>, <file> or <frames>
    frames: int  # that can be read; of optical flow, its stacks
    width: int  # in pixels, after rotation to upright; non-square pixels are not rescaled
    height: int
    fps: float  # average frames per second
    duration_s: float  # from the start of the first frame to the end of the last one
    codec: str


@dataclass(frozen=True)
class Scan:
    """Result of decoding a whole video."""

    status: Literal["ok", "partial", "refused"]
    cause: str  # what is wrong, in one line; empty if the status is "ok"
    frames: int = 0  # frames that can be read; this and all fields below are 0 if the status is "refused"
    width: int = 0
    height: int = 0
    fps: float = 0.0
    duration_s: float = 0.0


def stacked(frames: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Frames (H, W, C) as chunks (k, H, W, C): 16 at a time, fewer of large ones."""
    for first in frames:
        size = min(CHUNK, max(1, CHUNK_BYTES // first.nbytes))
        yield np.stack([first, *islice(frames, size - 1)])


class Video(ABC):
    """An open video: frames by index, by time or as a stream. Close it or use it in a `with` block."""

    info: VideoInfo
    damage: list[str]  # damage found so far while opening and reading, one line each
    frames_decoded: int = 0  # in all reads so far, including frames decoded to reach the requested ones
    channels: int = 3  # C of a frame: RGB, or 10 of a stack of optical flow
    span: int = 1  # successive pictures of the video that one frame shows: 5 for a stack of optical flow
    tick_s: float = 0.0  # seconds per clock tick, to which the container rounds times; 0 without a container

    @property
    @abstractmethod
    def times(self) -> NDArray[np.float64]:
        """Time of each frame in seconds after the first one, shape (frames,), non-decreasing."""

    @property
    def key_frames(self) -> NDArray[np.int64]:
        """Indices of the frames that are decoded without any other, increasing, the first of them 0.

        All frames, where nothing is saved by taking some of them or the file does not say which they are.
        """
        return np.arange(self.info.frames)

    @abstractmethod
    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read frames by index, in any order and with repeats: uint8 (N, H, W, C).

        Raises DecodeError if one of them cannot be read; it is never replaced by another frame.
        """

    def iterate(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames at increasing indices one by one, uint8 (H, W, C), in constant memory."""
        for index in indices:
            yield self.read([index])[0]

    @abstractmethod
    def stream(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield (seconds, uint8 (H, W, C)) for every frame in order, in constant memory."""

    @abstractmethod
    def scan(self) -> Scan:
        """Decode the whole video and report its state."""

    def at(self, seconds: Sequence[float] | NDArray[np.float64]) -> NDArray[np.uint8]:
        """Read the frame shown at each time, in seconds after the first frame: uint8 (N, H, W, C).

        Raises DecodeError for a time before the first frame or after the end of the last one.
        """
        requested = np.asarray(seconds, dtype=np.float64).reshape(-1)
        slack = min(self.tick_s / 2, 0.1 / self.info.fps)  # times are stored rounded to a tick
        inside = (requested >= -slack) & (requested <= self.info.duration_s + slack)
        if not inside.all():
            lasts = f"the video lasts {self.info.duration_s:g} s"
            raise DecodeError(self.info.name, f"no frame is shown at {requested[~inside][0]:g} s", lasts)
        shown = np.searchsorted(self.times, requested + slack + 1e-9, side="right") - 1
        return self.read(np.maximum(shown, 0))

    def close(self) -> None:
        """Release resources, such as the open file. A later read opens it again."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices as int64 (N,); TypeError if not integers, DecodeError for a frame that does not exist."""
        requested = np.asarray(indices).reshape(-1)
        if requested.size and requested.dtype.kind not in "iu":
            raise TypeError(f"frame indices must be integers, not {requested.dtype}")
        requested = requested.astype(np.int64)
        self._check_exist(requested)
        return requested

    def _check_exist(self, indices: NDArray[np.int64]) -> None:
        outside = indices[(indices < 0) | (indices >= self.info.frames)]
        if len(outside):
            why, hint = f"the video has {self.info.frames} frames", "frames count from 0"
            if self.damage:
                why, hint = self.damage[0], "the file is damaged: foveate data check says where"
            raise DecodeError(self.info.name, f"frame {outside[0]} does not exist: {why}", hint)
