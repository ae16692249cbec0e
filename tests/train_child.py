"""A tiny training that can be killed: `python train_child.py FOLDER [--resume] [--at PASS --by NAME]`.

Its data are 24 noise videos of 2 frames, as a data set without files. Number 5 is unreadable. Prints the
SHA-256 of the final weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveate.clip import ClipSpec
from foveate.config import to_dict
from foveate.errors import FoveateError
from foveate.infer.engine import EagerEngine
from foveate.models.base import ModelOutput, VideoModel, all_read, same_macs
from foveate.train.config import TrainConfig
from foveate.train.distributed import ALONE, ProcessGroup, open_world
from foveate.train.evaluate import evaluate
from foveate.train.loop import fit
from foveate.train.objective import Classification
from foveate.train.run import Run

CLASSES, VIDEOS, BAD = 3, 24, 5
SPEC = ClipSpec(frames=2, size=8, resize=8)
CONFIG = TrainConfig(
    epochs=3, batch=4, accumulate=2, reference_batch=None, rate=0.05, clip_norm=1.0, warmup_epochs=1, ema=0.9,
    max_bad_fraction=0.1, save_every=4, log_every=1, timeout_s=60,
)  # fmt: skip


@dataclass(frozen=True)
class Bad:
    path: str
    cause: str


@dataclass(frozen=True)
class Clips:
    frames: Tensor  # uint8 (B, V, T, S, S, C)
    labels: Tensor
    indices: Tensor
    bad: tuple[Bad, ...] = ()


class Toy(VideoModel):
    """Two convolutions on the mean frame; `plain` leaves out what depends on the batch or on chance."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.spec = SPEC
        self.norm = nn.Identity() if plain else nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), self.norm, nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
        self.dropout = nn.Dropout(0 if plain else 0.5)
        self.head = nn.Linear(4, CLASSES)

    def output(self, clip: Tensor) -> ModelOutput:
        logits = self.head(self.dropout(self.body(clip.mean(2)).amax((2, 3))))
        return ModelOutput(logits, all_read(clip), same_macs(1000, len(clip)))


def make_model(plain: bool = False, seed: int = 0) -> Toy:
    torch.manual_seed(seed)
    return Toy(plain)


def clips_of(indices: list[int], epoch: int = 0, views: int = 1, bad: int = BAD) -> Clips:
    """Video i of class i % 3 is a noisy grey whose level tells the class."""
    good = [i for i in indices if i != bad]
    frames = torch.zeros(len(good), views, SPEC.frames, SPEC.size, SPEC.size, 3, dtype=torch.uint8)
    for row, index in enumerate(good):
        rng = np.random.default_rng((epoch, index))
        noise = rng.integers(0, 60, frames.shape[1:]) + 60 * (index % CLASSES)
        frames[row] = torch.from_numpy(noise)
    labels = torch.tensor([i % CLASSES for i in good], dtype=torch.int64)
    unread = tuple(Bad(f"video{i}.mp4", "no moov") for i in indices if i == bad)
    return Clips(frames, labels, torch.tensor(good, dtype=torch.int64), unread)


def batches_of(
    epoch: int, start: int, size: int, world: ProcessGroup = ALONE, bad: int = BAD
) -> Iterator[Clips]:
    order = np.random.default_rng(epoch).permutation(VIDEOS)[world.rank :: world.size].tolist()
    for at in range(start * size, len(order), size):
        yield clips_of(order[at : at + size], epoch, bad=bad)


def digest(model: nn.Module) -> str:
    content = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    return hashlib.sha256(content).hexdigest()


def untimed(folder: Path) -> list[dict[str, Any]]:
    """All records without what the clock says."""
    clock = ("seconds", "eval_seconds", "memory_mb", "data_wait_share", "samples_per_s")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


def train(folder: Path, resume: bool, at: int, signum: int, plain: bool) -> str:
    """Train; the last process sends itself `signum` in its forward pass number `at`, counted from 1."""
    with open_world(CONFIG.timeout_s) as world:
        size, forwards = CONFIG.part(world.size), 0
        model, learn = make_model(plain, seed=world.rank), Classification()

        def objective(model: nn.Module, batch: Clips) -> dict[str, Tensor]:
            nonlocal forwards
            forwards += 1
            if forwards == at and world.rank == world.size - 1:
                os.kill(os.getpid(), signum)
            return learn(model, batch)

        def judge(judged: nn.Module) -> dict[str, float]:
            starts = range(4 * world.rank, VIDEOS, 4 * world.size)
            shares = [clips_of(list(range(at, at + 4)), epoch=9, views=2) for at in starts]
            return evaluate(EagerEngine(judged), shares, CLASSES, world=world)

        with Run(folder, to_dict(CONFIG), resume, world.main) as run:
            outcome = fit(
                model,
                lambda epoch, start: batches_of(epoch, start, size, world),
                objective,
                CONFIG,
                run,
                batches_per_epoch=VIDEOS // size // world.size,
                evaluate=judge,
                fingerprint="toy",
                world=world,
            )
        assert len(set(world.gather(digest(model)))) == 1
        if world.main:
            torch.save([p.detach() for p in model.parameters()], folder / "weights.pt")
        return digest(model) + digest(outcome.model)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--by", default="SIGKILL")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        signum = signal.Signals[options.by]
        print(train(options.folder, options.resume, options.at, signum, options.plain))
    except FoveateError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
