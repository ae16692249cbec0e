"""Resize, crop, flip and colour jitter of clips, on any device.

Frames stay uint8 (T, H, W, C) until a model's `prepare`: that is channels-last memory, PyTorch's fastest
layout for resizing and for convolutions, so no step has to change it. All frames of a clip get the same
random transform. The multi-scale crop is that of TSN, as TSM, AdaFocus and bLVNet-TAM train with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from foveate.clip import LUMA, ClipSpec, Modality
from foveate.errors import UsageError
from foveate.video.sample import Jitter

SCALES = (1.0, 0.875, 0.75, 0.66)  # crop sides of TSN, as parts of the short side of the frame
FLOW_SCALES = SCALES[:3]  # TSN's for optical flow
MAX_ASPECT = 8  # longer frames are cropped to this aspect ratio, to bound the memory after resizing


@dataclass(frozen=True)
class Augment:
    """Random transforms of training clips."""

    crop: Literal["multiscale", "random", "center"] = "multiscale"
    flip: bool = True  # mirror half of the clips, but for classes whose names tell left from right
    flip_sides: bool = False  # mirror these too; `--flip` says so
    colour: float = 0.0  # strength of the colour jitter, 0 to 1; 0 is none
    jitter: Jitter = "each"  # segment sampling: one random offset per segment, or one shared by all


def resize(frames: torch.Tensor, height: int, width: int, antialias: bool = True) -> torch.Tensor:
    """Resize uint8 (T, H, W, C) to (T, height, width, C), bilinear (align_corners=False).

    antialias: filter when shrinking, as Pillow does; False interpolates between the nearest two pixels in
    each direction, as PyTorch and OpenCV do by default. Results are within 1 of the correctly rounded values.
    """
    if tuple(frames.shape[1:3]) == (height, width):
        return frames
    pixels = frames.permute(0, 3, 1, 2)
    if frames.device.type == "cpu":  # only the CPU has kernels for uint8
        shaped = F.interpolate(pixels, (height, width), mode="bilinear", antialias=antialias)
    else:
        exact = F.interpolate(pixels.float(), (height, width), mode="bilinear", antialias=antialias)
        shaped = exact.round_().clamp_(0, 255).to(torch.uint8)
    return shaped.permute(0, 2, 3, 1)


def resize_short(frames: torch.Tensor, side: int, antialias: bool = True) -> torch.Tensor:
    """Resize (T, H, W, C) so that the short side is `side` pixels; the long side is rounded down.

    Frames with an aspect ratio above 8 are first centre-cropped to 8.
    """
    longest = MAX_ASPECT * min(frames.shape[1:3])
    height, width = (min(extent, longest) for extent in frames.shape[1:3])
    frames = crop(frames, _middle(frames.shape[1], height), _middle(frames.shape[2], width), height, width)
    short = min(height, width)
    return resize(frames, side * height // short, side * width // short, antialias)


def crop(frames: torch.Tensor, top: int, left: int, height: int, width: int) -> torch.Tensor:
    """A crop of (T, H, W, C) as a view; ValueError if it is not inside the frame."""
    inside = top >= 0 and left >= 0 and top + height <= frames.shape[1] and left + width <= frames.shape[2]
    if not inside:
        raise ValueError(
            f"a crop of {height}x{width} at ({top}, {left}) is not inside {tuple(frames.shape[1:3])}"
        )
    return frames[:, top : top + height, left : left + width]


def center_crop(frames: torch.Tensor, size: int, up: bool = False) -> torch.Tensor:
    """Centre crop (T, size, size, C). up: round half a pixel up, to the right and down; False: to even."""
    height, width = frames.shape[1:3]
    return crop(frames, _middle(height, size, up), _middle(width, size, up), size, size)


def three_crops(frames: torch.Tensor, size: int, up: bool = False) -> torch.Tensor:
    """Three crops (3, T, size, size, C): start, middle and end of the longer side, centred on the shorter."""
    height, width = frames.shape[1:3]
    top, left = _middle(height, size, up), _middle(width, size, up)
    if height > width:
        corners = [(0, left), (top, left), (height - size, left)]
    else:
        corners = [(top, 0), (top, left), (top, width - size)]
    return torch.stack([crop(frames, *corner, size, size) for corner in corners])


def random_crop(frames: torch.Tensor, size: int, rng: np.random.Generator) -> torch.Tensor:
    """A uniformly random crop (T, size, size, C)."""
    top = int(rng.integers(0, frames.shape[1] - size + 1))
    left = int(rng.integers(0, frames.shape[2] - size + 1))
    return crop(frames, top, left, size, size)


def multi_scale_crop(
    frames: torch.Tensor,
    size: int,
    rng: np.random.Generator,
    scales: Sequence[float] = SCALES,
    antialias: bool = True,
) -> torch.Tensor:
    """TSN's training crop: random one of `crop_sizes` and `crop_offsets`, resized to (T, size, size, C)."""
    height, width = frames.shape[1:3]
    sizes = crop_sizes(min(height, width), size, scales)
    h, w = sizes[int(rng.integers(len(sizes)))]
    offsets = crop_offsets(height - h, width - w)
    top, left = offsets[int(rng.integers(len(offsets)))]
    return resize(crop(frames, top, left, h, w), size, size, antialias)


