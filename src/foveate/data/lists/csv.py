"""Tables of videos: the official Kinetics files, and anyone's columns of paths, labels and stretches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from foveate.data.lists.header import Bound, Columns, plain, understand
from foveate.data.lists.records import (
    Record,
    cells_of,
    has_header,
    is_json_table,
    paired_columns,
    read_records,
    unknown_header,
)
from foveate.data.lists.rows import ListSource, ParsedList, Row
from foveate.data.lists.units import within_seconds
from foveate.data.text import like_number, whole_number
from foveate.errors import DataError, UsageError

KINETICS_COLUMNS = ("youtube_id", "time_start", "time_end")
SPLIT_NAMES = {"validation": "val", "valid": "val", "dev": "val", "training": "train", "testing": "test"}
UNIT_WORDS = {"s": "in seconds", "ms": "in milliseconds", "frame": "in frames from 0, the end not included"}


def is_kinetics(lines: Sequence[str]) -> bool:
    """Whether the first line is the header of a Kinetics file."""
    return set(KINETICS_COLUMNS) <= {*map(plain, cells_of(lines[0]))}


def is_table(lines: Sequence[str]) -> bool:
    """Whether a list is a table by its header, its JSON, or lines that pair a video file and a name."""
    return has_header(lines) or is_json_table(lines) or paired_columns(lines) is not None


def read_kinetics(source: ListSource) -> ParsedList:
    """Rows of label, YouTube id, start and end in seconds: the file `id_SSSSSS_EEEEEE.mp4`."""
    if not is_kinetics(source.lines):
        raise DataError(source.at(1), f"is no header with {', '.join(KINETICS_COLUMNS)}")
    rows = []
    for line, record in _chosen(read_records(source), "split", source):
        start = _second(record, "time_start", line, source)
        end = _second(record, "time_end", line, source)
        label = record.get("label")
        path = f"{record['youtube_id']}_{start:06d}_{end:06d}.mp4"
        rows.append(Row(line, path, (label,) if label else ()))
    known = ("kinetics400", "kinetics600", "kinetics700")
    return ParsedList(rows, "names", known=known, search="stems")


def read_table(source: ListSource) -> ParsedList:
    """Rows with a column of paths and, but for test lists, of labels; stretches by their start and end.

    Columns go by the names in use (header.py). Labels that are all whole numbers are class numbers, else
    they are class names; an empty one is none. Times are written 83.5 or 0:01:23.5; frames count from 0,
    the end not included.
    """
    records = read_records(source)
    names = list(dict.fromkeys(chain.from_iterable(record for _, record in records)))
    columns = understand(names or cells_of(source.lines[0]), source.at(1))
    if columns.path is None:
        raise unknown_header(source.path, names)
    splits = sorted({str(record.get(columns.split)) for _, record in records}) if columns.split else []
    records = list(_chosen(records, columns.split or "split", source))
    values = [record for _, record in records]
    labels, class_names, notes = _labels(values, columns, source)
    columns = _with_units(columns, values, source)
    rows = [
        _row(line, record, label, columns, source)
        for (line, record), label in zip(records, labels, strict=True)
    ]
    if len(splits) > 1 and not source.split:
        notes.append(f"all splits together: {', '.join(splits[:8])}; choose one by --split")
    used = {label for found in labels for label in found}
    named = bool(used) and not any(map(like_number, used))
    several = any(len(found) > 1 for found in labels)
    return ParsedList(
        rows,
        "names" if named else "numbers",
        class_names,
        multi_label=several,
        notes=notes + _notes(columns),
        search="ids" if columns.is_id else "names",
    )


def _notes(columns: Columns) -> list[str]:
    notes = [f"paths are in the column {columns.path}"] if columns.path != "path" else []
    notes += [] if columns.labels else ["no column label: videos without labels"]
    bounds = [bound for bound in (columns.start, columns.end) if bound]
    if bounds:
        edges = " and ".join(bound.name for bound in bounds)
        notes.append(f"stretches by {edges}, {UNIT_WORDS[bounds[0].unit]}")
    return notes + ([f"columns not used: {', '.join(columns.unused)}"] if columns.unused else [])


def _row(line: int, record: Record, labels: tuple[str, ...], columns: Columns, source: ListSource) -> Row:
    path = record.get(str(columns.path))
    if path is None or path == "":
        raise DataError(source.at(line), "the path is empty")
    if not isinstance(path, str | int) or "\0" in str(path):
        raise DataError(source.at(line), f"its path is {str(path)[:60]!r}")
    row = Row(line, str(path), labels)
    if columns.start is None and columns.end is None:
        return row
    start, end = (_edge(record, bound, line, source) for bound in (columns.start, columns.end))
    if start is None and end is None:
        return row
    if end is not None and end <= (start or 0):
        cause = f"{path}: the stretch from {start or 0:g} to {end:g} ends before it starts"
        raise DataError(source.at(line), cause)
    unit = next(bound.unit for bound in (columns.start, columns.end) if bound)
    if unit == "frame":
        first, last = (None if edge is None else int(edge) for edge in (start, end))
        return row._replace(start=first, end=last)
    scale = 1000 if unit == "ms" else 1
    from_s, to_s = (None if edge is None else edge / scale for edge in (start, end))
    return row._replace(start_s=from_s, end_s=to_s)


def _edge(record: Record, bound: Bound | None, line: int, source: ListSource) -> float | None:
    """The start or the end of a stretch; None where there is none, or the end is -1."""
    text = "" if bound is None else str("" if record.get(bound.name) is None else record[bound.name]).strip()
    if bound is None or not text or (bound.edge == "end" and text == "-1"):
        return None
    number = _number(text)
    if number is None or (bound.unit == "frame" and number % 1):
        what = "number of a frame" if bound.unit == "frame" else "time"
        raise DataError(source.at(line), f"{bound.name} '{text[:60]}' is no {what}")
    return number


def _number(text: str) -> float | None:
    """83.5, 83,5 or 1:23.5 as a number; None for anything else."""
    text = text.replace(",", ".") if text.count(",") == 1 else text
    if re.fullmatch(r"\d+(\.\d*)?(e-?\d+)?", text):
        return float(text)
    clock = re.fullmatch(r"(?:(\d+):)?(\d+):([0-5]?\d(?:\.\d+)?)", text)
    return int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else None


def _with_units(columns: Columns, records: Sequence[Record], source: ListSource) -> Columns:
    """The columns with the unit of `start` and `end`: seconds by a point, a colon or the videos."""
    bounds = [bound for bound in (columns.start, columns.end) if bound]
    if not bounds or bounds[0].unit:
        return columns
    values = [str(record.get(bound.name) or "") for record in records for bound in bounds]
    if not any(re.search(r"\d[.:,]\d", value) for value in values) and not within_seconds(
        [(str(record.get(str(columns.path))), record.get(bounds[-1].name)) for record in records], source
    ):
        names = " and ".join(bound.name for bound in bounds)
        hint = "name them start_s and end_s, or start_frame and end_frame"
        raise DataError(source.at(1), f"the columns {names}: seconds or frames?", hint)
    start, end = (bound and replace(bound, unit="s") for bound in (columns.start, columns.end))
    return replace(columns, start=start, end=end)


def _labels(
    records: Sequence[Record], columns: Columns, source: ListSource
) -> tuple[list[tuple[str, ...]], tuple[str, ...] | None, list[str]]:
    """The labels of every row, class names in order where numbers stand beside names, and notes."""
    if not columns.labels:
        return [()] * len(records), None, []
    texts = {name: _column(records, name) for name in columns.labels}
    numbered = [name for name, found in texts.items() if _all_whole(found)]
    named = [name for name in texts if name not in numbered]
    for name in numbered:  # which come as 1.0 where the column has gaps
        texts[name] = [tuple(text.partition(".")[0] for text in found) for found in texts[name]]
    for kind in (named, numbered):
        if len(kind) > 1 and "label" not in kind:
            cause = f"the columns {' and '.join(kind)} could both be the label"
            raise DataError(source.at(1), cause, "rename the right one to label, or remove the other")
    name = _preferred(named) or _preferred(numbered)
    number = _preferred(numbered)
    notes = [f"labels are in the column {name}"] if name != "label" else []
    order = _class_order(texts[name], texts[number]) if named and number else None
    notes += [f"classes in the order of {number}"] if order else []
    if {*texts[name]} == {("-1",)}:
        return [()] * len(records), None, ["all labels are -1: videos without labels"]
    return texts[name], order, notes


def _preferred(names: Sequence[str]) -> str:
    return "label" if "label" in names else next(iter(names), "")


def _column(records: Sequence[Record], name: str) -> list[tuple[str, ...]]:
    """The labels of every row in one column; those that are written alike are one object."""
    known: dict[str, tuple[str, ...]] = {}
    found = []
    for record in records:
        value = record.get(name)
        if not isinstance(value, str):
            found.append(_texts(value))
        elif value in known:
            found.append(known[value])
        else:
            found.append(known.setdefault(value, _texts(value)))
    return found


def _texts(value: Any) -> tuple[str, ...]:
    """The labels in a cell; a list of them, in JSON, is several."""
    values = value if isinstance(value, list) else [value]
    return tuple(str(one).strip() for one in values if one is not None and str(one).strip())


def _all_whole(labels: Sequence[tuple[str, ...]]) -> bool:
    texts = {text for found in labels for text in found}
    floats = bool(texts) and all(re.fullmatch(r"\d+\.0+", text) for text in texts)
    return floats or all(whole_number(text.removeprefix("-")) is not None for text in texts)


def _class_order(
    names: Sequence[tuple[str, ...]], numbers: Sequence[tuple[str, ...]]
) -> tuple[str, ...] | None:
    """Class names by their numbers, where each has one of its own and there are no gaps."""
    pairs = {
        (int(number[0]), name[0]) for name, number in zip(names, numbers, strict=True) if name and number
    }
    order = [name for _, name in sorted(pairs)]
    counted = sorted(number for number, _ in pairs)
    gapless = counted in (list(range(len(counted))), list(range(1, len(counted) + 1)))
    return tuple(order) if gapless and len({*order}) == len(order) else None


def _chosen(
    records: Iterable[tuple[int, Record]], column: str, source: ListSource
) -> Iterator[tuple[int, Record]]:
    """Line number and record of every row of the chosen split, of all rows where none is chosen."""
    if not source.split:
        yield from records
        return
    splits: set[str] = set()
    wanted = _split_name(source.split)
    for line, record in records:
        if column not in record:
            raise UsageError(source.path, "has no column split")
        splits.add(str(record[column]))
        if _split_name(str(record[column])) == wanted:
            yield line, record
    if wanted not in map(_split_name, splits):
        there = ", ".join(sorted(splits)[:8])
        raise UsageError(source.path, f"has no split '{source.split}'", f"there are {there}")


def _split_name(name: str) -> str:
    return SPLIT_NAMES.get(name.strip().lower(), name.strip().lower())


def _second(record: Record, column: str, line: int, source: ListSource) -> int:
    second = whole_number(record[column])
    if second is None:
        raise DataError(source.at(line), f"{column} '{record[column]}' is not a whole number")
    return second
