"""The file on the disk, before anything is decoded: it must exist, be readable and be an ordinary file.

Opening a named pipe would wait for ever, so the kind of the file is asked for before it is opened.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from foveate.video.base import DEFAULT_FPS, DecodeError

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


@dataclass(frozen=True)
class Stamp:
    """Enough of a file's state to notice that another one took its place."""

    size: int
    mtime_ns: int
    inode: int
    device: int


def look(path: Path) -> os.stat_result:
    """Return the state of what `path` leads to; raises DecodeError in words when it leads nowhere."""
    try:
        return path.stat()
    except (OSError, ValueError) as error:
        raise DecodeError(path, *explain(path, error)) from error


def regular(path: Path) -> Stamp:
    """Return the stamp of an ordinary file; raises DecodeError for anything else."""
    found = look(path)
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise DecodeError(path, f"{kind}, not a file", "give an ordinary file")
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


def explain(path: Path, error: Exception) -> tuple[str, str]:
    """Say the cause and the hint of an error of the file system in words."""
    match getattr(error, "errno", None):
        case errno.ENOENT if path.is_symlink():
            return "a link to a file that does not exist", "restore the file or remove the link"
        case errno.ENOENT:
            return "no such file", "check the path"
        case errno.ELOOP:
            return "a link that leads to itself", "remove the link"
        case errno.EACCES | errno.EPERM:
            return "permission denied", "make it readable for this user"
        case errno.EIO:
            return "the disk reports an error", "copy the file from its source again"
        case _:
            return (getattr(error, "strerror", None) or str(error)).lower(), "check the path"


def sidecar_fps(path: Path) -> float:
    """Frames a second from the "fps" of a JSON file of the same name, or the default without such a file."""
    sidecar = path.parent / f"{path.stem}.json"
    try:
        text = sidecar.read_text(encoding="utf-8")
    except OSError:
        return DEFAULT_FPS
    try:
        fps = float(json.loads(text)["fps"])
    except (ValueError, KeyError, TypeError) as error:
        raise DecodeError(sidecar, 'holds no number named "fps"', 'write {"fps": 25}') from error
    if not (math.isfinite(fps) and fps > 0):
        raise DecodeError(sidecar, f'"fps" is {fps}', "it must be a number above zero")
    return fps
