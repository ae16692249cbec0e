"""Comma-separated tables with a header line: the official Kinetics files and anyone's `path,label`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO

from foveate.data.lists.rows import ListSource, ParsedList, Row
from foveate.data.text import like_number, whole_number
from foveate.errors import DataError, UsageError

PATH_COLUMNS = ("path", "video", "video_path", "file", "filename")
LABEL_COLUMNS = ("label", "class", "class_name")
KINETICS_COLUMNS = ("youtube_id", "time_start", "time_end")

Record = Mapping[str, str]


def is_kinetics(lines: Sequence[str]) -> bool:
    """Whether the first line is the header of a Kinetics file."""
    return set(KINETICS_COLUMNS) <= set(_columns(lines[0]))


def is_table(lines: Sequence[str]) -> bool:
    """Whether the first line names a column of paths, and others beside it."""
    columns = _columns(lines[0])
    return len(columns) > 1 and _first(PATH_COLUMNS, columns) is not None


def read_kinetics(source: ListSource) -> ParsedList:
    """Rows of label, YouTube id, start and end in seconds: the file `id_SSSSSS_EEEEEE.mp4`."""
    if not is_kinetics(source.lines):
        raise DataError(source.at(1), f"is no header with {', '.join(KINETICS_COLUMNS)}")
    rows = []
    for line, record in _chosen(source):
        start = _second(record, "time_start", line, source)
        end = _second(record, "time_end", line, source)
        label = record.get("label")
        path = f"{record['youtube_id']}_{start:06d}_{end:06d}.mp4"
        rows.append(Row(line, path, () if label is None else (label,)))
    return ParsedList(rows, "names", known=("kinetics400", "kinetics600", "kinetics700"))


def read_table(source: ListSource) -> ParsedList:
    """Rows with a column `path` and, but for test lists, `label`, either of which has a few usual names.

    Labels that are all whole numbers are class numbers, else they are class names.
    """
    columns = _columns(source.lines[0])
    path_column, label_column = _first(PATH_COLUMNS, columns), _first(LABEL_COLUMNS, columns)
    if path_column is None:
        raise DataError(source.at(1), "has no column path", f"the columns are {', '.join(columns)}")
    rows = []
    for line, record in _chosen(source):
        if not record[path_column]:
            raise DataError(source.at(line), "the path is empty")
        rows.append(Row(line, record[path_column], (record[label_column],) if label_column else ()))
    labels = {row.labels[0] for row in rows if row.labels}
    named = labels and not any(like_number(label) for label in labels)
    notes = [] if label_column else ["no column label: videos without labels"]
    return ParsedList(rows, "names" if named else "numbers", notes=notes)


def _chosen(source: ListSource) -> Iterator[tuple[int, Record]]:
    """Line number and record of every row of the chosen split."""
    splits = set()
    for line, record in _records(source):
        if source.split and "split" not in record:
            raise UsageError(source.path, "has no column split")
        splits.add(record.get("split", ""))
        if not source.split or record["split"] == source.split:
            yield line, record
    if source.split and source.split not in splits:
        raise UsageError(
            source.path, f"has no split '{source.split}'", f"there are {', '.join(sorted(splits))}"
        )


def _records(source: ListSource) -> Iterator[tuple[int, Record]]:
    columns = _columns(source.lines[0])
    text, delimiter = StringIO("\n".join(source.lines)), _delimiter(source.lines[0])
    reader = csv.reader(text, delimiter=delimiter, strict=True, skipinitialspace=True)
    line = 1
    try:
        for values in reader:
            if values and line > 1 and len(values) != len(columns):
                cause = f"{len(values)} columns where the header has {len(columns)}"
                raise DataError(source.at(line), cause, ", ".join(columns))
            if values and line > 1:
                yield line, dict(zip(columns, values, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(source.at(line), f"not readable as CSV: {error}") from error


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _columns(header: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in header.split(_delimiter(header))]


def _first(names: Sequence[str], columns: Sequence[str]) -> str | None:
    return next((name for name in names if name in columns), None)


def _second(record: Record, column: str, line: int, source: ListSource) -> int:
    second = whole_number(record[column])
    if second is None:
        raise DataError(source.at(line), f"{column} '{record[column]}' is not a whole number")
    return second
