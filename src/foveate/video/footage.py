"""Sources of video that is looked at as it comes: cameras, addresses, playlists, pipes, files that grow.

Each says how FFmpeg may open it, and nothing more is allowed than that takes: a file opens no address, and an
address no file.
"""

from __future__ import annotations

import errno
import io
import os
import re
import select
import stat
import threading
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import av

from foveate.errors import UsageError
from foveate.video.base import DecodeError
from foveate.video.content import HEAD_BYTES
from foveate.video.source import (
    KINDS,
    URL,
    FileOnDisk,
    Opening,
    VideoBytes,
    explain,
    file_status,
    without_secrets,
)

PIPE = "-"  # standard input
TIMEOUT_S = 10.0  # of a camera or an address that says nothing
POLL_S = 0.1  # seconds between two looks whether there is more
CAMERA = re.compile(r"/dev/video\d+$")
AT_ONCE = {"fpsprobesize": "0"}  # FFmpeg would hold the first second back to measure the frame rate
HTTP = "http,https,httpproxy,tcp,tls"
PROTOCOLS = {  # what FFmpeg needs for an address that begins so
    "http": HTTP,
    "https": HTTP,
    "rtsp": "rtp,rtcp,udp,tcp",
    "rtsps": "rtp,rtcp,udp,tcp,tls,srtp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,rtmp,tcp,tls",
    "tcp": "tcp",
    "udp": "udp",
}


class Footage(VideoBytes):
    """A source that is looked at as it comes.

    waits: it waits for whoever reads, as a file does, so that no frame need be dropped. bursts: it comes
    seconds at a time, and gets its own speed back. returns: one that breaks off may come back.
    """

    waits = False
    bursts = False
    returns = False
    size = 0

    def open(self) -> BinaryIO:
        raise OSError("nothing of it is kept")

    def explain(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, av.error.ExitError | TimeoutError):
            return f"nothing came for {TIMEOUT_S:g} s", "is it running, and can it be reached?"
        if isinstance(error, av.error.HTTPError):
            return f"the server answers: {error.strerror}".lower(), "check the address"
        if getattr(error, "errno", None) == errno.EIO:  # how FFmpeg says that a connection has ended
            return "the connection broke off", "is it still running?"
        cause, _ = explain(None, error)
        return cause, "is it running, and is the address right?"

    def stop(self) -> None:
        """Let a read that waits return, as at the end; from any thread."""

    def close(self) -> None:
        """Give back what is open, once nobody reads."""


class PlainFile(FileOnDisk, Footage):
    """A file that is complete."""

    waits = True

    def explain(self, error: Exception) -> tuple[str, str]:
        return FileOnDisk.explain(self, error)

    def open(self) -> BinaryIO:
        return FileOnDisk.open(self)


class LocalPlaylist(PlainFile):
    """An HLS playlist on the disk, whose segments are files too. One that is complete waits."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.opening = Opening("file,crypto", ("hls",), "hls")
        self.waits = b"#EXT-X-ENDLIST" in path.read_bytes()
        self.bursts = not self.waits

    def for_ffmpeg(self) -> str:
        return str(self.path.absolute())  # which may have changed: it names the newest segments

    def open(self) -> BinaryIO:
        return Footage.open(self)  # whose words would be those for one that is given as a video


class Address(Footage):
    """A stream on the network."""

    returns = True

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = without_secrets(url)
        parts = urlsplit(url)
        opening = Opening(PROTOCOLS[parts.scheme.lower()], options=AT_ONCE, timeout_s=TIMEOUT_S)
        if parts.scheme.lower().startswith("rtsp"):
            # UDP loses packets, each of which is seen until a key frame
            in_order = {"rtsp_transport": "tcp", **AT_ONCE}
            opening = replace(opening, formats=("rtsp", "sdp", "rtp"), format="rtsp", options=in_order)
        elif parts.path.lower().endswith(".m3u8"):
            protocols = f"{opening.protocols},crypto"
            opening = replace(opening, protocols=protocols, formats=("hls",), format="hls")
            self.bursts = True
        self.opening = opening

    def for_ffmpeg(self) -> str:
        return self.url


class Camera(Footage):
    """A camera of this machine, by Video4Linux."""

    returns = True

    def __init__(self, device: str) -> None:
        self.name = device
        self.opening = Opening("file", ("video4linux2", "v4l2"), "v4l2", AT_ONCE, TIMEOUT_S)

    def for_ffmpeg(self) -> str:
        return self.name

    def explain(self, error: Exception) -> tuple[str, str]:
        cause, hint = super().explain(error)
        if isinstance(error, FileNotFoundError):
            return "there is no such camera", "ls /dev/video* shows which there are"
        if isinstance(error, PermissionError):
            return cause, "this user has to be in the group video"
        return cause, hint if cause.startswith("nothing came") else "is it a camera, and free?"


class Pouring(Footage, ABC):
    """Bytes that come bit by bit and cannot be read again; its first ones are kept to say what it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opening = Opening(options=AT_ONCE)
        self._head = b""
        self._stopped = threading.Event()

    def open(self) -> BinaryIO:
        return io.BytesIO(self._head)

    def for_ffmpeg(self) -> Any:
        return self  # `read` is all that it uses

    def explain(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, av.error.InvalidDataError) and self._head[4:8] == b"ftyp":
            hint = "give the file itself once it is complete, or write MPEG-TS, Matroska or fragmented MP4"
            return "an MP4 with its index at the end, which cannot be read as it comes", hint
        return explain(None, error)

    def read(self, count: int) -> bytes:
        """Up to `count` bytes, as soon as there are any; none at the end."""
        piece = b"" if self._stopped.is_set() else self._next(count)
        if len(self._head) < HEAD_BYTES:
            self._head += piece[:HEAD_BYTES]
        return piece

    def stop(self) -> None:
        self._stopped.set()

    @abstractmethod
    def _next(self, count: int) -> bytes:
        """Up to `count` bytes, once there are any."""


