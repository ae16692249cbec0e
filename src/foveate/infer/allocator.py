"""The allocator of the C library, told to keep what networks give back."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress

LARGEST_KEPT = 256 << 20, 32 << 20  # bytes of a block that is kept; glibc before 2.35 takes only the second
MOST_KEPT = 1 << 30  # bytes that lie free at the end of the heap before they are given back
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as <malloc.h> numbers them
CHOSEN_BY = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning it to the system; whether it will.

    A network asks for the same sizes over and over. glibc returns large blocks when they are freed, and the
    system then clears every page anew before the next layer may write to it, which takes up to a fourth of
    the time (`python -m benchmarks allocator`). The peak stays about the same; it is kept until the end.
    Blocks of other threads than the main one are kept up to 64 MB. With another C library, or where the
    environment says how to allocate (`MALLOC_..`, `GLIBC_TUNABLES`, `LD_PRELOAD`), nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(CHOSEN_BY) for name in os.environ):
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        large = any(mallopt(MMAP_THRESHOLD, size) for size in LARGEST_KEPT)
        return bool(large and mallopt(TRIM_THRESHOLD, MOST_KEPT))
    return False
