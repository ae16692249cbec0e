"""Index the frames of a container file from its packets, without decoding them.

Headers may be wrong about counts, rates and durations, so the packets themselves are counted. If every packet
has a distinct presentation time, that time identifies its frame and decoding can start at any key frame
before it; otherwise frames are identified by their order and decoding starts at the beginning.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace

import av
import numpy as np
from numpy.typing import NDArray

from foveate.video.base import DEFAULT_FPS, DecodeError, Limits
from foveate.video.clock import NO_TIME, WRAPS, last_step, line_of_frames, line_of_packets
from foveate.video.decoder import Decoder
from foveate.video.disposable import H264Packets

EXACT_TIMES = {"mov", "matroska", "flv"}  # containers whose packets have the times of their frames
MAX_REORDER = 32  # packets between storage and display order; no codec needs more
SEEK_COST = 8  # frames; a seek discards about as many that the decoder has buffered
KEPT_BYTES = 16 << 20  # of packets that stay in memory until the first read
UNREAD = 0.95  # share of a file; a stream that ends before, while another one appears, goes on in that one
NOT_CODED = 19  # bytes; MPEG-4 packets up to this size may contain no frame


@dataclass(frozen=True)
class FrameIndex:
    """Times and key frames of a file's frames, in display order."""

    seconds: NDArray[np.float64]  # (frames,) after the first frame
    pts: NDArray[np.int64] | None  # (frames,) increasing, in ticks; None if times do not identify frames
    starts: NDArray[np.int64]  # indices of key frames; the first is 0, the beginning of the file
    fps: float
    duration_s: float
    restarts: int = 0  # of the clock (clock.py)

    def __len__(self) -> int:
        return len(self.seconds)

    def runs(self, indices: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
        """Split sorted indices where a seek saves decoding: pairs (key frame to start at, indices)."""
        groups = np.searchsorted(self.starts, indices, side="right") - 1
        skipped = self.starts[groups] - np.concatenate([[-1], indices[:-1]])[: len(indices)] - 1
        cuts = np.flatnonzero((np.diff(groups, prepend=-1) > 1) | (skipped > SEEK_COST))
        runs = [run for run in np.split(indices, cuts) if len(run)]
        return [(int(self.starts[self.starts <= run[0]][-1]), run) for run in runs]

    def without_seeking(self) -> FrameIndex:
        """The same index without times that identify frames, so that decoding starts at the beginning."""
        return replace(self, pts=None, starts=self.starts[:1])


@dataclass
class Packets:
    """Facts from one pass over the packets of a file. frame: the first frame, decoded."""

    times: array[int] = field(default_factory=lambda: array("q"))  # pts of packets that are shown, in ticks
    decode_times: array[int] = field(default_factory=lambda: array("q"))  # dts of the same, in ticks
    durations: array[int] = field(default_factory=lambda: array("q"))  # 0 where it is not known
    keys: bytearray = field(default_factory=bytearray)  # 1 for key frames
    frame: av.VideoFrame | None = None
    hidden: int = 0  # packets that an edit list hides
    smallest: int = 1 << 31  # size of the smallest packet, bytes
    corrupt: bool = False  # some packet is marked as corrupt
    truncated: bool = False  # the last packet is marked as corrupt
    end_s: float = 0.0  # latest time in any stream
    last_byte: int = 0  # where in the file the last packet begins
    others: dict[int, int] = field(
        default_factory=dict
    )  # the same of the first packet of other video streams

    @property
    def last_ticks(self) -> int:
        """Duration of the packet with the highest pts."""
        return self.durations[len(self.times) - 1 - int(np.argmax(self.times[::-1]))]

    def add(self, packet: av.Packet) -> None:
        """Count one packet of the video stream."""
        if packet.is_discard:
            self.hidden += 1
            return
        self.times.append(NO_TIME if packet.pts is None else packet.pts)
        self.decode_times.append(NO_TIME if packet.dts is None else packet.dts)
        self.durations.append(packet.duration or 0)
        self.keys.append(packet.is_keyframe)
        self.last_byte = max(self.last_byte, packet.pos or 0)
        self.smallest = min(self.smallest, packet.size)
        self.corrupt |= packet.is_corrupt
        self.truncated = packet.is_corrupt


def read_packets(decoder: Decoder, limits: Limits) -> Packets:
    """Read all packets and decode only as many as the first frame needs.

    The decoder of a small file then goes on from there, so that nothing is read or decoded twice.
    """
    packets, pictures = Packets(), H264Packets.of(decoder.stream.codec_context) is not None
    ends: dict[int, int] = {}  # of each stream, in its ticks
    small, own, begun = decoder.file_size <= KEPT_BYTES, [], []
    for packet in decoder.packets():
        if packet.pts is not None and not packet.is_discard:
            end = packet.pts + (packet.duration or 0)
            ends[packet.stream_index] = max(ends.get(packet.stream_index, 0), end)
        if packet.stream is not decoder.stream:
            if packet.size and packet.stream.type == "video":
                packets.others.setdefault(packet.stream_index, packet.pos or 0)
            continue
        if packet.size:
            packets.add(packet)
        if len(packets.times) > limits.max_frames:
            cause = f"more than {limits.max_frames} frames"
            raise DecodeError(decoder.name, cause, "cut it into shorter videos")
        if small:
            own.append(packet)
        if packets.frame is None:
            whole = pictures and len(packets.times) == 1  # packets of a picture, not of a field
            frames = decoder.decode_alone(packet) if whole and not small else decoder.decode(packet)
            packets.frame = next(iter(frames), None)
            begun.append(frames)
    if small:
        decoder.rewind(own, begun)
    streams = decoder.container.streams
    packets.end_s = max((float(end * (streams[i].time_base or 0)) for i, end in ends.items()), default=0.0)
    return packets


def goes_on_elsewhere(packets: Packets, decoder: Decoder) -> bool:
    """Whether another video stream begins where ours ends, as in files joined under two numbers of streams.

    Of a stream that appears behind the beginning PyAV gives nothing; then the rest of the file speaks.
    """
    behind = [first for first in packets.others.values() if first > packets.last_byte > 0]
    return bool(behind) or (decoder.late_streams and 0 < packets.last_byte < UNREAD * decoder.file_size)


def one_frame_per_packet(packets: Packets, decoder: Decoder) -> bool:
    """Whether every shown packet should give exactly one frame, so that packets can be counted as frames."""
    frame, codec = packets.frame, decoder.stream.codec_context.name
    if packets.corrupt or not packets.keys[0]:
        return False
    if codec in ("vp8", "libvpx"):  # VP8 has hidden reference frames
        return False
    if codec == "mpeg4" and packets.smallest <= NOT_CODED:
        return False
    return not (codec == "h264" and frame is not None and frame.interlaced_frame)  # a packet may be a field


def index_packets(packets: Packets, decoder: Decoder) -> FrameIndex:
    """Index a file from its packets, one frame for each."""
    keys = np.frombuffer(packets.keys, dtype=np.uint8).astype(bool)
    durations = np.array(packets.durations, dtype=np.int64)
    line = line_of_packets(
        np.array(packets.times, dtype=np.int64),
        np.array(packets.decode_times, dtype=np.int64),
        durations,
        keys,
        not WRAPS.isdisjoint(decoder.family),
    )
    stored = line.times
    order = np.argsort(stored, kind="stable")
    shown = stored[order]
    local = bool((np.abs(order - np.arange(len(order))) <= MAX_REORDER).all()) and shown[0] != NO_TIME
    identified = (
        local
        and not packets.hidden
        and not line.restarts
        and bool(keys[0])
        and not EXACT_TIMES.isdisjoint(decoder.family)
        and bool((np.diff(shown) > 0).all())
    )
    starts = np.zeros(1, dtype=np.int64)
    if identified:
        starts = np.union1d(starts, np.searchsorted(shown, stored[keys]))
    clock = shown if local else None
    seconds, fps, duration = _timing(clock, len(stored), int(durations[order[-1]]), decoder)
    return FrameIndex(seconds, shown if identified else None, starts, fps, duration, line.restarts)


def index_frames(times: array[int], last_ticks: int, restarts: int, decoder: Decoder) -> FrameIndex:
    """Index a file from the times of its decoded frames, which are identified by their order only.

    restarts: of the clock, by the packets. Frames in whose times it starts again more or less often have come
    out in disorder, and then their rate alone is believed.
    """
    line = line_of_frames(np.array(times, dtype=np.int64), not WRAPS.isdisjoint(decoder.family))
    stored = line.times
    ordered = line.restarts == restarts and stored[0] != NO_TIME and bool((np.diff(stored) >= 0).all())
    seconds, fps, duration = _timing(stored if ordered else None, len(stored), last_ticks, decoder)
    return FrameIndex(seconds, None, np.zeros(1, dtype=np.int64), fps, duration, restarts)


def _timing(
    clock: NDArray[np.int64] | None, count: int, last_ticks: int, decoder: Decoder
) -> tuple[NDArray[np.float64], float, float]:
    """Seconds of each frame, frames per second and duration; from presentation times, else from the rate."""
    rate = float(decoder.stream.average_rate or DEFAULT_FPS)
    if clock is None:
        return np.arange(count) / rate, rate, count / rate
    seconds = (clock - clock[0]) * decoder.tick_s
    step = float(seconds[-1]) / (count - 1) if seconds[-1] > 0 else 1 / rate
    duration = float(seconds[-1]) + last_step(step, last_ticks * decoder.tick_s)
    if abs(rate * duration - count) <= 1.5:
        return seconds, rate, duration
    return seconds, count / duration, duration
