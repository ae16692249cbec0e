"""Whether a decoded file is whole. FFmpeg ends most broken files without an error, so four signs are read.

They are: packets that cannot be decoded, frames marked as corrupt, fewer frames than packets, and a last
time well before the end that the header promises. Each alone misses files; headers themselves lie, so
a promise counts only when it is believable.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import av

from foveate.video.decoder import Decoder
from foveate.video.index import NO_TIME, Packets

WEEK_S = 7 * 86400
PROMISING = {"mov", "matroska", "avi", "flv", "asf"}  # containers whose header states a duration
ONE_TO_ONE = {
    *("h264", "hevc", "av1", "libdav1d", "mpeg1video", "mpeg2video"),
    *("mjpeg", "png", "prores", "dnxhd", "dvvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo"),
}  # codecs in which a packet without a picture means damage


@dataclass
class DecodeFacts:
    """What decoding a file from start to end gave."""

    times: array[int] = field(default_factory=lambda: array("q"))
    corrupt: int = 0
    interlaced: int = 0
    errors: int = 0

    def add(self, frame: av.VideoFrame) -> None:
        """Note one frame."""
        self.times.append(NO_TIME if frame.pts is None else frame.pts)
        self.corrupt += frame.is_corrupt
        self.interlaced += frame.interlaced_frame


@dataclass(frozen=True)
class HeaderFacts:
    """What header and packets say that decoding should give."""

    packets: int
    one_to_one: bool  # each packet should give a frame
    fields: bool  # or each two packets, one for the odd and one for the even lines of an interlaced frame
    headless: bool  # the first packet is not a key frame
    cut: bool  # the last packet is not complete
    end_s: float  # latest time in any stream
    rate: float
    header_frames: int  # 0 if not stated
    header_s: float  # 0 if not stated or not believable

    @classmethod
    def of(cls, decoder: Decoder, packets: Packets, size: int) -> HeaderFacts:
        """Collect it; `size` is the size of the file in bytes, which no believable frame count exceeds."""
        container, stream = decoder.container, decoder.stream
        stated = (container.duration or 0) / av.time_base
        believable = stated < WEEK_S and not PROMISING.isdisjoint(decoder.family)
        return cls(
            packets=len(packets.times),
            one_to_one=stream.codec_context.name in ONE_TO_ONE,
            fields=stream.codec_context.name == "h264",
            headless=not packets.keys[0],
            cut=packets.cut,
            end_s=packets.end_s,
            rate=float(stream.average_rate or 0),
            header_frames=stream.frames if stream.frames <= size else 0,
            header_s=stated if believable else 0.0,
        )

    def kept(self) -> bool:
        """Whether the packets reach as far as the header says; they may still not decode."""
        return not (_ends_early(self) or _too_few(self, self.packets))


def find_damage(header: HeaderFacts, decoded: DecodeFacts) -> str:
    """Say in one line what is missing or broken; empty for a whole file."""
    count = len(decoded.times)
    short = _ends_early(header)
    few = _too_few(header, count)
    halved = decoded.interlaced if header.fields else 0
    lost = header.one_to_one and count + halved < header.packets
    signs = [
        *([f"the data ends early, at {header.end_s:.1f} of {header.header_s:.1f} s"] if short else []),
        *(["the data ends early"] if header.cut and not short and (lost or decoded.errors) else []),
        *(["the first key frame is missing"] if header.headless and lost else []),
        *([_many(decoded.errors, "packet", "cannot be decoded")] if decoded.errors else []),
        *([_many(decoded.corrupt, "frame", "marked as damaged")] if decoded.corrupt else []),
    ]
    if not (signs or few or lost):
        return ""
    trusted = header.header_frames if short or few else 0
    expected = max(header.packets, trusted)
    head = f"{count} of {expected} frames" if count < expected else ""
    return ": ".join(part for part in (head, ", ".join(signs)) if part)


def _many(count: int, thing: str, state: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'} {state}"


def _ends_early(header: HeaderFacts) -> bool:
    slack = max(2 / header.rate if header.rate else 0.0, 0.1)
    return header.end_s < header.header_s - slack


def _too_few(header: HeaderFacts, count: int) -> bool:
    """Whether the header counts over twice the frames and no edit list explains it by a shorter duration."""
    if header.header_frames <= 2 * count:
        return False
    shown_s = count / header.rate if header.rate else 0.0
    return not (header.header_s and 0.5 <= shown_s / header.header_s <= 2)
