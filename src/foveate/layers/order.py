"""The order in which the kernels of convolutions lie in memory, which feature maps take over."""

from __future__ import annotations

import torch
from torch import nn

ORDERS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by dimensions of a kernel: of images, of clips


def set_order(model: nn.Module, channels_last: bool) -> None:
    """Store the kernels of convolutions with their channels last, or as PyTorch makes them."""
    for kernel in model.parameters():
        if kernel.dim() in ORDERS:
            order = ORDERS[kernel.dim()] if channels_last else torch.contiguous_format
            kernel.data = kernel.data.contiguous(memory_format=order)
