"""From feature maps to logits: pool over space, dropout, a linear layer, average over the frames."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Pooling = Literal["average", "max"]


def pool_space(maps: Tensor, pool: Pooling) -> Tensor:
    """(..., C, h, w) to (..., C). Equal maxima share the gradient; in `ConsensusHead` one has it."""
    return maps.mean((-2, -1)) if pool == "average" else maps.amax((-2, -1))


class ConsensusHead(nn.Module):
    """Classify every frame and average the logits (Wang et al., "Temporal Segment Networks", ECCV 2016).

    pool: "max" keeps a small figure that an average over the frame would dilute.
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
        """A new linear layer for `num_classes` classes, near zero as in TSN."""
        self.linear = nn.Linear(self.channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.001)
        nn.init.zeros_(self.linear.bias)

    def features(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) pooled over space, (N, C): what is classified."""
        return self.pool(maps).flatten(1)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., classes) of features (..., C)."""
        return self.linear(self.dropout(features))
