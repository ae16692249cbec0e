"""Lists with a line `path columns labels`: PySlowFast, mmaction2, TSN and TSM, AdaFocus and IBM.

The five differ in three things only: what separates the fields, which columns stand between path and
labels, and how many labels there are. A Layout says these three; one function reads them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from foveate.data.folders import VIDEO_SUFFIXES, has_suffix
from foveate.data.table import Row, Source, Table, whole_number
from foveate.errors import DataError

Format = Literal["pyslowfast", "mmaction2", "tsm", "adafocus", "ibm"]
Columns = Literal["", "frames", "start end"]


@dataclass(frozen=True)
class Layout:
    """How one line is laid out."""

    format: Format
    separator: str | None = None  # None: a run of blanks or tabs
    columns: Columns = ""  # numbers between path and labels
    labels: Literal["none", "one", "many"] = "one"

    def __str__(self) -> str:
        label = {"none": "", "one": " label", "many": " label [label ..]"}[self.labels]
        columns = f" {self.columns}" if self.columns else ""
        separator = "a blank" if self.separator is None else f"'{self.separator}'"
        return f"path{columns}{label}, separated by {separator}"

    @cached_property
    def width(self) -> int:
        """Fields of the shortest complete line."""
        return 1 + len(self.columns.split()) + (self.labels != "none")


def read_columns(source: Source, layout: Layout) -> Table:
    """All rows of a list in the given layout; a line that does not fit raises DataError naming it.

    Where the number of fields is fixed they are counted from the right, so a path may hold blanks.
    """
    split = _splitter(layout)
    rows = [
        _row(fields, layout, number, source)
        for number, fields in enumerate(map(split, source.lines), 1)
        if fields and fields != [""]
    ]
    return Table(rows, notes=[f"columns: {layout}"])


def _splitter(layout: Layout) -> Callable[[str], list[str]]:
    separator, cuts = layout.separator, layout.width - 1
    if separator is None and layout.labels == "many":
        return str.split
    if separator is None:
        return lambda line: line.strip(" \t").rsplit(None, cuts)
    if layout.labels == "many":
        return lambda line: [field.strip(" \t") for field in line.split(separator)]
    return lambda line: [field.strip(" \t") for field in line.rsplit(separator, cuts)]


def _row(fields: list[str], layout: Layout, line: int, source: Source) -> Row:
    if len(fields) < layout.width:
        raise DataError(source.at(line), f"{len(fields)} of {layout.width} fields", f"expected {layout}")
    path = fields[0]
    if not path:
        raise DataError(source.at(line), "the path is empty")
    if not layout.columns:
        if path[-1].isdigit() and _ends_in_number(path):
            raise DataError(source.at(line), f"{path}: more numbers than expected", f"expected {layout}")
        return Row(line, path, tuple(fields[1:]))
    if layout.columns == "frames":
        return Row(line, path, tuple(fields[2:]), _number(fields[1], "number of frames", line, source))
    first = _number(fields[1], "start frame", line, source)
    last = _number(fields[2], "end frame", line, source)
    if not 1 <= first <= last:  # such lists count images from 1 and include the last
        raise DataError(source.at(line), f"frames {first} to {last} are no range counted from 1")
    return Row(line, path, tuple(fields[3:]), start=first - 1, end=last)


def _ends_in_number(path: str) -> bool:
    """Whether a number follows the name of a video file, which is then one more label."""
    name, _, number = path.rpartition(" ")
    return has_suffix(name, VIDEO_SUFFIXES) and whole_number(number) is not None


def _number(text: str, meaning: str, line: int, source: Source) -> int:
    number = whole_number(text)
    if number is None:
        raise DataError(source.at(line), f"{meaning} '{text}' is not a whole number")
    return number
