"""Read frames from video files, image folders, URLs, bytes and arrays.

    from foveate.video import open_video

    with open_video("clip.mp4") as video:
        frames = video.read([0, 10, 20])  # uint8 RGB (3, H, W, 3)

`open_video` decodes no more than the first frame. `scan` decodes the whole video and reports damage instead
of raising an error, so that one bad file cannot end a check of many.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from foveate.clip import Modality
from foveate.errors import UsageError
from foveate.video.base import DEFAULT_FPS, DecodeError, Limits, Scan, Video, VideoInfo
from foveate.video.container import ContainerVideo
from foveate.video.flow import LAYOUT, FlowVideo
from foveate.video.frames import is_array, open_array, open_frames, open_npy
from foveate.video.images import ImageVideo
from foveate.video.numbered import holds_flow_alone
from foveate.video.source import (
    URL,
    BytesInMemory,
    FileOnDisk,
    checked_fps,
    fetch,
    file_status,
    read_all,
    refuse_live,
    sidecar_fps,
    without_secrets,
)

__all__ = ["DecodeError", "Limits", "Scan", "Source", "Video", "VideoInfo", "open_video", "scan"]

Source = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | NDArray[np.uint8] | Iterable[Any]
)
DEFAULTS = Limits()


def open_video(
    source: Source,
    template: str | None = None,
    limits: Limits = DEFAULTS,
    fps: float | None = None,
    quick: bool = False,
    modality: Modality | None = None,
) -> Video:
    """Open a video from any source.

    source: the path of a video file, of a folder of numbered images or of a `.npy` array; a URL, read through
    fsspec; the bytes of a video file, or a binary file object, read from where it stands; frames in memory as
    uint8 RGB: an array or tensor (T, H, W, 3), a sequence of (H, W, 3), or an iterator of these, which is
    read to its end. URLs, file objects and iterators are held in memory, within `limits.max_bytes`. template:
    pattern of the names of images in a folder, such as `img_{:05d}.jpg`; None finds them by itself. fps:
    frame rate of frames in memory (default 25), of images or of a `.npy` array; not for video files, which
    have their own. quick: go by packets, and names of images, where otherwise all frames would be decoded: to
    count those of some files, and in `scan`. modality: what a model reads of a folder: frames, or stacks of
    optical flow (flow.py), which is in no other source; None: flow where there is nothing else. The result
    can be pickled, so that another process can read from it.

    Raises DecodeError for anything that is not a readable video, UsageError for an impossible rate or
    template or a missing package.
    """
    rate = checked_fps(fps)
    if isinstance(source, str | os.PathLike | int):
        refuse_live(source)
    url = isinstance(source, str) and bool(URL.match(source))
    if isinstance(source, str | os.PathLike) and not url:
        return _open_path(Path(source), template, limits, rate, quick, modality)
    if modality == "flow":
        raise _no_flow(without_secrets(source) if isinstance(source, str) else "source")
    if isinstance(source, str):
        return _open_bytes(fetch(source, limits), limits, rate, quick)
    if isinstance(source, bytes | bytearray | memoryview):
        return _open_bytes(BytesInMemory(bytes(source), "<bytes>"), limits, rate, quick)
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        name = name if isinstance(name, str) and name else "<file>"
        return _open_bytes(BytesInMemory(read_all(source, name, limits), name), limits, rate, quick)
    if is_array(source):
        return open_array(source, rate or DEFAULT_FPS, limits)
    if isinstance(source, Iterable):
        return open_frames(source, rate or DEFAULT_FPS, limits)
    hint = "give a path, a URL, bytes, a binary file object or frames"
    raise UsageError("source", f"is of type {type(source).__name__}", hint)


def scan(
    source: Source, template: str | None = None, limits: Limits = DEFAULTS, fps: float | None = None
) -> Scan:
    """Decode the whole video and report whether it is ok, partial (frames are lost) or refused (unusable).

    Arguments as in `open_video`. Raises UsageError only.
    """
    try:
        with open_video(source, template, limits, fps) as video:
            return video.scan()
    except DecodeError as error:
        return Scan("refused", error.cause)


def _open_path(
    path: Path,
    template: str | None,
    limits: Limits,
    fps: float | None,
    quick: bool,
    modality: Modality | None,
) -> Video:
    if stat.S_ISDIR(file_status(path).st_mode):
        flow = modality == "flow" or (modality is None and holds_flow_alone(path, template))
        pictures = FlowVideo if flow else ImageVideo
        return pictures(path, template, fps or sidecar_fps(path.absolute()), limits, quick)
    if modality == "flow":
        raise _no_flow(path)
    if path.suffix.lower() == ".npy":
        return open_npy(path, fps or sidecar_fps(path.absolute()), limits)
    _refuse_fps(str(path), fps)
    return ContainerVideo(FileOnDisk(path), limits, quick)


def _open_bytes(file: BytesInMemory, limits: Limits, fps: float | None, quick: bool) -> Video:
    if file.data.startswith(b"\x93NUMPY"):
        try:
            array = np.load(io.BytesIO(file.data), allow_pickle=False)
        except (OSError, ValueError, OverflowError, EOFError, SyntaxError) as error:
            raise DecodeError(file.name, "a damaged or truncated .npy file", "write it again") from error
        return open_array(array, fps or DEFAULT_FPS, limits)
    _refuse_fps(file.name, fps)
    return ContainerVideo(file, limits, quick)


def _no_flow(name: object) -> DecodeError:
    hint = f"give a folder of its pictures, and {LAYOUT}"
    return DecodeError(name, "not a folder of optical flow, which the model reads", hint)


def _refuse_fps(name: str, fps: float | None) -> None:
    if fps is not None:
        raise UsageError(name, f"fps is {fps:g}, but a video file has its own frame rate", "leave fps out")
