"""Whether freed memory is kept, seen from the system: by its page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from foveate.infer.allocator import keep_freed_memory

kept = keep_freed_memory()
for turn in range(6):
    if turn == 3:  # until then blocks may still be put elsewhere
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(3 << 21) for _ in range(6)]  # 24 MB each
    del blocks
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 3 * 6 * (3 << 21) * 4 // 4096  # that are written to
GLIBC = platform.libc_ver()[0] == "glibc"


def said(**environment: str) -> tuple[str, int]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    command = [sys.executable, "-c", PROGRAM]
    output = subprocess.check_output(command, text=True, env={**plain, **environment})
    kept, faults = output.split()
    return kept, int(faults)


@pytest.mark.skipif(not GLIBC, reason="needs glibc")
def test_what_is_kept_is_not_cleared_again() -> None:
    kept, faults = said()
    assert kept == "True" and faults < 0.2 * PAGES  # otherwise it is nearly always all of them


def test_the_environment_has_the_last_word() -> None:
    assert said(MALLOC_ARENA_MAX="2")[0] == "False"
