"""Read back what a check left behind, and part what is usable from what is not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foveate.data.check import ROW_KEYS, Checked, cause_table
from foveate.data.entry import VideoList
from foveate.data.gather import Folder
from foveate.data.jsonl import read_records
from foveate.data.lists import read_list
from foveate.data.stamp import stamp
from foveate.data.table import Source, read_lines
from foveate.errors import DataError


@dataclass(frozen=True)
class CheckedList:
    """Every video of a manifest, in one part or the other."""

    videos: VideoList  # with the numbers of frames that were counted
    refused: tuple[Checked, ...]


def with_status(manifest: str | Path, accept: Collection[str] = ("ok", "partial")) -> CheckedList:
    """Part a manifest into the videos of an accepted status and the others, with their causes.

    A line without status, or no usable video at all, raises DataError.
    """
    videos = read_list(manifest, "jsonl")
    rows = {path: (_checked(path, record), record) for path, record in _records(Path(manifest))}
    usable = tuple(entry for entry in videos.entries if rows[entry.path][0].status in accept)
    refused = tuple(row for row, _ in rows.values() if row.status not in accept)
    if not usable:
        _, cause, count = cause_table(refused)[0]
        raise DataError(manifest, f"none of {len(refused)} videos is usable", f"{cause} ({count})")
    notes = (*videos.notes, *_notes(refused, (record for _, record in rows.values())))
    return CheckedList(replace(videos, entries=usable, notes=notes), refused)


def changed_since(manifest: str | Path) -> dict[str, str]:
    """Path and cause of every video whose files have another size or time than when they were checked."""
    changes = {path: _change(path, record) for path, record in _records(Path(manifest))}
    return {path: change for path, change in changes.items() if change}


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Joined path and record of every line after the header."""
    source, folder = Source(path, read_lines(path)), Folder(path.parent, confined=False)
    records = read_records(source)
    next(records, None)
    for line, record in records:
        missing = next((key for key in ROW_KEYS if key not in record), None)
        if missing:
            raise DataError(
                source.at(line), f"has no {missing}", "the list was not checked: foveate data check"
            )
        yield folder.join(record["path"]), record


def _checked(path: str, record: Mapping[str, Any]) -> Checked:
    keys = (*ROW_KEYS, "bytes", "mtime", "fingerprint")
    values: dict[str, Any] = {key: record.get(key) for key in keys}
    return Checked(**values | {"path": path})


def _notes(refused: Collection[Checked], records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    if refused:
        yield f"{len(refused)} checked videos are left out, each with its cause"
    if others := sum("listed_frames" in record for record in records):
        yield f"{others} videos have another number of frames than their list said"


def _change(path: str, record: Mapping[str, Any]) -> str:
    now = stamp(Path(path))
    if now is None:
        return "" if record.get("bytes") is None else "is gone since it was checked"
    if now.bytes != record.get("bytes"):
        return f"changed since it was checked: {record.get('bytes')} bytes became {now.bytes}"
    return "" if now.mtime == record.get("mtime") else "changed since it was checked: modified"
