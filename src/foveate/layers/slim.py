"""Layers of a slimmable network: the first channels of every layer are a narrower network of their own.

Yu et al., "Slimmable Neural Networks", ICLR 2019; Yu and Huang, "Universally Slimmable Networks", ICCV 2019.
A layer sees how wide the network runs by the channels of its input, and takes as many of its own: nothing has
to be switched. Kernels are shared; each width has a batch norm of its own, as sums over fewer channels have
other statistics. Keys of the full width are those of the plain layers; those of the others hold `narrower`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class SlimConv2d(nn.Conv2d):
    """A convolution without bias that gives the share of its channels that it is given of its input's."""

    def forward(self, input: Tensor, channels: int | None = None) -> Tensor:
        """channels: how many to give; by default the share of the input's."""
        given = int(input.shape[1])
        weight = self.weight[: channels or self.out_channels * given // self.in_channels, :given]
        if self.kernel_size == (1, 1):  # subsampled first for the reason that `NarrowProjection` has
            rows, columns = self.stride
            return F.conv2d(input[:, :, ::rows, ::columns], weight)
        return F.conv2d(input, weight, None, self.stride, self.padding)


class SlimNorm2d(nn.BatchNorm2d):
    """A batch norm for each number of channels.

    channels: increasing; the last is that of the full width.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(channels[-1])
        self.narrower = nn.ModuleList(nn.BatchNorm2d(number) for number in channels[:-1])
        self._places = {number: place for place, number in enumerate(channels[:-1])}

    def forward(self, input: Tensor) -> Tensor:
        given = int(input.shape[1])
        if given == self.num_features:
            return super().forward(input)
        normed: Tensor = self.narrower[self._places[given]](input)
        return normed


class SlimLinear(nn.Linear):
    """A linear layer that reads the first features alone where it is given fewer."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight[:, : int(input.shape[-1])], self.bias)


def make_slim(net: nn.Module, channels: Sequence[int]) -> None:
    """Replace the convolutions and norms of a network by slimmable ones, whose full width starts as it is.

    channels: of the network's first layer at each width, increasing, the last as it is now; those of all
    other layers are multiples of it. ValueError for a convolution that cannot be cut: with a bias or groups.
    """
    for parent in [*net.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, _slim_convolution(child))
            elif isinstance(child, nn.BatchNorm2d):
                factor = child.num_features // channels[-1]
                setattr(parent, name, SlimNorm2d([factor * number for number in channels]))


def _slim_convolution(conv: nn.Conv2d) -> SlimConv2d:
    if conv.bias is not None or conv.groups != 1:
        raise ValueError("a convolution with a bias or groups cannot be slimmed")
    kernel = (conv.kernel_size[0], conv.kernel_size[1])
    strides, padding = (conv.stride[0], conv.stride[1]), conv.padding
    assert isinstance(padding, tuple)
    slim = SlimConv2d(
        conv.in_channels, conv.out_channels, kernel, strides, (padding[0], padding[1]), bias=False
    )
    slim.weight = conv.weight
    return slim
