"""What an origin of checkpoints is, and the renames that several origins share."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from foveate.weights.rename import Renames, rename


@dataclass(frozen=True)
class Origin:
    """One code base whose checkpoints are read: how it names its weights, and what its models assume."""

    name: str
    renames: Renames | Callable[[Collection[str]], Renames]
    """Its keys to ours; a function of all keys of a state dict where one key may mean several things."""

    signs: tuple[str, ...]
    """Regular expressions, each of which some key of its state dicts matches. A key is tried as it stands and
    without a leading `module.` or `model.`."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of a model's configuration, without which its weights do not fit or give other numbers."""

    pixels: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a ClipSpec: how its authors resized and cropped frames."""

    classes: str = ""
    """The data set whose classes all its models know, by its name; none where files differ."""

    parts: tuple[str, ...] = ()
    """Entries of its checkpoint files that hold weights beside the state dict. They join it, prefixed with
    the name of their entry."""

    def rename(self, state_dict: Mapping[str, Tensor], subject: str) -> dict[str, Tensor]:
        """A state dict of this origin under our names; `subject` (file or model) begins an error."""
        renames = self.renames(state_dict.keys()) if callable(self.renames) else self.renames
        return rename(state_dict, renames, subject)

    def recognises(self, keys: Collection[str]) -> bool:
        """Whether each sign is found among the keys of a state dict."""
        names = {*keys, *(key.removeprefix("module.").removeprefix("model.") for key in keys)}
        return all(any(re.search(sign, name) for name in names) for sign in self.signs)

    def state_dict(self, content: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state_dict` with the `parts` that the content of its checkpoint file holds beside it."""
        state = dict(state_dict)
        for part in self.parts:
            beside = content.get(part)
            if isinstance(beside, Mapping) and not any(key.startswith(f"{part}.") for key in state):
                state |= {f"{part}.{key}": value for key, value in beside.items()}
        return state


def resnet(theirs: str, ours: str) -> Renames:
    """torchvision's names, which are ours, below a prefix (a pattern) that becomes another."""
    return [(rf"^{theirs}(conv1|bn1|layer\d)\.", rf"{ours}\1.")]


def aggregation(theirs: str, ours: str) -> Renames:
    """IBM's TAM of any number of taps: three of them have names, others are numbered from the past on."""
    named = [
        (rf"{theirs}\.{name}\.weight$", f"{ours}.weights.{i}")
        for i, name in enumerate(("prev", "curr", "next"))
    ]
    return [*named, (rf"{theirs}\.blending_layers\.(\d+)\.weight$", rf"{ours}.weights.\1")]


def nested_mobilenetv2(theirs: str, ours: str) -> Renames:
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


def flat_mobilenetv2(theirs: str, ours: str) -> Renames:
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
) -> Renames:
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
