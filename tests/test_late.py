"""Frames that a model chooses are decoded after its glance, where that saves some, and answers stay."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from foveate.errors import UsageError
from foveate.infer.engine import EagerEngine
from foveate.infer.isolated import reader_for
from foveate.infer.late import LateClip, decoded, pays
from foveate.infer.predict import Predictor
from foveate.infer.read import ClipReader
from foveate.models.adafocus.uni import UniModel
from foveate.models.zoo import create_model

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"size": 32, "resize": 32, "glance_size": 16, "patch": 16, "classifier_width": 8}
COUNTS = {"candidates": 24, "glance_frames": 8, "local_frames": 4}
FRAMES = 240
OPENED = 1  # a frame is decoded when a video is opened


def model_of(name: str = "uni_adafocus_small", **fields: object) -> UniModel:
    torch.manual_seed(0)
    model = create_model(name, 3, **SIZES, **COUNTS, **fields).eval()
    assert isinstance(model, UniModel)
    return model


def encoded(path: Path, gop: int) -> Path:
    """A video of 240 frames with a key frame every `gop` frames."""
    rng, buffer = np.random.default_rng(0), io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        options = {"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0", "bf": "0"}
        stream = container.add_stream("libx264", rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv420p"
        for number in range(FRAMES):
            picture = rng.integers(0, 60, (32, 40, 3)).astype(np.uint8) + np.uint8(number % 190)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    path.write_bytes(buffer.getvalue())
    return path


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded(tmp_path_factory.mktemp("sparse") / "sparse.mp4", 5)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded(tmp_path_factory.mktemp("dense") / "dense.mp4", 120)


def test_what_must_be_decoded_is_counted_from_key_frames() -> None:
    keys = np.array([0, 10, 20])
    assert decoded([3], keys) == 4 and decoded([3, 7], keys) == 8
    assert decoded([10], keys) == 1 and decoded([9, 25], keys) == 10 + 6


def test_it_pays_where_frames_lie_apart() -> None:
    stops = model_of().looks_late
    indices = [10 * i + 5 for i in range(24)]
    assert pays(indices, np.arange(0, FRAMES, 5), stops)
    assert not pays(indices, np.array([0, 120]), stops)


@pytest.mark.parametrize("name", ["uni_adafocus_small", "uni_adafocus_any_small"])
def test_the_answer_is_the_same_and_fewer_frames_are_decoded(name: str, sparse: Path) -> None:
    model = model_of(name, **({"small_patches": (12,)} if "any" in name else {}))
    late = Predictor(model, window=0).predict(sparse)
    reader = ClipReader(model.spec, window=0)
    with reader.open(sparse) as video:
        ((_, whole),) = video.map(lambda _, frames: EagerEngine(model).run(frames))
        at_once = video.facts().frames_decoded
    scores = model.probabilities(whole.logits[0])
    assert [s.index for s in late.predictions] == scores.argsort(descending=True).tolist()
    assert late.predictions[0].score == pytest.approx(float(scores.max()), abs=1e-6)
    assert late.cost.frames_used == int(whole.frames_read.sum()) == late.cost.frames_decoded - OPENED
    assert at_once == 24 + OPENED


def test_who_leaves_after_the_glances_has_no_other_frame_decoded(sparse: Path) -> None:
    model = model_of()
    model.set_exits((0.0,) * 5)
    assert Predictor(model, window=0).predict(sparse).cost.frames_decoded == 8 + OPENED


def test_a_video_of_few_key_frames_is_read_in_one_pass(dense: Path) -> None:
    model, kinds = model_of(), []
    with reader_for(model, window=0).open(dense) as video:
        video.map(lambda _, frames: kinds.append(type(frames)))
        assert kinds == [torch.Tensor] and video.facts().frames_decoded <= FRAMES


def test_views_and_strangers_are_read_at_once(sparse: Path) -> None:
    model, kinds = model_of(), []
    for clips, crops in ((2, 1), (1, 3)):
        with reader_for(model, clips, crops, window=0).open(sparse) as video:
            video.map(lambda _, frames: kinds.append(type(frames)))
    with reader_for(model, window=0).open(sparse) as video:
        video.map(lambda _, frames: kinds.append(type(frames)))
    assert kinds == [torch.Tensor, torch.Tensor, LateClip]
    (frames,) = reader_for(model, window=0).read(sparse).frames  # type: ignore[attr-defined]
    assert frames.shape == (1, 24, 32, 32, 3)


def test_a_model_that_reads_all_frames_refuses_them(sparse: Path) -> None:
    other = create_model("tsm_r10_8", 3)
    with reader_for(model_of(), window=0).open(sparse) as video, pytest.raises(UsageError, match="late"):
        video.map(lambda _, frames: other.prepare(frames))
