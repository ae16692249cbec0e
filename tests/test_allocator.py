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

kept = {keep}
for turn in range(6):
    if turn == 1:  # the first has it cleared
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(1 << 22) for _ in range(3)]  # 16 MB each
    del blocks
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GLIBC = platform.libc_ver()[0] == "glibc"


def said(keep: str, **environment: str) -> tuple[str, int]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    command = [sys.executable, "-c", PROGRAM.format(keep=keep)]
    output = subprocess.check_output(command, text=True, env={**plain, **environment})
    kept, faults = output.split()
    return kept, int(faults)


@pytest.mark.skipif(not GLIBC, reason="needs glibc")
def test_what_is_kept_is_not_cleared_again() -> None:
    kept, faults = said("keep_freed_memory()")
    assert kept == "True" and faults < 10_000  # of 61,440 pages
    assert said("False")[1] > 20_000


def test_the_environment_has_the_last_word() -> None:
    assert said("keep_freed_memory()", MALLOC_ARENA_MAX="2")[0] == "False"
