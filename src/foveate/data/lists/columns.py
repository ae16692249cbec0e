"""Lists with a line `path columns labels`: PySlowFast, mmaction2, TSN and TSM, AdaFocus and IBM.

The five differ in three things only: what separates the fields, which columns stand between path and
labels, and how many labels there are. A Layout says these three; one function reads them all. Which layout a
list has is told by what most of some of its lines have in common, so that a line which does not fit is
refused by its number and does not turn the list into something else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Literal

from foveate.data.lists.folder import VIDEO_SUFFIXES, has_suffix
from foveate.data.lists.rows import ListSource, ParsedList, Reader, Row
from foveate.data.text import whole_number
from foveate.errors import DataError

ColumnFormat = Literal["pyslowfast", "mmaction2", "tsm", "adafocus", "ibm"]
Columns = Literal["", "frames", "start end"]
SAMPLE = 400  # lines looked at, spread over the list


@dataclass(frozen=True)
class Layout:
    """How one line is laid out."""

    format: ColumnFormat
    separator: str | None = None  # None: a run of blanks or tabs
    columns: Columns = ""  # numbers between path and labels
    labels: Literal["none", "one", "many"] = "one"

    def __str__(self) -> str:
        label = {"none": "", "one": " label", "many": " label [label ..]"}[self.labels]
        columns = f" {self.columns}" if self.columns else ""
        separator = "a blank" if self.separator is None else f"'{self.separator}'"
        return f"path{columns}{label}, separated by {separator}"

    @cached_property
    def width(self) -> int:
        """Fields of the shortest complete line."""
        return 1 + len(self.columns.split()) + (self.labels != "none")


def read_columns(source: ListSource, layout: Layout) -> ParsedList:
    """All rows of a list in the given layout; a line that does not fit raises DataError naming it.

    Fields are counted from the right, those of a changing number by being whole numbers, so a path may hold
    blanks.
    """
    split = _splitter(layout)
    rows = [
        _row(fields, layout, number, source)
        for number, fields in enumerate(map(split, source.lines), 1)
        if fields and fields != [""]
    ]
    return ParsedList(rows, notes=[f"columns: {layout}"])


def _splitter(layout: Layout) -> Callable[[str], list[str]]:
    separator, cuts = layout.separator, layout.width - 1
    if separator is None and layout.labels == "many":
        return _split_before_numbers
    if separator is None:
        return lambda line: line.strip(" \t").rsplit(None, cuts)
    if layout.labels == "many":
        return lambda line: [field.strip(" \t") for field in line.split(separator)]
    return lambda line: [field.strip(" \t") for field in line.rsplit(separator, cuts)]


def _split_before_numbers(line: str) -> list[str]:
    """A path, which may hold blanks, and the whole numbers behind it."""
    run = _trailing_numbers(line.split())
    return line.strip(" \t").rsplit(None, max(run, 1))


def _row(fields: list[str], layout: Layout, line: int, source: ListSource) -> Row:
    if len(fields) < layout.width:
        raise DataError(source.at(line), f"{len(fields)} of {layout.width} fields", f"expected {layout}")
    path = fields[0]
    if not path:
        raise DataError(source.at(line), "the path is empty")
    if not layout.columns:
        if " " in path and path[-1].isdigit() and _ends_in_number(path):
            raise DataError(source.at(line), f"{path}: more numbers than expected", f"expected {layout}")
        return Row(line, path, tuple(fields[1:]))
    if layout.columns == "frames":
        return Row(line, path, tuple(fields[2:]), _number(fields[1], "number of frames", line, source))
    first = _number(fields[1], "start frame", line, source)
    last = _number(fields[2], "end frame", line, source)
    if not 1 <= first <= last:  # such lists count images from 1 and include the last
        raise DataError(source.at(line), f"frames {first} to {last} are no range counted from 1")
    return Row(line, path, tuple(fields[3:]), start=first - 1, end=last)


def _ends_in_number(path: str) -> bool:
    """Whether a number follows the name of a video file, which is then one more label."""
    name, _, number = path.rpartition(" ")
    return has_suffix(name, VIDEO_SUFFIXES) and whole_number(number) is not None


def _number(text: str, meaning: str, line: int, source: ListSource) -> int:
    number = whole_number(text)
    if number is None:
        raise DataError(source.at(line), f"{meaning} '{text}' is not a whole number")
    return number


class ListSample:
    """What some lines of a list have in common."""

    def __init__(self, lines: Sequence[str], folder: Path) -> None:
        spread = lines[:: len(lines) // SAMPLE + 1]
        sample = [line.strip() for line in spread if line.strip()]
        self.separator = _separator(sample)
        self.fields = [line.split(self.separator) for line in sample]
        runs = [_trailing_numbers(fields) for fields in self.fields]
        counts = Counter(runs)
        self.numbers = counts.most_common(1)[0][0]  # whole numbers at the end of most lines
        ends = [fields[-1 - run] for fields, run in zip(self.fields, runs, strict=True)]
        certain = all(  # where the path ends, whatever blanks and numbers it holds
            len(fields) == 1 + run or has_suffix(end, VIDEO_SUFFIXES)
            for fields, run, end in zip(self.fields, runs, ends, strict=True)
            if run
        )
        self.varied = certain and len(counts.keys() - {0}) > 1  # a changing number of labels
        self.fewest = min(counts.keys() - {0}, default=0)
        self.videos = _most(has_suffix(end, VIDEO_SUFFIXES) for end in ends)
        numbered = (
            self.separator is None and self.numbers > 1 and _ends_in_numbers(sample, self.numbers, folder)
        )
        self.numbers -= numbered
        self.ranges = not numbered and self.numbers >= 2 and _most(map(_is_range, self.fields, runs))
        self.test_videos = self.ranges and all(map(_is_test_video, self.fields))
        self.bare = _most(len(f) == 1 or has_suffix(f[-1], VIDEO_SUFFIXES) for f in self.fields)


def guess_format(lines: Sequence[str], folder: Path) -> ColumnFormat | None:
    """The format of a plain list; where two read the same, the one with fewer demands.

    None where a fixed number of numbers follows each video: these may be labels, or a stretch and a label.
    folder: where its paths start.
    """
    sample = ListSample(lines, folder)
    if sample.separator is not None:
        several = sample.numbers > 1 or sample.varied
        return ("adafocus" if sample.separator == "," else "ibm") if several else "pyslowfast"
    if sample.varied and (sample.videos or sample.numbers == 1):
        return "mmaction2"
    if sample.test_videos or (sample.numbers >= 3 and sample.ranges):
        return "ibm"
    if sample.videos and sample.numbers >= 3 and not sample.varied:
        return None
    if sample.numbers == 2 and not (sample.varied and sample.fewest == 2):
        return "tsm"
    return "pyslowfast" if sample.numbers < 2 else "mmaction2"


def columns_reader(layout: Callable[[ListSample], Layout]) -> Reader:
    """The reader of a format whose layout follows from a look at the list."""
    return lambda source: read_columns(source, layout(ListSample(source.lines, source.folder)))


def pyslowfast_layout(sample: ListSample) -> Layout:
    """`path`, `path label` or `path frames label`."""
    labelled = Layout("pyslowfast", sample.separator)
    if sample.numbers == 0 and sample.bare:
        return replace(labelled, labels="none")
    return replace(labelled, columns="frames") if sample.numbers >= 2 else labelled


def mmaction2_layout(sample: ListSample) -> Layout:
    """`video label [label ..]` or `folder frames label [label ..]`."""
    if sample.numbers == 0 and sample.bare:
        return Layout("mmaction2", sample.separator, labels="none")
    frames = sample.numbers >= 2 and not sample.videos
    return Layout("mmaction2", sample.separator, "frames" if frames else "", "many")


def tsm_layout(sample: ListSample) -> Layout:
    """`folder frames label`, and the folder may hold blanks."""
    return Layout("tsm", sample.separator, "frames")


def adafocus_layout(sample: ListSample) -> Layout:
    """`folder,frames,label[,label ..]`; with blanks (Mini-Kinetics, Something-Something) as TSM's."""
    return Layout("adafocus", sample.separator, "frames", "one" if sample.separator is None else "many")


