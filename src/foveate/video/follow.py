"""Follow a decoder to the frames that are wanted, and hold every frame that comes out against the index.

A packet that no wanted frame needs is not decoded: one that comes after all wanted ones, or that no other
packet refers to. What is decoded must come out completely and in the order of its times.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

import av
import numpy as np
from numpy.typing import NDArray

from foveate.video.decoder import Decoder
from foveate.video.disposable import H264Packets
from foveate.video.index import FrameIndex

Found = Iterator[tuple[int, av.VideoFrame]]


class IndexMismatch(Exception):
    """A decoded frame does not have the time that the index gives it, or is missing."""


def follow(decoder: Decoder, index: FrameIndex, start: int, run: NDArray[np.int64], strict: bool) -> Found:
    """Yield (index, frame) for the sorted frame indices `run`, decoding from key frame `start`.

    strict: whether a packet that cannot be decoded is a surprise. IndexMismatch if a frame is missing or
    unexpected.
    """
    frames = _in_order(decoder, run) if index.pts is None else _by_time(decoder, index, start, run)
    for position, frame in frames:
        if strict and decoder.errors:
            raise IndexMismatch
        yield position, frame


def _in_order(decoder: Decoder, run: NDArray[np.int64]) -> Found:
    """Count the frames from the beginning of the file."""
    wanted, last = set(run.tolist()), int(run[-1])
    for position, frame in enumerate(decoder.frames()):
        if position in wanted:
            yield position, frame
        if position == last:
            return
    raise IndexMismatch


def _by_time(decoder: Decoder, index: FrameIndex, start: int, run: NDArray[np.int64]) -> Found:
    """Find the frames by their presentation times."""
    assert index.pts is not None
    first = int(index.pts[start])
    position_of = dict(zip(index.pts[run].tolist(), run.tolist(), strict=True))
    syntax = H264Packets.of(decoder.stream.codec_context)
    unsent = set(position_of)
    due: list[int] = []  # times of packets whose frames have not come out, a heap
    if start or decoder.moved:
        decoder.seek(first)
    for packet in decoder.own_packets():
        if packet.size and packet.pts is None:
            raise IndexMismatch
        if packet.pts not in position_of and not decoder.begun and syntax and syntax.disposable(packet):
            continue
        if packet.pts is not None and packet.pts >= first:
            heappush(due, packet.pts)
            unsent.discard(packet.pts)
        last = not unsent and decoder.begun <= 1
        for frame in decoder.decode_last(packet) if last else decoder.decode(packet):
            if frame.pts is not None and frame.pts < first:
                continue
            if not due or heappop(due) != frame.pts:
                raise IndexMismatch
            if frame.pts in position_of:
                yield position_of.pop(frame.pts), frame
            if not position_of:
                return
    raise IndexMismatch
