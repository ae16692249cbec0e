"""The files that the documents' commands name, small: videos, folders, lists, runs, checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from foveate.data.synthetic import FiguresConfig
from foveate.data.synthetic.encode import encode_h264
from foveate.data.synthetic.figures import render_clip
from foveate.models.budget import Curve, Point
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.stages import train_model
from foveate.weights.file import read_model, save_model
from parity_cases import ParityCase

ACTIONS = ("clap", "wave")
RUNS = ("runs/mine", "runs/tsm", "runs/adafocus", "runs/small", "runs/pans")
CHECKPOINTS = {  # file: a parity case whose state dict has the keys of that release
    "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth": "tsm/tsm_resnet50_seg8_k400_96",
    "resnet50-0676ba61.pth": "blvnet_tam/tsn_resnet50_f8_96",
}


def make_inputs(folder: Path) -> None:
    """Write all of them into an empty folder."""
    config = FiguresConfig(width=96, height=72, frames=12, fps=8, actions=ACTIONS)
    clips = [encode_h264(render_clip(config, seed, label=seed % 2).frames, 8, 25) for seed in range(6)]
    for name in ("video.mp4", "long.mp4", "folder/a.mp4", "folder/b.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(clips[0])
    videos = {"train": range(4), "val": range(4, 6)}
    for split, seeds in videos.items():
        for seed in seeds:
            place = folder / "my_videos" / split / ACTIONS[seed % 2] / f"{seed}.mp4"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(clips[seed])
    for name, split in {
        "train.txt": "train",
        "val.txt": "val",
        "test.txt": "val",
        "old.txt": "train",
    }.items():
        lines = [f"my_videos/{split}/{ACTIONS[seed % 2]}/{seed}.mp4 {seed % 2}" for seed in videos[split]]
        (folder / name).write_text("\n".join(lines) + "\n")
    shutil.copytree(folder / "my_videos", folder / "pans")
    (folder / "like_them").mkdir()
    for number in range(16):
        (folder / "like_them" / f"{number}.mp4").write_bytes(clips[number % len(clips)])
    make_models(folder)


def make_models(folder: Path) -> None:
    """A run of a tiny network, copied to every name of a run; a full-video model; official checkpoints."""
    job = TrainJob(
        videos=folder / "my_videos",
        split="train",
        val=folder / "my_videos",
        val_split="val",
        out=folder / RUNS[0],
        model="tsm_r10_8",
        settings=("width=0.125", "size=32", "resize=32", "frames=2"),
        workers=0,
        train=TrainConfig(epochs=1, batch=4),
    )
    train_model(job)
    add_curve(folder / RUNS[0] / "best.safetensors")
    for name in RUNS[1:]:
        shutil.copytree(folder / RUNS[0], folder / name)
    full = create_model("fullvideo_small", 2, frames=8, clusters=4).eval()
    full.labels = ACTIONS
    save_model(full, folder / "best.safetensors")
    for name, case in CHECKPOINTS.items():
        torch.save({"state_dict": ParityCase(case).state_dict()}, folder / name)


def add_curve(path: Path) -> None:
    """What `foveate budget` would put into the file of a model of two frames."""
    model, card = read_model(path)
    points = (Point(0.5, 0.001, 0.5, (1.0,)), Point(1.0, 0.002, 0.5, (2.0,)))
    model.curve = Curve("frames", "top1", 2, points)
    save_model(model, path, card.training)
