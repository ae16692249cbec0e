"""Foveate's own list: a JSON object a line, the first of which names format and classes.

    {"foveate": 1, "classes": ["run", "walk"], "multi_label": false}
    {"path": "videos/a.mp4", "labels": [1]}

A line may hold more keys, such as those of a check; whoever does not know them leaves them alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from foveate.data.entry import Entry, VideoList
from foveate.data.table import Row, Source, Table
from foveate.errors import DataError, OutputError

VERSION = 1
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "path": str,
    "labels": list,
    "frames": int,
    "start": int,
    "end": int,
    "start_s": (int, float),
    "end_s": (int, float),
    "template": str,
}
_NUMBERS = ("frames", "start", "end", "start_s", "end_s")
_ROW_KEYS = (*_NUMBERS, "template")


def is_jsonl(lines: Sequence[str]) -> bool:
    """Whether a file begins as a JSON object does."""
    return next(filter(str.strip, lines), "").lstrip().startswith("{")


def read_jsonl(source: Source) -> Table:
    """The videos of an own list; a line that is no object, or a value of the wrong kind, raises DataError."""
    records = read_records(source)
    _, header = next(records)
    classes = header.get("classes") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(source.at(1), "classes is not a list of names")
    if source.names and tuple(classes) != source.names[: len(classes)]:
        raise DataError(source.at(1), "its classes are others than those given", "leave the given ones out")
    rows = [_row(record, line, source) for line, record in records]
    return Table(
        rows, class_names=tuple(classes) or None, base=0, multi_label=bool(header.get("multi_label"))
    )


def read_records(source: Source) -> Iterator[tuple[int, dict[str, object]]]:
    """Line number and object of every line, the header first."""
    lines = ((number, line) for number, line in enumerate(source.lines, 1) if line.strip())
    for position, (number, line) in enumerate(lines):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(source.at(number), f"not readable as JSON: {error}") from error
        if not isinstance(record, dict):
            raise DataError(source.at(number), "is not a JSON object")
        if position == 0 and record.get("foveate") != VERSION:
            hint = f'it begins with {{"foveate": {VERSION}, "classes": [..]}}'
            raise DataError(source.at(number), f"is not the header of a list of version {VERSION}", hint)
        yield number, record


def write_jsonl(videos: VideoList, path: str | Path) -> None:
    """Write a list so that `read_list` gives the same videos back, whole or not at all.

    Paths below the folder of the list are written relative to it, so both can move together.
    """
    path = Path(path)
    write_records(path, header(videos), (entry_record(entry, path.parent) for entry in videos.entries))


def header(videos: VideoList) -> dict[str, object]:
    """The first line of a list."""
    return {"foveate": VERSION, "classes": list(videos.class_names), "multi_label": videos.multi_label}


def entry_record(entry: Entry, folder: Path) -> dict[str, object]:
    """The line of one video in a list that lies in `folder`."""
    record: dict[str, object] = {"path": portable(entry.path, folder), "labels": list(entry.labels)}
    values = {key: getattr(entry, key) for key in _ROW_KEYS}
    return record | {key: value for key, value in values.items() if value is not None}


def portable(path: str, folder: Path) -> str:
    """`path` relative to `folder` where it lies below it, else absolute."""
    whole, base = os.path.abspath(path), os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118
    return whole[len(base) :] if whole.startswith(base) else whole


def write_records(path: Path, first: Mapping[str, object], rest: Iterable[Mapping[str, object]]) -> None:
    """Write objects a line each beside the target and move them there; a failure raises OutputError."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="ascii") as file:  # JSON escapes keep even names that are not UTF-8
            for record in chain((first,), rest):
                file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    finally:
        part.unlink(missing_ok=True)


def _row(record: Mapping[str, object], line: int, source: Source) -> Row:
    for key, value in record.items():
        kind = _KINDS.get(key)
        if kind and value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise DataError(source.at(line), f"{key} is {value!r}")
        if key in _NUMBERS and value is not None and not 0 <= float(str(value)) < float("inf"):
            raise DataError(source.at(line), f"{key} is {value}")
    path = record.get("path")
    if not isinstance(path, str) or not path or "\0" in path:
        raise DataError(source.at(line), f"its path is {path!r}")
    values: dict[str, Any] = {key: record.get(key) for key in _ROW_KEYS}
    row = Row(line, path, tuple(map(str, _labels(record))), **values)
    if _empty(row.start, row.end) or _empty(row.start_s, row.end_s):
        raise DataError(source.at(line), "its part ends before it starts")
    return row


def _labels(record: Mapping[str, object]) -> list[object]:
    labels = record.get("labels")
    return labels if isinstance(labels, list) else []


def _empty(start: float | None, end: float | None) -> bool:
    return end is not None and end <= (start or 0)
