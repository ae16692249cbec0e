"""A video in a container file: frames by position at the cost of the key-frame groups they lie in.

Asked frames are sorted and decoded in one pass; a seek happens only where it saves decoding, and only in
files whose packet times name their frames. Every frame is checked against that index. The first
frame that disagrees ends the shortcut: the file is decoded once from start to end, what came out is the
index from then on, and what went missing is reported as damage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import dropwhile

import av
import numpy as np
from numpy.typing import NDArray

from foveate.video.base import DecodeError, Limits, Scan, Video, VideoInfo
from foveate.video.damage import DecodeFacts, HeaderFacts, find_damage
from foveate.video.decoder import Decoder, RGBConverter
from foveate.video.index import FrameIndex, index_frames, index_packets, pairs_off, read_packets
from foveate.video.source import VideoBytes


class IndexMismatch(Exception):
    """A decoded frame is not the one that the index names."""


class ContainerVideo(Video):
    """Frames of the first video stream of a file, which is open only while frames are being read."""

    _index: FrameIndex

    def __init__(self, file: VideoBytes, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._verdict: str | None = None  # of `find_damage`; None before everything was decoded once
        self.damage = []
        with Decoder(file, limits) as decoder:
            packets = read_packets(decoder, limits)
            if packets.frame is None or not packets.times:
                raise decoder.nothing(len(packets.times))
            width, height = RGBConverter.upright(packets.frame)
            self.info = VideoInfo(file.name, 0, width, height, 0.0, 0.0, decoder.stream.codec_context.name)
            self.tick_s = decoder.tick_s
            self._last_ticks = packets.last_ticks
            self._header = HeaderFacts.of(decoder, packets, file.size)
            self._number(index_packets(packets, decoder))
            self.frames_decoded = decoder.decoded
            certain = pairs_off(packets, decoder) and self._header.kept()
        if not certain:
            self._decode_all()

    @property
    def times(self) -> NDArray[np.float64]:
        return self._index.seconds

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        asked = self._wanted(indices)
        wanted, place = np.unique(asked, return_inverse=True)
        try:
            frames = self._stacked(self._each(wanted), len(wanted))
        except IndexMismatch:
            frames = self._stacked(self._each_slowly(wanted), len(wanted))
        return frames if np.array_equal(wanted, asked) else frames[place]

    def pick(self, places: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        wanted, given = self._wanted(places), 0
        with suppress(IndexMismatch):
            for frame in self._each(wanted):
                given += 1
                yield frame
        if given < len(wanted):
            yield from self._each_slowly(wanted[given:])

    def stream(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        to_rgb = RGBConverter(self.info.width, self.info.height)
        for position, frame in enumerate(self._all_frames()):
            yield self._second(position, frame), to_rgb(frame)

    def scan(self) -> Scan:
        if self._verdict is None:
            self._decode_all()
        info, cause = self.info, self._verdict or ""
        size = info.width, info.height
        return Scan("partial" if cause else "ok", cause, info.frames, *size, info.fps, info.duration_s)

    @contextmanager
    def _open(self) -> Iterator[Decoder]:
        with Decoder(self._file, self._limits) as decoder:
            try:
                yield decoder
            finally:
                self.frames_decoded += decoder.decoded

    def _stacked(self, frames: Iterator[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
        out = np.empty((count, self.info.height, self.info.width, 3), dtype=np.uint8)
        for slot, frame in enumerate(frames):
            out[slot] = frame
        return out

    def _each(self, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Decode what it takes to reach sorted, distinct positions and convert only those."""
        to_rgb = RGBConverter(self.info.width, self.info.height)
        converted = set(wanted.tolist())
        marked = []
        with self._open() as decoder:
            for start, run in self._index.runs(wanted):
                for position, frame in self._follow(decoder, start, int(run[-1])):
                    if position in converted:
                        marked += [str(position)] if frame.is_corrupt else []
                        yield to_rgb(frame)
        if marked:
            self._report(f"frames marked as damaged: {', '.join(marked)}")

    def _each_slowly(self, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Number the frames by decoding them all, then yield in one pass from the beginning."""
        self._decode_all()
        self._index = self._index.in_order_only()
        self._require(wanted)
        try:
            yield from self._each(wanted)
        except IndexMismatch:
            cause = "two passes decode differently"
            raise DecodeError(self.info.name, cause, "copy the file again") from None

    def _follow(self, decoder: Decoder, start: int, last: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the frames at `start` to `last`; raises IndexMismatch when one is missing or another one."""
        pts = self._index.pts
        frames = decoder.frames()
        if start and pts is not None:
            first = int(pts[start])
            decoder.seek(first)
            frames = dropwhile(lambda frame: frame.pts is not None and frame.pts < first, frames)
        for position, frame in enumerate(frames, start):
            named = pts is None or (position < len(pts) and frame.pts == pts[position])
            if not named or (decoder.errors and self._verdict is None):
                raise IndexMismatch
            yield position, frame
            if position == last:
                return
        raise IndexMismatch

    def _all_frames(self) -> Iterator[av.VideoFrame]:
        """Yield every frame and learn at the end what the file really holds."""
        decoded = DecodeFacts()
        with self._open() as decoder:
            for frame in decoder.frames():
                decoded.add(frame)
                yield frame
            decoded.errors = len(decoder.errors)
            if not decoded.times:
                raise decoder.nothing(self._header.packets)
            self._verdict = find_damage(self._header, decoded)
            self._report(self._verdict)
            if self._verdict or len(decoded.times) != len(self._index):
                self._number(index_frames(decoded.times, self._last_ticks, decoder))

    def _decode_all(self) -> None:
        for _ in self._all_frames():
            pass

    def _number(self, index: FrameIndex) -> None:
        self._index = index
        self.info = replace(self.info, frames=len(index), fps=index.fps, duration_s=index.duration_s)

    def _second(self, position: int, frame: av.VideoFrame) -> float:
        index = self._index
        if index.pts is not None and frame.pts is not None:
            return float(frame.pts - index.pts[0]) * self.tick_s
        return float(index.seconds[position]) if position < len(index) else position / index.fps

    def _report(self, line: str) -> None:
        if line and line not in self.damage:
            self.damage.append(line)