class Pipe(Pouring):
    """Standard input, or a named pipe."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(name)
        self._descriptor = descriptor

    def close(self) -> None:
        if self._descriptor:  # standard input stays open
            os.close(self._descriptor)

    def _next(self, count: int) -> bytes:
        while not select.select([self._descriptor], [], [], POLL_S)[0]:
            if self._stopped.is_set():
                return b""
        return os.read(self._descriptor, count)


class GrowingFile(Pouring):
    """A file that another process still writes; it ends after `idle` seconds in which nothing came.

    What is there already waits; from then on it is as live as any other source.
    """

    waits = True
    bursts = True  # of what the writer holds back before it writes

    def __init__(self, path: Path, idle: float) -> None:
        super().__init__(str(path))
        FileOnDisk(path)  # raises DecodeError for anything but a file
        self._file = path.open("rb", buffering=0)
        self._idle = idle

    def close(self) -> None:
        self._file.close()

    def _next(self, count: int) -> bytes:
        left = self._idle
        while not (piece := self._file.read(count)):
            self.waits = False
            if left <= 0 or self._stopped.wait(min(POLL_S, left)):
                return b""
            left -= POLL_S
        return piece


def open_footage(source: str, follow: bool = False, idle: float = 10.0) -> Footage:
    """What a word means: a camera's number or device, an address, - for standard input, or a path.

    A path leads to a named pipe, a playlist (.m3u8), or a file, complete or with `follow` growing, until
    `idle` seconds pass in which it does not. DecodeError for what cannot be looked at, UsageError for an
    address of another kind.
    """
    if source.isdecimal() and not os.path.lexists(source):
        source = f"/dev/video{source}"
    if source == PIPE:
        return Pipe(0, "standard input")
    if CAMERA.match(source):
        return Camera(source)
    if URL.match(source):
        return _address(source)
    return _at_path(Path(source), follow, idle)


def _address(url: str) -> Address:
    if urlsplit(url).scheme.lower() not in PROTOCOLS:
        hint = f"{', '.join(PROTOCOLS)} can be streamed; `foveate predict` reads others"
        raise UsageError(without_secrets(url), "no address of a stream", hint)
    return Address(url)


def _at_path(path: Path, follow: bool, idle: float) -> Footage:
    mode = file_status(path).st_mode
    if stat.S_ISFIFO(mode):
        return _named_pipe(path)
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        raise DecodeError(path, f"{kind}, not a file", "give a file, a camera, a pipe or an address")
    if path.suffix.lower() == ".m3u8":
        return LocalPlaylist(path)
    return GrowingFile(path, idle) if follow else PlainFile(path)


def _named_pipe(path: Path) -> Pipe:
    try:  # without waiting for who writes: `Pipe` does
        return Pipe(os.open(path, os.O_RDONLY | os.O_NONBLOCK), str(path))
    except OSError as error:
        raise DecodeError(path, *explain(path, error)) from error
