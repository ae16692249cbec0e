"""Rows become entries: paths are joined to their folder and every video is taken once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from foveate.data.entry import Entry
from foveate.data.table import Row, Source
from foveate.errors import DataError

WHOLE = (None, None, None, None)  # the range of a row that is a whole video


class Folder:
    """Where relative paths start; `confined` if no path may leave it."""

    def __init__(self, path: Path, confined: bool) -> None:
        self.path = path
        self.confined = confined
        self.prefix = "" if path == Path() else str(path / "x")[:-1]
        self._inside = os.path.join(os.path.abspath(path), "")  # noqa: PTH100, PTH118

    def join(self, path: str) -> str:
        """`path` as it is when absolute, else below the folder."""
        return path if os.path.isabs(path) else self.prefix + path  # noqa: PTH117 (a Path a line is slow)

    def holds(self, path: str) -> bool:
        """Whether a joined path lies below the folder by its name; links are not looked at."""
        return os.path.abspath(path).startswith(self._inside)  # noqa: PTH100


def gather(
    rows: list[Row], indices: Mapping[tuple[str, ...], tuple[int, ...]], folder: Folder, source: Source
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Entries of all rows, each part of a video once, and a note about those that stand more than once.

    A part with two different labels, or a path that leaves a confined folder, raises DataError.
    """
    entries, first_row, repeated = [], dict[object, Row](), list[Row]()
    for row in rows:
        unusual = _is_unusual(row.path)
        path = folder.join(row.path) if unusual else folder.prefix + row.path
        labels = indices[row.labels]
        if folder.confined and unusual and not folder.holds(path):
            raise DataError(
                source.at(row.line), f"{row.path}: leaves the folder {folder.path}", "omit the root"
            )
        name = os.path.normpath(path) if unusual else path
        part = (row.start, row.end, row.start_s, row.end_s)
        first = first_row.setdefault(name if part == WHOLE else (name, part), row)
        if first is row:
            template = row.template or source.template
            entries.append(Entry(path, labels, row.frames, *part, template))
        elif set(labels) == set(indices[first.labels]):
            repeated.append(row)
        else:
            hint = f"{', '.join(first.labels)} at {source.at(first.line)}"
            raise DataError(source.at(row.line), f"{row.path}: label {', '.join(row.labels)} conflicts", hint)
    return tuple(entries), _repeat_note(repeated, source)


def _is_unusual(path: str) -> bool:
    """Whether a path may be absolute, lead out of a folder, or be the same as one written otherwise."""
    return "./" in path or "//" in path or path[0] in "/\\" or path[-1] in "/." or path[1:2] == ":"


def _repeat_note(repeated: list[Row], source: Source) -> tuple[str, ...]:
    if not repeated:
        return ()
    return (f"{len(repeated)} lines repeat a video and count once, the first {source.at(repeated[0].line)}",)
