"""Rows of tables as values by the names of their columns, whatever form the table has.

That is a header with lines below it, separated by comma, semicolon, tab, bar or blanks; JSON objects, one a
line or in one list; or two columns without a header, of which one is plainly a video file.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from foveate.data.lists.folder import VIDEO_SUFFIXES
from foveate.data.lists.header import KNOWN, LABELS, PATHS, names_a_header, plain
from foveate.data.lists.rows import ListSource
from foveate.errors import DataError

Record = dict[str, Any]  # values by the plain names of their columns; those of JSON may be no text

SEPARATORS = ",;\t|"
SAMPLE = 400  # lines looked at, spread over the list
MOST = 0.9  # share of these that a form has to fit
SUFFIX = rf"(?i:{'|'.join(re.escape(suffix) for suffix in sorted(VIDEO_SUFFIXES, key=len, reverse=True))})"


def cells_of(header: str) -> list[str]:
    """The fields of the first line of a table."""
    separator = _separator(header)
    cells = header.split() if separator == " " else header.split(separator)
    return [cell.strip().strip('"').strip() for cell in cells]


def has_header(lines: Sequence[str]) -> bool:
    """Whether the first line names columns: at least one by a known name, path and label between blanks."""
    cells = cells_of(lines[0])
    if len(cells) == 1 or _separator(lines[0]) != " ":
        return names_a_header(cells)
    kinds = ({name for group in kind for name in group} for kind in (PATHS, LABELS))
    return names_a_header(cells) and not any(kind.isdisjoint(map(plain, cells)) for kind in kinds)


def is_json_table(lines: Sequence[str]) -> bool:
    """Whether a file holds JSON objects, a line each or in one list, with a known column of paths."""
    first = next(filter(str.strip, lines), "").strip()
    try:
        record = json.loads(first) if first.startswith("{") else json.loads("\n".join(lines))[0]
    except (ValueError, RecursionError, IndexError, KeyError, TypeError):
        return False
    paths = {name for group in PATHS for name in group}
    return isinstance(record, dict) and "foveate" not in record and not paths.isdisjoint(map(plain, record))


def read_records(source: ListSource) -> list[tuple[int, Record]]:
    """Line number and values by column of every row."""
    if source.lines[0].lstrip().startswith(("{", "[")):
        return list(_json_records(source))
    if has_header(source.lines):
        return list(_records(source))
    pattern = paired_columns(source.lines) or _class_then_video(source.lines)
    if pattern is None:
        raise unknown_header(source.path, cells_of(source.lines[0]))
    return list(_pairs(source, pattern))


def unknown_header(path: Path, cells: Sequence[str]) -> DataError:
    """The error for a first line that names columns of which none is known."""
    shown = ", ".join(cell or "(no name)" for cell in cells[:8])
    return DataError(f"{path}:1", f"none of its columns is known to hold paths: {shown[:80]}", KNOWN)


def paired_columns(lines: Sequence[str]) -> re.Pattern[str] | None:
    """How nearly all lines pair a video file and a name, where no other reading is possible."""
    sample = sample_of(lines)
    for sign in SEPARATORS:
        separator = re.escape(sign)
        path = rf'(?P<path>[^{separator}"]+?{SUFFIX}|(?<=")[^"]+?{SUFFIX}(?="))'
        name = rf'(?P<label>[^{separator}"]*|(?<=")[^"]*(?="))'
        forms = (
            rf'"?{path}"?\s*{separator}\s*"?(?=.*[^\W\d_]){name}"?',
            rf'"?(?!.*?{SUFFIX}"?\s*{separator}){name}"?\s*{separator}\s*"?{path}"?',
        )
        for form in map(re.compile, forms):
            if _fit(form, sample):
                return form
    by_suffix = re.compile(rf"(?P<path>.+?{SUFFIX})\s+(?P<label>(?=.*[^\W\d_]).*(?<![\d.:]))")
    return by_suffix if _fit(by_suffix, sample) else None


def class_before_video(lines: Sequence[str], path: Path, folder: Path) -> bool:
    """Whether lines of two blank-separated fields are a class and a video, and not the name of one video.

    The files below `folder` decide; DataError where neither is there.
    """
    sample = sample_of(lines)
    pattern = _class_then_video(lines)
    if pattern is None:
        return False
    pairs = [match for match in map(pattern.fullmatch, sample) if match]
    for match in pairs:
        if os.path.lexists(folder / match[0]):
            return False
    if any(os.path.lexists(folder / match["path"]) for match in pairs):
        return True
    cause = f"'{pairs[0][0][:60]}': a class and a video, or one name with blanks? Neither is found"
    raise DataError(f"{path}:1", cause, "separate the columns by commas, or give --root")


def _class_then_video(lines: Sequence[str]) -> re.Pattern[str] | None:
    pattern = re.compile(rf"(?P<label>\S+)[ \t]+(?P<path>\S.*{SUFFIX})")
    sample = sample_of(lines)
    firsts = {line.split(None, 1)[0] for line in sample}
    suffixed = any(re.search(rf"{SUFFIX}$", first) for first in firsts)
    return pattern if _fit(pattern, sample) and not suffixed and "/" not in "".join(firsts) else None


def header_of_unknown_names(lines: Sequence[str]) -> list[str] | None:
    """The cells of a first line that is unlike all others as only a header is, or None."""
    sample = sample_of(lines)
    if len(sample) < 2:
        return None
    first, rest = sample[0], sample[1:]
    for separator in (*SEPARATORS, None):
        cells = [cell.strip().strip('"') for cell in first.split(separator)]
        rows = [[cell.strip().strip('"') for cell in line.split(separator)] for line in rest]
        fitting = [row for row in rows if len(row) == len(cells)]
        if len(cells) < 2 or len(fitting) < MOST * len(rows):
            continue
        words = all(re.fullmatch(r"([^\W\d]|#)[\w .()-]*|", cell) for cell in cells)
        suffixed = [any(re.search(rf"{SUFFIX}$", cell) for cell in row) for row in fitting]
        numbered = [row[-1].isdecimal() for row in fitting]
        unlike = not any(re.search(rf"{SUFFIX}$", cell) for cell in cells) and not cells[-1].isdecimal()
        if words and unlike and max(sum(suffixed), sum(numbered)) >= MOST * len(fitting):
            return cells
    return None


def unnamed_columns(lines: Sequence[str]) -> int | None:
    """The number of columns of lines without a header that hold more than a video and its labels, or None."""
    sample = sample_of(lines)
    for separator in SEPARATORS:
        rows = [line.split(separator) for line in sample]
        width = len(rows[len(rows) // 2])
        if width > 2 and sum(map(len, rows)) == width * len(rows):
            places = [
                place
                for place in range(width)
                if sum(bool(re.search(rf'{SUFFIX}"?\s*$', row[place])) for row in rows) >= MOST * len(rows)
            ]
            others = [cell.strip() for row in rows for place, cell in enumerate(row) if place not in places]
            if places and (places != [0] or not all(cell.isdecimal() for cell in others)):
                return width
    behind = [re.split(rf"{SUFFIX}\s+", line, maxsplit=1)[1:] for line in sample]
    fields = [found[0].split() for found in behind if found]
    decimal = [any(re.fullmatch(r"\d+[.:][\d.:]+", field) for field in found) for found in fields]
    return 1 + len(fields[0]) if sum(decimal) >= MOST * len(sample) else None


def sample_of(lines: Sequence[str]) -> list[str]:
    """Up to about 400 lines that hold something, spread over the list, the first one among them."""
    return [line.strip() for line in lines[:: len(lines) // SAMPLE + 1] if line.strip()]


def _fit(pattern: re.Pattern[str], sample: Sequence[str]) -> bool:
    return sum(pattern.fullmatch(line) is not None for line in sample) >= MOST * len(sample) > 0


def _pairs(source: ListSource, pattern: re.Pattern[str]) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(source.lines, 1):
        match = pattern.fullmatch(line.strip())
        if match:
            yield number, {"path": match["path"].strip(), "label": match["label"].strip()}
        elif bare := re.fullmatch(rf'"?(.+{SUFFIX})"?\s*[{SEPARATORS}]?', line.strip()):
            yield number, {"path": bare[1], "label": ""}
        elif line.strip():
            raise DataError(source.at(number), "is no video and its class, as the other lines are")


def _records(source: ListSource) -> Iterator[tuple[int, Record]]:
    separator, cells = _separator(source.lines[0]), cells_of(source.lines[0])
    columns = [plain(cell) for cell in cells]
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise DataError(source.at(1), f"the column {twice[0]} stands twice", "rename one of them")
    lines = _split_by_blanks(source) if separator == " " else _split(source, separator)
    for line, untrimmed in lines:
        values = [value.strip() for value in untrimmed]
        if values == cells:  # the header of another file that was put behind
            continue
        if len(values) != len(columns):
            cause = f"{len(values)} columns where the header has {len(columns)}"
            raise DataError(source.at(line), cause, ", ".join(columns))
        yield line, dict(zip(columns, values, strict=True))


def _split(source: ListSource, separator: str) -> Iterator[tuple[int, list[str]]]:
    text = StringIO("\n".join(source.lines))
    reader = csv.reader(text, delimiter=separator, strict=True, skipinitialspace=True)
    line = 1
    try:
        for values in reader:
            if values and line > 1:
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(source.at(line), f"not readable as CSV: {error}") from error


def _split_by_blanks(source: ListSource) -> Iterator[tuple[int, list[str]]]:
    """Fields counted from the end, unless the last column is the one that may hold blanks."""
    columns = [plain(cell) for cell in cells_of(source.lines[0])]
    from_left = any(columns[-1] in group for group in (*PATHS, *LABELS)) and columns[0] not in {
        name for group in PATHS for name in group
    }
    for number, line in enumerate(source.lines[1:], 2):
        if line.strip():
            cuts = len(columns) - 1
            yield number, line.strip().split(None, cuts) if from_left else line.strip().rsplit(None, cuts)


def _separator(header: str) -> str:
    found = max(SEPARATORS, key=header.count)
    return found if found in header else " "


def _json_records(source: ListSource) -> Iterator[tuple[int, Record]]:
    """Objects of a list have no line of their own, and are at line 0."""
    if source.lines[0].lstrip().startswith("["):
        try:
            items = [(0, item) for item in json.loads("\n".join(source.lines))]
        except (ValueError, RecursionError) as error:
            raise DataError(source.path, f"not readable as JSON: {error}") from error
    else:
        items = []
        for number, line in enumerate(source.lines, 1):
            try:
                items += [(number, json.loads(line))] if line.strip() else []
            except (ValueError, RecursionError) as error:
                cause = f"not readable as JSON: {error}"
                raise DataError(source.at(number), cause, "write one object a line") from error
    for number, item in items:
        if not isinstance(item, dict):
            raise DataError(source.at(number), "is not a JSON object")
        yield number, {plain(str(name)): value for name, value in item.items()}
