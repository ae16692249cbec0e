"""SlowFast: a Slow pathway on few frames and a thin Fast pathway on many, joined by lateral connections.

Feichtenhofer, Fan, Malik and He, "SlowFast Networks for Video Recognition", ICCV 2019. The clip is that of
the Fast pathway; the Slow one takes its frames from it inside the model. After the stem, res2, res3 and res4
a lateral connection fuses the Fast features into the Slow pathway. Differences from the release: one clip in
place of a list of two, logits in place of scores in evaluation mode, any multiple of alpha frames, and the
lateral transforms and Fast inputs of the paper's ablations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from foveate.backbones.build import Stem
from foveate.backbones.resnet2d import BLOCKS
from foveate.backbones.resnet3d import Depth, ResNet3D
from foveate.clip import ClipSpec
from foveate.errors import UsageError
from foveate.layers.fast_input import CHANNELS, FastInput, fast_view
from foveate.layers.fully_conv_head import FullyConvHead
from foveate.layers.lateral import Fusion, Lateral, Transform, slow_indices
from foveate.layers.nonlocal_block import Attention
from foveate.models.conv3d import FPS, MEAN, STD, Conv3DModel, Sampling


@dataclass(frozen=True)
class SlowFastConfig:
    """Configuration of SlowFast."""

    depth: Depth = 50
    num_classes: int = 400
    frames: int = 32  # alpha * T, of the Fast pathway
    stride: int = 2  # tau / alpha, raw frames from one Fast frame to the next, at 30 frames a second
    alpha: int = 4  # Fast frames per Slow frame
    beta: float = 0.125  # channels of the Fast pathway over those of the Slow one; the stem is rounded up
    lateral: Transform = "conv"  # time-strided convolution or sampling, time-to-channel, none
    fusion: Fusion = "concat"
    lateral_kernel: int = 7  # of the lateral convolution, frames
    lateral_ratio: int = 2  # channels of the lateral convolution over those of the Fast pathway (concat)
    slow_res4: int | None = None  # number of blocks of res4 with a temporal kernel, Slow pathway; None: all
    fast_res4: int | None = None  # the same, Fast pathway
    non_local: Attention | None = None  # attention of non-local blocks in the Slow pathway
    fast_input: FastInput = "rgb"
    width: float = 1.0  # multiplier of all channels
    stem: Stem = "large"  # 7x7 and pool, or 3x3 for small images
    size: int = 224  # side of the crop, pixels
    resize: int = 256  # short side to which frames are resized before the test crop, pixels
    window: int = 7  # side of the head's spatial window in cells of the last maps; training crop / 32
    dropout: float = 0.5
    sampling: Sampling = "even"  # of the Fast frames; see ClipSpec

    def __post_init__(self) -> None:
        if self.alpha < 1 or self.frames % self.alpha or self.frames < self.alpha:
            raise ValueError(
                f"alpha is {self.alpha}, of {self.frames} Fast frames; it must divide them into Slow ones"
            )
        if not 0 < self.beta <= 1:
            raise ValueError(f"beta is {self.beta}; it must be in (0, 1]")
        if self.lateral_kernel < 1 or self.lateral_kernel % 2 == 0:
            raise ValueError(
                f"lateral_kernel is {self.lateral_kernel}; it must be odd to keep frames aligned"
            )
        if self.lateral_ratio < 1:
            raise ValueError(f"lateral_ratio is {self.lateral_ratio}; it must be at least 1")
        blocks = BLOCKS[self.depth][2]
        for name, count in (("slow_res4", self.slow_res4), ("fast_res4", self.fast_res4)):
            if count is not None and not 0 <= count <= blocks:
                raise ValueError(f"{name} is {count}; res4 has {blocks} blocks at depth {self.depth}")

    def build(self) -> SlowFast:
        """Build the untrained model; ValueError for a lateral sum of unequal channels."""
        width = max(1, round(64 * self.width))
        # rounding up comes closest to the published costs
        thin = max(1, math.ceil(width * self.beta - 1e-6))
        in_channels = CHANNELS[self.fast_input]
        fast = ResNet3D("fast", self.depth, thin, in_channels, self.stem, temporal_res4=self.fast_res4)
        laterals = [self._lateral(channels // thin * width, channels) for channels in fast.stage_channels]
        added = [lateral.channels for lateral in laterals]
        slow = ResNet3D(
            "slow", self.depth, width, 3, self.stem, added, self.slow_res4, non_local=self.non_local
        )
        head = FullyConvHead(slow.channels + fast.channels, self.num_classes, self.window, self.dropout)
        spec = ClipSpec(self.frames, self.sampling, self.stride, self.size, self.resize, MEAN, STD, fps=FPS)
        return SlowFast(slow, fast, laterals, head, spec, self)

    def _lateral(self, slow: int, fast: int) -> Lateral:
        kernel, ratio = self.lateral_kernel, self.lateral_ratio
        return Lateral(slow, fast, self.alpha, self.lateral, self.fusion, kernel, ratio)


class SlowFast(Conv3DModel):
    """Two pathways joined by four lateral connections.

    The input of the Fast pathway is derived from RGB as `fast_input` says, or taken from the channels of the
    clip after the third if there are any, such as a precomputed optical flow.
    """

    reports = ("position_logits", "pathways")

    def __init__(
        self,
        slow: ResNet3D,
        fast: ResNet3D,
        laterals: Sequence[Lateral],
        head: FullyConvHead,
        spec: ClipSpec,
        config: SlowFastConfig,
    ) -> None:
        super().__init__()
        self.slow = slow
        self.fast = fast
        self.laterals = nn.ModuleList(laterals)
        self.head = head
        self.spec = spec
        self.config = config

    def pathways(self, frames: int) -> dict[str, tuple[int, ...]]:
        return {"slow": tuple(slow_indices(frames, self.config.alpha)), "fast": tuple(range(frames))}

    def maps(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """clip: (B, 3, F, H, W), F a multiple of alpha. Returns (B, C, T, h, w) and (B, beta*C, F, h, w)."""
        alpha = self.config.alpha
        if clip.shape[2] % alpha:
            cause = f"has {clip.shape[2]} frames, and alpha is {alpha} Fast ones for each Slow one"
            raise UsageError("clip", cause, f"give a multiple of {alpha}")
        frames = slow_indices(clip.shape[2], alpha)
        rgb, extra = clip[:, :3], clip[:, 3:]
        expected = CHANNELS[self.config.fast_input]
        if extra.shape[1] not in (0, expected):
            cause = f"has {extra.shape[1]} channels after RGB"
            raise UsageError("clip", cause, f"the Fast pathway takes {expected} or none")
        slow = self.slow.stem(rgb[:, :, frames])
        fast = self.fast.stem(extra if extra.shape[1] else fast_view(rgb, self.config.fast_input))
        for lateral, slow_stage, fast_stage in zip(
            self.laterals, self.slow.stages, self.fast.stages, strict=True
        ):
            slow, fast = slow_stage(lateral(slow, fast)), fast_stage(fast)
        return slow, fast
