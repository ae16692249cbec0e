"""Memory and time of a long video: one graph over all frames against the streamed early part.

Each measurement runs in a process of its own, so that its peak of resident memory is its own: of the whole
process, Python and PyTorch and the video included. What may not grow with the video is the peak less the
video.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.child import in_child
from benchmarks.record import Table, Value, seconds
from foveate.measure.cost import peak_memory_mb
from foveate.models.fullvideo import FullVideo
from foveate.models.zoo import create_model

FRAMES = (32, 128, 512, 2048)
LONG = 10_000  # frames, ResNet-18 and streamed only
SIDE = 112  # pixels
R18, R50 = "fullvideo_r18_32to8", "fullvideo_r50_32to8"
MOST = 12_000  # MB that a measurement may be expected to need; larger ones are left out
FRAME_MB = {R18: {"whole": 4.0, "kept": 0.25}, R50: {"whole": 14.0, "kept": 0.85}}  # for that expectation
COMPARED = 32  # frames of the comparison of gradients
CLUSTERED, LARGE = 1024, 224  # frames of the comparison of times, and their pixels

COLUMNS = {
    "model": "model",
    "early": "early part",
    "frames": "frames",
    "peak": "peak memory, MB",
    "input": "video, MB",
    "rest": "peak less video, MB",
    "growth": "growth from 128 frames, %",
    "seconds": "seconds",
    "share": "clustering / early part, %",
    "error": "gradient off by",
}
ABOUT = (
    f"One training step of one video of {SIDE} x {SIDE} pixels, clustered to 8, in a process of its own. "
    "Whole: one graph. Kept: chunk by chunk, maps of the early part held between its passes. Streamed: "
    "nothing held but bytes. Answer: the logits alone, without a gradient. Peak: resident memory of the "
    "whole process. Gradient off by: |g - whole| / |whole| over all parameters, the norms of the early part "
    "in evaluation mode. Clustering: distances, cuts and means of the maps of "
    f"{CLUSTERED} frames at {LARGE} pixels, beside the seconds of the early part that made them."
)


def run() -> Table:
    """Peak memory and seconds of a step and of an answer, agreement of gradients, cost of clustering."""
    rows: list[dict[str, Value]] = []
    for name in (R18, R50):
        for early in ("whole", "kept", "streamed"):
            frames = [count for count in FRAMES if _fits(name, early, count)]
            frames += [LONG] if (name, early) == (R18, "streamed") else []
            steps = {count: in_child(measure_step, name, early, count) for count in frames}
            rows += [_row(name, early, count, **step) for count, step in _grown(steps).items()]
        for early in ("kept", "streamed"):
            error = in_child(measure_gradient, name, early)
            rows.append(_row(name, f"{early} against whole", COMPARED, error=error))
        share = in_child(measure_share, name)
        rows.append(_row(name, f"no gradient, {LARGE} pixels", CLUSTERED, **share))
    rows.append(_row(R18, "streamed, answer", LONG, **in_child(measure_answer, R18)))
    return Table(ABOUT, COLUMNS, rows)


def _row(name: str, early: str, frames: int, **values: Value) -> dict[str, Value]:
    return {**dict.fromkeys(COLUMNS, ""), "model": name, "early": early, "frames": frames, **values}


def _fits(name: str, early: str, frames: int) -> bool:
    return FRAME_MB[name].get(early, 0.0) * frames < MOST


def _grown(steps: dict[int, dict[str, float]]) -> dict[int, dict[str, Value]]:
    """The steps of some lengths with the growth of what is not the video, beyond 128 frames."""
    found: dict[int, dict[str, Value]] = {}
    for count, step in steps.items():
        longer = count > 128 and 128 in steps
        growth = 100 * (step["rest"] / steps[128]["rest"] - 1) if longer else ""
        found[count] = {**step, "growth": growth}
    return found


def measure_step(name: str, early: str, frames: int) -> dict[str, float]:
    """What a training step takes."""
    model, long = _model(name, early).train(), video(frames)
    taken = seconds(lambda: step(model, long))
    return {**_memory(long), "seconds": taken}


def measure_answer(name: str) -> dict[str, float]:
    """What the logits of a long video take."""
    model, long = _model(name, "streamed").eval(), video(LONG)
    with torch.inference_mode():
        taken = seconds(lambda: model.cluster_videos([long]))
    return {**_memory(long), "seconds": taken}


def measure_gradient(name: str, early: str) -> float:
    """How far the gradient of a streamed early part is from that of one graph, relative."""
    frames = video(COMPARED)
    whole, other = (gradient(_model(name, each).train(), frames) for each in ("whole", early))
    return float((other - whole).norm() / whole.norm())


def gradient(model: FullVideo, frames: Tensor) -> Tensor:
    """Of all parameters, in one row; the norms of the early part evaluate, as streaming needs them."""
    late = {part for stage in model.backbone.stages[model.config.after :] for part in stage.modules()}
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d) and module not in late:
            module.eval()
    step(model, frames)
    return torch.cat([own.grad.flatten().double() for own in model.parameters() if own.grad is not None])


def measure_share(name: str, frames: int = CLUSTERED) -> dict[str, float]:
    """Seconds of the early part, and what clustering its maps takes beside it, in percent."""
    model, chunk = _model(name, "whole", LARGE).eval(), 16
    clip = video(frames, LARGE)
    with torch.inference_mode():
        first = model.early(clip[:chunk])
        maps = first.new_empty(frames, *first.shape[2:], first.shape[1]).permute(0, 3, 1, 2)  # channels last
        early = 0.0
        for start in range(0, frames, chunk):
            begun = time.perf_counter()
            part = model.early(clip[start : start + chunk])
            early += time.perf_counter() - begun
            maps[start : start + chunk] = part
        clustering = min(seconds(lambda: model.clustering(maps, [frames])) for _ in range(3))
    return {**_memory(clip), "seconds": early, "share": 100 * clustering / early}


def step(model: FullVideo, frames: Tensor) -> None:
    """Forward and backward of one video."""
    logits = model.cluster_videos([frames]).logits
    F.cross_entropy(logits, torch.tensor([0])).backward()


def video(frames: int, side: int = SIDE) -> Tensor:
    """Bytes (T, S, S, 3), a texture that moves."""
    draw = torch.Generator().manual_seed(0)
    wide = torch.randint(0, 256, (side, side + 64, 3), dtype=torch.uint8, generator=draw)
    made = torch.empty(frames, side, side, 3, dtype=torch.uint8)
    for t, frame in enumerate(made):
        frame.copy_(wide[:, (t // 4) % 64 :][:, :side])
    return made


def _memory(frames: Tensor) -> dict[str, float]:
    peak, own = peak_memory_mb(), frames.nbytes / 1e6
    return {"peak": peak, "input": own, "rest": peak - own}


def _model(name: str, early: str, side: int = SIDE) -> FullVideo:
    torch.manual_seed(0)
    model = create_model(name, 4, early=early, size=side, resize=side)
    assert isinstance(model, FullVideo)
    return model.to(memory_format=torch.channels_last)
