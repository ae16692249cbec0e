"""What every list format is read into before labels become indices: rows of text with their line numbers.

A reader of a format knows columns and nothing else; paths, labels, duplicates and classes are settled
afterwards in one place, the same way for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple


class Row(NamedTuple):
    """One video as its list writes it; fields as in VideoEntry, labels still as text."""

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
class ListSource:
    """What a reader is given."""

    path: Path  # the list, or the folder that takes its place
    lines: list[str]  # empty for a folder
    names: tuple[str, ...] | None = None  # class names from outside the list
    split: str | None = None
    template: str | None = None
    folder: Path = Path()  # where relative paths start

    def at(self, line: int) -> str:
        """The place of a line, for errors."""
        return f"{self.path}:{line}" if line else str(self.path)


@dataclass(frozen=True)
class ParsedList:
    """What a reader returns."""

    rows: list[Row]
    labels: Literal["numbers", "names"] = "numbers"
    class_names: tuple[str, ...] | None = None  # the list's own; used when none come from outside
    known: tuple[str, ...] = ()  # public data sets whose class names may be the right ones
    base: int | None = None  # what labels are counted from, where the format fixes it
    multi_label: bool = False
    search: Literal["", "names", "stems", "ids"] = ""
    """Whether files that are not where a row says are looked for further down (locate.py): by their names, or
    by these without suffix; "ids": the rows hold no paths, so that files must be found."""
    notes: list[str] = field(default_factory=list)


Reader = Callable[[ListSource], ParsedList]
