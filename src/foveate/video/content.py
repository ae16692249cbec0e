"""Name what a file that is not a video holds instead, from its first bytes.

Decoders answer "invalid data" or "invalid argument"; a person wants to hear "a web page" or "the index
is missing". Nothing here decides whether a file is accepted, only how its refusal is worded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import BinaryIO

HEAD = 4096
AGAIN = "download or copy it again"
ALONE = "give the video file itself"
STILL = ("a still picture, not a video", "give a video, or a folder of numbered pictures")

SIGNATURES: tuple[tuple[bytes, tuple[str, str]], ...] = (
    (b"\x89PNG", STILL),
    (b"\xff\xd8\xff", STILL),
    (b"BM", STILL),
    (b"II*\0", STILL),
    (b"MM\0*", STILL),
    (b"#EXTM3U", ("a playlist that points to other files", ALONE)),
    (b"ffconcat", ("a script that points to other files", ALONE)),
    (b"PK\x03\x04", ("a zip archive", "unpack it")),
    (b"PK\x05\x06", ("a zip archive", "unpack it")),
    (b"\x1f\x8b", ("a gzip archive", "unpack it")),
    (b"%PDF", ("a PDF document", ALONE)),
)


def name_content(open_file: Callable[[], BinaryIO]) -> tuple[str, str]:
    """Return (cause, hint) for a file that no accepted demultiplexer takes."""
    try:
        with open_file() as file:
            return _name(file)
    except OSError:
        return "not a video", "check the file"


def _name(file: BinaryIO) -> tuple[str, str]:
    head = file.read(HEAD)
    if not head:
        return "the file is empty", AGAIN
    for signature, words in SIGNATURES:
        if head.startswith(signature):
            return words
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return STILL
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "sound only, no video stream", ALONE
    if head[4:8] == b"ftyp":
        return _name_mp4(file)
    return _name_text(head)


def _name_text(head: bytes) -> tuple[str, str]:
    lowered = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a video", "the download failed; " + AGAIN
    if b"<mpd" in lowered:
        return "a playlist that points to other files", ALONE
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < HEAD else "ignore")
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable() or all(c.isprintable() or c in "\r\n\t\f" for c in text):
        return "a text file, not a video", ALONE
    return "not a video of an accepted format", "convert it to MP4, Matroska, WebM, AVI or MPEG"


def _name_mp4(file: BinaryIO) -> tuple[str, str]:
    file.seek(0)
    for _ in range(256):
        header = file.read(16)
        if len(header) < 8:
            break
        length, name = struct.unpack_from(">I4s", header)
        if name == b"moov":
            return "an MP4 file whose index is damaged", AGAIN
        if length == 1 and len(header) == 16:
            length = struct.unpack_from(">Q", header, 8)[0]
        if length < 8:
            break
        try:
            file.seek(length - len(header), 1)
        except (OSError, ValueError):
            break
    return "an MP4 file without its index (moov): recording or download never finished", AGAIN
