"""bLVNet-TAM-50 8x2 against the released order of its operations, and its training step against TSN and TSM.

The released order is stated here once more, on the weights of our model: a depthwise 1x1 convolution for each
tap, shifts and a reduction of their stack, and every merged map written back to both frames of its pair. The
answers of both are compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.child import in_child
from benchmarks.record import Spread, Table, Value, in_turns, ratio, seconds
from foveate.backbones.blresnet import PairBLResNet
from foveate.layers.fold import fold_time
from foveate.measure.cost import count_macs, peak_memory_mb
from foveate.models.zoo import create_model

NAME, FRAMES, SIDE, CLASSES = "blvnet_tam_r50_8x2", 16, 224, 174
RELEASED = "released order"
TRAINED = (NAME, "tsn_r50_8", "tsm_r50_8")
REPEATS = 4
TOLERANCE = 1e-6  # of the relative difference of the logits
Measured = tuple[float, float]  # seconds, megabytes


class Released(nn.Module):
    """The forward pass of the release with the weights of one of our models."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, clip: Tensor) -> Tensor:
        maps = as_released(self.model.backbone, fold_time(clip), clip.shape[2])
        features = self.model.head.features(maps).unflatten(0, (len(clip), -1))
        logits: Tensor = self.model.classify(features).mean(1)
        return logits


def as_released(net: PairBLResNet, images: Tensor, frames: int) -> Tensor:
    """What `net` makes of images (B*frames, 3, H, W): all frames run through every stage but the last."""
    x = aggregated(net.temporal, net.stem.shared(images), frames)
    x = written_back(net.stem.merge(x[0::2], x[1::2]))
    for stage in (net.layer1, net.layer2, net.layer3):
        x = aggregated(stage.temporal, x, frames)
        x = written_back(stage.merge(x[0::2], x[1::2]))
    x = x[0::2]
    for block in net.layer4:
        moved = aggregated(block.temporal, x, frames // 2)
        shortcut = x if block.downsample is None else block.downsample(moved)
        out = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(moved))))))
        x = F.relu(block.bn3(block.conv3(out)) + shortcut)
    return x


def aggregated(tam: Any, x: Tensor, frames: int) -> Tensor:
    """A convolution for each tap, a shift, the sum or the maximum of their stack, ReLU; None does nothing."""
    if tam is None:
        return x
    groups = 1 if tam.config.full else x.shape[1]
    moved = []
    for place, weight in enumerate(tam.weights):
        ahead = place - len(tam.weights) // 2
        before, after = min(frames, max(0, -ahead)), min(frames, max(0, ahead))
        clip = F.conv2d(x, weight, groups=groups).unflatten(0, (-1, frames))
        if ahead:
            clip = F.pad(clip[:, after : frames - before], (0, 0, 0, 0, 0, 0, before, after))
        moved.append(clip)
    blended = torch.stack(moved)
    blended = blended.sum(0) if tam.config.method == "sum" else blended.amax(0)
    return F.relu(blended).flatten(0, 1)


def written_back(pairs: Tensor) -> Tensor:
    """Every map in both places of its pair, by way of a tensor of zeros and lists of indices."""
    every = pairs.new_zeros(2 * len(pairs), *pairs.shape[1:])
    every[range(0, len(every), 2)] = pairs
    every[range(1, len(every), 2)] = pairs
    return every


def run() -> Table:
    """Every number is of a child process of its own, in turns; SystemExit if the two orders disagree."""
    differs = in_child(difference)
    if not differs < TOLERANCE:
        raise SystemExit(f"error: {NAME}: {RELEASED} differs by {differs:.2g}, more than {TOLERANCE:.0e}")
    calls: dict[str, Callable[[], Measured]] = {
        f"{what} {name}": partial(in_child, measure, what, name)
        for what, names in (("forward", (NAME, RELEASED)), ("training", TRAINED))
        for name in names
    }
    measured = in_turns(calls, REPEATS)
    rows: list[dict[str, Value]] = []
    for label, repeats in measured.items():
        what, _, name = label.partition(" ")
        first = measured[f"{what} {NAME}"]
        times, peaks = zip(*repeats, strict=True)
        rows.append(
            {
                "what": what,
                "model": name,
                "gmacs": in_child(gmacs, name),
                "seconds": Spread.of(times),
                "times": ratio(times, [time for time, _ in first]),
                "memory": Spread.of(peaks),
                "difference": differs if name == RELEASED else "",
            }
        )
    about = (
        f"One clip of {FRAMES} frames of {SIDE}x{SIDE} at batch 1 in float32: its logits, and one step of "
        "training (forward, backward). GMACs are those of the forward pass. Memory is the peak of the "
        f"process, PyTorch included. The difference is that of the logits from those of {NAME} with the same "
        "weights, all norms drawn at random, relative to their length."
    )
    columns = {
        "what": "what",
        "model": "model",
        "gmacs": "GMACs",
        "seconds": "seconds a clip",
        "times": f"times {NAME}",
        "memory": "peak memory, MB",
        "difference": "relative difference",
    }
    return Table(about, columns, rows)


def made(name: str) -> nn.Module:
    """A model of the table with the same weights in every process."""
    torch.manual_seed(0)
    model: nn.Module = create_model(NAME if name == RELEASED else name, CLASSES)
    return Released(model) if name == RELEASED else model


def a_clip() -> Tensor:
    """In the memory order of a decoded one."""
    return torch.randn(1, FRAMES, SIDE, SIDE, 3).permute(0, 4, 1, 2, 3)


@torch.inference_mode()
def difference() -> float:
    """Of the logits of both orders, relative; norms are drawn, as new ones let no residual branch through."""
    model = randomised(made(NAME)).eval()
    clip = a_clip()
    ours, theirs = model(clip), Released(model)(clip)
    return float((ours - theirs).norm() / theirs.norm())


def randomised(model: nn.Module) -> nn.Module:
    """The same model, its batch norms off their start."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.75, 1.25)
            nn.init.normal_(module.bias, std=0.1)
    return model


def gmacs(name: str) -> float:
    """1e9 multiply-adds of the logits of one clip."""
    return count_macs(made(name).eval(), a_clip()).total / 1e9


def measure(what: str, name: str) -> Measured:
    """Seconds of the second call, and the most memory that the process has held."""
    model, clip = made(name), a_clip()
    call = partial(forward, model.eval(), clip) if what == "forward" else partial(step, model.train(), clip)
    call()
    return seconds(call), peak_memory_mb()


def forward(model: nn.Module, clip: Tensor) -> None:
    with torch.inference_mode():
        model(clip)


def step(model: nn.Module, clip: Tensor) -> None:
    model.zero_grad()
    model(clip).square().sum().backward()
