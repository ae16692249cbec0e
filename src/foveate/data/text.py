"""Text files of lists and of class names: their lines, and the numbers in them."""

from __future__ import annotations

import codecs
from functools import lru_cache
from pathlib import Path

from foveate.errors import DataError


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, without byte order mark and carriage returns.

    Only a line feed ends a line: file names may hold any of the rarer separators. A file that is missing,
    holds a NUL byte or is not UTF-8 raises DataError with the line.
    """
    if not path.is_file():
        raise DataError(path, "not a regular file" if path.exists() else "no such file or folder")
    try:
        with path.open("rb") as file:
            data = file.read(1 << 16)
            if b"\0" not in data:  # else it is probably a video of gigabytes
                data += file.read()
    except OSError as error:
        raise DataError(path, error.strerror or str(error)) from error
    if (position := data.find(b"\0")) >= 0:
        raise DataError(_place(path, data, position), "holds a NUL byte", "is it a text list?")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _place(path, data, error.start)
        raise DataError(place, f"byte 0x{data[error.start]:02x} is not UTF-8", "save it as UTF-8") from error
    return text.replace("\r\n", "\n").split("\n")


def _place(path: Path, data: bytes, position: int) -> str:
    line = data.count(b"\n", 0, position) + 1
    return f"{path}:{line}"


@lru_cache(maxsize=1 << 16)
def whole_number(text: str) -> int | None:
    """The number that plain ASCII digits write, else None: no sign, point, exponent or underscore."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 19 else None


def like_number(text: str) -> bool:
    """Whether a text is meant as a number, of whatever kind, or is nothing at all."""
    return text.lstrip("+-").replace(".", "", 1).isdecimal() or not text
