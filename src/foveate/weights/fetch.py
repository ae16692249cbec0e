"""Download published files: resumable, verified, cached with their SHA-256.

Files are kept in `$FOVEATE_CACHE` (default ~/.cache/foveate) under the host and path of their URL. Without a
network, `$FOVEATE_MIRROR` is a folder that has them, under the same path or by name alone, or the address of
a server in place of the original host. A download that cannot be read completely as a checkpoint is deleted.

Written here because pooch neither resumes nor locks, and huggingface_hub, for files outside its Hub, resumes
without checking whether the file on the server is still the same.
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
from foveate.weights.checkpoint_file import open_checkpoint

log = logging.getLogger(__name__)

TRIES = 5  # attempts if a download is interrupted
PAUSE = 0.2  # seconds before the second attempt, doubled before each further one
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 18  # bytes
OFFLINE = "offline? FOVEATE_MIRROR may name a folder that holds the file"


def fetch(url: str, mirror: str | Path | None = None) -> Path:
    """The path of the local copy of a published file, which is downloaded if it is not in the cache.

    mirror: a file, folder or server address to use instead of `url`; None: `$FOVEATE_MIRROR`. ModelFileError
    if the file cannot be downloaded or is not a checkpoint, OutputError if it cannot be written.
    """
    mirror = mirror or os.environ.get("FOVEATE_MIRROR") or ""
    over_web = str(mirror).startswith(("http://", "https://"))
    if mirror and not over_web:
        return _in_mirror(Path(mirror), url)
    address = urlsplit(url)
    source = str(mirror).rstrip("/") + address.path if over_web else url
    target = cache_folder() / address.netloc / address.path.lstrip("/")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{target}.lock").acquire()  # one process at a time per file of the cache
    except OSError as error:
        raise OutputError(target.parent, error.strerror or str(error), "set FOVEATE_CACHE") from error
    with lock:
        if target.exists():
            _check_record(target)
        else:
            _download(source, target)
    return target


def is_at_hand(url: str) -> bool:
    """Whether `fetch` needs no download: the file is in the cache, or a mirror is set."""
    address = urlsplit(url)
    cached = cache_folder() / address.netloc / address.path.lstrip("/")
    return bool(os.environ.get("FOVEATE_MIRROR")) or cached.exists()


def cache_folder() -> Path:
    """The folder where downloads are cached."""
    return Path(os.environ.get("FOVEATE_CACHE") or Path.home() / ".cache" / "foveate").expanduser()


def _in_mirror(mirror: Path, url: str) -> Path:
    """Find a file in a mirror folder by host and path of its URL, or by the longest suffix of these."""
    if mirror.is_file():
        return mirror
    address = urlsplit(url)
    parts = (address.netloc, *address.path.strip("/").split("/"))
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
    """A resumable download: `part` has the bytes so far, `tag` the server's version (ETag) of the file."""

    def __init__(self, source: str, target: Path, progress: Progress) -> None:
        self.source = source
        self.part = target.with_name(f"{target.name}.part")
        self.tag = target.with_name(f"{target.name}.tag")
        self.progress = progress
        self.have = 0  # bytes downloaded so far
        self.total: int | None = None  # bytes of the file; None if the last attempt did not find out
        self.reason = ""  # why the last attempt failed

    def run(self) -> None:
        """Download with retries; ModelFileError if it stays incomplete or is not a checkpoint."""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            self._attempt()
            if self.total is not None and self.have >= self.total:
                return self._check()
        if self.total is None:
            raise ModelFileError(self.source, f"cannot be reached, {TRIES} times: {self.reason}", OFFLINE)
        here = f"{self.have / 1e6:.1f} of {self.total / 1e6:.1f} MB are here"
        cause = f"broke off {TRIES} times, {here}: {self.reason}"
        raise ModelFileError(self.source, cause, "run it again: it goes on from there")

    def _attempt(self) -> None:
        """One attempt: request the missing bytes and append what arrives."""
        self.have = self.part.stat().st_size if self.part.exists() else 0
        self.total, self.reason = None, "the connection was closed"
        try:
            with urlopen(self._request(), timeout=TIMEOUT) as answer:
                self._store(answer)
        except HTTPError as error:
            self._handle_http_error(error)
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, socket.gaierror | ConnectionRefusedError):
                raise ModelFileError(self.source, f"cannot be reached: {reason}", OFFLINE) from error
            self.reason = str(reason) or type(reason).__name__

    def _request(self) -> Request:
        request = Request(self.source, headers={"User-Agent": "foveate", "Accept-Encoding": "identity"})
        if self.have and self.tag.exists():
            request.add_header("Range", f"bytes={self.have}-")
            if version := self.tag.read_text():  # if the file has changed, the server sends all of it
                request.add_header("If-Range", version)
        return request

    def _store(self, answer: HTTPResponse) -> None:
        """Append the response to `part`, or start over if the server sends the whole file."""
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

    def _handle_http_error(self, error: HTTPError) -> None:
        """An HTTP error: retry if the server is busy, complete if nothing was left to send, else give up."""
        if error.code == 416:
            if error.headers.get("Content-Range") == f"bytes */{self.have}":
                self.total = self.have
            else:
                self.part.unlink(missing_ok=True)  # it is of another version
            return
        self.reason = f"the server says {error.code} {error.reason}"
        if error.code < 500 and error.code != 429:
            raise ModelFileError(self.source, self.reason) from error

    def _check(self) -> None:
        """Read the download as a checkpoint; delete it and raise ModelFileError if that fails.

        The announced length may be wrong, and most formats show only at their end that something is missing.
        """
        try:
            if self.have != self.total:
                cause = f"the server sent {self.have} bytes and announced {self.total}"
                raise ModelFileError(self.source, cause, "is the address still right?")
            with open_checkpoint(self.part):
                pass
        except ModelFileError as error:
            self.part.unlink()
            self.tag.unlink(missing_ok=True)
            if error.subject == self.source:
                raise
            hint = "run it again, or is the address no longer right?"
            cause = f"the downloaded file cannot be used: {error.cause}"
            raise ModelFileError(self.source, cause, hint) from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an OSError while writing into OutputError, so that it is not taken for a network error."""
    try:
        yield
    except OSError as error:
        raise OutputError(path, error.strerror or str(error), "make room, then run it again") from error


def _record_of(target: Path) -> Path:
    """The file with the SHA-256 of a downloaded file."""
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
    """A progress bar on standard error if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        progress.add_task(name, total=None)
        yield progress
