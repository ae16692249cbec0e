"""Whether a video is still the one that was looked at: size and time cheaply, the content by its hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """What shows cheaply that a file was replaced; of a folder, the sum of sizes and the latest time."""

    bytes: int
    mtime: float  # seconds since 1970


def stamp(path: Path) -> Stamp | None:
    """Size and time of a file, or of the files in a folder of images; None where there is nothing to read."""
    try:
        states = [file.stat() for file in _files(path)]
    except OSError:
        return None
    if not states:
        return None
    return Stamp(sum(state.st_size for state in states), max(state.st_mtime for state in states))


def fingerprint(path: Path) -> str | None:
    """SHA-256 of a file, or of the names and contents in a folder; None where there is nothing to read."""
    digest = hashlib.sha256()
    try:
        files = _files(path)
        for file in files:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256")
            if file == path:
                return content.hexdigest()
            digest.update(file.name.encode("utf-8", "surrogateescape") + b"\0" + content.digest())
    except OSError:
        return None
    return digest.hexdigest() if files else None


def _files(path: Path) -> list[Path]:
    """The regular files of a video: opening anything else could wait for ever."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    return [path] if path.is_file() else []
