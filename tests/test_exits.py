"""Stage exits: a finished model learns, on real H.264 videos, after how many frames it may answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.cli import main
from foveate.data.lists import read_list
from foveate.data.synthetic.encode import encode_h264
from foveate.errors import UsageError
from foveate.infer.engine import EagerEngine
from foveate.models.adafocus.parts import FocusModel
from foveate.models.zoo import create_model
from foveate.train import job as jobs
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.recipes.adafocus import AdaFocusPlan, AdaFocusTSMPlan, AdaFocusV2Plan
from foveate.train.stages import train_model
from foveate.weights.file import read_model, save_model

SIDE, FRAMES, VIDEOS = 32, 4, 10
NETS = {
    "frames": FRAMES, "size": SIDE, "resize": SIDE, "glance_size": 16, "patch": 16,
    "policy_width": 8, "policy_squeeze": 2, "classifier_width": 8,
}  # fmt: skip
SETTINGS = tuple(f"{name}={value}" for name, value in NETS.items())


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sub-folder of videos for each of two classes."""
    folder, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for number in range(VIDEOS):
        place = folder / ("dark", "light")[number % 2] / f"{number}.mp4"
        place.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 160, (8, SIDE, SIDE, 3)) + 95 * (number % 2)
        place.write_bytes(encode_h264(pixels.astype(np.uint8), 8, 18))
    return folder


def trained(path: Path, name: str = "adafocus_small", labels: tuple[str, ...] = ("dark", "light")) -> Path:
    """A model file whose answers differ from frame to frame."""
    torch.manual_seed(0)
    model = create_model(name, len(labels), **NETS)
    model.labels = labels
    save_model(model.eval(), path)
    return path


def job(videos: Path, out: Path, weights: Path, name: str = "adafocus_small", **plan: object) -> TrainJob:
    kind = AdaFocusV2Plan if "v2" in name else AdaFocusPlan
    options = kind(**{"exit_frames": 2.0, **plan})
    train = TrainConfig(batch=4)
    return TrainJob(
        videos,
        out,
        name,
        weights=str(weights),
        settings=SETTINGS,
        workers=0,
        plan=options,
        train=train,
        only=("exits",),
    )


@pytest.mark.parametrize("name", ["adafocus_small", "adafocus_v2_small"])
def test_the_training_videos_are_answered_after_so_many_frames(
    videos: Path, tmp_path: Path, name: str
) -> None:
    weights = trained(tmp_path / "m.safetensors", name)
    train_model(job(videos, tmp_path / "out", weights, name))
    model, card = read_model(tmp_path / "out" / "best.safetensors")
    assert isinstance(model, FocusModel) and model.dynamic
    assert len(card.config["exits"]) == FRAMES and card.training["plan"]["exit_frames"] == 2.0
    data = jobs.test_data(read_list(videos), model, 1, 1)
    with torch.inference_mode():
        clips = torch.stack([data[0, index].frames[0] for index in range(VIDEOS)])
        output = EagerEngine(model).run(clips)
    steps = output.steps
    assert steps.double().mean().item() == pytest.approx(2.0, abs=0.5)
    assert len(steps.unique()) > 1
    assert torch.equal(output.frames_read.sum(1), steps)
    before = read_model(weights)[0].state_dict()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_by_the_documented_command_and_again(videos: Path, tmp_path: Path, capsys) -> None:
    """Exits that a model has already are left aside while new ones are solved."""
    weights, out = trained(tmp_path / "m.safetensors"), tmp_path / "out"
    words = ["train", "--videos", videos, "--val", videos, "--model", "adafocus_small", "--out", out]
    words += ["--only", "exits", "--settings", *SETTINGS, "--workers", 0, "--json"]
    found = {}
    for frames, start in ((1.5, weights), (3.5, out / "best.safetensors")):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, [*words, "--weights", start, "--exit-frames", frames])])
        assert ended.value.code == 0
        assert 0 <= json.loads(capsys.readouterr().out)["top1_after_4"] <= 1
        found[frames] = read_model(out / "best.safetensors")[0].config.exits
    train_model(job(videos, tmp_path / "fresh", weights, exit_frames=3.5))
    assert found[3.5] == read_model(tmp_path / "fresh" / "best.safetensors")[0].config.exits != found[1.5]


def test_what_cannot_be_solved_is_one_line(videos: Path, tmp_path: Path) -> None:
    weights = trained(tmp_path / "m.safetensors")
    good = job(videos, tmp_path / "out", weights)
    other = trained(tmp_path / "other.safetensors", labels=("day", "night"))
    for wrong, cause in (
        (job(videos, tmp_path / "out", weights, exit_frames=9.0), "budget of 9.0 frames does not lie"),
        (job(videos, tmp_path / "out", weights, exit_frames=None), "how many frames to read is not said"),
        (replace(good, weights=None), "exits: needs stage3, which was not run"),
        (replace(good, weights=str(other)), "has other classes than"),
        (replace(good, settings=(*SETTINGS, "glance_temporal=shift")), "without exits"),
        (
            replace(good, model="adafocus_tsm_144", settings=(), plan=AdaFocusTSMPlan()),
            "does not answer after every frame",
        ),
    ):
        with pytest.raises(UsageError, match=cause):
            train_model(wrong)
    assert not (tmp_path / "out").exists()
