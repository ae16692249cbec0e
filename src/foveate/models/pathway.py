"""3D ResNets of one pathway: Slow-only, Fast-only, C2D and I3D.

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
from foveate.layers.fully_conv_head import FullyConvHead
from foveate.layers.nonlocal_block import Attention
from foveate.models.conv3d import FPS, MEAN, STD, Conv3DModel, Sampling


@dataclass(frozen=True)
class PathwayConfig:
    """Configuration of Slow-only, Fast-only, C2D and I3D."""

    pathway: Pathway = "slow"  # which temporal kernels (backbones/resnet3d.py)
    depth: Depth = 50
    num_classes: int = 400
    frames: int = 8  # T
    stride: int = 8  # tau, distance of two frames in video frames, at 30 fps
    temporal: Temporal = (
        "none"  # temporal module of a 2D network in every block, in place of temporal kernels
    )
    shift_div: int = 8  # one channel in `shift_div` moves each way
    aggregation: AggregationConfig = TAM  # options of temporal="aggregation"
    pool_time: bool = False  # halve the number of frames after res2 (C2D and I3D)
    non_local: Attention | None = None  # attention of non-local blocks in res3 and res4
    width: float = 1.0  # multiplier of all channels; 0.125 for a Fast pathway
    stem: Stem = "large"  # 7x7 and pool, or 3x3 for small images
    size: int = 224  # side of the crop, pixels
    resize: int = 256  # short side to which frames are resized before the test crop, pixels
    window: int = 7  # side of the head's spatial window in cells of the last maps; training crop / 32
    dropout: float = 0.5
    sampling: Sampling = "even"  # see ClipSpec

    def build(self) -> PathwayNet:
        """Build the untrained model."""
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
        head = FullyConvHead(net.channels, self.num_classes, self.window, self.dropout)
        spec = ClipSpec(self.frames, self.sampling, self.stride, self.size, self.resize, MEAN, STD, fps=FPS)
        return PathwayNet(net, head, spec, self)


class PathwayNet(Conv3DModel):
    """A 3D ResNet with a fully convolutional head."""

    def __init__(self, net: ResNet3D, head: FullyConvHead, spec: ClipSpec, config: PathwayConfig) -> None:
        super().__init__()
        self.net = net
        self.head = head
        self.spec = spec
        self.config = config

    def maps(self, clip: Tensor) -> tuple[Tensor]:
        """clip: (B, 3, T, H, W), T >= 2 with `pool_time`. Returns maps (B, C, T', h, w)."""
        if self.config.pool_time and clip.shape[2] < 2:
            raise UsageError("clip", "has 1 frame, and the temporal pool needs 2", "give at least 2")
        return (self.net(clip),)
