"""One 3D ResNet on a clip: Slow-only, Fast-only, C2D and I3D.

The single pathways of SlowFast's ablation (Feichtenhofer et al., ICCV 2019, table 5a) and its two baselines,
as PySlowFast trains them (Wang et al., "Non-local Neural Networks", CVPR 2018, table 1).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from foveate.backbones.build import Stem
from foveate.backbones.resnet3d import Depth, Pathway, ResNet3D
from foveate.backbones.slots import Temporal, temporal_slot
from foveate.clip import ClipSpec
from foveate.errors import UsageError
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.layers.nonlocal_block import Attention
from foveate.layers.window_head import WindowHead
from foveate.models.windowed import FPS, MEAN, STD, Sampling, WindowModel


@dataclass(frozen=True)
class PathwayConfig:
    pathway: Pathway = "slow"  # which row of temporal kernels: slow, fast, c2d, i3d
    depth: Depth = 50
    num_classes: int = 400
    frames: int = 8  # T
    stride: int = 8  # tau, raw frames from one frame to the next, at 30 frames a second
    temporal: Temporal = "none"  # a 2D network's part in front of every block, in place of temporal kernels
    shift_div: int = 8  # one channel in `shift_div` moves each way
    aggregation: AggregationConfig = TAM  # how, if temporal says so
    pool_time: bool = False  # halve the frames behind res2 (C2D and I3D)
    non_local: Attention | None = None  # non-local blocks in res3 and res4
    width: float = 1.0  # multiplier of all channels; 0.125 is that of a Fast pathway
    stem: Stem = "large"  # 7x7 and pool, or 3x3 for small images
    size: int = 224  # side of the crop, pixels
    resize: int = 256  # short side before the test crop, pixels
    window: int = 7  # side of the head's window on the last maps: that of the training crop, over 32
    dropout: float = 0.5
    sampling: Sampling = "even"  # a stretch of time, or the whole video: see ClipSpec

    def build(self) -> PathwayNet:
        """The untrained model."""
        width = max(1, round(64 * self.width))
        net = ResNet3D(
            self.pathway if self.temporal == "none" else "c2d",
            self.depth,
            width,
            stem=self.stem,
            pool_time=self.pool_time,
            non_local=self.non_local,
            slot=temporal_slot(self.temporal, f"resnet{self.depth}", self.shift_div, self.aggregation),
        )
        head = WindowHead(net.channels, self.num_classes, self.window, self.dropout)
        spec = ClipSpec(self.frames, self.sampling, self.stride, self.size, self.resize, MEAN, STD, fps=FPS)
        return PathwayNet(net, head, spec, self)


class PathwayNet(WindowModel):
    """A 3D ResNet and its head."""

    def __init__(self, net: ResNet3D, head: WindowHead, spec: ClipSpec, config: PathwayConfig) -> None:
        super().__init__()
        self.net = net
        self.head = head
        self.spec = spec
        self.config = config

    def maps(self, clip: Tensor) -> tuple[Tensor]:
        """clip: (B, 3, T, H, W), at least two frames if they are halved. Returns (B, C, T', h, w)."""
        if self.config.pool_time and clip.shape[2] < 2:
            raise UsageError("clip", "has 1 frame, and every two become one", "give at least 2")
        return (self.net(clip),)
