"""A decoded video in a `.npy` file of uint8 (T, H, W, 3): the compact cache that is read without decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.video.base import DecodeError, Limits, Scan, Video, VideoInfo
from foveate.video.files import explain, regular, sidecar_fps


class ArrayVideo(Video):
    """Frames of a memory-mapped array; frames a second come from "fps" in a `.json` of the same name."""

    def __init__(self, path: Path, limits: Limits) -> None:
        regular(path)
        try:
            frames = np.load(path, mmap_mode="r", allow_pickle=False)
        except PermissionError as error:
            raise DecodeError(path, *explain(path, error)) from error
        except (OSError, ValueError, OverflowError, EOFError, SyntaxError) as error:
            raise DecodeError(path, "not a whole .npy file", "write it again") from error
        _check(path, frames, limits)
        self._frames: NDArray[np.uint8] = frames
        self.damage = []
        count, height, width, _ = frames.shape
        fps = sidecar_fps(path.absolute())
        self.info = VideoInfo(path, count, width, height, fps, count / fps, "array")

    @property
    def times(self) -> NDArray[np.float64]:
        return np.arange(self.info.frames) / self.info.fps

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        wanted = self._wanted(indices)
        self.frames_decoded += len(wanted)
        return np.asarray(self._frames[wanted])

    def stream(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        for position in range(self.info.frames):
            self.frames_decoded += 1
            yield position / self.info.fps, np.array(self._frames[position])

    def scan(self) -> Scan:
        info = self.info
        return Scan("ok", "", info.frames, info.width, info.height, info.fps, info.duration_s)


def _check(path: Path, frames: NDArray[np.generic], limits: Limits) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        cause = f"an array of {frames.dtype} {frames.shape}, not frames of uint8 (T, H, W, 3)"
        raise DecodeError(path, cause, "write frames as uint8 RGB")
    if frames.shape[1] * frames.shape[2] > limits.max_pixels:
        raise DecodeError(path, f"pictures larger than {limits.max_pixels} pixels", "shrink them")
    if len(frames) > limits.max_frames:
        raise DecodeError(path, f"more than {limits.max_frames} frames", "cut it into shorter videos")
