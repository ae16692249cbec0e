"""Recognise what a file that is not a video contains, from its first bytes, for error messages.

FFmpeg reports "invalid data"; "a web page" or "the index is missing" is more useful. Nothing here decides
whether a file is accepted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import BinaryIO

HEAD_BYTES = 4096
COPY_AGAIN = "download or copy it again"
GIVE_VIDEO = "give the video file itself"
STILL_PICTURE = ("a still picture, not a video", "give a video, or a folder of numbered pictures")

SIGNATURES: tuple[tuple[bytes, tuple[str, str]], ...] = (
    (b"\x89PNG", STILL_PICTURE),
    (b"\xff\xd8\xff", STILL_PICTURE),
    (b"BM", STILL_PICTURE),
    (b"II*\0", STILL_PICTURE),
    (b"MM\0*", STILL_PICTURE),
    (b"#EXTM3U", ("a playlist that points to other files", GIVE_VIDEO)),
    (b"ffconcat", ("a script that points to other files", GIVE_VIDEO)),
    (b"PK\x03\x04", ("a zip archive", "unpack it")),
    (b"PK\x05\x06", ("a zip archive", "unpack it")),
    (b"\x1f\x8b", ("a gzip archive", "unpack it")),
    (b"%PDF", ("a PDF document", GIVE_VIDEO)),
)


def describe_content(open_file: Callable[[], BinaryIO]) -> tuple[str, str]:
    """Return (cause, hint) for a file that FFmpeg cannot open as one of the accepted formats."""
    try:
        with open_file() as file:
            return _describe(file)
    except OSError:
        return "not a video", "check the file"


def _describe(file: BinaryIO) -> tuple[str, str]:
    head = file.read(HEAD_BYTES)
    if not head:
        return "the file is empty", COPY_AGAIN
    for signature, words in SIGNATURES:
        if head.startswith(signature):
            return words
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return STILL_PICTURE
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "sound only, no video stream", GIVE_VIDEO
    if head[4:8] == b"ftyp":
        return _describe_mp4(file)
    return _describe_text(head)


def _describe_text(head: bytes) -> tuple[str, str]:
    lowered = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a video", "the download failed; " + COPY_AGAIN
    if b"<mpd" in lowered:
        return "a playlist that points to other files", GIVE_VIDEO
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable() or all(c.isprintable() or c in "\r\n\t\f" for c in text):
        return "a text file, not a video", GIVE_VIDEO
    return "not a video of an accepted format", "convert it to MP4, Matroska, WebM, AVI or MPEG"


def _describe_mp4(file: BinaryIO) -> tuple[str, str]:
    file.seek(0)
    for _ in range(256):
        header = file.read(16)
        if len(header) < 8:
            break
        length, name = struct.unpack_from(">I4s", header)
        if name == b"moov":
            return "an MP4 file whose index is damaged", COPY_AGAIN
        if length == 1 and len(header) == 16:
            length = struct.unpack_from(">Q", header, 8)[0]
        if length < 8:
            break
        try:
            file.seek(length - len(header), 1)
        except (OSError, ValueError):
            break
    return "an MP4 file without its index (moov): recording or download never finished", COPY_AGAIN
