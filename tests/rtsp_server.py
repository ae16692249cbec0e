"""A small RTSP server (RFC 2326): one H.264 stream, interleaved with the requests on one TCP connection."""

from __future__ import annotations

import io
import re
import socket
import struct
import threading
import time
from fractions import Fraction
from typing import Self

import av
import numpy as np

PAYLOAD = 1200  # bytes of a unit in one RTP packet
H264 = 96  # the number of the payload type that the description gives to H.264


def units_of_frames(count: int, width: int, height: int) -> list[list[bytes]]:
    """The H.264 units of each of `count` frames, with the parameter sets before every key frame."""
    file = io.BytesIO()
    with av.open(file, "w", format="h264") as container:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "10"}
        stream = container.add_stream("libx264", rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frames = []
        for number in range(count):
            picture = np.full((height, width, 3), 4 * number % 256, np.uint8)
            packets = stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
            frames.append(b"".join(map(bytes, packets)))
    return [[unit for unit in re.split(rb"\0\0\0?\x01", frame) if unit] for frame in frames]


def rtp_payloads(unit: bytes) -> list[bytes]:
    """One unit whole, or in fragments where it is too large (RFC 6184, section 5.8)."""
    if len(unit) <= PAYLOAD:
        return [unit]
    pieces = [unit[start : start + PAYLOAD] for start in range(1, len(unit), PAYLOAD)]
    indicator, kind = (unit[0] & 0xE0) | 28, unit[0] & 0x1F
    ends = [0x80, *[0] * (len(pieces) - 2), 0x40]
    return [bytes([indicator, end | kind]) + piece for end, piece in zip(ends, pieces, strict=True)]


class RTSPServer:
    """Serves frames at 25 a second to whoever plays `url`, and hangs up after the last one."""

    def __init__(self, frames: list[list[bytes]]) -> None:
        self._frames = frames
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._socket.getsockname()[1]}/camera"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    self._answer(connection)
        except OSError:
            return

    def _answer(self, connection: socket.socket) -> None:
        requests = connection.makefile("rb")
        while line := requests.readline():
            method, headers = line.split()[0].decode(), {}
            while (header := requests.readline().strip()) != b"":
                name, _, value = header.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = ""
            extra = {"Public": "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"}
            if method == "DESCRIBE":
                body = (
                    f"v=0\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP {H264}\r\na=rtpmap:{H264} H264/90000\r\n"
                )
                extra = {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
            elif method == "SETUP":
                extra = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1", "Session": "1"}
            elif method == "PLAY":
                extra = {"Session": "1"}
            lines = ["RTSP/1.0 200 OK", f"CSeq: {headers['cseq']}"]
            lines += [f"{name}: {value}" for name, value in extra.items()]
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
            if method == "PLAY":
                self._play(connection)
                return

    def _play(self, connection: socket.socket) -> None:
        sequence = 0
        for number, units in enumerate(self._frames):
            payloads = [payload for unit in units for payload in rtp_payloads(unit)]
            for place, payload in enumerate(payloads):
                last = 0x80 if place == len(payloads) - 1 else 0
                header = struct.pack(">BBHII", 0x80, last | H264, sequence % 65536, 3600 * number, 7)
                connection.sendall(struct.pack(">cBH", b"$", 0, len(header + payload)) + header + payload)
                sequence += 1
            time.sleep(0.04)
