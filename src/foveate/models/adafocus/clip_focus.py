"""What AdaFocus and AdaFocusV2 on TSM share: both networks see their frames together, at one patch a clip.

A glance at some frames, one position for the clip, a close look at that patch in other frames, and an answer
that adds the mean logits of both networks (Wang et al., ICCV 2021, section 3.5 and appendix; CVPR 2022). How
the position is chosen and learnt stands in tsm.py and v2_tsm.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.backbones.build import FrameNet
from foveate.backbones.slots import Temporal, temporal_slot
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.models.adafocus.config import FocusConfig
from foveate.models.adafocus.parts import ClipFeatures, FocusModel
from foveate.models.adafocus.seen import FocusPass
from foveate.models.base import ModelOutput, same_macs, spread_over
from foveate.models.dials import CountDial


@dataclass(frozen=True)
class ClipFocusConfig(FocusConfig):
    """The fields of the models with one patch for the clip."""

    num_classes: int = 174
    frames: int = 24  # of the clip; glance and local frames are spread over it
    glance_frames: int = 8
    local_frames: int = 12
    patch: int = 144
    temporal: Temporal = "shift"  # what lets the frames of both networks see each other
    shift_div: int = 8  # one channel in `shift_div` moves each way
    aggregation: AggregationConfig = TAM  # how, if temporal says so
    policy_squeeze: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.glance_frames, self.local_frames) > self.frames:
            raise ValueError(f"a clip of {self.frames} frames is shorter than the frames looked at")

    def clip_networks(self) -> tuple[FrameNet, FrameNet]:
        """The untrained f_G and f_L, each with temporal modules."""
        slots = [
            temporal_slot(self.temporal, name, self.shift_div, self.aggregation)
            for name in (self.glance, self.local)
        ]
        return self.networks(*slots)

    def policy_size(self, glance: FrameNet) -> tuple[int, int, int, int, int]:
        """Channels, frames and side of the maps that a policy reads, and its two widths."""
        side = self.glance_side
        return glance.channels, self.glance_frames, side, self.policy_squeeze, self.policy_width


class ClipFocusModel(FocusModel):
    """Glance, one position a clip, local network, two logits added.

    A pass of it is over a whole clip and answers once, so its `step_logits` are (B, 1, classes).
    """

    config: ClipFocusConfig
    reports = ("boxes", "looked")
    head_names: tuple[str, ...] = ("glance_head.", "local_head.")
    glances_alone = False

    @property
    def exits(self) -> tuple[float, ...]:
        return ()

    @property
    def dial(self) -> CountDial:
        """Frames that the local network sees."""
        return CountDial("local_frames", self.config.local_frames)

    @property
    def answers_after(self) -> tuple[int, ...]:
        return ()

    def local_features(self, images: Tensor, frames: int = 1) -> Tensor:
        return self.pool(self.local(images, frames))

    def classify(
        self, glance: Tensor, local: Tensor, state: Tensor | None = None, first: int = 0
    ) -> tuple[Tensor, Tensor]:
        """The sum of the heads' mean logits, (B, 1, classes), which is the state as well."""
        logits = self.glance_head(glance).mean(1) + self.local_head(local).mean(1)
        return logits.unsqueeze(1), logits

    def places(self, frames: int) -> tuple[list[int], list[int]]:
        """Of the frames that the glance and the local network see, in a clip of so many."""
        looked = self.config.local_frames if self.setting is None else int(self.setting[0])
        return spread_over(frames, self.config.glance_frames), spread_over(frames, looked)

    def see(self, clip: Tensor) -> ClipFeatures:
        glanced, looked = self.places(clip.shape[2])
        return ClipFeatures(self, clip[:, :, glanced], clip[:, :, looked])

    def output(self, clip: Tensor) -> ModelOutput:
        """The answer and the one patch, in the frames that f_L saw. clip: (B, 3, T, S, S)."""
        seen = self.focus(self.see(clip))
        batch, frames = clip.shape[0], clip.shape[2]
        glanced, looked = (torch.tensor(places) for places in self.places(frames))
        none = torch.zeros(batch, frames, dtype=torch.bool)
        corner = seen.corners.detach().float().cpu().flip(-1)  # left, top
        box = torch.cat([corner, corner + self.config.patch], -1)  # (B, 1, 4)
        return ModelOutput(
            seen.step_logits[:, 0],
            none.index_fill(1, torch.cat([glanced, looked]), True),
            None if self.training else same_macs(self._macs(seen), batch),
            torch.cat([seen.glance.features.mean(1), seen.local.mean(1)], -1),
            boxes=box.repeat(1, frames, 1),
            looked=none.index_fill(1, looked, True),
        )

    def _macs(self, seen: FocusPass) -> int:
        """Multiply-adds of one clip."""
        config, maps, frames = self.config, seen.glance.maps[:1], seen.local.shape[1]
        patches = torch.empty(frames, 3, config.patch, config.patch)
        clip = torch.empty(1, 3, maps.shape[1], config.size, config.size)
        return (
            self.part_macs("glance_at", clip)
            + (self.part_macs("policy", maps) if self.policy is not None else 0)
            + self.part_macs("local_features", patches, frames)
            + self.part_macs("classify", seen.glance.features[:1], seen.local[:1])
        )
