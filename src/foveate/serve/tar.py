"""Read the files of a tar archive from a stranger.

The standard library's reader follows extensions whose parsing has had holes that cost time and memory; here
only plain headers are understood (POSIX.1-1988 ustar), and everything but regular files is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from foveate.errors import DataError

BLOCK = 512  # bytes
HINT = "make it with `tar --format=ustar -c FILES`"


def members(archive: BinaryIO, most: int) -> Iterator[tuple[str, int, int]]:
    """Yield name, place and length in bytes of each regular file. most: of files.

    DataError for what is no archive, is cut short, or has more headers than four a file.
    """
    length = archive.seek(0, 2)
    place = files = 0
    for _ in range(4 * most + 2):
        archive.seek(place)
        head = archive.read(BLOCK)
        if not head.strip(b"\0"):  # the end, or nothing more
            if files == 0:
                raise DataError("archive", "has no files", HINT)
            return
        if len(head) < BLOCK or _number(head[148:156]) != sum(head) - sum(head[148:156]) + 8 * ord(" "):
            raise DataError("archive", "is no tar archive, or damaged", HINT)
        size = _number(head[124:136])
        if size < 0:
            raise DataError("archive", "has a file of no length that could be", HINT)
        start, place = place + BLOCK, place + BLOCK + -(-size // BLOCK) * BLOCK
        if start + size > length:
            raise DataError("archive", "is cut short", HINT)
        if head[156:157] in (b"0", b"\0"):
            files += 1
            if files > most:
                break
            folder = head[345:500].rstrip(b"\0") + b"/" if head[257:263] == b"ustar\0" else b""
            name = head[:100].partition(b"\0")[0]
            yield (folder.lstrip(b"/") + name).decode("utf-8", "replace"), start, size
    raise DataError("archive", f"has more than {most} files", "send several")


def _number(digits: bytes) -> int:
    """An octal number of a header; -1 for anything else, which no sum or length is."""
    digits = digits.strip(b" \0")
    return int(digits or b"0", 8) if not digits.strip(b"01234567") else -1
