"""What the columns of a table mean, told by their names in use.

A name that may mean two things, or that speaks of a stretch of time in a way not known here, is refused:
a column read wrongly, or left out, trains on the wrong frames without a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from foveate.errors import DataError

PATHS = (  # of two names the one in the earlier line is taken
    ("path",),
    (
        "video_path",
        "file_path",
        "filepath",
        "videopath",
        "clip_path",
        "full_path",
        "rel_path",
        "relative_path",
    ),
    ("file_name", "filename", "file", "video_file", "video_filename", "clip_file", "clip_filename"),
    ("video_name", "videoname", "clip_name", "clipname"),
    ("video", "clip"),
    ("folder", "frame_dir", "frames_dir", "frame_folder", "frames_folder", "frame_path", "frames_path"),
)
IDS = (("video_id", "videoid", "clip_id", "vid", "vid_id", "youtube_id", "id"),)  # a file without its suffix
LABELS = (
    ("label",),
    (
        *(
            "class",
            "class_name",
            "classname",
            "label_name",
            "action",
            "action_name",
            "action_label",
            "activity",
        ),
        *("category", "category_name", "tag", "target", "gesture", "gloss", "event", "behavior", "behaviour"),
        *("emotion", "labels", "class_label", "ground_truth", "y"),
        *("label_id", "label_index", "label_idx", "class_id", "classid", "class_index", "class_idx"),
        *("action_id", "category_id", "target_id", "tag_id"),
    ),
)
SPLITS = (("split",), ("subset", "partition", "set", "usage", "phase"))
KNOWN = "known are path, file_name, video_path, video_name, label, class, tag, split, start_s, end_s"
RENAME = "name it start_s, end_s, start_frame or end_frame, or remove it"

START = {"start", "begin", "beginning", "onset", "from", "first"}
END = {"end", "stop", "ending", "finish", "offset", "to", "last"}
PLAIN_SPEECH = {"from", "to", "first", "last", "offset", "finish", "ending"}  # which also mean other things
UNITS = {
    "s": {"s", "sec", "secs", "second", "seconds", "time", "timestamp", "t"},
    "ms": {"ms", "msec", "millis", "millisecond", "milliseconds"},
    "frame": {"frame", "frames", "f"},
}
FILLERS = {"segment", "clip", "action", "video", "event", "label", "temporal", "annotation", "in", ""}
SPANS = {
    *("segment", "segments", "interval", "intervals", "span", "range", "frame_range", "time_range"),
    *("time", "times", "timestamp", "timestamps", "t0", "t1", "t_0", "t_1", "t2", "t_2"),
}
ALL_UNITS = set().union(*UNITS.values())
JOINED = re.compile(
    rf"(?<![^_])({'|'.join(sorted(START | END))})({'|'.join(sorted(ALL_UNITS - {'s', 'f', 't'}))})(?![^_])"
)


@dataclass(frozen=True)
class Bound:
    """A column that says where a stretch of a video starts or ends."""

    name: str
    edge: Literal["start", "end"]
    unit: Literal["s", "ms", "frame", ""]  # "": its name does not say


@dataclass(frozen=True)
class Columns:
    """The columns of a table by what they mean, each by its name in the table."""

    path: str | None
    is_id: bool  # the path is the name of a file without folder and suffix
    labels: tuple[str, ...]  # the candidates, of which the values decide
    split: str | None
    start: Bound | None
    end: Bound | None
    unused: tuple[str, ...]


@lru_cache(maxsize=1 << 12)
def plain(name: str) -> str:
    """A column name in lower case with underscores: "File Name", "fileName" and "file-name" alike."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip().strip("\"'"))
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def names_a_header(cells: Sequence[str]) -> bool:
    """Whether the cells of a line are names of columns, of which one is known and none is a number."""
    names = [plain(cell) for cell in cells]
    if any(re.fullmatch(r"[\d_]+", name) for name in names):
        return False
    kinds = (PATHS, IDS, LABELS) if len(names) > 1 else (PATHS[:3],)
    return any(name in group for kind in kinds for group in kind for name in names)


