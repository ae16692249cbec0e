"""What every model offers, whatever it is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from foveate.clip import ClipSpec


class VideoModel(nn.Module):
    """A clip in, raw logits out, the same in training and evaluation.

    spec: what the model wants to see. config: the frozen dataclass it was built from. name: its line in the
    zoo. labels: class names in label order, empty if unknown. independent: several classes may be true at
    once, each with a probability of its own. dynamic: the multiply-adds depend on the input. head_names: how
    the keys of all classifiers begin. head: the one classifier of most; who has several says so himself.
    """

    spec: ClipSpec
    config: Any
    name: str = ""
    labels: tuple[str, ...] = ()
    independent: bool = False
    dynamic: bool = False
    head_names: tuple[str, ...] = ("head.",)
    head: Any

    @property
    def num_classes(self) -> int:
        """Length of the logits."""
        classes: int = self.head.linear.out_features
        return classes

    def reset_head(self, num_classes: int) -> None:
        """A new, untrained classifier for other classes."""
        self.head.reset(num_classes)
        self.config = replace(self.config, num_classes=num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, T, H, W) float, normalised. Returns logits (B, classes)."""
        raise TypeError(f"{type(self).__name__} does not read clips")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of logits (..., classes): their softmax, or the sigmoid of each if the classes are independent."""
        return logits.sigmoid() if self.independent else logits.softmax(-1)

    def position_logits(self, clip: Tensor) -> Tensor:
        """(B, P, classes), whose mean are the logits; P is 1 unless a model answers at several places."""
        logits: Tensor = self(clip)
        return logits.unsqueeze(1)

    def trace(self, clip: Tensor) -> Any:
        """A small dataclass of what the model saw and decided, its `logits` among it."""
        raise TypeError(f"{type(self).__name__} keeps no trace")
