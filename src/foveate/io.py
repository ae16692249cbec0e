"""Atomic writes: a reader finds the old file or the complete new one, never a part of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from foveate.errors import OutputError


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; OSError for anything else, as a named pipe would wait for a writer."""
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # opening a folder says so itself
        raise OSError(errno.EINVAL, "not a regular file")
    return path.open("rb")


@contextmanager
def atomic_write(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; at the end of the block it is renamed to `path`.

    If the block fails, an existing `path` is unchanged and the temporary file is removed. An OSError becomes
    OutputError. durable: flush the content to disk before renaming, so that neither the old nor the new file
    is lost in a power failure.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        if durable:
            _sync(part)
        part.replace(path)
        if durable:
            with suppress(OSError):  # not every file system can sync a folder; the file is already in place
                _sync(path.parent)
    except OSError as error:
        cause = f"cannot be written: {error.strerror.lower() if error.strerror else error}"
        hint = "free some space or choose another place; an existing file is unchanged"
        raise OutputError(path, cause, hint) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
