"""A reader makes clips of any source, and what it gives can be handed to another process."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.clip import ClipSpec
from foveate.errors import DataError, UsageError
from foveate.infer.engine import EagerEngine
from foveate.infer.predict import Predictor, describe
from foveate.infer.read import ClipReader
from foveate.models.zoo import create_model
from foveate.video import open_video

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = ClipSpec(frames=4, size=32, resize=40)


def test_all_sources_of_a_video_give_the_same_clips(clips: dict[str, Path], tmp_path: Path) -> None:
    path = clips["carphone_pristine.mp4"]
    with open_video(path) as video:
        fps, frames = video.info.fps, video.read(range(video.info.frames))
    np.save(tmp_path / "frames.npy", frames)
    reader = ClipReader(SPEC, clips=2, crops=3, window=2)
    expected = reader.read(path)
    assert [f.shape for f in expected.frames] == [(6, 4, 32, 32, 3)] * len(expected.windows)
    with path.open("rb") as file:
        files = [reader.read(path.read_bytes()), reader.read(file)]
    memory = [frames, torch.from_numpy(frames), list(frames), iter(frames)]
    files += [reader.read(source, fps=fps) for source in (*memory, tmp_path / "frames.npy")]
    for read in files:
        assert all(torch.equal(a, b) for a, b in zip(read.frames, expected.frames, strict=True))
        assert [(w.first, w.end, w.clips) for w in read.windows] == [
            (w.first, w.end, w.clips) for w in expected.windows
        ]
        assert read.facts.duration_s == pytest.approx(expected.facts.duration_s, abs=0.05)


def test_one_process_reads_and_another_runs(clips: dict[str, Path]) -> None:
    torch.manual_seed(0)
    model = create_model("adafocus_small", 3).eval()
    reader = pickle.loads(pickle.dumps(ClipReader(model.spec, window=2)))
    read = pickle.loads(pickle.dumps(reader.read(clips["bikes.mp4"])))
    engine = EagerEngine(model)
    answers = [(w, engine.run(frames)) for w, frames in zip(read.windows, read.frames, strict=True)]
    ours = describe(model, read.facts, answers, 3, read.timing_ms)
    at_once = Predictor(model, window=2).predict(clips["bikes.mp4"])
    assert replace(ours, timing_ms={}) == replace(at_once, timing_ms={})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((4, 8, 8, 3), np.float32), "uint8"),
        (np.zeros((4, 8, 8), np.uint8), "(T, H, W, 3)"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), "permute"),
        (iter([]), "no frame"),
        (b"", ""),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], ""),
        (17, "source"),
    ],
    ids=["float", "grey", "channels first", "nothing", "empty", "sizes", "number"],
)
def test_frames_that_cannot_be_are_refused_in_one_short_line(source: object, words: str) -> None:
    with pytest.raises((DataError, UsageError)) as refused:
        ClipReader(SPEC).read(source)
    assert words in str(refused.value) and len(str(refused.value)) < 300 and "\n" not in str(refused.value)


@pytest.mark.parametrize("fps", [0, -1.0, float("nan")])
def test_a_rate_that_cannot_be(fps: float) -> None:
    with pytest.raises(UsageError, match="it must be a number above 0"):
        ClipReader(SPEC).read(np.zeros((4, 8, 8, 3), np.uint8), fps=fps)


def test_a_generator_of_frames_is_a_video() -> None:
    def camera() -> Iterator[np.ndarray]:
        for level in range(0, 250, 10):
            yield np.full((48, 64, 3), level, np.uint8)

    torch.manual_seed(0)
    result = Predictor(create_model("tsm_r10_8", 3).eval()).predict(camera(), fps=5)
    assert (result.status, result.duration_s, result.fps) == ("ok", 5.0, 5.0)


def test_bytes_that_are_no_video_have_a_short_name(clips: dict[str, Path]) -> None:
    predictor = Predictor(create_model("tsm_r10_8", 3).eval())
    bad, good = predictor.predict_all([b"\x00" * 100_000, clips["bikes.mp4"].read_bytes()])
    assert bad.status == "refused" and len(bad.video) < 20 and good.status == "ok"


def test_one_source_by_itself_is_one_video(clips: dict[str, Path]) -> None:
    torch.manual_seed(0)
    predictor = Predictor(create_model("adafocus_small", 3).eval(), window=0)
    path = clips["carphone_pristine.mp4"]
    expected = predictor.predict(path).predictions
    with path.open("rb") as file:
        for source in (str(path), path, path.read_bytes(), file):
            answers = list(predictor.predict_all(source))
            assert [answer.predictions for answer in answers] == [expected]


def test_what_is_refused_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello\n")
    sources = [tmp_path / "empty.mp4", tmp_path / "text.mp4", "rtsp://camera/1"]
    answers = list(Predictor(create_model("adafocus_small", 3)).predict_all(sources))
    assert [answer.cause for answer in answers] == [
        "the file is empty", "a text file, not a video", "a live source, which has no last frame",
    ]  # fmt: skip
    assert [answer.hint for answer in answers[:2]] == [
        "download or copy it again", "give the video file itself",
    ]  # fmt: skip
    assert "use `foveate stream`, or record it to a file" in answers[2].hint
    assert all(answer.to_dict()["hint"] == answer.hint for answer in answers)
