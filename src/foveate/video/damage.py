"""Detect missing or broken data in a decoded file; FFmpeg ends most damaged files without an error.

Four signs are checked: packets that cannot be decoded, frames marked as corrupt, fewer frames than packets,
and a last time well before the duration in the header. None of them finds all damaged files. Headers can be
wrong too, so a stated duration or frame count is used only if it is plausible.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import av

from foveate.video.clock import NO_TIME
from foveate.video.decoder import Decoder
from foveate.video.index import Packets, goes_on_elsewhere

WEEK_S = 7 * 86400
STATES_DURATION = {"mov", "matroska", "avi", "flv", "asf"}  # containers with a duration in the header
ONE_TO_ONE = {
    *("h264", "hevc", "av1", "libdav1d", "mpeg1video", "mpeg2video"),
    *("mjpeg", "png", "prores", "dnxhd", "dvvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo"),
}  # codecs in which a packet without a frame means damage


@dataclass
class DecodeFacts:
    """Counts from decoding a file from start to end. times: of the frames, in ticks."""

    times: array[int] = field(default_factory=lambda: array("q"))
    corrupt: int = 0
    interlaced: int = 0
    errors: int = 0

    def add(self, frame: av.VideoFrame) -> None:
        """Count one frame."""
        self.times.append(NO_TIME if frame.pts is None else frame.pts)
        self.corrupt += frame.is_corrupt
        self.interlaced += frame.interlaced_frame


@dataclass(frozen=True)
class HeaderFacts:
    """What the header and the packets say about the frames to expect."""

    packets: int
    one_to_one: bool  # each packet should give a frame
    fields: bool  # or each two packets, the two fields of an interlaced frame
    no_key_frame: bool  # the first packet is not a key frame
    truncated: bool  # the last packet is not complete
    elsewhere: bool  # the picture goes on in another stream
    end_s: float  # latest time in any stream
    rate: float  # frames per second
    header_frames: int  # 0 if not stated or not plausible
    header_s: float  # duration; 0 if not stated or not plausible

    @classmethod
    def of(cls, decoder: Decoder, packets: Packets, size: int) -> HeaderFacts:
        """Collect the facts. size: of the file in bytes; a larger frame count is not plausible."""
        container, stream = decoder.container, decoder.stream
        stated = (container.duration or 0) / av.time_base
        plausible = stated < WEEK_S and not STATES_DURATION.isdisjoint(decoder.family)
        return cls(
            packets=len(packets.times),
            one_to_one=stream.codec_context.name in ONE_TO_ONE,
            fields=stream.codec_context.name == "h264",
            no_key_frame=not packets.keys[0],
            truncated=packets.truncated,
            elsewhere=goes_on_elsewhere(packets, decoder),
            end_s=packets.end_s,
            rate=float(stream.average_rate or 0),
            header_frames=stream.frames if stream.frames <= size else 0,
            header_s=stated if plausible else 0.0,
        )

    def complete(self) -> bool:
        """Whether the packets reach as far as the header says; they may still be undecodable."""
        return not (_ends_early(self) or _too_few(self, self.packets))


def find_damage(header: HeaderFacts, facts: DecodeFacts | None) -> str:
    """Describe in one line what is missing or broken; empty if nothing is.

    facts: None where nothing was decoded. Each packet is then taken for a frame, and its marks are believed.
    """
    decoded, count = facts or DecodeFacts(), header.packets if facts is None else len(facts.times)
    short = _ends_early(header)
    few = _too_few(header, count)
    halved = decoded.interlaced if header.fields else 0
    lost = header.one_to_one and count + halved < header.packets
    doubtful = lost or (facts is None and header.one_to_one)
    signs = [
        *([f"the data ends early, at {header.end_s:.1f} of {header.header_s:.1f} s"] if short else []),
        *(["the data ends early"] if header.truncated and not short and (doubtful or decoded.errors) else []),
        *(["the picture goes on in another stream, which is not read"] if header.elsewhere else []),
        *(["the first key frame is missing"] if header.no_key_frame and doubtful else []),
        *([_count_of(decoded.errors, "packet", "cannot be decoded")] if decoded.errors else []),
        *([_count_of(decoded.corrupt, "frame", "marked as damaged")] if decoded.corrupt else []),
    ]
    if not (signs or few or lost):
        return ""
    trusted = header.header_frames if short or few else 0
    expected = max(header.packets, trusted)
    head = f"{count} of {expected} frames" if count < expected else ""
    return ": ".join(part for part in (head, ", ".join(signs)) if part)


def _count_of(count: int, thing: str, state: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'} {state}"


def _ends_early(header: HeaderFacts) -> bool:
    slack = max(2 / header.rate if header.rate else 0.0, 0.1)
    return header.end_s < header.header_s - slack


def _too_few(header: HeaderFacts, count: int) -> bool:
    """Whether the header counts more than twice the frames and no edit list explains the difference."""
    if header.header_frames <= 2 * count:
        return False
    shown_s = count / header.rate if header.rate else 0.0
    return not (header.header_s and 0.5 <= shown_s / header.header_s <= 2)
