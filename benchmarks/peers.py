"""Another library on the same files: the pipeline of Hugging Face's transformers, if it is installed.

The networks are others, so their multiply-adds stand beside. Weights are untrained: what is compared is
everything from a folder of files to labels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.engines import made
from benchmarks.folder import make_folder
from benchmarks.record import WORK, Spread, Table, Value, in_turns, seconds
from foveate.infer.predict import Predictor
from foveate.layers.macs import macs_from_shapes

OURS = ("slowfast_r50_8x8", "tsm_r50_8", "adafocus_mnv2_r50_128")
VIT_S = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
REPEATS = 3

Named = Callable[[], list[str]]


def run() -> Table:
    """Videos a second of both, in turns."""
    paths = make_folder(WORK / "folder")
    labelling: dict[str, tuple[float, Named]] = {}
    for name in OURS:
        model = made(name)
        for engine in ("eager", "auto"):
            predictor = Predictor(model, engine=engine)
            predictor.warmup()
            macs = next(predictor.predict_all(paths[:1])).cost.gmacs
            about = predictor.engine.about.removeprefix("auto: ").partition(",")[0]
            labelling[f"foveate {name}, {about}"] = macs, partial(ours, predictor, paths)
    if find_spec("transformers"):
        for size, fields in (("S", VIT_S), ("B", {})):
            labelling[f"Hugging Face pipeline, VideoMAE-{size}"] = hugging_face(fields, paths)
    times = in_turns({name: partial(seconds, call) for name, (_, call) in labelling.items()}, REPEATS)
    rows: list[dict[str, Value]] = []
    for name, (gmacs, _) in labelling.items():
        speed = Spread.of([len(paths) / took for took in times[name]])
        rows.append({"what": name, "gmacs": gmacs, "speed": speed})
    about = (
        f"{len(paths)} H.264 files of 10 s, 456x256, as in the benchmark `folder`, one label each, untrained "
        "weights. Hugging Face's pipeline decodes with PyAV and prepares frames with its own processor. "
        f"Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
    )
    return Table(about, {"what": "what", "gmacs": "GMACs a video", "speed": "videos a second"}, rows)


def ours(predictor: Predictor, paths: Sequence[Path]) -> list[str]:
    """The labels of all videos."""
    return [answer.predictions[0].label for answer in predictor.predict_all(paths)]


def hugging_face(fields: dict[str, int], paths: Sequence[Path]) -> tuple[float, Named]:
    """Multiply-adds of a VideoMAE, and its pipeline over the files, one after the other, as documented."""
    from transformers import (  # type: ignore[import-not-found]
        VideoMAEConfig,
        VideoMAEForVideoClassification,
        VideoMAEImageProcessor,
        pipeline,
    )

    net = VideoMAEForVideoClassification(VideoMAEConfig(num_labels=400, **fields)).eval()
    clip = torch.empty(1, 16, 3, 224, 224, device="meta")
    pipe: Any = pipeline("video-classification", model=net, image_processor=VideoMAEImageProcessor())
    names = [str(path) for path in paths]
    gmacs = macs_from_shapes(net, "forward", [clip]) / 1e9
    return gmacs, lambda: [pipe(name)[0]["label"] for name in names]
