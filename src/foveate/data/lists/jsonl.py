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

from foveate.data.lists.entries import VideoEntry, VideoList
from foveate.data.lists.rows import ListSource, ParsedList, Row
from foveate.errors import DataError
from foveate.io import atomic_write

VERSION = 1
DECODER = json.JSONDecoder()
_FRAME_KEYS = ("frames", "start", "end")
_SECOND_KEYS = ("start_s", "end_s")
_ROW_KEYS = (*_FRAME_KEYS, *_SECOND_KEYS, "template")


def is_jsonl(lines: Sequence[str]) -> bool:
    """Whether a file begins as a JSON object does."""
    return next(filter(str.strip, lines), "").lstrip().startswith("{")


def read_jsonl(source: ListSource) -> ParsedList:
    """The videos of an own list; a line that is no object, or a value of the wrong kind, raises DataError."""
    records = read_records(source)
    _, first = next(records)
    classes = first.get("classes") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(source.at(1), "classes is not a list of names")
    if source.names and tuple(classes) != source.names[: len(classes)]:
        raise DataError(source.at(1), "its classes are others than those given", "leave the given ones out")
    rows = [_row(record, line, source) for line, record in records]
    return ParsedList(
        rows, class_names=tuple(classes) or None, base=0, multi_label=bool(first.get("multi_label"))
    )


def read_records(source: ListSource) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every line, the header first."""
    lines = ((number, line) for number, line in enumerate(source.lines, 1) if line.strip())
    for position, (number, line) in enumerate(lines):
        try:
            record = _object(line)
        except (ValueError, RecursionError) as error:
            raise DataError(source.at(number), f"not readable as JSON: {error}") from error
        if not isinstance(record, dict):
            raise DataError(source.at(number), "is not a JSON object")
        if position == 0 and record.get("foveate") != VERSION:
            hint = f'it begins with {{"foveate": {VERSION}, "classes": [..]}}'
            raise DataError(source.at(number), f"is not the header of a list of version {VERSION}", hint)
        yield number, record


def _object(line: str) -> Any:
    """`json.loads`, which spends half of its time on what may stand before and behind an object."""
    if line.startswith("{"):
        found, end = DECODER.raw_decode(line)
        if end == len(line):
            return found
    return json.loads(line)


def write_jsonl(videos: VideoList, path: str | Path) -> None:
    """Write a list so that `read_list` gives the same videos back; the file appears when it is complete.

    Paths below the folder of the list are written relative to it, so both can move together.
    """
    path = Path(path)
    folder = path.parent.absolute()
    write_records(path, header(videos), (entry_record(entry, folder) for entry in videos.entries))


def header(videos: VideoList) -> dict[str, Any]:
    """The first line of a list."""
    return {"foveate": VERSION, "classes": list(videos.class_names), "multi_label": videos.multi_label}


def entry_record(entry: VideoEntry, folder: Path) -> dict[str, Any]:
    """The line of one video in a list that lies in `folder`, an absolute path."""
    full, base = os.path.abspath(entry.path), f"{folder}{os.sep}"  # noqa: PTH100 (a Path a line is slow)
    record = {"path": full.removeprefix(base).replace(os.sep, "/"), "labels": entry.labels}
    for key in _ROW_KEYS:
        if (value := getattr(entry, key)) is not None:
            record[key] = value
    return record


def write_records(path: Path, first: Mapping[str, Any], rest: Iterable[Mapping[str, Any]]) -> None:
    """Write objects a line each beside the target and move them there; a failure raises OutputError."""
    with atomic_write(path, durable=True) as part, part.open("w", encoding="ascii") as file:
        for record in chain((first,), rest):
            file.write(json.dumps(record) + "\n")  # whose escapes keep even names that are not UTF-8


def _row(record: Mapping[str, Any], line: int, source: ListSource) -> Row:
    path, labels = record.get("path"), record.get("labels", [])
    if not isinstance(path, str) or not path or "\0" in path:
        raise DataError(source.at(line), f"its path is {path!r}")
    if not isinstance(labels, list):
        raise DataError(source.at(line), f"labels is {labels!r}", "write a list of class numbers")
    values = {key: value for key in _ROW_KEYS if (value := record.get(key)) is not None}
    texts = tuple(map(str, labels))
    if not values:
        return Row(line, path, texts)
    for key, value in values.items():
        if not _is_possible(key, value):
            raise DataError(source.at(line), f"{key} is {value!r}")
    for start, end in (("start", "end"), ("start_s", "end_s")):
        if end in values and values[end] <= values.get(start, 0):
            raise DataError(source.at(line), "its part ends before it starts")
    return Row(line, path, texts, **values)


def _is_possible(key: str, value: object) -> bool:
    if key == "template":
        return isinstance(value, str)
    kinds = int if key in _FRAME_KEYS else int | float
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < float("inf")
