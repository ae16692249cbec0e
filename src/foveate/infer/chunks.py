"""Frames of a long video as chunks of bytes, decoded anew each time somebody goes through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from foveate.clip import ClipSpec
from foveate.video.base import Video
from foveate.video.transform import test_transform

Watch = Callable[[str], AbstractContextManager[None]]


class Chunks:
    """The centre crops of frames of a video, as uint8 (k, S, S, 3) of up to 16 at a time.

    places: rising positions in the video. Each pass decodes from the key frame before the first to the last.
    Raises DecodeError where the video ends before them.
    """

    def __init__(self, video: Video, places: Sequence[int], spec: ClipSpec, watch: Watch) -> None:
        self.video = video
        self.places = places
        self.spec = spec
        self.watch = watch

    def __iter__(self) -> Iterator[Tensor]:
        chunks = self.video.chunks(self.places)
        while True:
            with self.watch("decode"):
                frames = next(chunks, None)
            if frames is None:
                return
            with self.watch("transform"):
                crops = test_transform(torch.from_numpy(frames), self.spec)[0]
            yield crops
