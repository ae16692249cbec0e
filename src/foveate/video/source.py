"""The bytes of a video file: on disk or in memory.

A path is checked before it is opened, because opening a named pipe would block. URLs, file objects and bytes
are kept in memory: the decoder can then seek, the video can be pickled, and no temporary file can be left
behind.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from foveate.errors import UsageError
from foveate.video.base import DEFAULT_FPS, DecodeError, Limits

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
LIVE = re.compile(r"(rtsps?|rtmp\w*|rtp|srt|udp|tcp|mms\w?)://|/dev/video\d+$", re.IGNORECASE)
URL = re.compile(r"[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*://", re.IGNORECASE)
PACKAGES = {  # that fsspec needs for a protocol; others it reads by itself
    "http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs",
    "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "hf": "huggingface_hub", "sftp": "paramiko",
    "ssh": "paramiko", "smb": "smbprotocol", "webdav": "webdav4", "oss": "ossfs", "hdfs": "pyarrow",
}  # fmt: skip
READ_SIZE = 1 << 20  # bytes read at a time from a file object


@dataclass(frozen=True)
class Opening:
    """What FFmpeg may do to open a source; by default no more than to read one file."""

    protocols: str = "file"  # that it may use, separated by commas
    formats: tuple[str, ...] = ()  # of demultiplexers beside those of files
    format: str | None = None  # the one to use; None: found by looking
    options: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None  # of opening and of each read; None: as long as it takes


class VideoBytes(ABC):
    """The bytes of one video file, on disk or in memory; can be pickled."""

    name: str  # for error messages: the path, or a placeholder such as <bytes>
    size: int  # bytes
    opening: Opening = Opening()

    @abstractmethod
    def open(self) -> BinaryIO:
        """Open the bytes for reading from the start; raises OSError."""

    @abstractmethod
    def for_ffmpeg(self) -> str | BinaryIO:
        """The argument for `av.open`; DecodeError if the file has changed since it was first opened."""

    @abstractmethod
    def explain(self, error: Exception) -> tuple[str, str]:
        """Cause and hint, in words, for an error while reading."""


class FileOnDisk(VideoBytes):
    """A regular file on disk; raises DecodeError for anything else at the path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._identity = file_identity(path)
        self.size = self._identity.size

    def open(self) -> BinaryIO:
        return self.path.open("rb")

    def for_ffmpeg(self) -> str:
        if file_identity(self.path) != self._identity:
            raise DecodeError(self.path, "the file changed after it was opened", "open it again")
        return str(self.path.absolute())  # so that FFmpeg takes no part of it for a protocol

    def explain(self, error: Exception) -> tuple[str, str]:
        return explain(self.path, error)


