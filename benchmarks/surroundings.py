"""Where and with what a number was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import torch

from foveate import __version__


def versions() -> dict[str, str]:
    """Of everything that a number may depend on."""
    return {
        "foveate": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "av": av.__version__,
        "numpy": np.__version__,
        **{name: version(name) for name in ("openvino", "onnxruntime") if find_spec(name)},
    }


def machine() -> dict[str, str | int | None]:
    """The processor, its cores, and how many threads PyTorch takes of it."""
    return {
        "processor": _processor(),
        "instructions": ", ".join(name for name, there in _abilities().items() if there) or "unknown",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }


def _abilities() -> dict[str, bool]:
    """Which of the instructions that matter here the processor has."""
    able = getattr(torch.cpu, "get_capabilities", dict)()  # which came after 2.10
    return {
        name: bool(able.get(name)) for name in ("avx2", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    }


def _processor() -> str:
    """Its name where Linux tells it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
