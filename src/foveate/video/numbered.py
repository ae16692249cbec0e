"""Names of numbered pictures in a folder: which of them are one series, by a template or by looking.

A series are names that differ in their last number alone, such as img_00001.jpg and img_00002.jpg. Flow has
two that differ in a letter too, such as flow_x_00001.jpg and flow_y_00001.jpg, or x/00001.jpg and
y/00001.jpg.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path

import numpy as np

from foveate.errors import UsageError
from foveate.video.base import DecodeError
from foveate.video.source import explain

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)  # the last number of a name
NUMBER_FIELD = re.compile(r"\{\d?(?::0?(\d*)d?)?\}|%0?(\d*)d")
AXIS = re.compile(r"(?<![A-Za-z0-9])[xyuv](?![A-Za-z0-9])")  # a letter that stands alone in a name
AXIS_FIELD = "{}"  # of a template of flow: stands for the letter
PAIRS = ("xy", "uv")  # the letters of the horizontal and of the vertical flow
FLOW_FOLDERS = (("x", "y"), ("u", "v"), ("flow_x", "flow_y"))  # by themselves a video
FLOW_TEMPLATE = "flow_{}_{:05d}.jpg"

Series = dict[int, str]  # the name of each number
FlowSeries = tuple[Series, Series]  # horizontal, vertical
Named = list[tuple[int, str]]


def names_in(folder: Path) -> list[str]:
    """Names of what is in a folder, sorted; DecodeError if it cannot be listed.

    Hidden ones are left out, such as the `._img_00001.jpg` that macOS writes beside a picture.
    """
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DecodeError(folder, *explain(folder, error)) from error


def largest_series(folder: Path, names: Iterable[str]) -> Series:
    """The largest series of pictures; DecodeError if two are equally large, or a number comes twice."""
    all_series: defaultdict[tuple[str, str], Named] = defaultdict(list)
    for name in names:
        if not (parts := _parts(name)):
            continue
        head, number, tail = parts
        all_series[head, tail].append((number, name))
    ranked = sorted((_numbered(folder, found) for found in all_series.values()), key=len, reverse=True)
    if len(ranked) > 1 and len(ranked[0]) == len(ranked[1]):
        several = " and ".join(next(iter(series.values())) for series in ranked[:2])
        raise DecodeError(folder, f"two series of pictures, {several}", "give a template")
    return ranked[0] if ranked else {}


def matching(names: Iterable[str], template: str) -> Series:
    """The names that match a template; UsageError if it holds another number of fields than one."""
    fields = list(NUMBER_FIELD.finditer(template))
    if len(fields) != 1:
        raise UsageError(template, "must hold one number field", "for example img_{:05d}.jpg")
    head, tail = template[: fields[0].start()], template[fields[0].end() :]
    width = int(fields[0][1] or fields[0][2] or 0)
    found = {}
    for name in names:
        digits = name.removeprefix(head).removesuffix(tail)
        if digits.isdecimal() and name == f"{head}{int(digits):0{width}d}{tail}":
            found[int(digits)] = name
    return found


def is_flow_template(template: str) -> bool:
    """Whether a template has a field for the letter beside that for the number."""
    return AXIS_FIELD in template and len(NUMBER_FIELD.findall(template)) == 2


def flow_series(folder: Path, template: str | None = None) -> FlowSeries:
    """The pictures of horizontal and of vertical flow of a folder; empty ones where there are none.

    They are in the folder, or in sub-folders whose names have the letter. The largest pair of series is
    taken: DecodeError if two are equally large. UsageError for a template without the field of the letter.
    """
    if template is not None:
        return _matching_flow(folder, template)
    ranked = sorted(_flow_pairs(folder), key=_length, reverse=True)
    if len(ranked) > 1 and _length(ranked[0]) == _length(ranked[1]):
        several = " and ".join((pair[0] or pair[1])[0][1] for pair in ranked[:2])
        raise DecodeError(folder, f"two series of optical flow, {several}", "give a template")
    horizontal, vertical = (_numbered(folder, found) for found in (ranked[0] if ranked else ([], [])))
    return horizontal, vertical


def flow_names(folder: Path) -> set[str]:
    """The names of all pictures of flow in a folder whose series have both letters."""
    return {name for pair in _flow_pairs(folder) if all(pair) for _, name in [*pair[0], *pair[1]]}


def holds_flow_alone(folder: Path, template: str | None) -> bool:
    """Whether a folder is a video of flow, by its template, or as it has no other pictures."""
    if template is not None:
        return is_flow_template(template)
    flow = flow_names(folder)
    return bool(flow) and not any(_parts(name) for name in names_in(folder) if name not in flow)


def gaps(numbers: Sequence[int]) -> list[str]:
    """Describe how many numbers are missing from a series with a constant step, in at most one line."""
    steps = np.diff(numbers)
    if not len(steps) or (steps == steps.min()).all():
        return []
    after = numbers[int(np.argmax(steps > steps.min()))]
    missing = (numbers[-1] - numbers[0]) // int(steps.min()) + 1 - len(numbers)
    return [f"{missing} pictures are missing, the first after number {after}"]


def _parts(name: str) -> tuple[str, int, str] | None:
    """What is before the last number of a picture's name, the number, and what follows it; else None."""
    path = Path(name)
    found = NUMBERED.fullmatch(name.removesuffix(path.suffix))
    if not found or path.suffix.lower() not in SUFFIXES:
        return None
    head, number, tail = found.groups()
    return head, int(number), tail + path.suffix.lower()


def _numbered(folder: Path, found: Iterable[tuple[int, str]]) -> Series:
    series: Series = {}
    for number, name in found:
        if number in series:
            raise DecodeError(folder, f"two pictures have the number {number}", "give a template")
        series[number] = name
    return series


def _flow_pairs(folder: Path) -> list[tuple[Named, Named]]:
    """Number and name of the pictures of each two series that differ in the letter alone."""
    pairs: defaultdict[tuple[str, str, str], tuple[Named, Named]] = defaultdict(lambda: ([], []))
    for name in _flow_names(folder):
        letter = next(reversed([*AXIS.finditer(name)]), None)
        if letter and (parts := _parts(name[: letter.start()] + name[letter.end() :])):
            kind = next(pair for pair in PAIRS if letter[0] in pair)
            head, number, tail = parts
            pairs[kind, head, tail][kind.index(letter[0])].append((number, name))
    return [*pairs.values()]


def _length(pair: tuple[Sized, Sized]) -> int:
    return len(pair[0]) + len(pair[1])


def _flow_names(folder: Path) -> list[str]:
    """Names of what is in a folder, and in its sub-folders whose names have a letter."""
    names = names_in(folder)
    below = [name for name in names if AXIS.search(name) and (folder / name).is_dir()]
    return names + [f"{name}/{each}" for name in below for each in names_in(folder / name)]


def _matching_flow(folder: Path, template: str) -> FlowSeries:
    if not is_flow_template(template):
        cause = "has no field for the letter x or y of optical flow"
        raise UsageError(template, cause, f"for example {FLOW_TEMPLATE}")
    names = _flow_names(folder)
    found = [[matching(names, template.replace(AXIS_FIELD, letter, 1)) for letter in pair] for pair in PAIRS]
    horizontal, vertical = max(found, key=lambda pair: len(pair[0]) + len(pair[1]))
    return horizontal, vertical
