"""Lists of videos: every format in use becomes the same VideoList.

A format is detected from the content, or named. Its reader turns lines into rows of text; then labels become
indices and paths are joined in one place for all formats. Videos themselves are not opened here.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from foveate.data.class_names import read_class_names
from foveate.data.columns_guess import (
    adafocus_layout,
    guess_format,
    ibm_layout,
    mmaction2_layout,
    plain,
    pyslowfast_layout,
    tsm_layout,
)
from foveate.data.entry import Entry, VideoList
from foveate.data.folders import read_folder
from foveate.data.frame_list import is_charades, read_charades
from foveate.data.gather import Folder, gather
from foveate.data.jsonl import is_jsonl, read_jsonl, write_jsonl
from foveate.data.label_index import resolve_labels
from foveate.data.sets import (
    is_hmdb51,
    is_something_v1,
    is_something_v2,
    is_ucf101,
    read_hmdb51,
    read_something_v1,
    read_something_v2,
    read_ucf101,
)
from foveate.data.table import Reader, Source, read_lines
from foveate.data.tables import is_kinetics, is_table, read_kinetics, read_table
from foveate.errors import DataError, UsageError

__all__ = ["Entry", "Format", "VideoList", "detect", "read_list", "write_jsonl"]

Format = Literal[
    "auto",  # found by looking
    "jsonl",  # {"foveate": 1, ..}, then {"path", "labels", ..} a line
    "folder",  # class/video, or split/class/video
    "csv",  # a header with path and label, separated by comma, semicolon or tab
    "pyslowfast",  # path [frames] [label]
    "mmaction2",  # video label [label ..] | folder frames label
    "tsm",  # folder frames label
    "adafocus",  # folder,frames,label[,label ..]
    "ibm",  # folder start end [label ..]
    "something_v1",  # id;class name (also Jester)
    "something_v2",  # JSON list of id and template
    "kinetics",  # label,youtube_id,time_start,time_end,split
    "ucf101",  # Class/video.avi [number from 1]
    "hmdb51",  # a folder of class_test_splitN.txt
    "charades",  # original_vido_id video_id frame_id path labels
]
READERS: Mapping[str, Reader] = {
    "jsonl": read_jsonl,
    "folder": read_folder,
    "csv": read_table,
    "pyslowfast": plain(pyslowfast_layout),
    "mmaction2": plain(mmaction2_layout),
    "tsm": plain(tsm_layout),
    "adafocus": plain(adafocus_layout),
    "ibm": plain(ibm_layout),
    "something_v1": read_something_v1,
    "something_v2": read_something_v2,
    "kinetics": read_kinetics,
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "charades": read_charades,
}
SIGNS: Mapping[Format, Callable[[Sequence[str]], bool]] = {  # the first that fits
    "jsonl": is_jsonl,
    "charades": is_charades,
    "something_v2": is_something_v2,
    "kinetics": is_kinetics,
    "csv": is_table,
    "ucf101": is_ucf101,
    "something_v1": is_something_v1,
}
FOLDER_FORMATS = ("folder", "hmdb51")
SPLIT_FORMATS = ("folder", "hmdb51", "kinetics", "csv")
NAME_FILES = {  # class names that data sets keep beside their lists
    "adafocus": ("classInd.txt", "minik_classInd.txt", "category.txt"),
    "charades": ("Charades_v1_classes.txt",),
    "tsm": ("category.txt", "minik_classInd.txt"),
    "ucf101": ("classInd.txt",),
    "something_v1": ("something-something-v1-labels.csv", "jester-v1-labels.csv", "category.txt"),
    "something_v2": ("something-something-v2-labels.json", "labels.json"),
}


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Lists are large and free of cycles, and looking for these takes half of the time of reading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_collector_paused()
def read_list(
    path: str | Path,
    format: Format = "auto",
    root: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    template: str | None = None,
    split: str | None = None,
    label_base: int | None = None,
) -> VideoList:
    """Read a list of videos, or a folder that takes its place.

    `root` is where relative paths start and what no path may leave; without it they start at the folder of
    the list and may lead anywhere. `classes` are the class names in order, a file of them, or the name of a
    public data set. `template` names the images of extracted frames, as img_{:05d}.jpg or img_%05d.jpg.
    `split` chooses among the parts of a format that has several. `label_base` says what labels count from
    where the list itself does not tell; give a validation list that of its training list.

    Whatever was detected or left out is said in the notes. DataError names the line and what is wrong there;
    UsageError says which argument is missing or impossible. Files that do not exist are no error here.
    """
    path = Path(path)
    lines = [] if path.is_dir() else _written_lines(path)
    chosen = _chosen_format(path, lines, format)
    if split and chosen not in SPLIT_FORMATS:
        raise UsageError(path, f"split '{split}' is asked of format {chosen}", "it has no splits")
    if label_base not in (None, 0, 1):
        raise UsageError("label_base", f"is {label_base}", "labels count from 0 or from 1")
    names, origin = _class_names(path, chosen, classes)
    source = Source(path, lines, names, split, _checked_template(template))
    table = READERS[chosen](source)
    if not table.rows:
        raise DataError(path, "holds no videos", "; ".join(table.notes))
    labels = resolve_labels(table, source, label_base)
    folder = Folder(Path(root or (path if path.is_dir() else path.parent)), confined=root is not None)
    entries, repeats = gather(table.rows, labels.indices, folder, source)
    detected = f"format {chosen}" + (", detected" if format == "auto" else "")
    notes = (detected, *origin, *table.notes, *labels.notes, *repeats)
    several = table.multi_label or any(len(found) > 1 for found in labels.indices.values())
    return VideoList(entries, labels.names, chosen, notes, several, labels.base)


def detect(path: Path, lines: Sequence[str]) -> Format:
    """The format of a folder, or of a list by its lines."""
    if path.is_dir():
        return "hmdb51" if is_hmdb51(path) else "folder"
    found = next((format for format, fits in SIGNS.items() if fits(lines)), None)
    return found or guess_format(lines)


def _written_lines(path: Path) -> list[str]:
    lines = read_lines(path)
    if not any(map(str.strip, lines)):
        raise DataError(path, "the list is empty")
    return lines


def _chosen_format(path: Path, lines: Sequence[str], format: Format) -> Format:
    if format not in get_args(Format):
        raise UsageError(format, "no format of lists", f"known: {', '.join(get_args(Format))}")
    if format == "auto":
        return detect(path, lines)
    if path.is_dir() != (format in FOLDER_FORMATS):
        raise UsageError(path, f"is {'a' if path.is_dir() else 'no'} folder, and format {format} was named")
    return format


def _class_names(
    path: Path, format: Format, classes: str | Path | Sequence[str] | None
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Class names from outside the list, if there are any, and a note on where they come from."""
    if classes is not None:
        return read_class_names(classes), ()
    for name in NAME_FILES.get(format, ()):
        if (path.parent / name).is_file():
            return read_class_names(path.parent / name), (f"class names from {path.parent / name}",)
    return None, ()


def _checked_template(template: str | None) -> str | None:
    """A template with one number, from either way of writing it."""
    if template is None:
        return None
    braces = re.sub(r"%(0\d+)?d", lambda found: f"{{:{found[1] or ''}d}}", template)
    try:
        names = {braces.format(1), braces.format(2)}
    except (AttributeError, IndexError, KeyError, ValueError):
        names = set()
    if len(names) != 2:
        raise UsageError(template, "no template for numbered images", "write img_{:05d}.jpg")
    return braces