class BytesInMemory(VideoBytes):
    """A video file in memory."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.size = len(data)

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)  # does not copy

    def for_ffmpeg(self) -> BinaryIO:
        return self.open()

    def explain(self, error: Exception) -> tuple[str, str]:
        return explain(None, error)


@dataclass(frozen=True)
class FileIdentity:
    """File attributes that change when a file is replaced."""

    size: int
    mtime_ns: int
    inode: int
    device: int


def file_status(path: Path) -> os.stat_result:
    """`path.stat()` with a DecodeError in place of an OSError."""
    try:
        return path.stat()
    except (OSError, ValueError) as error:
        raise DecodeError(path, *explain(path, error)) from error


def file_identity(path: Path) -> FileIdentity:
    """The identity of a regular file; raises DecodeError for anything else."""
    found = file_status(path)
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise DecodeError(path, f"{kind}, not a file", "give a regular file")
    return FileIdentity(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


def explain(path: Path | None, error: Exception) -> tuple[str, str]:
    """Cause and hint, in words, for an error of the file system."""
    match getattr(error, "errno", None):
        case errno.ENOENT if path is not None and path.is_symlink():
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
            hint = "download or copy it again" if path is None else "check the path"
            return (getattr(error, "strerror", None) or str(error)).lower(), hint


def refuse_live(source: str | os.PathLike[str] | int) -> None:
    """Raise DecodeError for a live source: the number or address of a camera, or of a broadcast."""
    if isinstance(source, int) or LIVE.match(os.fspath(source)):
        name = f"camera {source}" if isinstance(source, int) else without_secrets(str(source))
        hint = "use `foveate stream`, or record it to a file"
        raise DecodeError(name, "a live source, which has no last frame", hint)


def without_secrets(url: str) -> str:
    """A URL without the parts that may contain a password or a signature."""
    return re.sub(r"(?<=://)[^/?#]*@", "", re.split(r"[?#]", url, maxsplit=1)[0])


def fetch(url: str, limits: Limits) -> BytesInMemory:
    """Download a URL through fsspec into memory.

    Raises UsageError if fsspec or its package for this protocol is missing, DecodeError if it cannot be read.
    """
    name = without_secrets(url)
    with _remote(url) as fsspec, fsspec.open(url, "rb") as file:
        return BytesInMemory(read_all(file, name, limits), name)


def urls_of(pattern: str, is_video: Callable[[str], bool]) -> list[str]:
    """The URLs of the files that fit a pattern with * or ?, or of videos below one that ends in /, sorted.

    is_video: tells by its name. Errors as for `fetch`, and where there are none.
    """
    with _remote(pattern) as fsspec:
        system, path = fsspec.core.url_to_fs(pattern)
        if pattern.endswith("/"):
            found = [each for each in system.find(path) if is_video(each)]
        else:
            found = [each for each in system.glob(path) if not system.isdir(each)]
        urls = sorted(map(system.unstrip_protocol, found))
    if not urls:
        raise DecodeError(without_secrets(pattern), "there are no videos at this address", "check the URL")
    return urls


@contextmanager
def _remote(url: str) -> Iterator[Any]:
    """Gives fsspec; whatever goes wrong with it, UsageError or DecodeError names the URL."""
    name = without_secrets(url)
    try:
        import fsspec
    except ImportError as error:
        hint = f"pip install {' '.join(['fsspec', *_package_for(url)])}"
        raise UsageError(name, "a URL is read through fsspec, which is not installed", hint) from error
    try:
        yield fsspec
    except ImportError as error:  # "Install s3fs to access S3"
        package = " ".join(_package_for(url))
        cause = "fsspec needs another package for this address" + ("" if package else f": {error}")
        raise UsageError(name, cause, f"pip install {package or 'it'}") from error
    except DecodeError:
        raise
    except FileNotFoundError as error:
        raise DecodeError(name, "there is nothing at this address", "check the URL") from error
    except Exception as error:  # each of the many backends of fsspec has errors of its own
        cause = str(error).replace(url, name) or type(error).__name__
        raise DecodeError(name, f"cannot be read: {cause}", "check the URL and the connection") from error


def _package_for(url: str) -> tuple[str, ...]:
    """The pip package that fsspec needs for a URL, where one is known and needed."""
    protocol = re.split(r"://|::", url, maxsplit=1)[0].lower()
    return (PACKAGES[protocol],) if protocol in PACKAGES else ()


def read_all(file: Any, name: str, limits: Limits) -> bytes:
    """Read the rest of a binary file object, which need not be seekable.

    Raises DecodeError if it gives something else than bytes, nothing, or more than `limits.max_bytes`.
    """
    pieces, size = [], 0
    try:
        while piece := file.read(READ_SIZE):
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise DecodeError(
                    name, f"reading gives {type(piece).__name__}, not bytes", 'open it with "rb"'
                )
            size += len(piece)
            if size > limits.max_bytes:
                cause = f"more than {limits.max_bytes} bytes to hold in memory"
                raise DecodeError(name, cause, "give a path on the disk, or raise Limits.max_bytes")
            pieces.append(piece)
    except (ValueError, TypeError, OSError) as error:  # closed, no file at all, or not readable
        if getattr(file, "closed", False):
            raise DecodeError(name, "the file object is closed", "open it again") from error
        cause, _ = explain(None, error)
        raise DecodeError(name, f"cannot be read: {cause}", 'give a file that is open with "rb"') from error
    if not pieces and _at_end(file):
        raise DecodeError(name, "nothing is left to read", "go back to its start: file.seek(0)")
    return b"".join(pieces)


def _at_end(file: Any) -> bool:
    try:
        return bool(file.tell() > 0)
    except (AttributeError, OSError, ValueError):
        return False


def checked_fps(fps: float | None) -> float | None:
    """`fps` if it is None or a positive number, else UsageError."""
    if fps is not None and not (isinstance(fps, int | float) and math.isfinite(fps) and fps > 0):
        raise UsageError("fps", f"is {fps!r}", "it must be a number above 0")
    return fps


def sidecar_fps(path: Path) -> float:
    """Frame rate of images or arrays: "fps" in a JSON file of the same name, or the default without one."""
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
