"""Train a small model on a folder with one sub-folder a class, such as walk/, jump/ and fall/.

    python examples/train_on_a_folder.py [FOLDER]

Without a folder it makes one: 120 videos of a small person who does one of three things. A run folder is
never overwritten: before a second run remove work/examples/run. Expected at the end, after about a minute on
two cores:

    150 steps, 3 classes: fall, jump, walk
    the model: work/examples/run/best.safetensors

This network is tiny and starts from nothing, which made figures allow. For real videos start from trained
weights: `model="x3d_s"` with `weights="kinetics400"`, without these settings.
"""

from __future__ import annotations

import sys
from pathlib import Path

from foveate.data.synthetic import FiguresConfig, make_figures
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.stages import train_model
from foveate.video.transform import Augment

WORK = Path("work/examples")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else make_folder()
    job = TrainJob(
        videos=folder,
        out=WORK / "run",
        model="tsm_r10_8",
        settings=("width=0.25", "size=80", "resize=80"),
        train=TrainConfig(epochs=10, batch=8, optimizer="adamw", rate=2e-3, reference_batch=None),
        augment=Augment(crop="center"),
    )
    model, outcome = train_model(job)
    print(f"{outcome.steps} steps, {model.num_classes} classes: {', '.join(model.labels)}")
    print(f"the model: {job.out / 'best.safetensors'}")


def make_folder() -> Path:
    """Three actions, 40 videos of each, as train/ACTION/NUMBER.mp4; a few more for a test."""
    config = FiguresConfig(frames=24, fps=8, actions=("walk", "jump", "fall"))
    make_figures(WORK / "figures", train=120, val=0, test=30, config=config)
    return WORK / "figures" / "train"


if __name__ == "__main__":
    main()
