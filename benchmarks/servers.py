"""A source that breaks off: video over HTTP, at its own speed, from a server that hangs up now and then."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, Self

import av
import numpy as np

GROUP = 12  # frames from one key frame to the next


def transport_stream(frames: int, fps: int, width: int, height: int) -> list[bytes]:
    """H.264 in an MPEG transport stream, frame by frame: grey that brightens, with a bar that moves."""
    file, ends = io.BytesIO(), [0]
    with av.open(file, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(GROUP)}
        stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = np.full((height, width, 3), 60 + number % 120, np.uint8)
            picture[:, (4 * number) % width :][:, :8] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            ends.append(file.tell())
        container.mux(stream.encode(None))
    data = file.getvalue()
    return [data[start:end] for start, end in pairwise([*ends[:-1], len(data)])]


class Broadcast:
    """A server of one endless address, `url`, that sends `frames` at 25 a second, over and over.

    frames: of a transport stream. drops: how often it hangs up, after `until_s` seconds of a
    connection each; the connection after the last of these goes on until `last_s`, and ends too. After that
    it is not there any more.
    """

    def __init__(self, frames: Sequence[bytes], drops: int, until_s: float, last_s: float) -> None:
        self.connections = 0
        broadcast = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                broadcast.connections += 1
                last = broadcast.connections > drops
                if broadcast.connections > drops + 1:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                with suppress(OSError):  # the reader has left
                    _pour(self.wfile, frames, last_s if last else until_s)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/live"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pour(out: Any, frames: Sequence[bytes], until_s: float) -> None:
    """Write the frames again and again, each when it is due, for so long."""
    begun = time.monotonic()
    for number, frame in enumerate(cycle(frames)):
        due = number / 25
        if due >= until_s:
            return
        time.sleep(max(0.0, begun + due - time.monotonic()))
        out.write(frame)
        out.flush()


def looped(source: Path, out: Path, seconds: float) -> Path:
    """A file that shows another one again and again for so long, without encoding it again; made once."""
    if out.exists():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.mp4")
    with av.open(str(part), "w") as container, av.open(str(source)) as first:
        given = first.streams.video[0]
        stream = container.add_stream_from_template(given)
        packets = [(p.pts, p.dts, bytes(p), p.is_keyframe) for p in first.demux(given) if p.size]
        step = round(1 / (given.average_rate * given.time_base))
        length = step * len(packets)
        for turn in range(int(seconds / float(length * given.time_base)) + 1):
            for pts, dts, data, key in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, given.time_base
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.is_keyframe = key
                container.mux(packet)
    part.replace(out)
    return out
