"""What a server allows, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.video import Limits

MB = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")  # what only this machine reaches


@dataclass(frozen=True)
class Settings:
    """Limits of a server on what strangers may ask of it."""

    most_bytes: int = 100 * MB  # of a body
    most_frames: int = 20_000  # of a video
    most_pixels: int = 4096 * 4096  # of a frame
    read_s: float = 20.0  # to read one video
    read_bytes: int = 1 << 30  # of memory to read one video
    answer_s: float = 60.0  # from the start of a video's reading to its answer
    workers: int = 2  # videos that are read at a time; the model runs on one of them
    queue: int = 8  # videos that wait for a worker
    full_s: float = 0.5  # that a request is held before it is told that there is no room
    uploads: int = 32  # bodies that are received at a time
    lives: int = 4  # cameras
    batch: int = 100  # videos in an archive
    connections: int = 512
    head_s: float = 10.0  # to receive the head of a request
    stall_s: float = 10.0  # without anything of a body, or a frame of a camera
    least_rate: int = 16 << 10  # bytes a second of a body, after `stall_s`
    drain_s: float = 6.0  # for answers that have begun, when the server is stopped

    def reading(self) -> Limits:
        return Limits(self.most_pixels, self.most_frames, self.most_bytes)
