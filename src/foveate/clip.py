"""The input format of a model: plain data shared by the code that reads video and the models."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # shares of RGB in brightness, ITU-R BT.601

FLOW_PAIRS = 5  # successive flows in one stack, each a pair of pictures, of its x and of its y
FLOW_STILL = 128  # the level of no movement, of 0 to 255

MOST_FRAMES = (1 << 12, 1 << 24)  # of a clip: of a fixed number, and of all frames of a video

Sampling = Literal["segments", "rounded_segments", "dense", "all", "even"]
Modality = Literal["rgb", "flow"]  # frames | stacks of optical flow
CHANNELS: dict[Modality, int] = {"rgb": 3, "flow": 2 * FLOW_PAIRS}  # of a frame, or of a stack
ShortPolicy = Literal["spread", "repeat_first", "repeat_last", "wrap"]


@dataclass(frozen=True)
class ClipSpec:
    """How to turn a video into the clip that a model reads: which frames, resize, crop and normalisation."""

    frames: int = 8  # T, frames in one clip (an upper bound when sampling is "all")
    # segments: one frame from each of T equal parts | rounded_segments: the same, parts rounded to whole
    # frames (SlowFast's release on SSv2) | dense: T frames, `stride` apart | all: every frame |
    # even: T frames spread evenly over T * stride frames, see fps
    sampling: Sampling = "segments"
    stride: int = 1  # tau, distance in video frames between two frames of a dense or even clip
    size: int = 224  # side of the square crop, in pixels
    resize: int = 256  # short side to which a frame is resized before a test crop, in pixels
    mean: tuple[float, ...] = IMAGENET_MEAN  # of each channel, in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD
    short: ShortPolicy = "spread"  # how to fill the clip from a video with fewer frames; see video/sample.py
    # For sampling "even": the frame rate in which `stride` counts, so that a clip covers the same time,
    # T * stride / fps seconds, in a video of any rate. None: `stride` counts frames of the video itself.
    fps: float | None = None
    antialias: bool = True  # low-pass filter when shrinking, as Pillow does; False: plain bilinear
    crop_up: bool = False  # round the offset of a centre crop up where it is half a pixel, else to even
    # flow: a frame of the clip is a stack of 5 successive flows, channels x, y, x, y .. (video/flow.py)
    modality: Modality = "rgb"

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "size", "resize"):
            if getattr(self, name) < 1:
                raise ValueError(f"ClipSpec.{name} is {getattr(self, name)}; it must be at least 1")
        most = {
            "frames": MOST_FRAMES[self.sampling == "all"],
            "stride": 1 << 20,
            "size": 1 << 13,
            "resize": 1 << 14,
        }
        for name, limit in most.items():
            if getattr(self, name) > limit:
                raise ValueError(f"ClipSpec.{name} is {getattr(self, name)}; it must be at most {limit}")
        if not all(0 < value < float("inf") for value in self.std) or not all(map(isfinite, self.mean)):
            raise ValueError(f"ClipSpec.mean and .std are {self.mean} and {self.std}; deviations are above 0")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"ClipSpec.mean and .std have {len(self.mean)} and {len(self.std)} numbers; "
                f"{self.modality} has {self.channels} channels"
            )
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"ClipSpec.fps is {self.fps}; frames a second must be above 0")
        if self.resize < self.size:
            raise ValueError(f"ClipSpec.resize is {self.resize}, smaller than the crop of {self.size}")

    @property
    def channels(self) -> int:
        """Channels of a frame of the clip: 3, or 10 of a stack of flow."""
        return CHANNELS[self.modality]


def levels_of(
    modality: Modality, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of every channel, for a network whose public weights want RGB in these.

    Flow has 0.5 and the average deviation of RGB in all channels, as in the releases of TSM and bLVNet-TAM.
    """
    if modality == "rgb":
        return mean, std
    return (0.5,) * CHANNELS[modality], (sum(std) / len(std),) * CHANNELS[modality]
