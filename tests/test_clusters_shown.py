"""Clusters of a real file: seconds that cover the video, a picture for each, memory for a few frames."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import foveate
from foveate.cli import main
from foveate.data.synthetic.encode import encode_h264
from foveate.errors import DataError, UsageError
from foveate.infer.output import Prediction
from foveate.infer.predict import Predictor
from foveate.infer.read import CHUNK_ABOVE, Chunks
from foveate.layers.normalise import to_clip
from foveate.measure.stopwatch import Stopwatch
from foveate.models.base import VideoModel
from foveate.report.band import Band
from foveate.report.overlay import write_clusters
from foveate.report.sheet import CELL, COLUMNS, NOTE, left_out
from foveate.video import open_video
from foveate.video.base import CHUNK
from foveate.video.transform import test_transform as centre_crops
from foveate.weights.file import save_model

FPS, SCENES = 10, (30, 6, 54)  # frames of three scenes


def exit_code(*words: str) -> object:
    with pytest.raises(SystemExit) as left:
        main(words)
    return left.value.code


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9 seconds of three different patterns."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (3, 6, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)  # (3, 48, 64, 3)
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    path.write_bytes(encode_h264(np.repeat(patterns, SCENES, axis=0), FPS, 18))
    return path


def full_video(**fields: object) -> VideoModel:
    torch.manual_seed(0)
    fields = {
        "clusters": 3,
        "rule": "slope",
        "size": 32,
        "resize": 32,
        "num_classes": 3,
        "width": 0.25,
    } | fields
    model = foveate.create_model("fullvideo_small", **fields).eval()
    torch.nn.init.normal_(model.head.linear.weight)
    return model


def test_clusters_are_the_scenes_in_seconds(film: Path) -> None:
    result = Predictor(full_video(sampling="all", frames=10_000), window=0).predict(film)
    found = [(c.start_s, c.end_s, c.frames, c.cluster) for c in result.clusters]
    assert found == [(0.0, 3.0, 30, 0), (3.0, pytest.approx(3.6), 6, 1), (pytest.approx(3.6), 9.0, 54, 2)]
    shown = json.loads(json.dumps(result.to_dict()))["clusters"]
    assert [list(each) for each in shown] == 3 * [["start_s", "end_s", "frames", "cluster"]]


def test_clusters_of_windows_are_numbered_through(film: Path) -> None:
    result = Predictor(full_video(frames=16), window=3).predict(film)
    assert [cluster.cluster for cluster in result.clusters] == list(range(len(result.clusters)))
    edges = [(c.start_s, c.end_s) for c in result.clusters]
    assert edges[0][0] == 0 and edges[-1][1] == 9.0
    assert all(before[1] == after[0] for before, after in pairwise(edges))


def spans(film: Path, **fields: object) -> list[tuple[float, float, int]]:
    result = Predictor(full_video(**fields), window=0).predict(film)
    return [(cluster.start_s, cluster.end_s, cluster.frames) for cluster in result.clusters]


@pytest.mark.parametrize("rule", ["slope", "cumulative", "even"])
def test_frames_that_are_repeated_count_once(film: Path, rule: str) -> None:
    found = spans(film, frames=200, clusters=12, rule=rule)
    assert sum(frames for _, _, frames in found) == 90
    assert found[0][0] == 0 and found[-1][1] == 9 and all(start < end for start, end, _ in found)
    assert all(before[1] == after[0] for before, after in pairwise(found))


def test_frames_out_of_order_and_frames_alone_make_no_stretches(film: Path) -> None:
    assert spans(film, sampling="dense", frames=64)
    assert not spans(film, sampling="dense", frames=128)  # begins again at frame 90
    assert not spans(film, eval_mode="all") and not spans(film, eval_mode="uniform")


def test_other_models_say_nothing_of_clusters(film: Path) -> None:
    other = foveate.create_model("tsm_r10_8", width=0.25, size=32, resize=32, frames=2).eval()
    assert "clusters" not in Predictor(other).predict(film).to_dict()


def test_a_long_clip_in_chunks_says_the_same(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(SCENES) > CHUNK_ABOVE
    model = full_video(sampling="all", frames=10_000)
    chunked = Predictor(model, window=0).predict(film)
    with monkeypatch.context() as patch:
        patch.setattr("foveate.models.fullvideo.MAX_KEPT_BYTES", 0)
        twice = Predictor(model, window=0).predict(film)
    monkeypatch.setattr("foveate.infer.read.CHUNK_ABOVE", 1000)
    whole = Predictor(model, window=0).predict(film)
    assert twice.clusters == chunked.clusters == whole.clusters
    for ours, theirs in zip(twice.predictions, whole.predictions, strict=True):
        assert ours.label == theirs.label and ours.score == pytest.approx(theirs.score, abs=1e-4)
    assert twice.cost.frames_used == whole.cost.frames_used == sum(SCENES)
    assert chunked.cost == whole.cost
    assert twice.cost.gmacs > 1.2 * whole.cost.gmacs  # the early part ran twice, and that is counted
    assert twice.cost.frames_decoded > 1.9 * whole.cost.frames_decoded


def test_chunks_hold_few_frames_and_begin_anew(film: Path) -> None:
    model = full_video()
    with open_video(film) as video:
        chunks = Chunks(video, range(5, 60, 2), model.spec, Stopwatch())
        first, second = (torch.cat(list(chunks)) for _ in range(2))
        assert torch.equal(first, second) and first.shape == (28, 32, 32, 3)
        assert [len(chunk) for chunk in chunks] == [CHUNK, 28 - CHUNK]
        with pytest.raises(DataError, match="frame 200 does not exist"):
            list(Chunks(video, [3, 200], model.spec, Stopwatch()))


def test_windows_decode_their_own_frames(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, with those after the key frame before it and those that a decoder holds back: not the file."""
    monkeypatch.setattr("foveate.infer.read.CHUNK_ABOVE", 8)
    monkeypatch.setattr("foveate.models.fullvideo.MAX_KEPT_BYTES", 0)
    cost = Predictor(full_video(sampling="all", frames=10_000), window=3).predict(film).cost
    assert cost.frames_used == sum(SCENES)
    assert cost.frames_decoded < 4.5 * sum(SCENES)  # three windows of two passes over the file: 6


