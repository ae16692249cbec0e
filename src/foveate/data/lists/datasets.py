"""The annotation files of public data sets as their authors publish them.

Something-Something (V1, V2) and Jester, Kinetics, UCF101 and HMDB51. Their labels are mostly names; the
order of the classes comes from a file beside the list or from the names that Foveate carries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from foveate.data.lists.rows import ListSource, ParsedList, Row
from foveate.data.text import read_lines
from foveate.errors import DataError, UsageError

_ID_LINE = re.compile(r"[^;./\\]+;[^;]*[A-Za-z][^;]*")
_UCF_LINE = re.compile(r"([^/]+)/(v_[^/]+?)(?:[ \t]+(\d+))?")
_HMDB_FILE = re.compile(r"(.+)_test_split(\d+)\.txt")
_HMDB_MARKS = {"train": "1", "test": "2", "val": "2"}  # 0 marks videos that a split does not use


def is_something_v2(lines: Sequence[str]) -> bool:
    """Whether a file begins as a JSON list does."""
    return next(filter(str.strip, lines), "").lstrip().startswith("[")


def read_something_v2(source: ListSource) -> ParsedList:
    """A JSON list of {"id", "template", ..}: `id.webm`, or the folder `id` when images have a template."""
    try:
        items = json.loads("\n".join(source.lines))
    except (ValueError, RecursionError) as error:
        raise DataError(source.path, f"not readable as JSON: {error}") from error
    if not isinstance(items, list):
        raise DataError(source.path, "is not a JSON list of videos")
    rows = [_something_item(item, number, source) for number, item in enumerate(items, 1)]
    return ParsedList(rows, "names", known=("something_v2",), search="stems")


def _something_item(item: object, number: int, source: ListSource) -> Row:
    if not isinstance(item, dict) or "id" not in item:
        raise DataError(source.path, f"item {number} has no id")
    label = item.get("template") or item.get("label")
    path = str(item["id"]) if source.template else f"{item['id']}.webm"
    return Row(0, path, (re.sub(r"[\[\]]", "", str(label)),) if label else ())


def is_something_v1(lines: Sequence[str]) -> bool:
    """Whether most of the first lines are an id and, after a semicolon, words."""
    return _most_match(_ID_LINE, lines)


def read_something_v1(source: ListSource) -> ParsedList:
    """Lines of `id;class name`, test lists of `id` alone; a video is the folder `id` of images."""
    rows = []
    for number, line in enumerate(source.lines, 1):
        video, separator, label = line.strip().partition(";")
        if video:
            rows.append(Row(number, video.strip(), (label.strip(),) if separator else ()))
    return ParsedList(rows, "names", known=("something_v1", "jester27"))


def is_ucf101(lines: Sequence[str]) -> bool:
    """Whether most of the first lines are `Class/v_video.avi`, alone or with a number, never 0."""
    return _most_match(_UCF_LINE, lines) and not any(line.rstrip().endswith(" 0") for line in lines)


def _most_match(pattern: re.Pattern[str], lines: Sequence[str]) -> bool:
    sample = [line.strip() for line in lines[:100] if line.strip()]
    return 2 * sum(pattern.fullmatch(line) is not None for line in sample) > len(sample)


def read_ucf101(source: ListSource) -> ParsedList:
    """Lines of `Class/video.avi number`, test lists without number; numbers count from 1.

    The folder of a video is the name of its class, so number and name must agree.
    """
    rows, numbers = [], dict[str, int]()
    for line_number, line in enumerate(source.lines, 1):
        if not line.strip():
            continue
        match = _UCF_LINE.fullmatch(line.strip())
        if not match:
            raise DataError(source.at(line_number), "is not 'Class/v_video.avi number'")
        name, number = match[1], match[3]
        if number and numbers.setdefault(name, int(number)) != int(number):
            raise DataError(source.at(line_number), f"class {number} is {numbers[name]} in lines above")
        rows.append(Row(line_number, f"{name}/{match[2]}", (name,)))
    return ParsedList(rows, "names", _ucf_names(numbers, source), base=1)


def _ucf_names(numbers: dict[str, int], source: ListSource) -> tuple[str, ...] | None:
    """Class names in the order of the list's numbers, which must agree with the names from outside."""
    if source.names is None:
        if not numbers or sorted(numbers.values()) != list(range(1, len(numbers) + 1)):
            hint = "put classInd.txt beside it or name the classes"
            raise DataError(source.path, "the list alone does not tell the order of all classes", hint)
        return tuple(sorted(numbers, key=numbers.__getitem__))
    for name, number in numbers.items():
        if not 1 <= number <= len(source.names) or source.names[number - 1] != name:
            raise DataError(source.path, f"class {number} is {name} here and not in the class names")
    return None


def is_hmdb51(folder: Path) -> bool:
    """Whether a folder holds the split files of HMDB51."""
    return any(_HMDB_FILE.fullmatch(path.name) for path in folder.glob("*_test_split*.txt"))


def read_hmdb51(source: ListSource) -> ParsedList:
    """The files `class_test_splitN.txt` of one split: lines of `video.avi 1` (train), 2 (test), 0 (unused).

    `split` is train1, test1, train2 ..; without a number it is the first. Videos lie in a folder per class
    below the root.
    """
    mark, number = _hmdb_split(source)
    matches = [(path, _HMDB_FILE.fullmatch(path.name)) for path in source.path.iterdir()]
    files = {match[1]: path for path, match in matches if match and match[2] == number}
    if not files:
        raise UsageError(source.path, f"has no split number {number}")
    rows = [
        Row(0, f"{name}/{video}", (name,))
        for name in sorted(files)
        for video, given in _hmdb_lines(files[name])
        if given == mark
    ]
    return ParsedList(rows, "names", tuple(sorted(files)), notes=[f"split {number}, videos marked {mark}"])


def _hmdb_split(source: ListSource) -> tuple[str, str]:
    match = re.fullmatch(r"([a-z]+)(\d*)", source.split or "")
    if not match or match[1] not in _HMDB_MARKS:
        raise UsageError(source.path, f"split is '{source.split or ''}'", "choose train1, test1, train2 ..")
    return _HMDB_MARKS[match[1]], match[2] or "1"


def _hmdb_lines(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_lines(path), 1):
        video, _, mark = line.strip().rpartition(" ")
        if line.strip() and (mark not in ("0", "1", "2") or not video):
            raise DataError(f"{path}:{number}", "is not 'video.avi 0', 1 or 2")
        if video:
            yield video.strip(), mark
