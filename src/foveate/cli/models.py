"""Verbs about one model: what it costs, and how an official one becomes ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import tyro

from foveate.cli.inputs import demand, demand_writable, device_named, resize_input
from foveate.cli.show import print_json, print_line, print_table
from foveate.data.class_names import read_class_names
from foveate.errors import UsageError
from foveate.measure.cost import count_macs, count_parameters, measure_latency, peak_memory_mb
from foveate.models.base import VideoModel
from foveate.models.zoo import MODELS, create_model, create_outline, model_spec
from foveate.train.job import parse_settings
from foveate.weights.file import read_model, save_model
from foveate.weights.hub import is_hub_name
from foveate.weights.load import known_weights, load_model
from foveate.weights.official import load_official
from foveate.weights.origins import ORIGINS

if TYPE_CHECKING:
    OriginName = str
else:
    OriginName = Literal[tuple(origin.name for origin in ORIGINS)]  # `--help` lists them


def catalogue_row(name: str) -> dict[str, object]:
    """What `foveate models` prints of a model, kept in models/catalogue.json by docs/make_tables.py."""
    known = MODELS[name]
    model = create_outline(name)  # counting with shapes alone costs no arithmetic
    spec = model.spec
    return {
        "name": name,
        "input": f"{spec.frames}x{spec.size}x{spec.size}",
        "gmacs": None if model.dynamic else round(_count(model) / 1e9, 2),
        "mparams": round(count_parameters(model) / 1e6, 2),
        "source": known.source,
        "published": known.published,
        "weights": ", ".join(known_weights(name)),
    }


def _count(model: VideoModel) -> int:
    """Multiply-adds of one clip; a model that must see a clip to run gets a black one."""
    spec = model.spec
    shape = (1, spec.channels, spec.frames, spec.size, spec.size)
    try:
        return count_macs(model, torch.empty(shape, device="meta")).total
    except RuntimeError:
        return count_macs(create_model(model.name), torch.zeros(shape)).total


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
    demand(1, frames=frames, size=size, batch=batch, repeats=repeats, threads=threads)
    if threads:
        torch.set_num_threads(threads)
    net = _named_or_read(model).to(device_named(device)).eval()
    resize_input(net, size, None)
    shape = (batch, net.spec.channels, frames or net.spec.frames, net.spec.size, net.spec.size)
    report = {"model": model} | _measure(net, shape, repeats, device)
    if json:
        print_json(report)
    else:
        _print_profile(report)
    return 0


def _named_or_read(name: str) -> VideoModel:
    """An untrained model of the zoo, which costs what a trained one does, or that of a file."""
    if is_hub_name(name) or Path(name).is_dir():
        return load_model(name)
    if name in MODELS or not Path(name).exists():
        return create_model(name)
    return read_model(Path(name))[0]


@torch.inference_mode()
def _measure(net: VideoModel, shape: tuple[int, ...], repeats: int, device: str) -> dict[str, Any]:
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    before = peak_memory_mb(device)
    latency = measure_latency(lambda: net(clip), repeats, device)
    peak = peak_memory_mb(device)
    cost = count_macs(net, clip)
    return {
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


def _print_profile(report: dict[str, Any]) -> None:
    whole = report["gmacs"]
    parts = [
        (part, gmacs, f"{gmacs / max(whole, 1e-9):.1%}") for part, gmacs in report["gmacs_by_part"].items()
    ]
    print_line(f"{report['model']} on a clip of {'x'.join(map(str, report['input']))}")
    print_table(("part", "GMACs#", "share#"), [*parts, ("all", whole, "100.0%")])
    latency, peak = report["latency_ms"], report["peak_memory_mb"]
    quartiles = f"quartiles {latency['low']:.1f} to {latency['high']:.1f}"
    print_line(f"parameters   {report['mparams']:.3f} M")
    print_line(f"latency      {latency['median']:.1f} ms ({quartiles}) with {report['threads']} threads")
    print_line(
        f"peak memory  {peak:.0f} MB, {peak - report['memory_before_mb']:.0f} MB of it to run the model"
    )


def convert(
    checkpoint: tyro.conf.Positional[Path],
    name: str,
    out: Path,
    origin: OriginName | None = None,
    classes: str | None = None,
    settings: tuple[str, ...] = (),
    independent: bool = False,
    entry: str | None = None,
    json: bool = False,
) -> int:
    """Turn an official checkpoint, or one of your own script, into a Foveate file.

    Args:
        checkpoint: The file as its authors released it. It is read, never executed.
        name: The model it holds, a name of the zoo.
        out: The file to write, ending in .safetensors.
        origin: Whose naming the file follows; found out if not given.
        classes: Class names for the file: a text or JSON file, or a public set such as kinetics400. Networks
            of ImageNet bring theirs.
        settings: Fields of the model's configuration, such as sampling=rounded_segments of SlowFast on
            Something-Something, or policy=random for a file of AdaFocus without its policy.
        independent: Several classes may be true at once, as in Charades: scores are sigmoids.
        entry: The part of the checkpoint to take, where several hold weights, such as ema.
        json: Print one JSON object.
    """
    if out.suffix != ".safetensors":
        raise UsageError(out, "does not end in .safetensors", "so that others know what it is")
    demand_writable(out, checkpoint)
    model_spec(name)
    names = read_class_names(classes) if classes else ()
    model = load_official(checkpoint, name, origin, entry=entry, **parse_settings(settings))
    if names and len(names) != model.num_classes:
        raise UsageError(classes, f"{len(names)} class names for a model of {model.num_classes} classes")
    model.labels, model.independent = names or model.labels, independent
    save_model(model, out, {"converted_from": checkpoint.name})
    if json:
        print_json({"model": str(out), "name": name, "classes": model.num_classes})
    else:
        print_line(f"{out}: {name}, {model.num_classes} classes")
    return 0
