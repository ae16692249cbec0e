"""Where patches lie and what they hold: exact crops, bilinear ones, every position inside the frame."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foveate.layers.patch import (
    crop_patches,
    fraction_corners,
    grid_corners,
    random_corners,
    sample_patches,
)


def images(count: int = 3, side: int = 20) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_crop_is_the_slice() -> None:
    x, corners = images(), torch.tensor([[0, 0], [5, 12], [12, 3]])
    patches = crop_patches(x, corners, 8)
    for image, (top, left), patch in zip(x, corners.tolist(), patches, strict=True):
        assert torch.equal(patch, image[:, top : top + 8, left : left + 8])
    assert patches.is_contiguous(memory_format=torch.channels_last)


def test_bilinear_patch_at_whole_pixels_is_the_crop() -> None:
    x, corners = images(), torch.tensor([[0, 0], [4, 12], [12, 3]])
    bilinear = sample_patches(x, corners.float(), 8)
    assert torch.allclose(bilinear, crop_patches(x, corners, 8), atol=1e-5)


def test_patch_of_full_size_is_the_frame() -> None:
    x = images()
    assert torch.equal(crop_patches(x, torch.zeros(3, 2, dtype=torch.long), 20), x)
    assert torch.allclose(sample_patches(x, torch.zeros(3, 2), 20), x, atol=1e-5)


def test_gradient_reaches_the_position() -> None:
    x = torch.arange(20.0).expand(1, 3, 20, 20)  # brighter to the right
    corners = torch.tensor([[4.8, 4.8]], requires_grad=True)
    sample_patches(x, corners, 8).mean().backward()
    row, column = corners.grad[0].tolist()
    assert column == pytest.approx(1, rel=1e-3)  # a grey level for each pixel
    assert row == pytest.approx(0, abs=1e-4)


@given(st.integers(2, 10), st.integers(2, 27))
def test_grid_positions_are_the_released_ones(grid: int, eighths: int) -> None:
    room = 224 - 8 * eighths
    actions = torch.arange(grid * grid)
    ours = grid_corners(actions, grid, room)
    fractions = torch.stack([actions // grid, actions % grid], -1).float() / (grid - 1)
    assert torch.equal(ours, (fractions * room).floor().long())  # float32 all the way, as there
    assert ours.min() == 0 and ours.max() == room


def test_random_corners_reach_both_ends() -> None:
    corners = random_corners(2000, 5, torch.Generator().manual_seed(0))
    assert set(corners.flatten().tolist()) == {0, 1, 2, 3, 4, 5}


def test_fractions_stay_inside() -> None:
    corners = fraction_corners(torch.tensor([[0.0, 1.0], [0.5, 0.999]]), 80)
    assert corners.tolist() == [[0, 80], [40, 79]]
