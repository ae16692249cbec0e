"""What every list format is read into before labels become indices: rows of text with their line numbers.

A reader of a format knows columns and nothing else; paths, labels, duplicates and classes are settled
afterwards in one place, the same way for all of them.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from foveate.errors import DataError


class Row(NamedTuple):
    """One video as its list writes it; fields as in Entry, labels still as text."""

    line: int  # counted from 1; 0 where the source has no lines
    path: str
    labels: tuple[str, ...] = ()
    frames: int | None = None
    start: int | None = None
    end: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    template: str | None = None


@dataclass(frozen=True)
class Source:
    """What a reader is given."""

    path: Path  # the list, or the folder that takes its place
    lines: list[str]  # empty for a folder
    names: tuple[str, ...] | None = None  # class names from outside the list
    split: str | None = None
    template: str | None = None

    def at(self, line: int) -> str:
        """The place of a line, for errors."""
        return f"{self.path}:{line}" if line else str(self.path)


@dataclass(frozen=True)
class Table:
    """What a reader returns."""

    rows: list[Row]
    labels: Literal["numbers", "names"] = "numbers"
    class_names: tuple[str, ...] | None = None  # the list's own; used when none come from outside
    known: tuple[str, ...] = ()  # public data sets whose class names may be the right ones
    base: int | None = None  # what labels are counted from, where the format fixes it
    multi_label: bool = False
    notes: list[str] = field(default_factory=list)


Reader = Callable[[Source], Table]


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
