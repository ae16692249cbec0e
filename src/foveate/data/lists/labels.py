"""Label texts become class indices, the same way for every list format.

Every distinct text is understood once, so a million lines cost no more than a look-up each, and a line is
searched for only when there is an error to report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from foveate.data.class_names import MAX_CLASSES, known_class_names, suggest
from foveate.data.lists.rows import ListSource, ParsedList
from foveate.data.text import like_number, whole_number
from foveate.errors import DataError

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Classes:
    """What the label texts of a list mean."""

    indices: Mapping[Labels, tuple[int, ...]]  # of every distinct combination of texts
    names: tuple[str, ...]
    base: int  # what the list counts from
    notes: tuple[str, ...]


def resolve_labels(parsed: ParsedList, source: ListSource, base: int | None) -> Classes:
    """Indices for all labels of a parsed; `base` is what its numbers count from, None to find out.

    A label that is empty, negative, out of range, no whole number or of no known name raises DataError with
    its line; one that is missing in some rows only is noted.
    """
    return _Resolver(parsed, source, source.names or parsed.class_names).classes(base)


@dataclass(frozen=True)
class _Resolver:
    parsed: ParsedList
    source: ListSource
    names: tuple[str, ...] | None

    def classes(self, base: int | None) -> Classes:
        # in the order of the lines, so that the first bad one is named
        distinct = list(dict.fromkeys(row.labels for row in self.parsed.rows))
        if distinct == [()]:
            return Classes({(): ()}, self.names or (), 0, ("the list has no labels",))
        bare = [row for row in self.parsed.rows if not row.labels]
        texts = {text for labels in distinct for text in labels}
        found = self._indices(distinct, texts, self.parsed.base if base is None else base)
        notes: Labels = (
            ("all videos have the same labels",) if len(distinct) == 1 < len(self.parsed.rows) else ()
        )
        if bare and not self.parsed.multi_label:
            first = f"the first {bare[0].path[:100]}" + (f" in line {bare[0].line}" if bare[0].line else "")
            notes += (f"{len(bare)} of {len(self.parsed.rows)} videos have no label, {first}",)
        return replace(found, notes=found.notes + notes)

    def _indices(self, distinct: list[Labels], texts: set[str], base: int | None) -> Classes:
        if self.parsed.labels == "names" or self._are_names(texts, base):
            return self._by_name(distinct, texts)
        return self._by_number(distinct, base)

    def _are_names(self, texts: set[str], base: int | None) -> bool:
        """Whether labels are names; those of classes without a name are numerals."""
        if self.names is None:
            return False
        return not any(map(like_number, texts)) or (base is None and texts <= set(self.names))

    def _by_name(self, distinct: list[Labels], texts: set[str]) -> Classes:
        names, note = (self.names, "labels are class names") if self.names else self._find_names(texts)
        index = {name: number for number, name in enumerate(names)}
        for labels in distinct:
            for text in labels:
                if text not in index:
                    raise self._error(labels, f"unknown class name '{text}'", suggest(text, names))
        indices = {labels: _unique(index[text] for text in labels) for labels in distinct}
        return Classes(indices, names, self.parsed.base or 0, (note,))

    def _find_names(self, texts: set[str]) -> tuple[tuple[str, ...], str]:
        for data_set in self.parsed.known:
            names = known_class_names(data_set)
            if texts <= set(names):
                return names, f"class order of {data_set}"
        return tuple(sorted(texts)), f"classes are the {len(texts)} names in this list, sorted"

    def _by_number(self, distinct: list[Labels], base: int | None) -> Classes:
        numbers = {labels: [self._number(text, labels) for text in labels] for labels in distinct}
        used = {number for values in numbers.values() for number in values}
        start, notes = (base, ()) if base is not None else _guess_base(used, self.names)
        names = self.names
        if names is None:
            names = tuple(str(number) for number in range(start, max(used) + 1))
            notes = (*notes, "class names are unknown, numbers stand for them")
        last = start + len(names) - 1
        for labels, values in numbers.items():
            for number in values:
                if not start <= number <= last:
                    hint = f"{len(names)} classes counted from {start}"
                    raise self._error(labels, f"label {number} is out of range {start} to {last}", hint)
        indices = {labels: _unique(number - start for number in values) for labels, values in numbers.items()}
        return Classes(indices, names, start, (f"labels count from {start}", *notes))

    def _number(self, text: str, labels: Labels) -> int:
        number = whole_number(text)
        if number is not None and (number <= MAX_CLASSES or self.names):
            return number
        if number is not None:
            raise self._error(labels, f"label {text} is not believable", "is the last column the label?")
        if whole_number(text.removeprefix("-")) is not None:
            raise self._error(labels, f"label {text} is negative")
        hint = "" if self.names else "give the class names to use names as labels"
        cause = f"label '{text}' is not a whole number" if text else "a label is empty"
        raise self._error(labels, cause, hint)

    def _error(self, labels: Labels, cause: str, hint: str = "") -> DataError:
        row = next(row for row in self.parsed.rows if row.labels == labels)
        return DataError(self.source.at(row.line), f"{row.path}: {cause}", hint)


def _guess_base(used: set[int], names: tuple[str, ...] | None) -> tuple[int, tuple[str, ...]]:
    """Labels count from 1 if they run from 1 to exactly the number of classes, given or else used."""
    lowest, highest = min(used), max(used)
    if lowest == 0:
        return 0, ()
    if highest > 1 and highest == (len(names) if names else len(used)):
        return 1, ("0 does not occur and the highest label is the number of classes",)
    return 0, ("0 does not occur: say label_base=1 if labels count from 1",)


def _unique(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(numbers))
