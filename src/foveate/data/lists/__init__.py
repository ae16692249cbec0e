"""Lists of videos: every format in use becomes the same VideoList.

A format is detected from the content, or named. Its reader turns lines into rows of text; then labels become
indices and paths are joined in one place for all formats. Videos themselves are not opened here.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from foveate.choices import ListFormat
from foveate.data.class_names import read_class_names
from foveate.data.lists.detect import READERS, detect
from foveate.data.lists.entries import ListFolder, VideoEntry, VideoList, portable, to_entries
from foveate.data.lists.jsonl import write_jsonl
from foveate.data.lists.labels import resolve_labels
from foveate.data.lists.locate import locate
from foveate.data.lists.rows import ListSource
from foveate.data.text import read_lines
from foveate.errors import DataError, UsageError

__all__ = ["VideoEntry", "VideoList", "detect", "read_list", "write_jsonl"]

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
    format: ListFormat = "auto",
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

    Whatever was detected, searched or left out is said in the notes. DataError names the line or the column
    and what is wrong there; UsageError says which argument is missing or impossible. Files that do not exist
    and videos without a label among others are no error here.
    """
    path = Path(path)
    lines = [] if path.is_dir() else _written_lines(path)
    folder = Path(root or (path if path.is_dir() else path.parent))
    chosen = _chosen_format(path, lines, format, folder)
    if split and chosen not in SPLIT_FORMATS:
        raise UsageError(path, f"split '{split}' is asked of format {chosen}", "it has no splits")
    if label_base not in (None, 0, 1):
        raise UsageError("label_base", f"is {label_base}", "labels count from 0 or from 1")
    names, origin = _class_names(path, chosen, classes)
    source = ListSource(path, lines, names, split, _checked_template(template), folder)
    parsed = locate(portable(READERS[chosen](source), source), source)
    if not parsed.rows:
        raise DataError(path, "holds no videos", "; ".join(parsed.notes))
    labels = resolve_labels(parsed, source, label_base)
    confined = ListFolder(folder, confined=root is not None)
    entries, repeats = to_entries(parsed.rows, labels.indices, confined, source)
    detected = f"format {chosen}" + (", detected" if format == "auto" else "")
    notes = (detected, *origin, *parsed.notes, *labels.notes, *repeats)
    several = parsed.multi_label or any(len(found) > 1 for found in labels.indices.values())
    return VideoList(entries, labels.names, chosen, notes, several, labels.base)


def _written_lines(path: Path) -> list[str]:
    lines = read_lines(path)
    if not any(map(str.strip, lines)):
        raise DataError(path, "the list is empty")
    return lines


def _chosen_format(path: Path, lines: Sequence[str], format: ListFormat, folder: Path) -> ListFormat:
    if format not in get_args(ListFormat):
        raise UsageError(format, "no format of lists", f"known: {', '.join(get_args(ListFormat))}")
    if format == "auto":
        return detect(path, lines, folder)
    if path.is_dir() != (format in FOLDER_FORMATS):
        raise UsageError(path, f"is {'a' if path.is_dir() else 'no'} folder, and format {format} was named")
    return format


def _class_names(
    path: Path, format: ListFormat, classes: str | Path | Sequence[str] | None
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
