"""Files that are seen complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from foveate.errors import OutputError


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end of the block.

    If the block fails, `path` is as it was and nothing is left beside it; an OSError becomes OutputError.
    durable: the content reaches the disk before the name does, so that a power cut costs neither.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        if durable:
            _sync(part)
        part.replace(path)
        if durable:
            with suppress(OSError):  # some file systems have no such call, and the file is in its place
                _sync(path.parent)
    except OSError as error:
        cause = f"cannot be written: {error.strerror.lower() if error.strerror else error}"
        hint = "make room, or choose another place; what stood there is kept"
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
