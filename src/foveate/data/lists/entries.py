"""What a list of videos is, whatever file it came from, and how its rows become that.

Paths are joined to their folder and every part of a video is taken once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foveate.data.lists.folder import is_companion
from foveate.data.lists.rows import ListSource, ParsedList, Row
from foveate.errors import DataError

NO_RANGE = (None, None, None, None)  # of a row that is all of a video
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")  # C:\ or \\server\ at the start of a path of Windows


@dataclass(frozen=True, slots=True)
class VideoEntry:
    """One video of a list, or one part of it, and its labels."""

    path: str  # a video file, a folder of numbered images or a .npy array
    labels: tuple[int, ...] = ()  # class indices counted from 0; empty where the list has none
    frames: int | None = None  # frames of all of the source, where the list says so
    start: int | None = None  # first frame of the part, counted from 0
    end: int | None = None  # one past its last frame
    start_s: float | None = None  # the same part given in seconds
    end_s: float | None = None
    template: str | None = None  # names of the images, such as img_{:05d}.jpg; None: found by looking


@dataclass(frozen=True)
class VideoList:
    """The videos of a list with the names of their classes, and what was understood while reading."""

    entries: tuple[VideoEntry, ...]
    class_names: tuple[str, ...]  # in index order; numerals where nobody gave names; empty without labels
    format: str
    notes: tuple[str, ...] = ()  # detected format and label base, duplicates and everything left out
    multi_label: bool = False
    label_base: int = 0  # what the list counts its classes from; the entries always count from 0

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


class ListFolder:
    """Where relative paths start; `confined` if no path may leave it."""

    def __init__(self, path: Path, confined: bool) -> None:
        self.path = path
        self.confined = confined
        self.prefix = "" if path == Path() else str(path / "x")[:-1]
        self._inside = os.path.join(os.path.abspath(path), "")  # noqa: PTH100, PTH118

    def join(self, path: str) -> str:
        """`path` as it is when absolute or a URL, else below the folder."""
        return path if URL.match(path) or os.path.isabs(path) else self.prefix + path  # noqa: PTH117 (a Path a line is slow)

    def holds(self, path: str) -> bool:
        """Whether a joined path lies below the folder by its name; links are not looked at."""
        return os.path.abspath(path).startswith(self._inside)  # noqa: PTH100


def portable(parsed: ParsedList, source: ListSource) -> ParsedList:
    """The rows as this system can read them, with a note of what was changed.

    Backslashes of Windows become slashes, unless a file has them in its name; companions of macOS are left
    out. A path on a drive of Windows raises DataError.
    """
    companions = [row for row in parsed.rows if "._" in row.path and is_companion(row.path)]
    if companions:
        parsed.rows[:] = [row for row in parsed.rows if not is_companion(row.path)]
        parsed.notes.append(f"{len(companions)} companions of macOS left out, such as {companions[0].path}")
    if os.sep == "\\":
        return parsed
    changed = 0
    for place, row in enumerate(parsed.rows):
        if "\\" not in row.path or os.path.lexists(source.folder / row.path):
            continue
        if DRIVE.match(row.path):
            hint = "write paths relative to a folder, and give it by --root"
            raise DataError(source.at(row.line), f"{row.path[:100]}: a path on a drive of Windows", hint)
        parsed.rows[place] = row._replace(path=row.path.replace("\\", "/"))
        changed += 1
    if changed:
        parsed.notes.append(f"backslashes in {changed} paths are read as slashes")
    return parsed


def to_entries(
    rows: list[Row],
    indices: Mapping[tuple[str, ...], tuple[int, ...]],
    folder: ListFolder,
    source: ListSource,
) -> tuple[tuple[VideoEntry, ...], tuple[str, ...]]:
    """Entries of all rows, each part of a video once, and a note about those that stand more than once.

    A part with two different labels, or a path that leaves a confined folder, raises DataError.
    """
    entries, first_row, repeated = [], dict[object, Row](), list[Row]()
    for row in rows:
        unusual = is_unusual(row.path)
        path = folder.join(row.path) if unusual else folder.prefix + row.path
        labels = indices[row.labels]
        if folder.confined and unusual and not folder.holds(path) and not URL.match(path):
            raise DataError(
                source.at(row.line), f"{row.path}: leaves the folder {folder.path}", "omit the root"
            )
        name = os.path.normpath(path) if unusual else path
        part = row[4:8]  # start, end, start_s, end_s; by their names it takes longer
        first = first_row.setdefault(name if part == NO_RANGE else (name, part), row)
        if first is row:
            template = row.template or source.template
            entries.append(VideoEntry(path, labels, row.frames, *part, template))
        elif set(labels) == set(indices[first.labels]):
            repeated.append(row)
        else:
            hint = f"{', '.join(first.labels)} at {source.at(first.line)}"
            raise DataError(source.at(row.line), f"{row.path}: label {', '.join(row.labels)} conflicts", hint)
    return tuple(entries), _repeat_note(repeated, source)


def is_unusual(path: str) -> bool:
    """Whether a path may be absolute, lead out of a folder, or be the same as one written otherwise."""
    return "./" in path or "//" in path or path[0] in "/\\" or path[-1] in "/." or path[1:2] == ":"


def _repeat_note(repeated: list[Row], source: ListSource) -> tuple[str, ...]:
    if not repeated:
        return ()
    return (f"{len(repeated)} lines repeat a video and count once, the first {source.at(repeated[0].line)}",)
