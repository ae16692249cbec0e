"""Which frames a container holds, found by reading its packets without decoding them.

Headers lie about counts, rates and durations, so the packets themselves are counted. Where every packet
carries its own presentation time, that time names the frame and tells at which key frames decoding may
start; elsewhere only the order of decoding counts.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace

import av
import numpy as np
from numpy.typing import NDArray

from foveate.video.base import DEFAULT_FPS, DecodeError, Limits
from foveate.video.decoder import Decoder

NO_TIME = np.iinfo(np.int64).min
CLOCKED = {"mov", "matroska", "flv"}  # containers whose packets carry the times that their frames show
REORDER = 32  # no codec shows a frame more packets away from where it is stored
SEEK_COST = 8  # frames; what a decoder holds back is decoded in vain when it is sent elsewhere
NOT_CODED = 19  # bytes; MPEG-4 packets up to this size may stand for no picture at all


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a file in the order in which they are shown."""

    seconds: NDArray[np.float64]  # (frames,) from the first frame
    pts: NDArray[np.int64] | None  # (frames,) strictly rising, if the time of a frame tells its position
    starts: NDArray[np.int64]  # positions of key frames; the first is 0 and means the beginning of the file
    fps: float
    duration_s: float

    def __len__(self) -> int:
        return len(self.seconds)

    def runs(self, wanted: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
        """Split sorted positions where a seek skips a group or many frames; return (start, positions)."""
        groups = np.searchsorted(self.starts, wanted, side="right") - 1
        skipped = self.starts[groups] - np.concatenate([[-1], wanted[:-1]])[: len(wanted)] - 1
        cuts = np.flatnonzero((np.diff(groups, prepend=-1) > 1) | (skipped > SEEK_COST))
        runs = [run for run in np.split(wanted, cuts) if len(run)]
        return [(int(self.starts[self.starts <= run[0]][-1]), run) for run in runs]

    def in_order_only(self) -> FrameIndex:
        """The same frames, no longer told by their times."""
        return replace(self, pts=None, starts=self.starts[:1])


@dataclass
class Packets:
    """What one pass over the packets of a file shows; `frame` is its first picture."""

    times: array[int] = field(default_factory=lambda: array("q"))  # of packets that are shown
    keys: bytearray = field(default_factory=bytearray)
    frame: av.VideoFrame | None = None
    hidden: int = 0  # packets that an edit list keeps from being shown
    smallest: int = 1 << 31  # bytes
    corrupt: bool = False  # some packet is marked
    cut: bool = False  # the last packet is marked
    latest: int = NO_TIME
    last_ticks: int = 0  # duration of the packet shown latest
    end_s: float = 0.0  # latest time in any stream

    def add(self, packet: av.Packet) -> None:
        """Note one packet of the video stream."""
        if packet.is_discard:
            self.hidden += 1
            return
        time = NO_TIME if packet.pts is None else packet.pts
        if time >= self.latest:
            self.latest, self.last_ticks = time, packet.duration or 0
        self.times.append(time)
        self.keys.append(packet.is_keyframe)
        self.smallest = min(self.smallest, packet.size)
        self.corrupt |= packet.is_corrupt
        self.cut = packet.is_corrupt


def read_packets(decoder: Decoder, limits: Limits) -> Packets:
    """Read all packets and decode as few as it takes to see the first picture."""
    found = Packets()
    for packet in decoder.packets():
        found.end_s = max(found.end_s, _end_s(packet))
        if packet.stream is not decoder.stream:
            continue
        if packet.size:
            found.add(packet)
        if len(found.times) > limits.max_frames:
            cause = f"more than {limits.max_frames} frames"
            raise DecodeError(decoder.name, cause, "cut it into shorter videos")
        if found.frame is None:
            found.frame = next(iter(decoder.decode(packet)), None)
    return found


def _end_s(packet: av.Packet) -> float:
    if packet.pts is None or packet.time_base is None or packet.is_discard:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def pairs_off(packets: Packets, decoder: Decoder) -> bool:
    """Whether every shown packet should give one frame, so that counting packets counts frames."""
    frame, codec = packets.frame, decoder.stream.codec_context.name
    if packets.corrupt or not packets.keys[0] or codec in ("vp8", "libvpx"):  # VP8 hides reference pictures
        return False
    if codec == "mpeg4" and packets.smallest <= NOT_CODED:
        return False
    return not (codec == "h264" and frame is not None and frame.interlaced_frame)  # a packet may be a field


def index_packets(packets: Packets, decoder: Decoder) -> FrameIndex:
    """Number the frames of a file whose packets pair off with them."""
    stored = np.array(packets.times, dtype=np.int64)
    order = np.argsort(stored, kind="stable")
    shown = stored[order]
    local = bool((np.abs(order - np.arange(len(order))) <= REORDER).all()) and shown[0] != NO_TIME
    named = (
        local
        and not packets.hidden
        and bool(packets.keys[0])
        and not CLOCKED.isdisjoint(decoder.family)
        and bool((np.diff(shown) > 0).all())
    )
    starts = np.zeros(1, dtype=np.int64)
    if named:
        keys = np.frombuffer(packets.keys, dtype=np.uint8).astype(bool)
        starts = np.union1d(starts, np.searchsorted(shown, stored[keys]))
    clock = shown if local else None
    seconds, fps, duration = _time(clock, len(stored), packets.last_ticks, decoder)
    return FrameIndex(seconds, shown if named else None, starts, fps, duration)


def index_frames(times: array[int], last_ticks: int, decoder: Decoder) -> FrameIndex:
    """Number the frames that decoding really gave, by their order only."""
    stored = np.array(times, dtype=np.int64)
    clocked = stored[0] != NO_TIME and bool((np.diff(stored) >= 0).all())
    seconds, fps, duration = _time(stored if clocked else None, len(stored), last_ticks, decoder)
    return FrameIndex(seconds, None, np.zeros(1, dtype=np.int64), fps, duration)


def _time(
    clock: NDArray[np.int64] | None, count: int, last_ticks: int, decoder: Decoder
) -> tuple[NDArray[np.float64], float, float]:
    """Seconds of each frame, frames a second and duration, from presentation times or else from the rate."""
    rate = float(decoder.stream.average_rate or DEFAULT_FPS)
    if clock is None:
        return np.arange(count) / rate, rate, count / rate
    seconds = (clock - clock[0]) * decoder.tick_s
    step = float(seconds[-1]) / (count - 1) if seconds[-1] > 0 else 1 / rate
    last = last_ticks * decoder.tick_s
    duration = float(seconds[-1]) + (last if 0 < last < 8 * step else step)
    if abs(rate * duration - count) <= 1.5:
        return seconds, rate, duration
    return seconds, count / duration, duration
