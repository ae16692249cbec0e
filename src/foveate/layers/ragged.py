"""Batches of videos of different lengths, concatenated along time instead of padded.

A 2D network then computes no padded frame. Small data, such as one number per frame, is converted to a padded
tensor (videos, longest) and back by index arithmetic; the lengths are known on the host, so nothing waits for
the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Ragged:
    """Index arithmetic for concatenated videos of these lengths. ValueError for a video without frames."""

    def __init__(self, lengths: Sequence[int], device: torch.device | str | None = None) -> None:
        if not lengths or min(lengths) < 1:
            raise ValueError(f"videos of {list(lengths)} frames: each needs at least one")
        self.lengths = tuple(lengths)
        self.total = sum(lengths)
        self.longest = max(lengths)
        self.counts = torch.tensor(self.lengths, device=device).unsqueeze(1)  # (n, 1)
        self.times = torch.arange(self.longest, device=device).unsqueeze(0)  # (1, longest)
        self.starts = self.counts.cumsum(0) - self.counts  # (n, 1)

    @property
    def inside(self) -> Tensor:
        """Mask of the frames that are not padding, (n, longest)."""
        return self.times < self.counts

    def pad(self, row: Tensor, gap: int = 0) -> Tensor:
        """One value per frame, or per pair of frames `gap` apart, as (n, longest - gap), padded with 0.

        row: (total - gap,), over the concatenated frames. Pairs across the border of two videos are dropped.
        """
        times = self.times[:, : max(0, self.longest - gap)]
        if times.numel() == 0:
            return row.new_zeros(len(self.lengths), 0)
        indices = (self.starts + times).clamp(max=len(row) - 1)
        return torch.where(times < self.counts - gap, row[indices], 0)

    def flatten(self, padded: Tensor) -> Tensor:
        """One value per frame, (n, longest), as (total,) without the padding."""
        videos = torch.arange(len(self.lengths), device=padded.device)
        video = videos.repeat_interleave(self.counts.squeeze(1), output_size=self.total)
        frame = torch.arange(self.total, device=padded.device) - self.starts.squeeze(1)[video]
        return padded[video, frame]
