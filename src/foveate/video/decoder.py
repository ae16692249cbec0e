"""One pass over a container file through PyAV, with strict limits on what FFmpeg may do.

FFmpeg opens playlists, scripts and pictures under any file name and allocates whatever a header asks for.
Here only the listed containers and codecs are tried, no other file or address is opened, and frames above the
limit are never allocated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Self

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from foveate.video.base import DecodeError, Limits
from foveate.video.content import GIVE_VIDEO, STILL_PICTURE, describe_content
from foveate.video.source import VideoBytes

FORMATS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "m4v", "h263", "h264", "hevc", "vvc", "obu"),
    *("ivf", "flv", "live_flv", "asf", "ogg", "rm", "mxf", "nut", "dv", "dhav", "wtv", "gif"),
)  # names of FFmpeg's demultiplexers
CODECS = (
    *("h261", "h263", "h263i", "h263p", "h264", "hevc", "vvc", "av1", "libdav1d", "vp3", "vp4", "vp5", "vp6"),
    *("vp6a", "vp6f", "vp7", "vp8", "libvpx", "vp9", "libvpx-vp9", "mpeg1video", "mpeg2video", "mpegvideo"),
    *("mpeg4", "msmpeg4", "msmpeg4v1", "msmpeg4v2", "wmv1", "wmv2", "wmv3", "vc1", "theora", "flv", "svq1"),
    *("svq3", "rv10", "rv20", "rv30", "rv40", "mjpeg", "mjpegb", "jpeg2000", "prores", "dnxhd", "cfhd"),
    *("dvvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "v210", "cinepak", "indeo3", "indeo4"),
    *("indeo5", "msvideo1", "msrle", "qtrle", "rpza", "png", "gif"),
)  # names of FFmpeg's decoders
PICTURE_BRANDS = {"avif", "avis", "heic", "heix", "heim", "heis", "mif1", "msf1"}  # still images in MP4
FAILURES = (av.error.FFmpegError, OSError, ValueError, OverflowError, MemoryError)


class Decoder:
    """An open file and its first video stream; packets that cannot be decoded are counted and skipped."""

    def __init__(self, file: VideoBytes, limits: Limits) -> None:
        self.name = file.name
        self._file = file
        self.errors: list[str] = []  # the message of each undecodable packet
        self.decoded = 0  # frames
        self.late_streams = False  # whether a stream appeared behind the beginning, which PyAV does not give
        self.moved = False  # from the beginning of the file
        self._packets: list[av.Packet] | None = None  # from the beginning to the end, to go through again
        self._begun: deque[list[av.VideoFrame]] = deque()  # what the first of them gave, decoded already
        self._limits = limits
        self.container = _open(file, limits)
        try:
            self.stream = self._video_stream()
            context = self.stream.codec_context
            context.thread_count = limits.threads
            context.thread_type = "AUTO" if limits.threads > 1 else "NONE"  # frames at once, not only slices
            context.options = {"max_pixels": _ffmpeg_max_pixels(limits)}
        except BaseException:
            self.container.close()
            raise

    def _video_stream(self) -> av.VideoStream:
        container = self.container
        if container.metadata.get("major_brand") in PICTURE_BRANDS:
            raise DecodeError(self.name, *STILL_PICTURE)
        moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not moving:
            cover = ", only a cover picture" if container.streams.video else ""
            raise DecodeError(self.name, f"no video stream{cover}", GIVE_VIDEO)
        context = moving[0].codec_context
        if context is None or context.name not in CODECS:
            codec = f"the codec {context.name}" if context else "an unknown codec"
            raise DecodeError(self.name, f"{codec} is not accepted", "convert it to H.264")
        return moving[0]

    @property
    def tick_s(self) -> float:
        """Seconds in one tick of the stream's clock."""
        return float(self.stream.time_base or 0)

    @property
    def file_size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    @property
    def family(self) -> set[str]:
        """FFmpeg's names of the container format, such as {"mov", "mp4", "m4a", ..}."""
        return set(self.container.format.name.split(","))

    @property
    def has_end(self) -> bool:
        """Whether it is known where the file ends, which a broadcast does not tell."""
        known = self.container.duration is not None
        return known or (
            "hls" not in self.family and self.container.size > 0
        )  # that of a playlist says nothing

    def packets(self) -> Iterator[av.Packet]:
        """Yield the packets of all streams in file order, then empty ones that flush the decoders."""
        self.moved = True
        try:
            yield from self.container.demux()
        except IndexError:  # from PyAV if a stream appears mid-file; raised after our flushing packet
            self.late_streams = True
        except FAILURES as error:
            raise DecodeError(self.name, *self._file.explain(error)) from error

    def rewind(self, packets: list[av.Packet], begun: list[list[av.VideoFrame]]) -> None:
        """Go on as if nothing had been read: `packets` are all of the stream, in file order.

        begun: the frames that came out at each of the first packets, which are not decoded again.
        """
        self.moved, self._packets, self._begun = False, packets, deque(begun)

    @property
    def begun(self) -> int:
        """How many of the next packets were decoded before `rewind`; all of them have to be gone through."""
        return len(self._begun)

    def decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """Decode a packet: the frames it completes, or none for a damaged packet, which is counted.

        None, like an empty packet, gives the frames that are held back.
        """
        if self._begun:
            return self._begun.popleft()
        try:
            frames = self.stream.codec_context.decode(packet)
        except (av.error.ArgumentError, MemoryError) as error:  # how FFmpeg says that max_pixels is exceeded
            raise self._too_large() from error
        except FAILURES as error:
            self.errors.append(getattr(error, "strerror", None) or str(error))
            return []
        self.decoded += len(frames)
        if any(frame.width * frame.height > self._limits.max_pixels for frame in frames):
            raise self._too_large()
        return frames

    def decode_last(self, packet: av.Packet) -> list[av.VideoFrame]:
        """Decode a packet and take what the decoder holds back; it has to seek before it decodes another."""
        frames = self.decode(packet)
        return frames + self.decode(None) if packet.size else frames

    def decode_alone(self, packet: av.Packet) -> list[av.VideoFrame]:
        """Decode a packet without waiting for those after it; others are decoded after a seek."""
        frames = self.decode_last(packet)
        self.stream.codec_context.flush_buffers()
        return frames

    def no_frames_error(self, packets: int) -> DecodeError:
        """The error for a file of which no frame could be decoded. packets: how many it has."""
        context = self.stream.codec_context
        if context.width * context.height > self._limits.max_pixels:
            return self._too_large()
        cause = "0 frames: the picture data is missing"
        if packets:
            cause = ": ".join([f"0 of {packets} frames can be decoded", *self.errors[:1]]).lower()
        return DecodeError(self.name, cause, "copy the file again")

    def _too_large(self) -> DecodeError:
        cause = f"a picture is larger than {self._limits.max_pixels} pixels, or claims to be"
        return DecodeError(self.name, cause, "shrink the video")

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yield every frame from the current position to the end."""
        for packet in self.own_packets():
            yield from self.decode(packet)

    def own_packets(self) -> Iterator[av.Packet]:
        """Yield the packets of the video stream in file order, then an empty one."""
        if self._packets is not None:
            packets, self._packets, self.moved = self._packets, None, True
            return iter(packets)
        return (packet for packet in self.packets() if packet.stream is self.stream)

    def seek(self, pts: int) -> None:
        """Seek to the last key frame at or before a presentation time, in ticks of the stream."""
        self._packets = None
        self._begun.clear()
        try:
            self.container.seek(pts, stream=self.stream)
        except FAILURES as error:
            self.errors.append(f"seek: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.container.close()


class RGBConverter:
    """Converts decoded frames of any format, size and rotation to upright uint8 RGB (height, width, 3)."""

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._scaler = VideoReformatter()

    @staticmethod
    def upright(frame: av.VideoFrame) -> tuple[int, int]:
        """The (width, height) of a frame after rotation to upright."""
        return (frame.height, frame.width) if _quarters(frame) % 2 else (frame.width, frame.height)

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        turns = _quarters(frame)
        width, height = reversed(self._size) if turns % 2 else self._size
        rgb = self._scaler.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, turns), dtype=np.uint8)


def _quarters(frame: av.VideoFrame) -> int:
    """Number of anticlockwise quarter turns that make the frame upright."""
    return round(frame.rotation / 90) % 4


def _ffmpeg_max_pixels(limits: Limits) -> str:
    """FFmpeg's own limit, above ours because it includes the padding that a codec adds to a frame."""
    return str(limits.max_pixels + limits.max_pixels // 4 + (1 << 16))


def _open(file: VideoBytes, limits: Limits) -> av.container.InputContainer:
    how = file.opening
    options = {
        "format_whitelist": ",".join((*FORMATS, *how.formats)),
        "codec_whitelist": ",".join(CODECS),
        "protocol_whitelist": how.protocols,
        "max_pixels": _ffmpeg_max_pixels(limits),
        **how.options,
    }
    target: Any = file.for_ffmpeg()  # a path or a file object: PyAV declares a result for each
    try:
        return av.open(
            target, format=how.format, options=options, timeout=how.timeout_s, metadata_errors="replace"
        )
    except (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError) as error:
        raise DecodeError(file.name, *describe_content(file.open)) from error
    except FAILURES as error:
        raise DecodeError(file.name, *file.explain(error)) from error
