"""Key names of an official checkpoint become ours, strictly: nothing missing, left over or misshapen."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from torch import Tensor, nn

from foveate.errors import ModelFileError

Table = Sequence[tuple[str, str | None]]
"""(pattern, replacement) pairs of regular expressions, applied to a key one after another.

None drops the key: something the official model carries and does not use.
"""

Naming = Table | Callable[[Collection[str]], Table]
"""A table, or how to find it from all keys of a file, where one key may mean several things."""


def rename(state: Mapping[str, Tensor], naming: Naming, subject: str) -> dict[str, Tensor]:
    """The state dict under our names; two keys that become one raise ModelFileError."""
    table = naming(state.keys()) if callable(naming) else naming
    patterns = [(re.compile(pattern), replacement) for pattern, replacement in table]
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        ours = _renamed(key, patterns)
        if ours is None:
            continue
        if ours in renamed:
            raise ModelFileError(subject, f"two entries become '{ours}', the second is '{key}'")
        renamed[ours] = value
    return renamed


def _renamed(key: str, patterns: Sequence[tuple[re.Pattern[str], str | None]]) -> str | None:
    for pattern, replacement in patterns:
        if replacement is not None:
            key = pattern.sub(replacement, key)
        elif pattern.search(key):
            return None
    return key


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], subject: str) -> None:
    """Copy `state` into the model; a difference of keys or shapes raises ModelFileError with the first five.

    The step counters of batch norm, which old files lack and nothing reads in evaluation, may be absent.
    """
    want = model.state_dict()
    problems = _depths(state, want) or _differences(state, want)
    if problems:
        more = f", and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ModelFileError(
            subject, "; ".join(problems[:5]) + more, "is it the right model and class count?"
        )
    model.load_state_dict(dict(state), strict=False)


def _differences(state: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> list[str]:
    counters = {key for key in want if key.endswith("num_batches_tracked")}
    missing = [f"missing {key}" for key in want if key not in state and key not in counters]
    left_over = [f"left over {key}" for key in state if key not in want]
    misshapen = [
        f"{key} is {list(state[key].shape)}, wanted {list(want[key].shape)}"
        for key in want
        if key in state and state[key].shape != want[key].shape
    ]
    return missing + left_over + misshapen


def _depths(state: Iterable[str], want: Iterable[str]) -> list[str]:
    """Where one of the two has more numbered blocks: another depth, which explains all the rest."""
    theirs, ours = _block_counts(state), _block_counts(want)
    return [
        f"{place} has {theirs[place]} blocks in the file and {ours[place]} in the model"
        for place in ours
        if place in theirs and theirs[place] != ours[place]
    ]


def _block_counts(keys: Iterable[str]) -> dict[str, int]:
    """Of each list of three or more parts that are numbered from 0, its length."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for key in keys:
        for match in re.finditer(r"\.(\d+)(?=\.)", key):
            numbers[key[: match.start()]].add(int(match[1]))
    return {place: len(found) for place, found in numbers.items() if len(found) > 2}


def resnet(theirs: str, ours: str) -> Table:
    """torchvision's names, which are ours, below a prefix (a pattern) that becomes another."""
    return [(rf"^{theirs}(conv1|bn1|layer\d)\.", rf"{ours}\1.")]


def aggregation(theirs: str, ours: str) -> Table:
    """IBM's TAM of any number of taps: three of them have names, others are numbered from the past on."""
    named = [
        (rf"{theirs}\.{name}\.weight$", f"{ours}.weights.{i}")
        for i, name in enumerate(("prev", "curr", "next"))
    ]
    return [*named, (rf"{theirs}\.blending_layers\.(\d+)\.weight$", rf"{ours}.weights.\1")]


def nested_mobilenetv2(theirs: str, ours: str) -> Table:
    """torchvision's MobileNetV2: convolution, norm and activation are a part of their own."""
    first = [
        ("0.0", "depthwise.conv"),
        ("0.1", "depthwise.norm"),
        ("1", "project.conv"),
        ("2", "project.norm"),
    ]
    block = [
        ("0.0", "expand.conv"),
        ("0.1", "expand.norm"),
        ("1.0", "depthwise.conv"),
        ("1.1", "depthwise.norm"),
        ("2", "project.conv"),
        ("3", "project.norm"),
    ]
    return _mobilenetv2(theirs, ours, first, block)


def flat_mobilenetv2(theirs: str, ours: str) -> Table:
    """The other public MobileNetV2: the layers of a block are numbered through."""
    first = [("0", "depthwise.conv"), ("1", "depthwise.norm"), ("3", "project.conv"), ("4", "project.norm")]
    block = [
        ("0", "expand.conv"),
        ("1", "expand.norm"),
        ("3", "depthwise.conv"),
        ("4", "depthwise.norm"),
        ("6", "project.conv"),
        ("7", "project.norm"),
    ]
    return _mobilenetv2(theirs, ours, first, block)


def _mobilenetv2(
    theirs: str, ours: str, first: Sequence[tuple[str, str]], block: Sequence[tuple[str, str]]
) -> Table:
    """The first inverted residual has no expansion; both layouts count them from 1, we from 0."""
    table = [
        (r"features\.0\.0\.", "stem.conv."),
        (r"features\.0\.1\.", "stem.norm."),
        (r"features\.18\.0\.", "last.conv."),
        (r"features\.18\.1\.", "last.norm."),
    ]
    for number in range(1, 18):
        for their_layer, our_layer in first if number == 1 else block:
            place = their_layer.replace(".", r"\.")
            table.append((rf"features\.{number}\.conv\.{place}\.", f"blocks.{number - 1}.{our_layer}."))
    return [(f"^{theirs}{pattern}", ours + replacement) for pattern, replacement in table]
