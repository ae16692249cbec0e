"""Rename the keys of state dicts, and load state dicts strictly."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from foveate.errors import ModelFileError

Renames = Sequence[tuple[str, str | None]]
"""(pattern, replacement) pairs of regular expressions, applied to a key one after another.

A replacement of None drops the key, for weights that the official model has and does not use.
"""


def rename(state: Mapping[str, Tensor], renames: Renames, subject: str) -> dict[str, Tensor]:
    """Rename the keys of a state dict; ModelFileError, naming `subject`, if two keys become the same."""
    patterns = [(re.compile(pattern), replacement) for pattern, replacement in renames]
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        ours = _renamed(key, patterns)
        if ours is None:
            continue
        if ours in renamed:
            raise ModelFileError(subject, f"two keys become '{ours}', the second is '{key}'")
        renamed[ours] = value
    return renamed


def _renamed(key: str, patterns: Sequence[tuple[re.Pattern[str], str | None]]) -> str | None:
    for pattern, replacement in patterns:
        if replacement is not None:
            key = pattern.sub(replacement, key)
        elif pattern.search(key):
            return None
    return key


def demand_fit(model: nn.Module, state: Mapping[str, Tensor], subject: str) -> None:
    """ModelFileError with the first five differences of keys, shapes or types between model and `state`.

    Weights may be of another precision, but not integers. Counters of batch norms may be missing:
    old files lack it, and evaluation does not use it. Values are not looked at, so that both may lie on
    PyTorch's meta device.
    """
    want = model.state_dict()
    problems = _depths(state, want) or _differences(state, want)
    if problems:
        more = f", and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ModelFileError(
            subject, "; ".join(problems[:5]) + more, "is it the right model and class count?"
        )


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], subject: str) -> None:
    """Load `state` into the model; ModelFileError if it does not fit or holds numbers that are not finite."""
    demand_fit(model, state, subject)
    broken = next((key for key, value in state.items() if not _is_finite(value)), None)
    if broken:
        raise ModelFileError(subject, f"{broken} holds values that are not finite")
    model.load_state_dict(dict(state), strict=False)


def _is_finite(value: Tensor) -> bool:
    """Whether all numbers are finite; the extremes tell, as they are not finite if one number is not."""
    if not value.is_floating_point() or not value.numel():
        return True
    return all(bool(extreme.isfinite()) for extreme in torch.aminmax(value))


def _differences(state: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> list[str]:
    counters = {key for key in want if key.endswith("num_batches_tracked")}
    missing = [f"missing {key}" for key in want if key not in state and key not in counters]
    left_over = [f"left over {key}" for key in state if key not in want]
    misshapen = [
        f"{key} is {list(state[key].shape)}, wanted {list(want[key].shape)}"
        for key in want
        if key in state and state[key].shape != want[key].shape
    ]
    mistyped = [
        f"{key} is of type {str(state[key].dtype).removeprefix('torch.')}, not of floating-point numbers"
        for key in want
        if key in state and want[key].is_floating_point() and not state[key].is_floating_point()
    ]
    return missing + left_over + misshapen + mistyped


def _depths(state: Iterable[str], want: Iterable[str]) -> list[str]:
    """Differences in the number of blocks, that is in depth; these explain all other differences."""
    theirs, ours = _block_counts(state), _block_counts(want)
    return [
        f"{place} has {theirs[place]} blocks in the file and {ours[place]} in the model"
        for place in ours
        if place in theirs and theirs[place] != ours[place]
    ]


def _block_counts(keys: Iterable[str]) -> dict[str, int]:
    """Length of each list of three or more numbered modules, by the prefix of its keys."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for key in keys:
        for match in re.finditer(r"\.(\d+)(?=\.)", key):
            numbers[key[: match.start()]].add(int(match[1]))
    return {place: len(found) for place, found in numbers.items() if len(found) > 2}
