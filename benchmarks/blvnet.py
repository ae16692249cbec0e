"""bLVNet-TAM-50 8x2 against the released order of its operations, and its training step against TSN and TSM.

The released order is stated here once more, on the weights of our model: a depthwise 1x1 convolution for each
tap, shifts and a sum over their stack, and every merged map written back to both frames of its pair.
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
from foveate.backbones.pairs import PairBLResNet
from foveate.layers.aggregate import TemporalAggregation
from foveate.layers.fold import fold_time
from foveate.measure.cost import peak_memory_mb
from foveate.models.zoo import create_model

NAME, FRAMES, SIDE, CLASSES = "blvnet_tam_r50_8x2", 16, 224, 174
TRAINED = (NAME, "tsn_r50_8", "tsm_r50_8")
REPEATS = 5
Measured = tuple[float, float]  # seconds, megabytes


class Released(nn.Module):
    """The forward pass of the release with the weights of one of our models."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, clip: Tensor) -> Tensor:
        net, frames = self.model.backbone, clip.shape[2]
        assert isinstance(net, PairBLResNet)
        x = aggregated(net.temporal, net.stem.shared(fold_time(clip)), frames)
        x = written_back(net.stem.merge(x[0::2], x[1::2]), frames)
        for stage in (net.layer1, net.layer2, net.layer3):
            x = aggregated(stage.temporal, x, frames)
            x = written_back(stage.merge(x[0::2], x[1::2]), frames)
        x = x[0::2]
        for block in net.layer4:
            moved = aggregated(block.temporal, x, frames // 2)
            shortcut = x if block.downsample is None else block.downsample(moved)
            out = block.relu(block.bn1(block.conv1(moved)))
            out = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(out)))))
            x = block.relu(out + shortcut)
        logits: Tensor = self.model.head(x, len(clip))
        return logits


def aggregated(tam: TemporalAggregation, x: Tensor, frames: int) -> Tensor:
    """Three depthwise convolutions, two shifts, the sum of their stack, ReLU."""
    before, here, after = (
        F.conv2d(x, weight, groups=x.shape[1]).unflatten(0, (-1, frames)) for weight in tam.weights
    )
    before = F.pad(before[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
    after = F.pad(after[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
    return F.relu(torch.stack([before, here, after]).sum(0), inplace=True).flatten(0, 1)


def written_back(pairs: Tensor, frames: int) -> Tensor:
    """Every map in both places of its pair, by way of a tensor of zeros and lists of indices."""
    every = pairs.new_zeros(2 * len(pairs), *pairs.shape[1:])
    every[range(0, len(every), 2)] = pairs
    every[range(1, len(every), 2)] = pairs
    return every


def run() -> Table:
    """Every number is of a child process of its own, in turns."""
    calls: dict[str, Callable[[], Measured]] = {
        f"{what} {name}": partial(in_child, measure, what, name)
        for what, names in (("forward", (NAME, "released order")), ("training", TRAINED))
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
                "seconds": Spread.of(times),
                "times": ratio(times, [time for time, _ in first]),
                "memory": Spread.of(peaks),
            }
        )
    about = (
        f"One clip of {FRAMES} frames of {SIDE}x{SIDE} at batch 1 in float32: its logits, and one step of "
        "training (forward, backward). Memory is the peak of the process, PyTorch included."
    )
    columns = {
        "what": "what",
        "model": "model",
        "seconds": "seconds a clip",
        "times": f"times {NAME}",
        "memory": "peak memory, MB",
    }
    return Table(about, columns, rows)


def measure(what: str, name: str) -> Measured:
    """Seconds of the second call, and the most memory that the process has held."""
    torch.manual_seed(0)
    model: nn.Module = create_model(NAME if name == "released order" else name, CLASSES)
    model = Released(model) if name == "released order" else model
    shape = (1, FRAMES, SIDE, SIDE, 3)
    clip = torch.randn(shape).permute(0, 4, 1, 2, 3)  # in the memory order of a decoded one
    call = partial(forward, model.eval(), clip) if what == "forward" else partial(step, model.train(), clip)
    call()
    return seconds(call), peak_memory_mb()


def forward(model: nn.Module, clip: Tensor) -> None:
    with torch.inference_mode():
        model(clip)


def step(model: nn.Module, clip: Tensor) -> None:
    model.zero_grad()
    model(clip).square().sum().backward()
