"""Head of the 2D networks: pool over space, dropout, a linear layer; logits are averaged over the frames."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Pooling = Literal["average", "max"]


def pool_space(maps: Tensor, pool: Pooling) -> Tensor:
    """Pool maps (..., C, h, w) over space to (..., C). Equal maxima share the gradient, as in `amax`."""
    return maps.mean((-2, -1)) if pool == "average" else maps.amax((-2, -1))


class ConsensusHead(nn.Module):
    """Classify every frame and average the logits (Wang et al., "Temporal Segment Networks", ECCV 2016).

    pool: "max" keeps a small object that an average over the frame would dilute.
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
        """A new linear layer for `num_classes` classes; weights of standard deviation 0.001, as in TSN."""
        self.linear = nn.Linear(self.channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.001)
        nn.init.zeros_(self.linear.bias)

    def features(self, maps: Tensor) -> Tensor:
        """Pool maps (N, C, H, W) over space: the input of the classifier, (N, C)."""
        return self.pool(maps).flatten(1)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., classes) of features (..., C)."""
        return self.linear(self.dropout(features))
