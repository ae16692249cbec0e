"""Strict conversion between frozen dataclasses and plain data (YAML files, checkpoint headers)."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from foveate.errors import UsageError
from foveate.io import open_regular

T = TypeVar("T")


YAML_LIMIT = 128 << 10  # bytes of a file; the settings of a run take three thousand


def shown(value: object) -> str:
    """A value as it would be typed, cut after 60 characters, for messages."""
    try:
        text = repr(value)
    except ValueError:  # of a number with thousands of digits
        text = "a number of thousands of digits"
    except RecursionError:
        text = f"a deep {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}.."


def nearest(name: str, known: typing.Iterable[str], otherwise: str = "") -> str:
    """A hint for an unknown name: the closest of the known ones, or else `otherwise`, or else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else otherwise or f"known: {', '.join(known)}"


def from_dict(cls: type[T], data: object, subject: object) -> T:
    """Build the dataclass `cls` from a mapping, nested dataclasses included.

    An unknown key or a value of the wrong type raises UsageError, which begins with `subject` and the key.
    """
    if not isinstance(data, dict):
        raise UsageError(subject, f"expected keys and values, got {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(typing.cast(Any, cls)) if f.init}
    for key in data:
        if key not in known:
            raise UsageError(subject, f"unknown key {shown(key)}", nearest(str(key)[:60], known))
    values = {key: _convert(value, hints[key], f"{subject}: {key}") for key, value in data.items()}
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(subject, str(error)) from error


def _convert(value: Any, kind: Any, where: str) -> Any:
    """The value as the annotated type `kind`, or UsageError for the place `where`."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return from_dict(typing.cast(type, kind), value, where)
    if origin is typing.Literal:
        if value in args:
            return value
        raise UsageError(where, f"{shown(value)} is not allowed", nearest(str(value)[:60], map(str, args)))
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, args, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(where, f"expected a list, got {shown(value)}")
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) != len(value):
            raise UsageError(where, f"expected {len(kinds)} values, got {shown(list(value))}")
        return tuple(_convert(v, k, where) for v, k in zip(value, kinds, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise UsageError(where, f"expected keys and values, got {shown(value)}")
        return dict(value)
    return _convert_plain(value, kind, where)


def _convert_union(value: Any, args: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in args:
        return None
    failure = UsageError(where, f"{shown(value)} has the wrong type")
    for kind in args:
        if kind is type(None):
            continue
        try:
            return _convert(value, kind, where)
        except UsageError as error:
            failure = error
    raise failure


def _convert_plain(value: Any, kind: Any, where: str) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise UsageError(where, f"{shown(value)} is not a finite number")
        return number
    if kind is float and isinstance(value, str):  # YAML reads 1e-3 as text
        try:
            return _convert_plain(float(value), float, where)
        except ValueError:
            pass
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is Any or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise UsageError(where, f"expected {getattr(kind, '__name__', kind)}, got {shown(value)}")


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without duplicate keys and without aliases (a few of which can expand to gigabytes)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        seen: set[str] = set()
        for key in map(shown, keys):
            if key in seen:
                raise yaml.YAMLError(f"duplicate key {key}")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; UsageError if it is missing, malformed or repeats a key."""
    try:
        with open_regular(path) as file:
            text = file.read(YAML_LIMIT + 1)
        if len(text) > YAML_LIMIT:
            raise UsageError(path, f"is longer than {YAML_LIMIT >> 10} kB", "is it the right file?")
        data = yaml.load(text.decode("utf-8-sig"), _StrictLoader)
    except OSError as error:
        raise UsageError(path, error.strerror or str(error)) from error
    except RecursionError as error:
        raise UsageError(path, "not readable as YAML: it nests too deep") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(path, f"not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(path, "is not a mapping of keys to values")
    return data


def to_dict(config: Any) -> dict[str, Any]:
    """Convert a dataclass to dicts, lists, numbers and text that YAML and JSON can hold."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(config)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
