"""Uni-AdaFocus for any budget: one set of weights whose close look has several widths and patch sides.

Four things answer to one number, its dial (`LookDial`): the width of f_L, a slimmable network (Yu et al.,
ICLR 2019), the side of the patches that it sees, how many frames it looks at, and for which videos (exits).
The rest is Uni-AdaFocus for long videos (uni_long.py); the recipe is train/recipes/uni_any.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from foveate.backbones.build import FrameNet, build_backbone
from foveate.backbones.slim import SlimResNet
from foveate.clip import ClipSpec
from foveate.layers.anytime import SlimRunningMaxClassifier
from foveate.layers.pool import pool_space
from foveate.layers.slim import SlimLinear
from foveate.models.adafocus.parts import coarse_to_fine
from foveate.models.adafocus.uni_long import AuxiliaryHead, UniAdaFocus, UniAdaFocusConfig
from foveate.models.dials import Look, LookDial


@dataclass(frozen=True)
class UniAnyConfig(UniAdaFocusConfig):
    """Uni-AdaFocus for any budget. `patch` is the largest one; `local_width` is that of f_L at width 1."""

    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)  # of f_L, shares of its channels, increasing
    small_patches: tuple[int, ...] = (64, 96)  # sides below `patch`, pixels, increasing

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rising("widths", self.widths)
        check_rising("small_patches", self.small_patches)
        if self.widths[-1:] != (1.0,):
            raise ValueError(f"widths {[*self.widths]} of the local network must end with the whole one, 1.0")
        if max(self.small_patches, default=0) >= self.patch:
            raise ValueError(f"small_patches {[*self.small_patches]} must be below the patch, {self.patch}")

    @property
    def looks(self) -> tuple[Look, ...]:
        """All pairs of width and patch side, narrower ones first."""
        return tuple((width, side) for width in self.widths for side in (*self.small_patches, self.patch))

    def build(self) -> UniAny:
        """The untrained model."""
        strides = self.glance_strides
        glance = build_backbone(self.glance, self.glance_width, self.glance_stem, strides=strides)
        local = SlimResNet(self.local, self.local_width, self.local_stem, self.widths)
        return UniAny(glance, local, self.clip_spec(self.candidates, glance), self)


def check_rising(name: str, values: tuple[float, ...]) -> None:
    """ValueError unless these rise, from above 0."""
    if not all(low < high for low, high in pairwise((0, *values))):
        raise ValueError(f"{name} {[*values]} must rise, each above the one before and the first above 0")


class UniAny(UniAdaFocus):
    """Uni-AdaFocus whose close look is as wide and as fine as its dial says.

    The boxes are the same at every setting. The frames are looked at in a coarse-to-fine order, so that the
    first few lie over all of the video's weight. Features of a narrower f_L are fewer: what reads them takes
    its first weights. In training it looks as `looking` says.
    """

    config: UniAnyConfig
    local: SlimResNet

    def __init__(self, glance: FrameNet, local: SlimResNet, spec: ClipSpec, config: UniAnyConfig) -> None:
        super().__init__(glance, local, spec, config)
        features = [local.channels * first // local.first[1.0] for first in local.first.values()]
        classes, width = config.num_classes, config.classifier_width
        self.local_classifier = SlimRunningMaxClassifier(
            features, classes, config.local_frames, width, config.dropout, beside=width
        )
        self.local_aux = SlimHead(local.channels, classes, config.aux_dropout)
        self._drawn: Look = config.looks[-1]

    def reset_head(self, num_classes: int) -> None:
        super().reset_head(num_classes)
        self.local_aux = SlimHead(self.local.channels, num_classes, self.config.aux_dropout)

    @property
    def dial(self) -> LookDial:
        """The width, the side, and where reading stops."""
        return LookDial(self.config.looks, len(self.answers_after), self.config.exit_group)

    @property
    def look(self) -> Look:
        """Width of f_L and side of the patch, as they are set."""
        return self._drawn if self.setting is None else (self.setting[0], int(self.setting[1]))

    @contextmanager
    def looking(self, look: Look) -> Iterator[None]:
        """Look in this way where no setting says otherwise, for as long as the context lasts."""
        before, self._drawn = self._drawn, look
        try:
            yield
        finally:
            self._drawn = before

    @property
    def patch(self) -> int:
        return self.look[1]

    @property
    def told(self) -> tuple[float]:
        return self.look[:1]

    def local_features(self, patches: Tensor, frames: int, width: float = 1.0) -> Tensor:
        return pool_space(self.local(patches, frames, width=width), self.config.pool)

    def order(self, looks: int) -> list[int]:
        return coarse_to_fine(looks)


class SlimHead(AuxiliaryHead, SlimLinear):
    """An `AuxiliaryHead` that reads as many features as it is given."""
