"""Download a published file once: resumed where it broke off, checked, and kept with its SHA-256.

Files live in `$FOVEATE_CACHE` (by default ~/.cache/foveate) below the host and path of their address. Without
a network, `$FOVEATE_MIRROR` names a folder that holds them, by the same path or by name alone, or a web
address that stands in for the host. What cannot be read as a checkpoint from its first byte to its last is
refused and not kept.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from foveate.errors import ModelFileError, OutputError
from foveate.weights.container import read_container

TRIES = 5  # of a download that breaks off
PAUSE = 0.2  # seconds before the second try, doubled before each further one
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 18  # bytes
OFFLINE = "offline? FOVEATE_MIRROR may name a folder that holds the file"


def fetch(url: str, mirror: str | Path | None = None) -> Path:
    """The local copy of a published file, downloaded if it is not there yet.

    mirror: a file, a folder or a web address in place of the published one; `$FOVEATE_MIRROR` if None.
    ModelFileError for a file that cannot be had or is not what it should be, OutputError for a full disk.
    """
    mirror = mirror or os.environ.get("FOVEATE_MIRROR") or ""
    over_web = str(mirror).startswith(("http://", "https://"))
    if mirror and not over_web:
        return _in_mirror(Path(mirror), url)
    place = urlsplit(url)
    source = str(mirror).rstrip("/") + place.path if over_web else url
    target = cache_folder() / place.netloc / place.path.lstrip("/")
    with _alone(target):
        if target.exists():
            _check_record(target)
        else:
            _download(source, target)
    return target


def cache_folder() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("FOVEATE_CACHE") or Path.home() / ".cache" / "foveate").expanduser()


def _in_mirror(mirror: Path, url: str) -> Path:
    """The file of a mirror by the whole path of the address, or by as much of its end as is there."""
    if mirror.is_file():
        return mirror
    place = urlsplit(url)
    parts = (place.netloc, *place.path.strip("/").split("/"))
    for first in range(len(parts)):
        if (found := mirror.joinpath(*parts[first:])).is_file():
            return found
    raise ModelFileError(mirror, f"holds no {parts[-1]}", f"it is at {url}")


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Only one process at a time works on a file of the cache."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f"{target.name}.lock")).acquire()
    except OSError as error:
        raise OutputError(target.parent, error.strerror or str(error), "set FOVEATE_CACHE") from error
    with lock:
        yield


class Received(NamedTuple):
    """What one try left behind."""

    have: int  # bytes that are here now
    total: int | None  # of how many; None where the connection never said
    reason: str = "the connection was closed"  # why no more came


def _download(source: str, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    with _progress(target.name) as progress:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            have, total, reason = _receive(source, part, progress)
            if total is not None and have >= total:
                break
        else:
            if total is None:
                raise ModelFileError(source, f"cannot be reached, {TRIES} times: {reason}", OFFLINE)
            here = f"{have / 1e6:.1f} of {total / 1e6:.1f} MB are here"
            cause = f"broke off {TRIES} times, {here}: {reason}"
            raise ModelFileError(source, cause, "run it again: it goes on from there")
    _demand_whole(part, total, source)
    with _writing(target):
        _record(part, target)
        part.replace(target)
        _tag_of(part).unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the disk refuses is no fault of the connection: OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(path, error.strerror or str(error), "make room, then run it again") from error


def _receive(source: str, part: Path, progress: Progress) -> Received:
    """One try, from where the last one ended."""
    have = part.stat().st_size if part.exists() else 0
    try:
        with urlopen(_request(source, part, have), timeout=TIMEOUT) as answer:
            return _store(answer, source, part, have, progress)
    except HTTPError as error:
        return _refused(error, source, part, have)
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, socket.gaierror | ConnectionRefusedError):
            raise ModelFileError(source, f"cannot be reached: {reason}", OFFLINE) from error
        return Received(have, None, _words(reason))


def _request(source: str, part: Path, have: int) -> Request:
    request = Request(source, headers={"User-Agent": "foveate", "Accept-Encoding": "identity"})
    tag = _tag_of(part)
    if have and tag.exists():
        request.add_header("Range", f"bytes={have}-")
        if version := tag.read_text():  # a file that was replaced since is then sent whole
            request.add_header("If-Range", version)
    return request


def _store(answer: HTTPResponse, source: str, part: Path, have: int, progress: Progress) -> Received:
    """Write what comes behind what is here, or anew where the server sends the whole file again."""
    if answer.headers.get_content_type() == "text/html":
        raise ModelFileError(source, "the server sent a web page", "is the address still right?")
    resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    length = answer.headers.get("Content-Length", "")
    total = int(length) + (have if resumed else 0) if length.isdigit() else None
    if not resumed:
        have = 0
        with _writing(_tag_of(part)):
            _tag_of(part).write_text(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
    progress.update(progress.task_ids[0], total=total, completed=have)
    with _writing(part), part.open("ab" if resumed else "wb") as file:
        chunk, reason = _next(answer)
        while chunk:
            file.write(chunk)
            have += len(chunk)
            progress.update(progress.task_ids[0], completed=have)
            chunk, reason = _next(answer)
    return Received(have, have if total is None and answer.isclosed() else total, reason)


def _next(answer: HTTPResponse) -> tuple[bytes, str]:
    """The next bytes; none at the end, be it the true one or not, and why there are none."""
    try:
        return answer.read(CHUNK), "the connection was closed"
    except (OSError, HTTPException) as error:
        return b"", _words(error)


def _words(reason: object) -> str:
    """What an error says, or its name where it says nothing."""
    return str(reason) or type(reason).__name__


def _refused(error: HTTPError, source: str, part: Path, have: int) -> Received:
    """A busy server may be asked again; all else is final, unless it says that nothing is left to send."""
    if error.code == 416:
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return Received(have, have)
        part.unlink(missing_ok=True)  # of another file
        return Received(0, None)
    said = f"the server says {error.code} {error.reason}"
    if error.code >= 500 or error.code == 429:
        return Received(have, None, said)
    raise ModelFileError(source, said) from error


def _demand_whole(part: Path, total: int | None, source: str) -> None:
    """Remove and refuse what is not a checkpoint, or not all of it, by reading it.

    An announced length may be too small, and most formats show only at their end that something is missing.
    """
    try:
        if part.stat().st_size != total:
            cause = f"the server sent {part.stat().st_size} bytes and announced {total}"
            raise ModelFileError(source, cause, "is the address still right?")
        read_container(part)
    except ModelFileError as error:
        part.unlink()
        _tag_of(part).unlink(missing_ok=True)
        if error.subject == source:
            raise
        hint = "run it again, or is the address no longer right?"
        raise ModelFileError(source, f"what the server sent is no use: {error.cause}", hint) from error


def _tag_of(part: Path) -> Path:
    """What the server calls the version that is being downloaded stands here."""
    return part.with_suffix(".tag")


def _record_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _record(part: Path, target: Path) -> None:
    _record_of(target).write_text(f"{_sha256(part)}  {target.name}\n")


def _check_record(target: Path) -> None:
    record = _record_of(target)
    if record.exists() and record.read_text().split()[0] != _sha256(target):
        raise ModelFileError(target, "has changed since it was downloaded", "remove it to download it again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _progress(name: str) -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        progress.add_task(name, total=None)
        yield progress
