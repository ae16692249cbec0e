"""Download a published file once: resumed where it broke off, checked, and kept with its SHA-256.

Files live in `$FOVEATE_CACHE` (by default ~/.cache/foveate) below the host and path of their address. Without
a network, `$FOVEATE_MIRROR` names a folder that holds them, by the same path or by name alone, or a web
address that stands in for the host. What cannot be read as a checkpoint from its first byte to its last is
refused and not kept.

Written here because pooch neither resumes nor locks, and huggingface_hub, for files that are not on its Hub,
resumes without asking whether the file is still the same.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from foveate.errors import ModelFileError, OutputError
from foveate.weights.container import read_container

log = logging.getLogger(__name__)

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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        alone = FileLock(f"{target}.lock").acquire()  # one process at a time works on a file of the cache
    except OSError as error:
        raise OutputError(target.parent, error.strerror or str(error), "set FOVEATE_CACHE") from error
    with alone:
        if target.exists():
            _check_record(target)
        else:
            _download(source, target)
    return target


def is_at_hand(url: str) -> bool:
    """Whether `fetch` would need no network of its own: the file is in the cache, or a mirror is named."""
    place = urlsplit(url)
    kept = cache_folder() / place.netloc / place.path.lstrip("/")
    return bool(os.environ.get("FOVEATE_MIRROR")) or kept.exists()


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


def _download(source: str, target: Path) -> None:
    log.info("downloading %s to %s", source, target)
    with _progress_bar(target.name) as progress:
        download = _Download(source, target, progress)
        download.run()
    with _writing(target):
        _record_of(target).write_text(f"{_sha256(download.part)}  {target.name}\n")
        download.part.replace(target)
        download.tag.unlink(missing_ok=True)


class _Download:
    """A file on its way: what came of it lies in `part`, what the server calls its version in `tag`."""

    def __init__(self, source: str, target: Path, progress: Progress) -> None:
        self.source = source
        self.part = target.with_name(f"{target.name}.part")
        self.tag = target.with_name(f"{target.name}.tag")
        self.progress = progress
        self.have = 0  # bytes that are here
        self.total: int | None = None  # of how many; None where the last try was not told
        self.reason = ""  # why the last try ended

    def run(self) -> None:
        """Try until all is here; ModelFileError if it never is, or is no checkpoint."""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            self._try()
            if self.total is not None and self.have >= self.total:
                return self._check()
        if self.total is None:
            raise ModelFileError(self.source, f"cannot be reached, {TRIES} times: {self.reason}", OFFLINE)
        here = f"{self.have / 1e6:.1f} of {self.total / 1e6:.1f} MB are here"
        cause = f"broke off {TRIES} times, {here}: {self.reason}"
        raise ModelFileError(self.source, cause, "run it again: it goes on from there")

    def _try(self) -> None:
        """Ask for what is missing, and keep what comes."""
        self.have = self.part.stat().st_size if self.part.exists() else 0
        self.total, self.reason = None, "the connection was closed"
        try:
            with urlopen(self._request(), timeout=TIMEOUT) as answer:
                self._store(answer)
        except HTTPError as error:
            self._refused(error)
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, socket.gaierror | ConnectionRefusedError):
                raise ModelFileError(self.source, f"cannot be reached: {reason}", OFFLINE) from error
            self.reason = str(reason) or type(reason).__name__

    def _request(self) -> Request:
        request = Request(self.source, headers={"User-Agent": "foveate", "Accept-Encoding": "identity"})
        if self.have and self.tag.exists():
            request.add_header("Range", f"bytes={self.have}-")
            if version := self.tag.read_text():  # a file that was replaced since is then sent whole
                request.add_header("If-Range", version)
        return request

    def _store(self, answer: HTTPResponse) -> None:
        """Write what comes behind what is here, or anew where the server sends the whole file again."""
        headers = answer.headers
        if headers.get_content_type() == "text/html":
            raise ModelFileError(self.source, "the server sent a web page", "is the address still right?")
        resumed = answer.status == 206 and headers.get("Content-Range", "").startswith(f"bytes {self.have}-")
        if not resumed:
            self.have = 0
            with _writing(self.tag):
                self.tag.write_text(headers.get("ETag") or headers.get("Last-Modified") or "")
        length = headers.get("Content-Length", "")
        self.total = self.have + int(length) if length.isdigit() else None
        with _writing(self.part):
            file = self.part.open("ab" if resumed else "wb")
        with file:
            for chunk in iter(partial(answer.read, CHUNK), b""):
                with _writing(self.part):
                    file.write(chunk)
                    file.flush()
                self.have += len(chunk)
                self.progress.update(self.progress.task_ids[0], total=self.total, completed=self.have)
        if self.total is None and answer.isclosed():
            self.total = self.have

    def _refused(self, error: HTTPError) -> None:
        """A busy server may be asked again; all else is final, unless nothing is left to send."""
        if error.code == 416:
            if error.headers.get("Content-Range") == f"bytes */{self.have}":
                self.total = self.have
            else:
                self.part.unlink(missing_ok=True)  # of another file
            return
        self.reason = f"the server says {error.code} {error.reason}"
        if error.code < 500 and error.code != 429:
            raise ModelFileError(self.source, self.reason) from error

    def _check(self) -> None:
        """Remove and refuse what is not a checkpoint, or not all of it, by reading it.

        An announced length may be too small, and most formats show only at their end that something is
        missing.
        """
        try:
            if self.have != self.total:
                cause = f"the server sent {self.have} bytes and announced {self.total}"
                raise ModelFileError(self.source, cause, "is the address still right?")
            read_container(self.part)
        except ModelFileError as error:
            self.part.unlink()
            self.tag.unlink(missing_ok=True)
            if error.subject == self.source:
                raise
            hint = "run it again, or is the address no longer right?"
            cause = f"what the server sent is no use: {error.cause}"
            raise ModelFileError(self.source, cause, hint) from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the disk refuses is no fault of the connection: OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(path, error.strerror or str(error), "make room, then run it again") from error


def _record_of(target: Path) -> Path:
    """Where the SHA-256 of a file stands that was downloaded."""
    return target.with_name(f"{target.name}.sha256")


def _check_record(target: Path) -> None:
    record = _record_of(target)
    if record.exists() and record.read_text().split()[0] != _sha256(target):
        raise ModelFileError(target, "has changed since it was downloaded", "remove it to download it again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _progress_bar(name: str) -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        progress.add_task(name, total=None)
        yield progress
