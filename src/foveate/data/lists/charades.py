"""Lists with a line for every frame, as PySlowFast reads Charades: one video is the lines of one name.

`original_vido_id video_id frame_id path labels` stands in the first line, misspelt as here. Labels are
numbers from 0, separated by commas and often in quotes; there may be none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from foveate.data.class_names import known_class_names
from foveate.data.lists.rows import ListSource, ParsedList, Row
from foveate.errors import DataError

COLUMNS = "original_vido_id video_id frame_id path labels"
CHARADES = 157  # classes


@dataclass
class _Video:
    """What the lines of one video say."""

    line: int  # the first
    folder: str
    frames: int = 0
    labels: dict[str, None] = field(default_factory=dict)  # of any frame, in order of appearance


def is_charades(lines: Sequence[str]) -> bool:
    """Whether the first line is the header of such a list."""
    return lines[0].split() == COLUMNS.split()


def read_charades(source: ListSource) -> ParsedList:
    """A row for each video: the folder of its frames, their number, and the labels of all of them together.

    The release trains with the labels of the frames in a clip and tests with those of the whole video.
    """
    if not is_charades(source.lines):
        raise DataError(source.at(1), "is no header of a list of frames", f"expected {COLUMNS}")
    videos: dict[str, _Video] = {}
    for number, line in enumerate(source.lines[1:], 2):
        if line.strip():
            name, path, labels = _fields(line, number, source)
            folder = path.rpartition("/")[0]
            video = videos.setdefault(name, _Video(number, folder))
            if folder != video.folder or not folder:
                cause = f"{path} is not in the folder of the other frames of {name}, '{video.folder}'"
                raise DataError(source.at(number), cause)
            video.frames += 1
            video.labels.update(dict.fromkeys(labels))
    rows = [Row(v.line, v.folder, tuple(v.labels), v.frames) for v in videos.values()]
    labelled = any(row.labels for row in rows)
    notes = ["a video has the labels of all its frames"] if labelled else []
    return ParsedList(rows, class_names=_names(rows), base=0, multi_label=labelled, notes=notes)


def _fields(line: str, number: int, source: ListSource) -> tuple[str, str, list[str]]:
    """Video, path of the frame, labels as text. The path may hold blanks."""
    fields = line.split(None, 3)
    ends = fields[-1].rsplit(None, 1)
    if len(fields) < 4 or len(ends) < 2:
        raise DataError(source.at(number), "has too few fields", f"expected {COLUMNS}")
    return fields[0], ends[0], [label for label in ends[1].strip('"').split(",") if label]


def _names(rows: Sequence[Row]) -> tuple[str, ...] | None:
    """Those of Charades, where the labels reach exactly as far."""
    used = {label for row in rows for label in row.labels}
    return known_class_names("charades") if max(map(_rank, used), default=-1) == CHARADES - 1 else None


def _rank(label: str) -> int:
    return int(label) if label.isdecimal() else CHARADES
