"""Class names in index order: from a file in any of the forms in use, or of a public data set by its name."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from foveate.data.text import read_lines, whole_number
from foveate.errors import DataError, UsageError

KNOWN = (
    "activitynet200",
    "charades",
    "diving48",
    "hmdb51",
    "imagenet1000",
    "jester27",
    "kinetics400",
    "kinetics600",
    "kinetics700",
    "moments339",
    "something_v1",
    "something_v2",
)
MAX_CLASSES = 100_000  # a larger number is some other column, read as labels by mistake
_NUMBERED = re.compile(r"c?(\d+)[ \t,;:]+(\S.*)")  # Charades writes c000


def read_class_names(source: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Class names from a file, from the name of a public data set (KNOWN), or from a sequence as it is.

    A text file holds a name a line, or number and name; JSON holds a list, or names and numbers either way
    round. Numbers count from 0 or from 1 and leave no gap, else DataError is raised, as for a name that is
    empty or stands twice. A source that is no file and no data set raises UsageError.
    """
    if not isinstance(source, str | Path):
        return _checked("class names", source)
    if str(source) in KNOWN:
        return known_class_names(str(source))
    path = Path(source)
    if not path.exists():
        raise UsageError(source, "neither a file of class names nor a known data set", ", ".join(KNOWN))
    return _from_file(path)


def known_class_names(name: str) -> tuple[str, ...]:
    """The class names of the public data set `name`, one of KNOWN, in the order of its official labels."""
    file = resources.files("foveate.data") / "class_names_files" / f"{name}.txt"
    return tuple(file.read_text(encoding="utf-8").splitlines())


def suggest(name: str, names: Sequence[str]) -> str:
    """A hint for a name that is not among `names`: the closest ones, or how many there are."""
    close = difflib.get_close_matches(name, names, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"{len(names)} class names are known"


def _from_file(path: Path) -> tuple[str, ...]:
    lines = read_lines(path)
    if path.suffix.lower() == ".json":
        return _checked(path, _from_json(path, "\n".join(lines)))
    names = [line.strip() for line in lines if line.strip()]
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    ids = [int(match[1]) for match in numbered if match]
    if len(ids) == len(names) and _is_permutation(ids):  # else a name just begins with a number
        names = _in_order([(int(match[1]), match[2]) for match in numbered if match])
    return _checked(path, [_unquoted(name) for name in names])


def _from_json(path: Path, text: str) -> list[str]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"not readable as JSON: {error}") from error
    if isinstance(data, list):
        return [_unquoted(str(name)) for name in data]
    if not isinstance(data, dict):
        raise DataError(path, "holds neither a list of names nor names and numbers")
    by_name = [(whole_number(str(value)), _unquoted(name)) for name, value in data.items()]
    by_number = [(whole_number(key), _unquoted(str(value))) for key, value in data.items()]
    for pairs in (by_name, by_number):
        numbered = [(number, name) for number, name in pairs if number is not None]
        if len(numbered) == len(pairs) and _is_permutation([number for number, _ in numbered]):
            return _in_order(numbered)
    raise DataError(path, "the numbers of the classes have gaps or repeats", "they count from 0 or from 1")


def _is_permutation(ids: Sequence[int]) -> bool:
    ordered = sorted(ids)
    return bool(ordered) and ordered in (list(range(len(ids))), list(range(1, len(ids) + 1)))


def _in_order(pairs: Sequence[tuple[int, str]]) -> list[str]:
    return [name for _, name in sorted(pairs)]


def _unquoted(name: str) -> str:
    quoted = len(name) > 1 and name[0] == name[-1] == '"'  # some published files quote twice
    return name[1:-1] if quoted else name


def _checked(subject: object, names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        raise DataError(subject, "holds no class names")
    if len(names) > MAX_CLASSES:
        raise DataError(subject, f"{len(names)} class names; at most {MAX_CLASSES} are believable")
    known: set[str] = set()
    for name in names:
        if not name or name in known:
            raise DataError(subject, f"class name '{name}' stands twice" if name else "a class name is empty")
        known.add(name)
    return tuple(names)
