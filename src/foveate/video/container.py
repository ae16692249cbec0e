"""Videos in container files: random access that decodes only the groups of pictures it needs.

Requested frames are sorted and decoded in one pass. A seek happens only where it saves decoding, and packets
that no requested frame needs are left out, both only in files whose packet times identify their frames.
Every frame is checked against the index of packet times. At the first mismatch the file is decoded once from
start to end, the frames that came out become the index from then on, and missing ones are reported as damage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import av
import numpy as np
from numpy.typing import NDArray

from foveate.video.base import DecodeError, Limits, Scan, Video, VideoInfo
from foveate.video.damage import DecodeFacts, HeaderFacts, find_damage
from foveate.video.decoder import Decoder, RGBConverter
from foveate.video.follow import IndexMismatch, follow
from foveate.video.index import FrameIndex, index_frames, index_packets, one_frame_per_packet, read_packets
from foveate.video.source import VideoBytes


class ContainerVideo(Video):
    """The first video stream of a container file, which stays open for the next read until `close`."""

    _index: FrameIndex
    _kept: Decoder | None = None  # from the last read, where the next one can seek in it or it has not begun

    def __init__(self, file: VideoBytes, limits: Limits, quick: bool = False) -> None:
        """quick: go by the packets alone, in `scan` and where they do not tell how many frames there are."""
        self._file = file
        self._limits = limits
        self._quick = quick
        self._damage_found: str | None = None  # by `find_damage`; None until all was decoded once
        self.damage = []
        with self._open() as decoder:
            packets = read_packets(decoder, limits)
            if packets.frame is None or not packets.times:
                raise decoder.no_frames_error(len(packets.times))
            width, height = RGBConverter.upright(packets.frame)
            self.info = VideoInfo(file.name, 0, width, height, 0.0, 0.0, decoder.stream.codec_context.name)
            self.tick_s = decoder.tick_s
            self._last_ticks = packets.last_ticks
            self._header = HeaderFacts.of(decoder, packets, file.size)
            self._set_index(index_packets(packets, decoder))
            certain = one_frame_per_packet(packets, decoder) and self._header.complete()
        if not certain and not quick:
            self._decode_all()

    @property
    def times(self) -> NDArray[np.float64]:
        return self._index.seconds

    @property
    def key_frames(self) -> NDArray[np.int64]:
        return super().key_frames if self._index.pts is None else self._index.starts

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        requested = self._checked(indices)
        wanted, order = np.unique(requested, return_inverse=True)
        try:
            frames = self._stack(self._decode(wanted), len(wanted))
        except IndexMismatch:
            frames = self._stack(self._decode_in_order(wanted), len(wanted))
        return frames if np.array_equal(wanted, requested) else frames[order]

    def iterate(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        wanted, count = self._checked(indices), 0
        with suppress(IndexMismatch):
            for frame in self._decode(wanted):
                count += 1
                yield frame
        if count < len(wanted):
            yield from self._decode_in_order(wanted[count:])

    def stream(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        to_rgb = RGBConverter(self.info.width, self.info.height)
        for position, frame in enumerate(self._all_frames()):
            yield self._time_of(position, frame), to_rgb(frame)

    def scan(self) -> Scan:
        if self._damage_found is None and not self._quick:
            self._decode_all()
        info, cause = self.info, self._damage_found or ""
        if self._quick and self._damage_found is None:
            cause = find_damage(self._header, None)
        size = info.width, info.height
        return Scan("partial" if cause else "ok", cause, info.frames, *size, info.fps, info.duration_s)

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_kept"}

    @contextmanager
    def _open(self, anywhere: bool = False, in_turn: bool = False) -> Iterator[Decoder]:
        """A decoder at the beginning of the file, or anywhere in it for one who seeks.

        in_turn: in one thread, as damage in one frame harms those that other threads hold.
        """
        fits = self._kept is not None and (anywhere or not self._kept.moved)
        if self._kept is not None and fits and (self._limits.threads == 1 or not in_turn):
            self._file.for_ffmpeg()  # raises if the file has changed
            decoder, self._kept = self._kept, None
        else:
            limits = replace(self._limits, threads=1) if in_turn else self._limits
            decoder = Decoder(self._file, limits)
        before, again = decoder.decoded, False
        try:
            yield decoder
            useful = self._index.pts is not None or not decoder.moved
            again = self._kept is None and useful and not decoder.errors
        finally:
            self.frames_decoded += decoder.decoded - before
            if again:
                self._kept = decoder
            else:
                decoder.close()

    def _stack(self, frames: Iterator[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
        out = np.empty((count, self.info.height, self.info.width, 3), dtype=np.uint8)
        for slot, frame in enumerate(frames):
            out[slot] = frame
        return out

    def _decode(self, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames at sorted, distinct indices; only these are converted to RGB."""
        to_rgb = RGBConverter(self.info.width, self.info.height)
        strict = self._damage_found is None
        corrupt = []
        with self._open(self._index.pts is not None, in_turn=bool(self._damage_found)) as decoder:
            for start, run in self._index.runs(wanted):
                for position, frame in follow(decoder, self._index, start, run, strict):
                    if frame.is_corrupt and strict and self._limits.threads > 1:
                        raise IndexMismatch
                    corrupt += [str(position)] if frame.is_corrupt else []
                    yield to_rgb(frame)
        if corrupt:
            self._report(f"frames marked as damaged: {', '.join(corrupt)}")

    def _decode_in_order(self, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """`_decode` without seeking: index the file by decoding all of it, then read from the beginning."""
        self._decode_all()
        self._index = self._index.without_seeking()
        self._check_exist(wanted)
        try:
            yield from self._decode(wanted)
        except IndexMismatch:
            cause = "decoding it twice gives different frames"
            raise DecodeError(self.info.name, cause, "copy the file again") from None

    def _all_frames(self) -> Iterator[av.VideoFrame]:
        """Yield every frame; at the end, update the index and the damage by what was decoded."""
        decoded = DecodeFacts()
        with self._open(in_turn=True) as decoder:
            for frame in decoder.frames():
                decoded.add(frame)
                yield frame
            decoded.errors = len(decoder.errors)
            if not decoded.times:
                raise decoder.no_frames_error(self._header.packets)
            self._damage_found = find_damage(self._header, decoded)
            self._report(self._damage_found)
            if self._damage_found or len(decoded.times) != len(self._index):
                restarts = self._index.restarts
                self._set_index(index_frames(decoded.times, self._last_ticks, restarts, decoder))

    def _decode_all(self) -> None:
        for _ in self._all_frames():
            pass

    def _set_index(self, index: FrameIndex) -> None:
        self._index = index
        self.info = replace(self.info, frames=len(index), fps=index.fps, duration_s=index.duration_s)

    def _time_of(self, position: int, frame: av.VideoFrame) -> float:
        index = self._index
        if index.pts is not None and frame.pts is not None:
            return float(frame.pts - index.pts[0]) * self.tick_s
        return float(index.seconds[position]) if position < len(index) else position / index.fps

    def _report(self, line: str) -> None:
        if line and line not in self.damage:
            self.damage.append(line)
