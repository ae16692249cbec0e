"""A dynamic model that is known to this file alone goes through every public door.

It reads every second frame, and the others too where it is not sure: trained by a recipe, profiled,
predicted, evaluated, streamed, drawn, saved and loaded, with no line of the package written for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from foveate.backbones.build import build_backbone
from foveate.cli import main
from foveate.clip import ClipSpec
from foveate.infer.engine import EagerEngine, with_parts
from foveate.infer.live import open_live
from foveate.infer.predict import Predictor
from foveate.layers.fold import fold_time
from foveate.measure.cost import count_macs
from foveate.models.base import ModelOutput, VideoModel, same_macs
from foveate.models.tsn import ConsensusHead
from foveate.models.zoo import MODELS, ModelSpec, create_model
from foveate.report.overlay import write_overlay
from foveate.weights.file import read_model, save_model

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class SkimConfig:
    num_classes: int = 2
    frames: int = 4
    size: int = 32
    resize: int = 36
    sure: float = 0.6  # probability of the best class from which every second frame is enough

    def build(self) -> Skim:
        return Skim(self)


class Skim(VideoModel):
    """A TSN that leaves every second frame out where the others suffice."""

    dynamic = True
    streams = True
    parts = ("frame_features", "classify")
    reports = ("sizes", "step_logits", "steps")

    def __init__(self, config: SkimConfig) -> None:
        super().__init__()
        self.backbone = build_backbone("resnet10", 0.25, "small")
        self.head = ConsensusHead(self.backbone.channels, config.num_classes)
        self.config = config
        self.spec = ClipSpec(config.frames, size=config.size, resize=config.resize)

    def frame_features(self, images: Tensor) -> Tensor:
        return self.head.features(self.backbone(images, 1))

    def classify(self, features: Tensor) -> Tensor:
        return self.head.classify(features)

    def output(self, clip: Tensor) -> ModelOutput:
        batch, frames = len(clip), clip.shape[2]
        some = self.read(clip[:, :, ::2])  # (B, T / 2, C)
        first = self.classify(some.mean(1))
        sure = self.probabilities(first).amax(-1) >= self.config.sure
        read = torch.zeros(batch, frames, dtype=torch.bool)
        read[:, ::2] = True
        features = some.mean(1)
        if self.training or not sure.all():
            unsure = torch.ones_like(sure) if self.training else ~sure
            rest = self.read(clip[unsure, :, 1::2])
            features = features.clone()
            features[unsure] = torch.cat([some[unsure], rest], 1).mean(1)
            read[unsure.cpu()] = True
        logits = self.classify(features)
        image = torch.empty(1, 3, *clip.shape[3:])
        price = self.part_macs("frame_features", image)
        return ModelOutput(
            logits,
            read,
            read.sum(1) * price + 2 * self.part_macs("classify", features[:1]),
            features,
            step_logits=torch.stack([first, logits], 1),
            steps=1 + (read.sum(1) == frames).long(),
            sizes=read * self.config.size,
        )

    def read(self, clip: Tensor) -> Tensor:
        return self.frame_features(fold_time(clip)).unflatten(0, (clip.shape[0], clip.shape[2]))

    def step(
        self, frame: Tensor, state: tuple[Tensor, int] | None = None
    ) -> tuple[ModelOutput, tuple[Tensor, int]]:
        """One frame of a stream, (B, 3, S, S): the mean of what was read so far."""
        total, count = state or (0, 0)
        total = total + self.frame_features(frame)
        logits = self.classify(total / (count + 1))
        macs = self.part_macs("frame_features", frame[:1]) + self.part_macs("classify", total[:1])
        read = torch.ones(len(frame), 1, dtype=torch.bool)
        return ModelOutput(logits, read, same_macs(macs, len(frame))), (total, count + 1)


@pytest.fixture(autouse=True)
def in_the_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "skim_r10_4", ModelSpec(SkimConfig(), "this file"))


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_it_is_trained_predicted_drawn_and_saved(
    videos: Path, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "skim_r10_4", "--recipe", "small", "--epochs", 2, "--batch", 4, "--workers", 0]
    assert run("train", "--videos", videos, "--val", videos, "--out", tmp_path / "run", *words) == 0
    best = tmp_path / "run" / "best.safetensors"
    capsys.readouterr()
    assert run("eval", videos, "--model", best, "--workers", 0, "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["n_ok"] == 8 and scores["gmacs_per_view"] > 0
    model, card = read_model(best)
    assert isinstance(model, Skim) and card.name == "skim_r10_4"
    few, many = (Predictor(_with(model, sure)).predict(clips["bikes.mp4"]) for sure in (0.01, 1.1))
    assert (few.cost.frames_used, many.cost.frames_used) == (2, 4) and few.cost.gmacs < many.cost.gmacs
    assert [bool(each.size) for each in few.sizes] == [True, False, True, False]
    sheet = write_overlay(few, tmp_path / "skim.mp4")
    with Image.open(sheet) as picture:
        assert picture.width > 100
    assert (
        run(
            "predict",
            clips["bikes.mp4"],
            "--model",
            best,
            "--overlay",
            tmp_path / "o.mp4",
            "--choices",
            "--json",
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["sizes"][0]["size"] == 32


def _with(model: Skim, sure: float) -> Skim:
    twin = SkimConfig(sure=sure).build()
    twin.load_state_dict(model.state_dict())
    twin.labels, twin.name = model.labels, model.name
    return twin.eval()


@pytest.mark.parametrize("sure", [0.01, 0.5001, 1.1])
def test_its_multiply_adds_are_those_that_are_counted(sure: float) -> None:
    torch.manual_seed(0)
    model, clip = create_model("skim_r10_4", sure=sure).eval(), torch.randn(5, 3, 4, 32, 32)
    with torch.inference_mode():
        output = model.output(clip)
    assert output.macs is not None and int(output.macs.sum()) == count_macs(model, clip).total


def test_an_engine_may_replace_its_parts() -> None:
    torch.manual_seed(0)
    model, calls = create_model("skim_r10_4", sure=0.01).eval(), []

    def twin(images: Tensor) -> Tensor:
        calls.append(len(images))
        return model.frame_features(images)

    engine = EagerEngine(with_parts(model, {"frame_features": twin}))
    frames = torch.randint(0, 256, (3, 4, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(engine.run(frames).logits, EagerEngine(model).run(frames).logits)
    assert calls == [6]


def test_it_streams() -> None:
    torch.manual_seed(0)
    model, clip, state = create_model("skim_r10_4", sure=1.1).eval(), torch.randn(2, 3, 4, 32, 32), None
    with torch.inference_mode():
        for frame in clip.unbind(2):
            output, state = model.step(frame, state)
        assert torch.allclose(output.logits, model(clip), atol=1e-5)
    live, frames = open_live(EagerEngine(model)), torch.randint(0, 256, (4, 40, 50, 3), dtype=torch.uint8)
    assert all(live.push(frame, place / live.fps) for place, frame in enumerate(frames))


def test_it_is_profiled(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("profile", "skim_r10_4", "--repeats", 1, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["gmacs"] > 0 and "backbone" in report["gmacs_by_part"]


def test_its_file_is_one_of_ours(tmp_path: Path) -> None:
    model = create_model("skim_r10_4", 5).eval()
    save_model(model, tmp_path / "skim.safetensors")
    assert read_model(tmp_path / "skim.safetensors")[0].config == model.config
