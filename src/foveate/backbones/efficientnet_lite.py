"""EfficientNet-Lite 0 to 4: EfficientNet for mobile devices.

Tan and Le, "EfficientNet", ICML 2019, table 1, with the changes of the Lite release: no
squeeze-and-excitation, ReLU6, and no scaling of the stem, of the last layer and of the depth of the first and
last stage. The public weights need TensorFlow's padding and batch-norm constants, which are used here.
"""

from __future__ import annotations

import math
from functools import partial

from torch import nn

from foveate.backbones.mobilenetv2 import InvertedResidualNet, StageRow
from foveate.backbones.parts import ConvNorm, TemporalSlot, no_slot, rounded

STAGES: tuple[StageRow, ...] = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))  # width and depth of sizes 0 to 4


class EfficientNetLite(InvertedResidualNet):
    """EfficientNet-Lite of a size 0 to 4, on frames folded into the batch."""

    mean, std = (0.498, 0.498, 0.498), (0.502, 0.502, 0.502)  # (pixel - 127) / 128

    def __init__(self, size: int = 0, slot: TemporalSlot = no_slot, inputs: int = 3) -> None:
        width, depth = SCALES[size]
        deepened = range(1, len(STAGES) - 1)
        stages = []
        for stage, (expansion, base, count, stride, kernel) in enumerate(STAGES):
            blocks = math.ceil(count * depth) if stage in deepened else count
            stages.append((expansion, rounded(base * width), blocks, stride, kernel))
        super().__init__(32, stages, 1280, slot, partial(ConvNorm, same=True, norm=_norm), inputs)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # TensorFlow's constants
