"""Which layout a plain text list has, from a look at some of its lines.

The look decides by what most lines have in common, so that a line which does not fit is later refused by
its number and does not turn the whole list into something else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from foveate.data.columns import Format, Layout, read_columns
from foveate.data.folders import VIDEO_SUFFIXES, has_suffix
from foveate.data.table import Reader, whole_number

SAMPLE = 400  # lines looked at, spread over the list


class Look:
    """What some lines of a list have in common."""

    def __init__(self, lines: Sequence[str]) -> None:
        spread = lines[:: len(lines) // SAMPLE + 1]
        sample = [line.strip() for line in spread if line.strip()]
        self.separator = _separator(sample)
        self.fields = [line.split(self.separator) for line in sample]
        runs = [_trailing_numbers(fields) for fields in self.fields]
        counts = Counter(runs)
        self.numbers = counts.most_common(1)[0][0]  # whole numbers at the end of most lines
        unblanked = all(len(fields) == 1 + run for fields, run in zip(self.fields, runs, strict=True) if run)
        self.varied = unblanked and len(counts.keys() - {0}) > 1  # a changing number of labels
        self.fewest = min(counts.keys() - {0}, default=0)
        ends = [fields[-1 - run] for fields, run in zip(self.fields, runs, strict=True)]
        self.videos = _most(has_suffix(end, VIDEO_SUFFIXES) for end in ends)
        self.ranges = self.numbers >= 2 and _most(map(_is_range, self.fields, runs))
        self.whole_sources = self.ranges and all(map(_is_whole_test_video, self.fields))
        self.bare = _most(len(f) == 1 or has_suffix(f[-1], VIDEO_SUFFIXES) for f in self.fields)


def guess_format(lines: Sequence[str]) -> Format:
    """The format of a plain list; where two read the same, the one with fewer demands."""
    look = Look(lines)
    if look.separator is not None:
        several = look.numbers > 1 or look.varied
        return ("adafocus" if look.separator == "," else "ibm") if several else "pyslowfast"
    if look.varied and (look.videos or look.numbers == 1):
        return "mmaction2"
    if look.whole_sources or (look.numbers >= 3 and look.ranges):
        return "ibm"
    if look.numbers == 2 and not (look.varied and look.fewest == 2):
        return "tsm"
    return "pyslowfast" if look.numbers < 2 else "mmaction2"


def plain(layout: Callable[[Look], Layout]) -> Reader:
    """The reader of a format whose layout follows from a look at the list."""
    return lambda source: read_columns(source, layout(Look(source.lines)))


def pyslowfast_layout(look: Look) -> Layout:
    """`path`, `path label` or `path frames label`."""
    plain = Layout("pyslowfast", look.separator)
    if look.numbers == 0 and look.bare:
        return replace(plain, labels="none")
    return replace(plain, columns="frames") if look.numbers >= 2 else plain


def mmaction2_layout(look: Look) -> Layout:
    """`video label [label ..]` or `folder frames label [label ..]`."""
    if look.numbers == 0 and look.bare:
        return Layout("mmaction2", look.separator, labels="none")
    frames = look.numbers >= 2 and not look.videos
    return Layout("mmaction2", look.separator, "frames" if frames else "", "many")


def tsm_layout(look: Look) -> Layout:
    """`folder frames label`, and the folder may hold blanks."""
    return Layout("tsm", look.separator, "frames")


def adafocus_layout(look: Look) -> Layout:
    """`folder,frames,label[,label ..]`; with blanks (Mini-Kinetics, Something-Something) as TSM's."""
    return Layout("adafocus", look.separator, "frames", "one" if look.separator is None else "many")


def ibm_layout(look: Look) -> Layout:
    """`folder start end [label ..]`, with blanks or semicolons; test lists end after the range."""
    unlabelled = look.numbers == 2 and not look.varied
    return Layout("ibm", look.separator, "start end", "none" if unlabelled else "many")


def _separator(sample: Sequence[str]) -> str | None:
    for separator in ",;":
        if _most(re.search(rf"{separator}[ \t]*\d+$", line) for line in sample):
            return separator
        if _most(
            has_suffix(line.split(separator)[0], VIDEO_SUFFIXES) and separator in line for line in sample
        ):
            return separator
    return None


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


def _is_whole_test_video(fields: Sequence[str]) -> bool:
    """A numbered folder from image 1 on: IBM's test lists, whose numbers stand in place of labels."""
    folder = fields[0].rpartition("/")[2]
    return len(fields) == 3 and fields[1] == "1" and whole_number(folder) is not None


def _most(facts: Iterable[object]) -> bool:
    answers = [bool(fact) for fact in facts]
    return 2 * sum(answers) > len(answers)
