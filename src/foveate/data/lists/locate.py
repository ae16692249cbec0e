"""Videos that lie further down than their list says.

A table often has bare names where the files stand in a folder a class or a split, as Kinetics does. Such a
row is joined to the one file of its name below the folder, and that is said. Where several files have it, one
that lies in a folder of the row's label or of the list's name is taken; nothing else decides.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from foveate.data.lists.entries import is_unusual
from foveate.data.lists.folder import VIDEO_SUFFIXES, has_suffix, videos_below
from foveate.data.lists.rows import ListSource, ParsedList, Row
from foveate.errors import DataError

SAMPLE = 300  # rows looked at; where all of these are in their place, nothing is searched


def locate(parsed: ParsedList, source: ListSource) -> ParsedList:
    """The rows of a list with the paths of the files that they name, relative to the list's folder.

    A row whose file is nowhere keeps its path, or gets the folder in which others of its label were found.
    Raises DataError for a row that two files fit, or where ids, which are no paths, name no file at all.
    """
    if not parsed.search:
        return parsed
    rows = parsed.rows
    absolute = os.path.isabs  # a Path a row is slow
    relative = [row.path for row in rows if not (is_unusual(row.path) and absolute(row.path))]
    sample = relative[:: len(relative) // SAMPLE + 1]
    if all((source.folder / path).exists() for path in sample):
        return parsed
    classes = {_word(label) for labels in {row.labels for row in rows} for label in labels}
    files = _Files(source, classes, parsed.search != "names")
    if not files.paths and parsed.search != "ids":
        return parsed
    found = [files.find(row) for row in rows]
    moved = sum(path not in (None, row.path) for path, row in zip(found, rows, strict=True))
    if not any(found):
        if parsed.search == "ids":
            cause = f"no video below {source.folder} is called {rows[0].path[:60]}, nor like any other row"
            raise DataError(source.at(rows[0].line), cause, "give --root, or a column of paths")
        return parsed
    if not moved:
        return parsed
    homes = {row.labels: os.path.dirname(path) for path, row in zip(found, rows, strict=True) if path}  # noqa: PTH120
    placed = [
        row._replace(path=path or _beside(row, homes.get(row.labels, "")))
        for path, row in zip(found, rows, strict=True)
    ]
    note = f"{moved} videos found by their names further down in {source.folder}"
    parsed.rows[:] = placed
    parsed.notes.append(note)
    return parsed


class _Files:
    """All videos below a folder, by name."""

    def __init__(self, source: ListSource, classes: set[str], stems: bool) -> None:
        self.source = source
        self.classes = classes
        self.stems = stems
        self.paths: set[str] = set()
        self.by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path in videos_below(source.folder):
            name = os.path.basename(path)  # noqa: PTH119 (a Path a file is slow)
            self.paths.add(path)
            self.by_name[name].append(path)
            if stems and has_suffix(name, VIDEO_SUFFIXES):
                self.by_name[os.path.splitext(name)[0]].append(path)  # noqa: PTH122

    def find(self, row: Row) -> str | None:
        """The path of the file that a row names, or None; DataError where two have the same right to it."""
        path = row.path
        if is_unusual(path):
            path = os.path.normpath(path)
            if os.path.isabs(path) or path.startswith(os.pardir):  # noqa: PTH117
                return row.path
        if path in self.paths:
            return row.path
        folder, name = os.path.split(path)
        candidates = self.by_name.get(name, [])
        if not candidates and self.stems:
            candidates = self.by_name.get(os.path.splitext(name)[0], [])  # noqa: PTH122
        if not candidates:
            return None
        own = {_word(label) for label in row.labels}
        ranked = defaultdict(list)
        for candidate in candidates:
            above = os.path.dirname(candidate)  # noqa: PTH120
            words = {_word(part) for part in Path(above).parts}
            if f"{os.sep}{above}".endswith(f"{os.sep}{folder}" if folder else "") and not (
                words & (self.classes - own)
            ):
                ranked[len(words & (own | self._list_words()))].append(candidate)
        best = ranked[max(ranked)] if ranked else []
        if len(best) > 1:
            hint = "name one by its path, or give --root"
            raise DataError(self.source.at(row.line), f"two videos fit {name}: {best[0]}, {best[1]}", hint)
        return best[0] if best else None

    def _list_words(self) -> set[str]:
        return {*_word(self.source.path.name.split(".")[0]).split("_"), _word(self.source.split or "")} - {""}


def _beside(row: Row, home: str) -> str:
    bare = home and os.path.basename(row.path) == row.path  # noqa: PTH119
    return os.path.join(home, row.path) if bare else row.path  # noqa: PTH118


@lru_cache(maxsize=1 << 16)
def _word(name: str) -> str:
    """A class or folder name without what is written differently: "playing chess" and "Playing_Chess"."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")
