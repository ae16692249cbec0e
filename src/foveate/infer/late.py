"""Frames that are decoded once a model has chosen them: for models that glance first (Uni-AdaFocus).

A frame costs the decoding of all since the key frame before it. So it pays where the frames of a clip lie as
far apart as the key frames, in long videos; elsewhere two passes cost more than one over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.clip import ClipSpec
from foveate.data.dataset import read_cut
from foveate.measure.stopwatch import Stopwatch
from foveate.models.base import LateFrames, Stops
from foveate.video import Video
from foveate.video.transform import test_transform


class LateClip(LateFrames):
    """One clip, uint8 (k, S, S, 3) at the places that are asked for. DecodeError for a frame that is none.

    indices: of its frames in the video, increasing.
    """

    def __init__(self, video: Video, indices: Sequence[int], spec: ClipSpec, watch: Stopwatch) -> None:
        self.video, self.indices, self.spec, self.watch = video, indices, spec, watch
        self._known: dict[int, Tensor] = {}  # frames (S, S, 3) by place

    def __len__(self) -> int:
        return len(self.indices)

    def at(self, places: Sequence[int]) -> Tensor:
        missing = sorted({*places} - self._known.keys())
        if missing:
            with self.watch("decode"):
                crops = read_cut(self.video, [self.indices[place] for place in missing], self._crops)
            self._known.update(zip(missing, crops[0], strict=True))
        return torch.stack([self._known[place] for place in places])

    def _crops(self, frames: Tensor) -> Tensor:
        with self.watch("transform"):
            return test_transform(frames, self.spec)


def pays(indices: Sequence[int], keys: NDArray[np.int64], stops: Stops) -> bool:
    """Whether fewer frames are decoded if the chosen ones are, after a glance, than if all are at once.

    indices: of a clip's frames in the video. keys: its key frames, increasing. stops: see
    `VideoModel.looks_late`. The choice is reckoned with as even.
    """
    first, later = stops(len(indices))
    even = [int((i + 0.5) * len(indices) / max(1, later)) for i in range(later)]
    parts = ([indices[place] for place in places] for places in (first, even))
    return sum(decoded(part, keys) for part in parts) < decoded(indices, keys)


def decoded(indices: Sequence[int], keys: NDArray[np.int64]) -> int:
    """Frames that must be decoded to reach these: from each key frame to the last that is wanted after it."""
    wanted = np.unique(np.asarray(indices, dtype=np.int64))
    starts = keys[np.maximum(np.searchsorted(keys, wanted, "right") - 1, 0)]
    last = dict(zip(starts.tolist(), wanted.tolist(), strict=True))  # of each key frame the last one stays
    return sum(end - start + 1 for start, end in last.items())
