"""The next videos are read while a model runs: in order, each error with its own file, no more than a few."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import pytest
import torch

from foveate.clip import ClipSpec
from foveate.errors import DataError
from foveate.infer.ahead import ahead
from foveate.infer.predict import Predictor
from foveate.infer.read import ClipReader
from foveate.models.zoo import create_model
from make_bad_videos import encode

TINY = {"width": 0.125, "size": 32, "resize": 32, "frames": 4}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Nine videos of other lengths; the fourth is none, the sixth is not there."""
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / f"{number}.mp4" for number in range(9)]
    for number, path in enumerate(paths):
        encode(path, n=6 + number)
    paths[3].write_text("no video")
    paths[5].unlink()
    return paths


def test_answers_and_errors_are_those_of_one_video_at_a_time(files):
    torch.manual_seed(0)
    predictor = Predictor(create_model("tsm_r10_8", 5, **TINY).eval())
    together = list(predictor.predict_all(files))
    for path, result in zip(files, together, strict=True):
        assert result.video == str(path)
        try:
            alone = predictor.predict(path)
        except DataError as error:
            assert (result.status, result.cause) == ("refused", error.cause)
        else:
            assert (result.predictions, result.cost) == (alone.predictions, alone.cost)
    assert [result.status for result in together].count("refused") == 2


def test_a_few_are_begun_and_the_rest_wait(files):
    begun, lock = [], threading.Lock()

    def begin(path: Path):
        with lock:
            begun.append(path)
        return ClipReader(ClipSpec(frames=2, size=32, resize=32)).open(path).begin()

    turns = ahead(begin, files, videos=2)
    for number, (path, video_of) in enumerate(turns):
        assert path == files[number]
        if number not in (3, 5):
            with video_of() as video:
                assert {*begun} >= {*files[: number + 1]} and len(begun) <= number + 3
                before = video.video.frames_decoded
                (pair,) = video.map(lambda _, frames: frames.clone())
                assert pair[1].shape == (1, 2, 32, 32, 3) and video.video.frames_decoded == before
        if number == 6:
            break
    turns.close()
    assert len(begun) <= 9


def test_an_iterator_is_asked_for_a_video_only_when_the_one_before_is_done(files):
    asked = []
    predictor = Predictor(create_model("tsm_r10_8", 5, **TINY).eval())
    results = predictor.predict_all(path for path in files if not asked.append(path))
    next(results)
    assert len(asked) == 1
    next(results)
    assert len(asked) == 2


def test_a_window_that_showed_other_frames_than_expected_is_read_again(tmp_path):
    """A packet without a picture: the first window shows it, and frames count anew from then on."""

    def spoil(i: int, packet: av.Packet) -> av.Packet:
        if i != 30:
            return packet
        empty = av.Packet(bytes(packet.size))
        empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
        empty.stream, empty.duration = packet.stream, packet.duration
        return empty

    encode(tmp_path / "hole.mp4", codec="mjpeg", pix_fmt="yuvj420p", n=60, edit_packet=spoil)
    reader = ClipReader(ClipSpec(frames=40, sampling="dense", size=32, resize=32))
    expected = reader.read(tmp_path / "hole.mp4")
    with reader.open(tmp_path / "hole.mp4") as video:
        assert video.video.info.frames == 60
        ((window, frames),) = video.begin().map(lambda _, frames: frames.clone())
        assert video.video.info.frames == 59
    assert window == expected.windows[0] and torch.equal(frames, expected.frames[0])
