"""The formats of lists: their readers, and how each is told from the others by its first lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from foveate.choices import ListFormat
from foveate.data.lists.charades import is_charades, read_charades
from foveate.data.lists.columns import (
    adafocus_layout,
    columns_reader,
    guess_format,
    ibm_layout,
    mmaction2_layout,
    pyslowfast_layout,
    tsm_layout,
)
from foveate.data.lists.csv import is_kinetics, is_table, read_kinetics, read_table
from foveate.data.lists.datasets import (
    is_hmdb51,
    is_something_v1,
    is_something_v2,
    is_ucf101,
    read_hmdb51,
    read_something_v1,
    read_something_v2,
    read_ucf101,
)
from foveate.data.lists.folder import read_folder
from foveate.data.lists.jsonl import is_jsonl, read_jsonl
from foveate.data.lists.records import (
    class_before_video,
    header_of_unknown_names,
    unknown_header,
    unnamed_columns,
)
from foveate.data.lists.rows import Reader
from foveate.errors import DataError

READERS: Mapping[str, Reader] = {
    "jsonl": read_jsonl,
    "folder": read_folder,
    "csv": read_table,
    "pyslowfast": columns_reader(pyslowfast_layout),
    "mmaction2": columns_reader(mmaction2_layout),
    "tsm": columns_reader(tsm_layout),
    "adafocus": columns_reader(adafocus_layout),
    "ibm": columns_reader(ibm_layout),
    "something_v1": read_something_v1,
    "something_v2": read_something_v2,
    "kinetics": read_kinetics,
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "charades": read_charades,
}
SIGNS: Mapping[ListFormat, Callable[[Sequence[str]], bool]] = {  # the first that fits
    "charades": is_charades,
    "kinetics": is_kinetics,
    "csv": is_table,
    "jsonl": is_jsonl,
    "something_v2": is_something_v2,
    "ucf101": is_ucf101,
    "something_v1": is_something_v1,
}


def detect(path: Path, lines: Sequence[str], folder: Path | None = None) -> ListFormat:
    """The format of a folder, or of a list by its lines. folder: where its paths start; its own if None.

    DataError for a header of names that are not known, and for lines that can be read in two ways.
    """
    if path.is_dir():
        return "hmdb51" if is_hmdb51(path) else "folder"
    for format, fits in SIGNS.items():
        if fits(lines):
            return format
    folder = folder or path.parent
    if cells := header_of_unknown_names(lines):
        raise unknown_header(path, cells)
    if class_before_video(lines, path, folder):
        return "csv"
    if width := unnamed_columns(lines):
        hint = "begin the list with a line such as path,label,start_s,end_s"
        raise DataError(f"{path}:1", f"{width} columns, and no line says what they are", hint)
    found = guess_format(lines, folder)
    if found is None:
        hint = "begin it with path,start_frame,end_frame,label, or give --format mmaction2 for labels"
        raise DataError(f"{path}:1", "the numbers after a video: labels, or a stretch and a label?", hint)
    return found
