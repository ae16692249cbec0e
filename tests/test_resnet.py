"""ResNet on frames: what its narrow relatives need beside the published widths."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from foveate.backbones.resnet2d import NarrowProjection

LEARN = """
import torch
from foveate.backbones.resnet2d import ResNet2D
torch.set_num_threads(2)
for _ in range(4):
    images = torch.randn(9, 112, 112, 3).permute(0, 3, 1, 2)
    ResNet2D(10, 8, "small")(images).sum().backward()
"""


def test_narrow_networks_learn_from_an_odd_number_of_frames() -> None:
    """In a process of its own, as what this guards against writes outside of its memory."""
    subprocess.run([sys.executable, "-c", LEARN], check=True, timeout=120)


@pytest.mark.parametrize("side", [1, 7, 10])
def test_a_narrow_projection_is_a_strided_convolution(side: int) -> None:
    torch.manual_seed(0)
    ours, plain = NarrowProjection(8, 16, 1, 2, bias=False), nn.Conv2d(8, 16, 1, 2, bias=False)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(3, 8, side, side, requires_grad=True)
    aim = torch.randn_like(plain(x))
    grads = [torch.autograd.grad((net(x) * aim).sum(), [x, net.weight]) for net in (ours, plain)]
    assert torch.allclose(ours(x), plain(x), atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*grads, strict=True))
