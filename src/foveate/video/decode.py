"""Open any kind of video, and judge whether one is whole.

`open_video` reads what its first frame and its packets tell; `scan` decodes the whole and never raises for
a bad file, so that a folder of a million videos can be checked without one of them ending the run.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from foveate.video.array import ArrayVideo
from foveate.video.base import DecodeError, Limits, Scan, Video, VideoInfo
from foveate.video.container import ContainerVideo
from foveate.video.files import look
from foveate.video.images import ImageVideo

__all__ = ["DecodeError", "Limits", "Scan", "Video", "VideoInfo", "open_video", "scan"]

DEFAULTS = Limits()


def open_video(path: str | os.PathLike[str], template: str | None = None, limits: Limits = DEFAULTS) -> Video:
    """Open a container file, a folder of numbered pictures or a `.npy` array of uint8 (T, H, W, 3).

    `template` names the pictures of a folder, as in `img_{:05d}.jpg`; without it the names are looked at.
    Raises DecodeError, at once and in one line, for anything that is not a readable video.
    """
    path = Path(path)
    if stat.S_ISDIR(look(path).st_mode):
        return ImageVideo(path, template, limits)
    if path.suffix.lower() == ".npy":
        return ArrayVideo(path, limits)
    return ContainerVideo(path, limits)


def scan(path: str | os.PathLike[str], template: str | None = None, limits: Limits = DEFAULTS) -> Scan:
    """Decode a whole video once and say whether it is ok, partial (some frames are lost) or refused."""
    try:
        with open_video(path, template, limits) as video:
            return video.scan()
    except DecodeError as error:
        return Scan("refused", error.cause)
