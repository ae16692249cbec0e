"""Clips on their way to a GPU while a model runs there on the clips before.

A copy from page-locked memory on a stream of its own takes no time of the streams that compute.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.models.base import Frames


class Copies:
    """Copies to a device; where that is the CPU, both methods return what they are given."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(self, clips: Frames) -> Frames:
        """Begin to copy a tensor, from any thread; the result must not be read before `receive`.

        Clips of different lengths and chunks stay where they are: the models that take them copy them bit by
        bit.
        """
        if self._stream is None or not isinstance(clips, Tensor) or clips.is_cuda:
            return clips
        with torch.cuda.stream(self._stream):
            return clips.pin_memory().to(self._device, non_blocking=True)

    def receive(self, clips: Frames) -> Frames:
        """What was sent, or now is, for what computes from now on; it waits on the GPU, not here."""
        clips = self.send(clips)
        if self._stream is not None and isinstance(clips, Tensor):
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            clips.record_stream(current)  # the memory belongs to the other stream, which may not reuse it yet
        return clips
