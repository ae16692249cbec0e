"""What a model wants to see: plain data that the video side and the model side share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # shares of RGB in brightness, ITU-R BT.601

Sampling = Literal["segments", "rounded_segments", "dense", "all", "even"]
ShortPolicy = Literal["spread", "repeat_first", "repeat_last", "wrap"]


@dataclass(frozen=True)
class ClipSpec:
    """How a video becomes the clip that a model reads. Enough, with the model, to predict from a file."""

    frames: int = 8  # T, frames in one clip (an upper bound when sampling is "all")
    # One frame of each of T equal parts | the same, parts cut at whole frames (SlowFast's release, SSv2) |
    # T frames, `stride` apart | every frame | see fps.
    sampling: Sampling = "segments"
    stride: int = 1  # tau, raw frames from one frame of a dense or even clip to the next
    size: int = 224  # side of the square crop, in pixels
    resize: int = 256  # short side of the frame before a test crop, in pixels
    mean: tuple[float, float, float] = IMAGENET_MEAN  # of RGB in [0, 1]
    std: tuple[float, float, float] = IMAGENET_STD
    short: ShortPolicy = "spread"  # what to do with a video of fewer frames than the clip
    # Sampling "even": T frames evenly over T * stride frames of a video that has this many a second, which is
    # a stretch of time whatever the video has. None: over as many frames of the video itself.
    fps: float | None = None
    antialias: bool = True  # a shrunk frame averages what it covers (Pillow), else reads the nearest two
    crop_up: bool = False  # a centre crop half a pixel off goes right and down; False: to the even pixel

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "size", "resize"):
            if getattr(self, name) < 1:
                raise ValueError(f"ClipSpec.{name} is {getattr(self, name)}; it must be at least 1")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"ClipSpec.fps is {self.fps}; frames a second must be above 0")
        if self.resize < self.size:
            raise ValueError(f"ClipSpec.resize is {self.resize}, smaller than the crop of {self.size}")
