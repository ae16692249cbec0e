"""Videos of decoded frames, in memory or in a `.npy` file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.video.base import DecodeError, Limits, Scan, Video, VideoInfo
from foveate.video.source import explain, file_identity

FRAMES = "<frames>"  # the name of a video that is not a file

Frames = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]  # (T, H, W, 3), or T times (H, W, 3)


class FramesVideo(Video):
    """uint8 RGB frames in memory or in a memory-mapped `.npy` file. path: of that file, else None."""

    def __init__(self, name: str, frames: Frames, fps: float, path: Path | None = None) -> None:
        self._frames = frames
        self._path = path
        self.damage = []
        count, (height, width, _) = len(frames), frames[0].shape
        self.info = VideoInfo(name, count, width, height, fps, count / fps, "array")

    @property
    def times(self) -> NDArray[np.float64]:
        return np.arange(self.info.frames) / self.info.fps

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        requested = self._checked(indices)
        self.frames_decoded += len(requested)
        out = np.empty((len(requested), self.info.height, self.info.width, 3), dtype=np.uint8)
        for slot, position in enumerate(requested):
            out[slot] = self._frames[position]
        return out

    def stream(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        for position in range(self.info.frames):
            self.frames_decoded += 1
            yield position / self.info.fps, np.array(self._frames[position])

    def scan(self) -> Scan:
        info = self.info
        return Scan("ok", "", info.frames, info.width, info.height, info.fps, info.duration_s)

    def __getstate__(self) -> dict[str, Any]:
        """For a file, pickle its path and not the memory-mapped array."""
        return self.__dict__ | ({} if self._path is None else {"_frames": None})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._path is not None:
            self._frames = _load(self._path)


def open_npy(path: Path, fps: float, limits: Limits) -> FramesVideo:
    """Open a `.npy` file of uint8 (T, H, W, 3) as a video; DecodeError for any other content."""
    name, frames = str(path), _load(path)
    return FramesVideo(name, _checked_array(name, frames, limits), fps, path.absolute())


def _load(path: Path) -> NDArray[Any]:
    file_identity(path)
    try:
        frames: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except PermissionError as error:
        raise DecodeError(path, *explain(path, error)) from error
    except (OSError, ValueError, OverflowError, EOFError, SyntaxError) as error:
        raise DecodeError(path, "a damaged or truncated .npy file", "write it again") from error
    return frames


def is_array(source: object) -> bool:
    """Whether NumPy can convert it to an array: NumPy arrays, tensors of PyTorch and other libraries."""
    return hasattr(source, "__array__") or hasattr(source, "__array_interface__")


def open_array(array: Any, fps: float, limits: Limits) -> FramesVideo:
    """Open an array or tensor of uint8 (T, H, W, 3) as a video, without a copy if it is in CPU memory.

    Raises DecodeError for another shape or type, with a hint how to convert it.
    """
    return FramesVideo(FRAMES, _checked_array(FRAMES, _as_numpy(array), limits), fps)


def open_frames(frames: Iterable[Any], fps: float, limits: Limits) -> FramesVideo:
    """Open uint8 (H, W, 3) frames of one size as a video.

    A sequence is used without a copy. An iterator is read to its end and copied, because a camera may reuse
    its buffer; more than `limits.max_bytes` of frames raise DecodeError.
    """
    copied = not isinstance(frames, Sequence)
    kept: list[NDArray[np.uint8]] = []
    bytes_left = limits.max_bytes
    for number, item in enumerate(frames):
        frame = _checked_frame(number, item, limits)
        if kept and frame.shape != kept[0].shape:
            cause = f"frame {number} is {_size(frame)} pixels, frame 0 is {_size(kept[0])}"
            raise DecodeError(FRAMES, cause, "resize them to one size")
        bytes_left -= frame.nbytes if copied else 0
        if bytes_left < 0:
            hint = "take fewer frames, or raise Limits.max_bytes"
            raise DecodeError(FRAMES, f"more than {limits.max_bytes} bytes of frames", hint)
        _check_count(FRAMES, number + 1, limits)
        kept.append(frame.copy() if copied else frame)
    if not kept:
        raise DecodeError(FRAMES, "no frames", "give at least one")
    return FramesVideo(FRAMES, kept, fps)


def _checked_array(name: str, frames: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
    if frames.ndim != 4 or frames.shape[3] != 3:
        hint = "frames are (T, H, W, 3), RGB"
        if frames.ndim == 4 and frames.shape[1] == 3:
            hint = "channels come last: permute (T, 3, H, W) to (T, H, W, 3) by (0, 2, 3, 1)"
        elif frames.ndim == 4 and frames.shape[0] == 3:
            hint = "channels come last: permute (3, T, H, W) to (T, H, W, 3) by (1, 2, 3, 0)"
        elif frames.ndim == 3 and frames.shape[2] == 3:
            hint = "one image is not a video: give (1, H, W, 3)"
        elif frames.ndim == 5:
            hint = "give one video of a batch at a time"
        raise DecodeError(name, f"an array of {frames.shape}, not frames", hint)
    _check_type(name, frames)
    if not frames.size:
        raise DecodeError(name, f"an array of {frames.shape}, which has no pixels", "give at least one frame")
    _check_pixels(name, frames[0], limits)
    _check_count(name, len(frames), limits)
    return frames


def _checked_frame(number: int, item: Any, limits: Limits) -> NDArray[np.uint8]:
    if not is_array(item):
        hint = "frames are arrays of uint8 (H, W, 3); open one video at a time"
        raise DecodeError(FRAMES, f"item {number} is of type {type(item).__name__}, not a frame", hint)
    frame = _as_numpy(item)
    if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        cause = f"frame {number} is an array of {frame.shape}"
        raise DecodeError(FRAMES, cause, "a frame is (H, W, 3), RGB, channels last")
    _check_type(FRAMES, frame)
    _check_pixels(FRAMES, frame, limits)
    return frame


def _as_numpy(array: Any) -> NDArray[Any]:
    """Convert any array to NumPy. PyTorch is not imported: a caller with a tensor has done that."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = array.float() if array.dtype == torch.bfloat16 else array  # not in NumPy
    return np.asarray(array)


def _check_type(name: str, frames: NDArray[Any]) -> None:
    if frames.dtype != np.uint8:
        scaled = "scale the values to 0..255, then convert them to uint8"
        hint = scaled if frames.dtype.kind == "f" else "convert values of 0..255 to uint8"
        raise DecodeError(name, f"frames of {frames.dtype}, not uint8", hint)


def _check_pixels(name: str, frame: NDArray[Any], limits: Limits) -> None:
    if frame.shape[0] * frame.shape[1] > limits.max_pixels:
        raise DecodeError(name, f"pictures larger than {limits.max_pixels} pixels", "shrink them")


def _check_count(name: str, count: int, limits: Limits) -> None:
    if count > limits.max_frames:
        raise DecodeError(name, f"more than {limits.max_frames} frames", "cut it into shorter videos")


def _size(frame: NDArray[Any]) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"
