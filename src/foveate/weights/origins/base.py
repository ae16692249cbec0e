"""`Origin`, a code base whose checkpoints can be read, and renames that several origins share."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from foveate.weights.rename import Renames, rename


@dataclass(frozen=True)
class Origin:
    """A code base whose checkpoints can be read: how it names its weights and what its models need."""

    name: str
    renames: Renames | Callable[[Collection[str]], Renames]
    """From its keys to ours; a function of all keys of a state dict if a key can mean different things."""

    signs: tuple[str, ...]
    """Regular expressions by which its state dicts are recognised: each has to match some key, as it is or
    without a leading `module.` or `model.`."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """Configuration fields that its weights need."""

    pixels: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ClipSpec: how its authors resized and cropped frames."""

    classes: str = ""
    """Name of the data set whose classes all its models have; empty if they differ."""

    parts: tuple[str, ...] = ()
    """Keys of its checkpoint files with weights outside the state dict; they are added to it, the key as
    prefix."""

    def rename(self, state_dict: Mapping[str, Tensor], subject: str) -> dict[str, Tensor]:
        """Rename the keys of a state dict to ours. subject: file or model, for error messages."""
        renames = self.renames(state_dict.keys()) if callable(self.renames) else self.renames
        return rename(state_dict, renames, subject)

    def recognises(self, keys: Collection[str]) -> bool:
        """Whether the keys of a state dict have all the signs of this origin."""
        names = {*keys, *(key.removeprefix("module.").removeprefix("model.") for key in keys)}
        return all(any(re.search(sign, name) for name in names) for sign in self.signs)

    def state_dict(self, content: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state_dict` with the weights of `parts` added. content: of its checkpoint file."""
        state = dict(state_dict)
        for part in self.parts:
            beside = content.get(part)
            if isinstance(beside, Mapping) and not any(key.startswith(f"{part}.") for key in state):
                state |= {f"{part}.{key}": value for key, value in beside.items()}
        return state


def resnet(theirs: str, ours: str) -> Renames:
    """Renames for a ResNet with torchvision's names, which are ours too. theirs: pattern of the prefix."""
    return [(rf"^{theirs}(conv1|bn1|layer\d)\.", rf"{ours}\1.")]


def aggregation(theirs: str, ours: str) -> Renames:
    """Renames for IBM's TAM: three taps have names; other numbers of taps are numbered from the past on."""
    named = [
        (rf"{theirs}\.{name}\.weight$", f"{ours}.weights.{i}")
        for i, name in enumerate(("prev", "curr", "next"))
    ]
    return [*named, (rf"{theirs}\.blending_layers\.(\d+)\.weight$", rf"{ours}.weights.\1")]


def nested_mobilenetv2(theirs: str, ours: str) -> Renames:
    """Renames for torchvision's MobileNetV2, where convolution, norm and activation form a submodule."""
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
    """Renames for the other public MobileNetV2, where the layers of a block are numbered consecutively."""
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
    """first, block: layer names in the first block, which has no expansion, and in the others."""
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
