"""Lateral connections: which Fast frame lands where, and what the Slow pathway gets, for any clip."""

from __future__ import annotations

import pytest
import torch

from foveate.layers.lateral import (
    Lateral,
    TimeStridedSampling,
    TimeToChannel,
    slow_indices,
)

SLOW, FAST = 16, 4


def fast_clip(frames: int, channels: int = FAST) -> torch.Tensor:
    """Every value says frame and channel: 10 * frame + channel."""
    values = 10 * torch.arange(frames).view(1, 1, -1, 1, 1) + torch.arange(channels).view(1, -1, 1, 1, 1)
    return values.float().expand(2, channels, frames, 3, 3)


@pytest.mark.parametrize(
    ("fast", "alpha", "indices"),
    [
        (32, 4, [0, 4, 8, 13, 17, 22, 26, 31]),
        (32, 8, [0, 10, 20, 31]),
        (64, 4, [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]),
        (8, 4, [0, 7]),
        (4, 4, [0]),
        (5, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_slow_frames_are_the_truncated_even_ones(fast: int, alpha: int, indices: list[int]) -> None:
    assert slow_indices(fast, alpha) == indices


@pytest.mark.parametrize(("fast", "alpha"), [(32, 4), (32, 8), (64, 4)])
def test_whole_numbers_agree_with_the_release(fast: int, alpha: int) -> None:
    assert slow_indices(fast, alpha) == torch.linspace(0, fast - 1, fast // alpha).long().tolist()


@pytest.mark.parametrize("transform", ["conv", "sample", "channels", "none"])
@pytest.mark.parametrize("kernel", [5, 7])
@pytest.mark.parametrize("frames", [4, 8, 20])
def test_any_multiple_of_alpha_fits(transform: str, kernel: int, frames: int) -> None:
    lateral = Lateral(SLOW, FAST, 4, transform, kernel=kernel)
    slow = torch.zeros(2, SLOW, frames // 4, 3, 3)
    joined = lateral(slow, fast_clip(frames))
    assert joined.shape == (2, SLOW + lateral.channels, *slow.shape[2:])


def test_slow_channels_come_first() -> None:
    lateral = Lateral(SLOW, FAST, 4, "sample")
    slow = torch.full((2, SLOW, 2, 3, 3), -1.0)
    joined = lateral(slow, fast_clip(8))
    assert torch.equal(joined[:, :SLOW], slow)
    assert (joined[:, SLOW:] >= 0).all()


def test_sampling_keeps_the_frames_that_the_slow_pathway_sees() -> None:
    kept = TimeStridedSampling(8)(fast_clip(32))
    assert (kept[0, 0, :, 0, 0] / 10).tolist() == slow_indices(32, 8)


def test_time_to_channel_loses_nothing() -> None:
    packed = TimeToChannel(4)(fast_clip(8))
    assert packed.shape == (2, 4 * FAST, 2, 3, 3)
    expected = [[10 * (4 * t + frame) + c for frame in range(4) for c in range(FAST)] for t in range(2)]
    assert packed[0, :, :, 0, 0].T.tolist() == expected


def test_a_convolution_at_zero_adds_nothing() -> None:
    lateral = Lateral(SLOW, FAST, 4, "conv", "sum").eval()
    torch.nn.init.zeros_(lateral.transform.conv.weight)
    slow = torch.randn(2, SLOW, 2, 3, 3)
    assert torch.equal(lateral(slow, fast_clip(8)), slow)


@pytest.mark.parametrize(("transform", "alpha"), [("sample", 4), ("channels", 8)])
def test_a_sum_that_does_not_fit_is_refused(transform: str, alpha: int) -> None:
    with pytest.raises(ValueError, match="16 lateral channels"):
        Lateral(SLOW, FAST, alpha, transform, "sum")
    assert Lateral(SLOW, FAST, 4, "channels", "sum").channels == 0


def test_half_of_the_pixels_are_doubled() -> None:
    lateral = Lateral(SLOW, FAST, 4, "sample")
    half = torch.arange(4.0).view(1, 1, 1, 2, 2).expand(1, FAST, 4, 2, 2)
    joined = lateral(torch.zeros(1, SLOW, 1, 4, 4), half)
    assert joined[0, -1, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