def understand(columns: Sequence[str], subject: str) -> Columns:
    """What the columns mean; DataError, naming the column, for two that could be one thing or for a bound
    that is not understood.
    """
    names = [plain(column) for column in columns]
    path = _first(PATHS, names, subject, "the path")
    identifier = None if path else _first(IDS, names, subject, "the path")
    labels = tuple(name for group in LABELS for name in names if name in group)
    split = _first(SPLITS, names, subject, "the split")
    used = {path, identifier, split, *labels}
    bounds = [bound for name in names if name not in used if (bound := _bound(name, subject))]
    start, end = (
        _one([bound for bound in bounds if bound.edge == edge], subject) for edge in ("start", "end")
    )
    _check_pair(start, end, names, subject)
    used |= {bound.name for bound in bounds}
    unused = tuple(name for name in names if name and name not in used)
    return Columns(path or identifier, identifier is not None, labels, split, start, end, unused)


def _check_pair(start: Bound | None, end: Bound | None, names: Sequence[str], subject: str) -> None:
    """DataError for two bounds that do not say together where a stretch lies."""
    if start and end and start.unit != end.unit:
        cause = f"the columns {start.name} and {end.name} differ in their units"
        raise DataError(subject, cause, "name them start_s and end_s, or start_frame and end_frame")
    lengths = [name for name in names if {"duration", "length"} & {*name.split("_")}]
    if start and not end and lengths:
        cause = f"the column {lengths[0]}: of the stretch, or of the whole video?"
        raise DataError(subject, cause, "write a column of ends, such as end_s, or remove it")
    if end and end.name.startswith("offset") and not (start and start.name.startswith("onset")):
        raise DataError(subject, f"the column {end.name} is not understood", RENAME)


def _first(groups: Sequence[Sequence[str]], names: Sequence[str], subject: str, what: str) -> str | None:
    for group in groups:
        found = [name for name in names if name in group]
        if len(found) > 1:
            cause = f"the columns {' and '.join(found)} could both be {what}"
            raise DataError(subject, cause, "rename the right one, or remove the other")
        if found:
            return found[0]
    return None


def _bound(name: str, subject: str) -> Bound | None:
    """The edge of a stretch that a column gives; None for a column that speaks of none."""
    if name in SPANS:
        raise DataError(subject, f"the column {name} is not understood", RENAME)
    words = {*re.sub(r"\d+$", "", JOINED.sub(r"\1_\2", name)).split("_")}
    starts, ends = START & words, END & words
    units = [unit for unit, known in UNITS.items() if known & words]
    if "s" in units and len(units) > 1:
        units.remove("s")  # as in start_time_ms
    rest = words - START - END - FILLERS - ALL_UNITS
    certain = (starts | ends) - PLAIN_SPEECH or ((len(words) == 1 or units) and not rest)
    if not (starts or ends) or not certain:
        return None
    if rest or (starts and ends) or len(units) > 1:
        raise DataError(subject, f"the column {name} is not understood", RENAME)
    unit: Literal["s", "ms", "frame", ""] = ""
    for known in ("s", "ms", "frame"):
        unit = known if units == [known] else unit
    return Bound(name, "start" if starts else "end", unit)


def _one(bounds: list[Bound], subject: str) -> Bound | None:
    """The bound to read; of seconds and frames the seconds, which fit any copy of a video."""
    timed = [bound for bound in bounds if bound.unit in ("s", "ms")]
    bounds = timed if timed and len(timed) < len(bounds) else bounds
    if len(bounds) > 1:
        cause = f"the columns {' and '.join(bound.name for bound in bounds)} could both be the same edge"
        raise DataError(subject, cause, "keep one of them")
    return bounds[0] if bounds else None
