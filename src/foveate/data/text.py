"""Text files of lists and of class names: their lines, and the numbers in them."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from functools import lru_cache
from pathlib import Path

from foveate.errors import DataError

UNPACKED_LIMIT = 1 << 30  # bytes that a gzip archive of a list may hold
HEAD = 1 << 16  # bytes by which a file is judged: it is probably a video of gigabytes
GZIP = b"\x1f\x8b"
NOT_TEXT = {  # what people give in place of a list, by its first bytes, and what to do
    b"PK\x03\x04": ("an Excel or zip file, not text", "export it as CSV"),
    b"\xd0\xcf\x11\xe0": ("an Excel file, not text", "export it as CSV"),
    b"PAR1": ("a Parquet file, not text", "export it as CSV"),
    b"SQLite": ("a database, not text", "export it as CSV"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it, or compress it by gzip"),
    b"BZh": ("compressed by bzip2", "unpack it, or compress it by gzip"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "unpack it, or compress it by gzip"),
}


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without byte order mark and carriage returns.

    The file is UTF-8, or UTF-16 or UTF-32 as Windows and Excel write them; a gzip archive of one is read
    through. Lines end in a line feed, with or without a carriage return, or in carriage returns alone: file
    names may hold any of the rarer separators. A file that is missing, is no text, or holds a NUL character
    raises DataError, with the line where there is one.
    """
    if not path.is_file():
        raise DataError(path, "not a regular file" if path.exists() else "no such file or folder")
    try:
        with path.open("rb") as file:
            data = _content(path, file)
    except OSError as error:
        raise DataError(path, error.strerror or str(error)) from error
    text = _decoded(path, data)
    if (position := text.find("\0")) >= 0:
        raise DataError(_place(path, text, position), "holds a NUL byte", "is it a text list?")
    return (text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")).split("\n")


def _content(path: Path, file: io.BufferedReader) -> bytes:
    """All bytes of a file that may be text, unpacked; the first ones of another."""
    head = file.read(HEAD)
    if head.startswith(GZIP):
        file.seek(0)
        return _unpacked(path, file)
    for magic, (cause, hint) in NOT_TEXT.items():
        if head.startswith(magic):
            raise DataError(path, cause, hint)
    return head if _encoding(head) == "utf-8" and b"\0" in head else head + file.read()


def _unpacked(path: Path, file: io.BufferedReader) -> bytes:
    try:
        data = gzip.GzipFile(fileobj=file).read(UNPACKED_LIMIT + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(path, f"a damaged gzip archive: {error}", "copy it again") from error
    if len(data) > UNPACKED_LIMIT:
        raise DataError(path, "a gzip archive of more than 1 GB of text", "unpack it, and split it")
    return data


def _encoding(data: bytes) -> str:
    """By the byte order mark; without one, UTF-16 shows by NUL bytes in every second place only."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for encoding, high, low in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        sample = data[:HEAD]
        if 4 * sample[high::2].count(0) > len(sample[high::2]) and not sample[low::2].count(0):
            return encoding
    return "utf-8"


def _decoded(path: Path, data: bytes) -> str:
    encoding = _encoding(data)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DataError(path, f"is not whole {encoding.upper()} text", "save it as UTF-8") from error
        line = data.count(b"\n", 0, error.start) + 1
        cause = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise DataError(f"{path}:{line}", cause, "save it as UTF-8") from error


def _place(path: Path, text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    return f"{path}:{line}"


@lru_cache(maxsize=1 << 16)
def whole_number(text: str) -> int | None:
    """The number that plain ASCII digits write, else None: no sign, point, exponent or underscore."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 19 else None


def like_number(text: str) -> bool:
    """Whether a text is meant as a number, of whatever kind, or is nothing at all."""
    return text.lstrip("+-").replace(".", "", 1).isdecimal() or not text
