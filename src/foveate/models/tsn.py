"""TSN, TSM and TAM: a 2D network on a few frames spread over the video, with averaged logits.

TSN takes one frame from each of T equal segments (Wang et al., ECCV 2016). TSM is the same network with a
temporal shift in front of each block, which exchanges features between frames without multiply-adds (Lin et
al., ICCV 2019, arXiv 1811.08383). With the temporal aggregation of bLVNet-TAM instead (layers/aggregate.py)
and temporal pooling it is the TAM-ResNet of Chen et al., "Deep Analysis of CNN-based Spatio-temporal
Representations", CVPR 2021. Differences from the releases: any number of frames at every call, and the same
model runs on clips and on streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate.backbones.build import Backbone2D, FrameNet, Stem, build_backbone
from foveate.backbones.resnet2d import ResNet2D, add_nonlocal
from foveate.backbones.slots import Temporal, temporal_slot
from foveate.clip import CHANNELS, ClipSpec, Modality, levels_of
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.layers.fold import fold_time
from foveate.layers.pool import Pooling
from foveate.layers.temporal import StreamMemory
from foveate.models.base import ModelOutput, VideoModel, every_frame, rows_at_once, spread_over
from foveate.models.dials import CountDial


@dataclass(frozen=True)
class TSNConfig:
    """Configuration of TSN, TSM, TAM and bLResNet on single frames."""

    backbone: Backbone2D = "resnet50"
    num_classes: int = 400
    frames: int = 8  # T, one from each segment
    size: int = 224  # side of the crop, pixels
    resize: int = 256  # short side to which frames are resized before the test crop, pixels
    modality: Modality = "rgb"  # flow: each of the T frames is a stack of optical flow
    temporal: Temporal = (
        "none"  # none: TSN | shift: TSM | past: one-sided TSM, for streams | aggregation: TAM
    )
    shift_div: int = 8  # one channel in `shift_div` moves each way
    shift_place: Literal["residual", "block"] = "residual"  # in front of the residual branch | shortcut too
    aggregation: AggregationConfig = TAM  # options of temporal="aggregation"
    temporal_pool: bool = False  # halve the number of frames after some stages (ResNets)
    pool_after: tuple[int, ...] = (1,)  # the stages of temporal_pool: 1 in TSM, 1 to 3 in TAM
    pool_time: Literal["max", "average"] = "max"  # method of temporal_pool
    non_local: bool = False  # five non-local blocks (ResNet-50)
    width: float = 1.0  # multiplier of the channels (ResNets and MobileNetV2)
    alpha: int = 2  # divides the channels of a bLResNet's little branch
    beta: int = 4  # divides the depth of the little branch
    stem: Stem = "large"  # 7x7 and pool, or 3x3 for small images (ResNets)
    pool: Literal["average", "max"] = "average"  # over space, in front of the classifier
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.non_local and self.backbone != "resnet50":
            raise ValueError(f"non_local is for resnet50, not {self.backbone}")
        if self.temporal == "past" and (self.temporal_pool or self.non_local):
            raise ValueError(
                "temporal=past streams frame by frame: it allows no temporal_pool and no non_local"
            )

    def build(self) -> TSN:
        """Build the untrained model."""
        slot = temporal_slot(self.temporal, self.backbone, self.shift_div, self.aggregation)
        net = build_backbone(
            self.backbone,
            self.width,
            self.stem,
            slot,
            shift_shortcut=self.shift_place == "block",
            pool_after=self.pool_after if self.temporal_pool else (),
            pool_time=self.pool_time,
            alpha=self.alpha,
            beta=self.beta,
            inputs=CHANNELS[self.modality],
        )
        if isinstance(net, ResNet2D) and self.non_local:
            add_nonlocal(net)
        head = ConsensusHead(net.channels, self.num_classes, self.dropout, self.pool)
        mean, std = levels_of(self.modality, net.mean, net.std)
        spec = ClipSpec(
            self.frames, size=self.size, resize=self.resize, mean=mean, std=std, modality=self.modality
        )
        return TSN(net, head, spec, self, streams=self.temporal == "past" and self.modality == "rgb")


class ConsensusHead(nn.Module):
    """Classify every frame and average the logits (Wang et al., "Temporal Segment Networks", ECCV 2016).

    pool: "max" keeps a small object that an average over the frame would dilute.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        dropout: float = 0.5,
        pool: Pooling = "average",
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1) if pool == "average" else nn.AdaptiveMaxPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.channels = channels
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """A new linear layer for `num_classes` classes; weights of standard deviation 0.001, as in TSN."""
        self.linear = nn.Linear(self.channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.001)
        nn.init.zeros_(self.linear.bias)

    def features(self, maps: Tensor) -> Tensor:
        """Pool maps (N, C, H, W) over space: the input of the classifier, (N, C)."""
        return self.pool(maps).flatten(1)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., classes) of features (..., C)."""
        return self.linear(self.dropout(features))


class TSN(VideoModel):
    """A backbone on every frame, a classifier, and the average of the frames' logits.

    The backbone may return fewer maps than frames, for example one for each pair of frames.
    """

    parts = ("frame_features", "classify")
    step_parts = ("step_features",)
    reports = ("frame_logits",)

    def __init__(
        self,
        backbone: FrameNet,
        head: ConsensusHead,
        spec: ClipSpec,
        config: Any,
        streams: bool = False,
        frames_a_map: int = 1,
    ) -> None:
        super().__init__()
        self.frames_a_map = frames_a_map
        self.backbone = backbone
        self.head = head
        self.spec = spec
        self.config = config
        self.streams = streams

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, C, T, H, W), any T, C of the modality. Returns logits (B, classes)."""
        return self.classify(self.frame_features(self._chosen(clip))).mean(1)

    @property
    def dial(self) -> CountDial | None:
        """Frames, spread over the clip; pairs of them where the network reads pairs."""
        step = self.frames_a_map
        return CountDial("frames", self.spec.frames, step) if self.spec.frames > step else None

    @property
    def frames_needed(self) -> Callable[[int], list[int]]:
        return every_frame if self.setting is None else partial(_spread, int(self.setting[0]))

    def _chosen(self, clip: Tensor) -> Tensor:
        """The frames that a budget leaves of a clip (B, C, T, H, W)."""
        places = self.frames_needed(clip.shape[2])
        return clip if len(places) == clip.shape[2] else clip[:, :, places]

    def frame_features(self, clip: Tensor) -> Tensor:
        """The classifier's input for every frame, (B, T', C). clip: as in `forward`."""
        maps = self.backbone(fold_time(clip), clip.shape[2])  # (B*T', C, h, w)
        return self.head.features(maps).unflatten(0, (clip.shape[0], -1))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., classes) from features (..., C)."""
        return self.head.classify(features)

    def output(self, clip: Tensor) -> ModelOutput:
        """The mean logits and those of every frame. clip: as in `forward`."""
        read = torch.zeros(clip.shape[0], clip.shape[2], dtype=torch.bool)
        read[:, self.frames_needed(clip.shape[2])] = True
        clip = self._chosen(clip)
        pieces = clip.split(rows_at_once(clip, clip[:1, :1].numel(), self.training))
        features = torch.cat([self.frame_features(piece) for piece in pieces])
        logits = self.classify(features)
        return ModelOutput(
            logits=logits.mean(1),
            frames_read=read,
            macs=None if self.training else self._macs(clip[:1], features[:1]).expand(len(clip)),
            features=features.mean(1),
            frame_logits=logits,
        )

    def _macs(self, clip: Tensor, features: Tensor) -> Tensor:
        return torch.tensor(self.part_macs("frame_features", clip) + self.part_macs("classify", features))

    def step(
        self, frame: Tensor, state: Sequence[Tensor] | None = None
    ) -> tuple[ModelOutput, tuple[Tensor, ...]]:
        """One frame of a stream, (B, 3, H, W): its own logits, those of the frame in a clip, and the state.

        ValueError for a two-sided shift.
        """
        kept = tuple(state or ())
        features, *now = self.step_features(frame, *kept)
        logits = self.classify(features)
        output = ModelOutput(
            logits=logits,
            frames_read=torch.ones(len(frame), 1, dtype=torch.bool),
            macs=None if self.training else self._step_macs(frame[:1], features[:1]).expand(len(frame)),
            features=features,
            frame_logits=logits.unsqueeze(1),
        )
        return output, tuple(now)

    def step_features(self, frame: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
        """The classifier's input (B, C) of one frame of a stream, and the maps kept for the next frame."""
        memory = StreamMemory(kept)
        maps = self.backbone(frame, 1, memory)
        return self.head.features(maps), *memory.now

    def _step_macs(self, frame: Tensor, features: Tensor) -> Tensor:
        return torch.tensor(self.part_macs("step_features", frame) + self.part_macs("classify", features))


def _spread(wanted: int, frames: int) -> list[int]:
    return every_frame(frames) if frames <= wanted else spread_over(frames, wanted)
