"""The rows of a check as a list, and the rows of earlier checks, so that only what changed is decoded again.

While a check runs its rows are added to a file beside the manifest, `NAME.rows`, as they come: a check that
is stopped or killed goes on there. The manifest itself is written when all rows are there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import IO, Any

from foveate.data.check import Checked, Job, file_version
from foveate.data.lists import VideoEntry, VideoList
from foveate.data.lists.jsonl import entry_record, header, write_records
from foveate.errors import OutputError, UsageError
from foveate.io import open_regular

KEYS = tuple(field.name for field in fields(Checked) if field.name != "lost")


def write_manifest(rows: Iterable[Checked], path: str | Path, videos: VideoList | None = None) -> None:
    """Write what a check found as a list, with the labels, classes and parts of the list that was checked.

    Where that list gave another number of frames than was counted, its number is kept as listed_frames. A
    video that was not checked raises UsageError, a file that cannot be written OutputError.
    """
    path, by_path = Path(path), {row.path: row for row in rows}
    if videos is None:
        videos = VideoList(tuple(map(VideoEntry, by_path)), (), "paths")
    for entry in videos.entries:
        if entry.path not in by_path:
            raise UsageError(entry.path, "was not checked")
    folder = path.parent.absolute()
    records = (_record(entry, by_path[entry.path], folder) for entry in videos.entries)
    write_records(path, header(videos), records)


class KeptRows:
    """Rows of earlier checks with the same manifest, finished or not, and a place for those of this one.

    used: how many of them were taken over so far.
    """

    def __init__(self, manifest: Path, afresh: bool = False) -> None:
        self.used = 0
        self._place = manifest.with_name(f"{manifest.name}.rows")
        self._rows: dict[tuple[str, str], Checked] = {}
        if afresh:
            self._place.unlink(missing_ok=True)
            return
        for row in (*_rows_in(manifest, manifest.parent), *_rows_in(self._place, Path())):
            self._rows[_key(row.path, row.asked)] = row

    def row(self, job: Job) -> Checked | None:
        """The row that a check of this video would give again, if there is one; its file has not changed."""
        asked = job.asked(), job._replace(quick=False).asked()  # a full check answers a quick one, too
        found = next((row for one in asked if (row := self._rows.get(_key(job.path, one)))), None)
        version = None if found is None else file_version(Path(job.path))
        if found is None or version is None or version != (found.bytes, found.mtime):
            return None
        self.used += 1
        return replace(found, path=job.path)

    @contextmanager
    def growing(self) -> Iterator[RowsFile]:
        """The file for the rows of this check."""
        file = RowsFile(self._place)
        try:
            yield file
        finally:
            file.close()

    def finish(self) -> None:
        """Remove the file, as the manifest has all rows."""
        with suppress(OSError):
            self._place.unlink()


class RowsFile:
    """Rows a line each, of which none is lost when the process is killed; a failure raises OutputError."""

    def __init__(self, place: Path) -> None:
        self._place = place
        try:
            self._file: IO[bytes] = place.open("ab+")
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                torn = self._file.read(1) != b"\n"  # by a kill in the middle of a line
                self._file.write(b"\n" if torn else b"")
        except OSError as error:
            raise self._error(error) from error

    def add(self, row: Checked) -> None:
        """Write a row, if a later check may take it over."""
        if not may_be_kept(row):
            return
        line = json.dumps(_facts(row) | {"path": os.path.abspath(row.path)})  # noqa: PTH100 (a Path a line is slow)
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Close the file, which stays."""
        with suppress(OSError):
            self._file.close()

    def _error(self, error: OSError) -> OutputError:
        cause = f"cannot be written: {(error.strerror or str(error)).lower()}"
        return OutputError(self._place, cause, "free some space; a second call goes on from here")


def may_be_kept(row: Checked) -> bool:
    """Whether the same file would give the same row: not one that was not there, not readable or not decoded.

    A part that the video has not is told by its list alone, so such a row is made again.
    """
    return row.bytes is not None and not row.lost and (row.fingerprint is not None or row.status != "refused")


def _facts(row: Checked) -> dict[str, Any]:
    return {key: getattr(row, key) for key in KEYS}


def _record(entry: VideoEntry, row: Checked, folder: Path) -> dict[str, Any]:
    listed = {} if entry.frames in (None, row.frames) else {"listed_frames": entry.frames}
    facts = _facts(row if may_be_kept(row) else replace(row, asked=""))
    return facts | entry_record(entry, folder) | {"frames": row.frames} | listed


def _key(path: str, asked: str) -> tuple[str, str]:
    return os.path.abspath(path), asked  # noqa: PTH100 (a Path a line is slow)


def _rows_in(place: Path, folder: Path) -> Iterator[Checked]:
    """The rows of a manifest or of a file beside it; lines that are none, such as a torn one, give none."""
    try:
        lines = open_regular(place)
    except OSError:
        return
    with lines:
        for line in lines:
            try:
                row = _row(json.loads(line), folder)
            except (ValueError, RecursionError, KeyError, TypeError):
                continue
            if row.asked:
                yield row


def _row(record: Mapping[str, Any], folder: Path) -> Checked:
    row = Checked(**{key: record[key] for key in KEYS})
    return replace(row, path=os.path.join(folder, row.path))  # noqa: PTH118 (a Path a line is slow)