def ibm_layout(sample: ListSample) -> Layout:
    """`folder start end [label ..]`, with blanks or semicolons; test lists end after the range."""
    labels: Literal["none", "one", "many"] = "many"
    if not sample.varied and sample.numbers in (2, 3):
        labels = "none" if sample.numbers == 2 else "one"
    return Layout("ibm", sample.separator, "start end", labels)


def _separator(sample: Sequence[str]) -> str | None:
    for separator in ",;":
        if _most(re.search(rf"{separator}[ \t]*\d+$", line) for line in sample):
            return separator
        if _most(
            has_suffix(line.split(separator)[0], VIDEO_SUFFIXES) and separator in line for line in sample
        ):
            return separator
    return None


def _ends_in_numbers(sample: Sequence[str], numbers: int, folder: Path) -> bool:
    """Whether the first of the numbers at the end of the lines belongs to the name: "clip 7" is there."""
    votes = 0
    for line in sample[:50]:
        *_, longer = line.rsplit(None, numbers - 1)[:1]
        *_, shorter = line.rsplit(None, numbers)[:1]
        votes += (folder / longer).exists() - (folder / shorter).exists()
    return votes > 0


def _trailing_numbers(fields: Sequence[str]) -> int:
    numbers = takewhile(_is_number, map(str.strip, reversed(fields[1:])))
    return len(list(numbers))


def _is_number(text: str) -> bool:
    """Whether a column may hold this; "clip 007" is a path."""
    return whole_number(text) is not None and (text == "0" or text[0] != "0")


def _is_range(fields: Sequence[str], run: int) -> bool:
    if run < 2:
        return False
    first, last = (whole_number(field.strip()) for field in fields[-run:][:2])
    return first is not None and last is not None and 1 <= first <= last


def _is_test_video(fields: Sequence[str]) -> bool:
    """A numbered folder from image 1 on: IBM's test lists, whose numbers stand in place of labels."""
    folder = fields[0].rpartition("/")[2]
    return len(fields) == 3 and fields[1] == "1" and whole_number(folder) is not None


def _most(facts: Iterable[object]) -> bool:
    answers = [bool(fact) for fact in facts]
    return 2 * sum(answers) > len(answers)