@pytest.mark.parametrize("sampling", ["all", "segments"])
def test_uniform_frames_are_the_only_ones_read(film: Path, sampling: str) -> None:
    """What a model in uniform mode leaves out is not decoded, and the answer is that of the whole clip."""
    model = full_video(sampling=sampling, frames=90, eval_mode="uniform")
    result = Predictor(model, window=0).predict(film)
    assert result.cost.frames_used == 3
    with open_video(film) as video:
        frames = torch.from_numpy(video.read(range(90)))
    clip = to_clip(centre_crops(frames, model.spec), model.spec, torch.device("cpu"))
    with torch.no_grad():
        scores = model(clip).softmax(1)[0]
    assert result.predictions[0].score == pytest.approx(float(scores.max()), abs=1e-4)
    assert not result.clusters, "frames between those that were looked at belong to nothing"


def test_every_frame_is_read_in_one_crop(film: Path) -> None:
    with pytest.raises(UsageError, match="crops: 3 crops of every frame of a video"):
        Predictor(full_video(sampling="all"), crops=3)
    assert Predictor(full_video(), crops=3, window=0).predict(film).status == "ok"


def band_height(result: Prediction) -> int:
    return Band(result, np.arange(sum(SCENES)) / FPS, COLUMNS * CELL).height


def test_the_sheet_has_a_picture_for_each_cluster(film: Path, tmp_path: Path) -> None:
    result = Predictor(full_video(clusters=5, sampling="all", frames=1000), window=0).predict(film)
    with Image.open(write_clusters(result, tmp_path / "sheet.png")) as sheet:
        assert sheet.size == (COLUMNS * CELL, band_height(result) + 2 * CELL * 48 // 64)
        pixels = np.asarray(sheet)[band_height(result) :]
    with open_video(film) as video:
        last = np.asarray(Image.fromarray(video.read([89])[0]).resize((CELL, CELL * 48 // 64)), int)
    below = pixels[CELL * 48 // 64 + 60 :, 20 : CELL - 20].astype(int)  # left of the writing
    assert np.abs(below - last[60:, 20 : CELL - 20]).mean() < 8


def test_a_sheet_says_what_it_leaves_out(film: Path, tmp_path: Path) -> None:
    result = Predictor(full_video(clusters=90, sampling="all", frames=1000), window=0).predict(film)
    assert len(result.clusters) == 90
    with Image.open(write_clusters(result, tmp_path / "sheet.png")) as sheet:
        rows = -(-30 // COLUMNS)  # each third cluster
        assert sheet.size == (COLUMNS * CELL, band_height(result) + NOTE + rows * CELL * 48 // 64)
        strip = np.asarray(sheet)[band_height(result) :][:NOTE]
    assert strip.max() == 255, "a line of words stands above the pictures"
    assert left_out(30, 90, "clusters") == "30 of 90 clusters: one in 3"


def test_the_command_writes_the_sheet(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(full_video(), tmp_path / "full.safetensors")
    words = ["predict", str(film), "--model", str(tmp_path / "full.safetensors"), "--json"]
    assert exit_code(*words, "--clusters", str(tmp_path / "sheet.png")) == 0
    assert (tmp_path / "sheet.png").exists()
    assert json.loads(capsys.readouterr().out)["clusters"]


def test_a_clip_that_begins_again_is_said_to_have_no_sheet(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(full_video(sampling="dense", frames=128), tmp_path / "dense.safetensors")
    words = ["predict", str(film), "--model", str(tmp_path / "dense.safetensors"), "--window", "0"]
    assert exit_code(*words, "--clusters", str(tmp_path / "sheet.png")) == 0
    assert "clusters not shown: the clip begins again at the end of the video" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()


def test_a_model_without_clusters_is_refused_before_the_work(film: Path, tmp_path: Path) -> None:
    other = foveate.create_model("tsm_r10_8", width=0.25, size=32, resize=32, frames=2).eval()
    save_model(other, tmp_path / "tsm.safetensors")
    words = ["predict", str(film), "--model", str(tmp_path / "tsm.safetensors")]
    assert exit_code(*words, "--clusters", str(tmp_path / "sheet.png")) == 2
    save_model(full_video(eval_mode="uniform"), tmp_path / "uniform.safetensors")
    words[3] = str(tmp_path / "uniform.safetensors")
    assert exit_code(*words, "--clusters", str(tmp_path / "sheet.png")) == 2
    with pytest.raises(DataError, match="makes no clusters"):
        write_clusters(Predictor(other).predict(film), tmp_path / "sheet.png")