def crop_sizes(short: int, size: int, scales: Sequence[float] = SCALES) -> list[tuple[int, int]]:
    """All (height, width) of a multi-scale crop, in pixels. short: the short side of the frame.

    Height and width use scales at most one step apart, so that crops are nearly square. A side less than 3
    pixels from `size` becomes `size`, which avoids a resize that would only blur.
    """
    sides = [max(1, int(short * scale)) for scale in scales]
    sides = [size if abs(side - size) < 3 and size <= short else side for side in sides]
    return [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]


def crop_offsets(spare_height: int, spare_width: int) -> list[tuple[int, int]]:
    """The 13 (top, left) of a multi-scale crop: a 3 x 3 grid and the four points half way to its corners."""
    down, right = spare_height // 4, spare_width // 4
    grid = [(i * down, j * right) for i in (0, 2, 4) for j in (0, 2, 4)]
    return grid + [(i * down, j * right) for i in (1, 3) for j in (1, 3)]


def flip(frames: torch.Tensor, modality: Modality = "rgb") -> torch.Tensor:
    """Mirror uint8 (..., W, C) horizontally. Of flow, the horizontal part changes its sign: 255 - level."""
    mirrored = frames.flip(-2)
    if modality == "flow":
        mirrored[..., ::2] = 255 - mirrored[..., ::2]
    return mirrored


def colour_jitter(frames: torch.Tensor, rng: np.random.Generator, strength: float) -> torch.Tensor:
    """Scale brightness, saturation and contrast of uint8 (T, H, W, 3) by factors in 1 +- `strength`.

    Contrast is relative to the mean of each frame, as in PySlowFast, so that a clip can be processed in
    parts.
    """
    brightness, saturation, contrast = rng.uniform(1 - strength, 1 + strength, 3).tolist()
    pixels = frames.float() * brightness
    grey = (pixels @ pixels.new_tensor(LUMA)).unsqueeze(-1)
    torch.lerp(grey, pixels, saturation, out=pixels)
    torch.lerp(grey.mean((1, 2, 3), keepdim=True), pixels, contrast, out=pixels)
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def train_transform(
    frames: torch.Tensor, spec: ClipSpec, augment: Augment, rng: np.random.Generator
) -> torch.Tensor:
    """Random training transform of uint8 frames (T, H, W, C) to (T, S, S, C), the same for all T frames."""
    out = _train_crop(frames, spec, augment, rng)
    if augment.flip and rng.random() < 0.5:
        out = flip(out, spec.modality)
    if augment.colour > 0:
        out = colour_jitter(out, rng, augment.colour)
    return out.contiguous()


def test_transform(frames: torch.Tensor, spec: ClipSpec, crops: int = 1) -> torch.Tensor:
    """Test crops (crops, T, S, S, C) of uint8 (T, H, W, C): 1, the centre, or 3 along the longer side."""
    if crops not in (1, 3):
        raise UsageError(
            "crops", f"{crops} crops are not defined", "1 is the centre, 3 left, centre and right"
        )
    shaped = resize_short(frames, spec.resize, spec.antialias)
    if crops == 3:
        return three_crops(shaped, spec.size, spec.crop_up)
    return center_crop(shaped, spec.size, spec.crop_up).unsqueeze(0).contiguous()


def _train_crop(
    frames: torch.Tensor, spec: ClipSpec, augment: Augment, rng: np.random.Generator
) -> torch.Tensor:
    if augment.crop == "multiscale":
        scales = FLOW_SCALES if spec.modality == "flow" else SCALES
        return multi_scale_crop(frames, spec.size, rng, scales, spec.antialias)
    if augment.crop == "center":
        return center_crop(resize_short(frames, spec.resize, spec.antialias), spec.size, spec.crop_up)
    # SlowFast's rule: 256 to 320 pixels where the test resizes to 256
    side = int(rng.integers(spec.resize, spec.resize * 5 // 4 + 1))
    return random_crop(resize_short(frames, side, spec.antialias), spec.size, rng)


def _middle(extent: int, size: int, up: bool = False) -> int:
    return (extent - size + 1) // 2 if up else round((extent - size) / 2)
