"""The configuration that the three models of Uni-AdaFocus share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.models.adafocus.early_exit import check_exits


@dataclass(frozen=True)
class UniChoices:
    """How many frames are seen, how they and their boxes are chosen, and when reading stops."""

    candidates: int = 48  # N, frames of the clip that f_L may be shown
    glance_frames: int = 16  # T, of them for f_G: the middles of equal parts
    local_frames: int = 16  # K, of them for f_L: by the weights of the glances
    temporal_width: int = 64  # channels of the policy that gives the weights
    spatial_width: int = 128  # channels of the policy that gives the boxes
    # how boxes are found: the paper's layers; or attention, for small subjects and few videos, with boxes of
    # the least size alone
    spatial: Literal["boxes", "attention"] = "boxes"
    least_box: float = 3 / 7  # side of the smallest box, as a share of the frame's; the largest is the frame
    padding: Literal["border", "zeros"] = "border"  # beyond the frame's edge; the release pads with zeros
    exits: tuple[float, ...] = ()  # probability of the best class at which reading stops; none: read all

    @property
    def glance_offset(self) -> int:
        """See `FocusNetworks.glance_offset`; that of X3D."""
        return 0

    def check_choices(self, exits: int, group: int = 1) -> None:
        """ValueError for numbers that make no model. exits: its answers. group: see `check_exits`."""
        if max(self.glance_frames, self.local_frames) > self.candidates:
            least = max(self.glance_frames, self.local_frames)
            raise ValueError(f"of {self.candidates} candidates {least} different frames cannot be chosen")
        if not 0 < self.least_box < 1:
            raise ValueError(f"least_box is {self.least_box}; it is a share of the frame, within 0 and 1")
        check_exits(self.exits, exits, group)
