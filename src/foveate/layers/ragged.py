"""Videos of different lengths in one row of frames, without a padded frame anywhere.

Frames of all videos follow each other, so that a 2D network computes just the frames there are. Numbers that
are few, one or so a frame, go through a padded table (videos, longest) and back, all by index arithmetic:
the lengths are known where the frames come from, so nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Ragged:
    """Where each of `lengths` frames stands in the row. ValueError for a video without frames."""

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
        """Which places of the table hold a frame, (n, longest)."""
        return self.times < self.counts

    def table(self, row: Tensor, apart: int = 0) -> Tensor:
        """Numbers of frames, or of pairs `apart` frames from each other, as (n, longest - apart).

        row: (total - apart,), pairs across the border of two videos among them; those and the padding
        become 0.
        """
        times = self.times[:, : max(0, self.longest - apart)]
        if times.numel() == 0:
            return row.new_zeros(len(self.lengths), 0)
        places = (self.starts + times).clamp(max=len(row) - 1)
        return torch.where(times < self.counts - apart, row[places], 0)

    def row(self, table: Tensor) -> Tensor:
        """Numbers of frames (n, longest) as (total,), the padding left out."""
        videos = torch.arange(len(self.lengths), device=table.device)
        video = videos.repeat_interleave(self.counts.squeeze(1), output_size=self.total)
        frame = torch.arange(self.total, device=table.device) - self.starts.squeeze(1)[video]
        return table[video, frame]
