"""Resizing of stored frames against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from foveate.layers.macs import mac_counter
from foveate.layers.shrink import shrink, shrink_stored

SIDES = [(224, 64), (96, 36), (77, 13), (9, 3), (40, 40), (24, 31)]


@pytest.mark.parametrize(("side", "size"), SIDES)
def test_stored_frames_become_what_pytorch_makes_of_them(side: int, size: int) -> None:
    frames = torch.randint(256, (18, side, side, 3), dtype=torch.uint8)
    images = frames.permute(0, 3, 1, 2).float()
    plain = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    for antialias, expected in ((True, shrink(images, size)), (False, plain)):
        small = shrink_stored(frames, size, antialias).permute(0, 3, 1, 2)
        assert torch.allclose(small, expected, rtol=0, atol=1e-3)


def test_neither_autocast_nor_a_counter_sees_the_products() -> None:
    frames = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8)
    expected = shrink_stored(frames, 20)
    with torch.autocast("cpu", torch.bfloat16), mac_counter() as counter:
        assert torch.equal(shrink_stored(frames, 20), expected)
    assert counter.get_total_flops() == 0
