"""AdaFocus-TSM: where motion matters, both networks shift features over time and one patch serves the clip.

A TSM-MobileNetV2 glances at 8 frames, a policy reads all its maps at once and gives one position for the
video, a TSM-ResNet-50 looks at that patch in 12 frames, and the mean logits of both are added (Wang et al.,
ICCV 2021, section 3.5 and appendix). The position is continuous, or one of a grid, as the release has it too.
Where this code differs: both frame sets come out of one clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from foveate.backbones.slots import Temporal, temporal_slot
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.layers.patch import fraction_corners, grid_corners, random_corners
from foveate.models.adafocus.config import FocusConfig, check_grid
from foveate.models.adafocus.parts import ClipFeatures, FocusModel, Where
from foveate.models.adafocus.seen import FocusPass
from foveate.models.base import ModelOutput, same_macs, spread_over
from foveate.models.dials import CountDial


@dataclass(frozen=True)
class AdaFocusTSMConfig(FocusConfig):
    num_classes: int = 174
    frames: int = 24  # of the clip; glance and local frames are spread over it
    glance_frames: int = 8
    local_frames: int = 12
    patch: int = 144
    grid: int | None = None  # n, the policy chooses among n x n positions; none: any position
    policy: Where = "learned"  # the others are what it must beat; a random patch differs at every call
    temporal: Temporal = "shift"  # what lets the frames of both networks see each other
    shift_div: int = 8  # one channel in `shift_div` moves each way
    aggregation: AggregationConfig = TAM  # how, if temporal says so
    policy_squeeze: int = 64
    spread: float = 0.25  # standard deviation of the positions tried in training, per axis

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.glance_frames, self.local_frames) > self.frames:
            raise ValueError(f"a clip of {self.frames} frames is shorter than the frames looked at")
        if self.grid is not None:
            check_grid(self.grid, self.room)

    def build(self) -> AdaFocusTSM:
        """The untrained model."""
        slots = [
            temporal_slot(self.temporal, name, self.shift_div, self.aggregation)
            for name in (self.glance, self.local)
        ]
        glance, local = self.networks(*slots)
        size = (glance.channels, self.glance_frames, self.glance_side, self.policy_squeeze, self.policy_width)
        outputs = 2 if self.grid is None else self.grid**2
        policy = ClipPolicy(*size, outputs=outputs) if self.policy == "learned" else None
        spec = self.clip_spec(self.frames, glance)
        return AdaFocusTSM(glance, policy, local, None, None, spec, self)


class PositionsAround(Independent):
    """Distribution of positions around a mean (..., 2): independent normals of standard deviation `spread`.

    Samples are clamped to [0, 1], and their log-probability is taken after that, as in the released code.
    """

    def __init__(self, mean: Tensor, spread: float) -> None:
        super().__init__(Normal(mean, spread), 1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Positions (..., 2) in [0, 1]."""
        positions: Tensor = super().sample(torch.Size(sample_shape))
        return positions.clamp(0, 1)


class ClipPolicy(nn.Module):
    """The policy of AdaFocus-TSM: one position for a clip, from the glance maps of all its frames together.

    outputs: n x n, the log-odds of the positions of a grid; or 2, the logits of row and column, each the mean
    of a normal distribution.
    """

    def __init__(
        self, channels: int, frames: int, side: int, squeeze: int = 64, width: int = 1024, *, outputs: int
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels * frames, squeeze, 1, bias=False),
            nn.BatchNorm2d(squeeze),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(squeeze * side * side, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.gru = nn.GRU(width, width, batch_first=True)
        self.actor = nn.Linear(width, outputs)
        self.critic = nn.Linear(width, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """maps: (B, T, C, h, w), detached inside. Returns the actor's outputs (B, n) and values (B,)."""
        encoded = self.encoder(maps.detach().flatten(1, 2)).unsqueeze(1)  # (B, 1, width)
        hidden = self.gru(encoded)[0].squeeze(1)
        return self.actor(hidden), self.critic(hidden).squeeze(-1)


class AdaFocusTSM(FocusModel):
    """Shifted glance, one position a clip, shifted local network, two logits added.

    A pass of it is over a whole clip and answers once, so its `step_logits` are (B, 1, classes).
    """

    config: AdaFocusTSMConfig
    reports = ("boxes", "looked")
    head_names = ("glance_head.", "local_head.")
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

    def choose_place(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One corner (B, 1, 2) for all frames: the policy's likeliest, or the centre, or anywhere."""
        if self.policy is not None:
            found = self.policy(maps)[0].unsqueeze(1)
            return self.corners_of(found.sigmoid() if self.config.grid is None else found.argmax(-1)), None
        if self.config.policy == "centre":
            return torch.full((len(maps), 1, 2), self.config.room // 2, device=maps.device), None
        return self.random_corners(len(maps), 1).to(maps.device), None

    def random_corners(self, batch: int, frames: int) -> Tensor:
        return random_corners(batch, self.config.room).unsqueeze(1)

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
        corner = seen.corners.float().cpu().flip(-1)  # left, top
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

    # ---- what reinforcement learning asks for

    def place_choice(self, maps: Tensor) -> tuple[Distribution, Tensor]:
        """The distribution of actions to try, and the expected return, (B, 1).

        An action is a position (B, 1, 2) in [0, 1], or the number of one of the grid's, (B, 1).
        """
        found, value = self.policy(maps)
        choice: Distribution
        if self.config.grid is None:
            choice = PositionsAround(found.sigmoid().unsqueeze(1), self.config.spread)
        else:
            choice = Categorical(logits=found.unsqueeze(1))
        return choice, value.unsqueeze(1)

    def corners_of(self, actions: Tensor) -> Tensor:
        """Corners (B, 1, 2) of actions, see `place_choice`."""
        if self.config.grid is None:
            return fraction_corners(actions, self.config.room)
        return grid_corners(actions, self.config.grid, self.config.room)

    def classify_instead(self, glance: Tensor, local: Tensor, *others: Tensor) -> list[Tensor]:
        """The answer (B, 1, classes) if f_L had found something else, (B, T', F)."""
        return [self.classify(glance, other)[0] for other in others]
