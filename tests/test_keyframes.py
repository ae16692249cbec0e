"""Key frames alone: fast, not exact, and the answer says so."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.cli import main
from foveate.clip import ClipSpec
from foveate.data.lists import VideoEntry
from foveate.infer.read import ClipReader
from foveate.video import open_video
from foveate.video.sample import nearest
from make_bad_videos import encode

KEYS = [0, 30, 76, 137, 187, 242]  # of bikes.mp4


def test_the_nearest_allowed_index():
    assert nearest([0, 4, 5, 6, 99], np.array([0, 10, 20])) == [0, 0, 0, 10, 20]
    rng = np.random.default_rng(0)
    allowed = np.unique(rng.integers(0, 200, 12))
    wanted = rng.integers(0, 220, 50)
    distance = np.abs(np.array(nearest(wanted.tolist(), allowed)) - wanted)
    assert np.array_equal(distance, np.abs(wanted[:, None] - allowed).min(1))


def test_each_frame_is_the_nearest_key_frame_and_few_are_decoded(clips):
    spec = ClipSpec(frames=8, size=32, resize=32)
    exact = ClipReader(spec).read(clips["bikes.mp4"])
    fast = ClipReader(spec, keyframes=True).read(clips["bikes.mp4"])
    (clip,), (sampled,) = fast.windows[0].clips, exact.windows[0].clips
    assert {*clip} == {*KEYS} and all(
        abs(k - i) == min(abs(i - key) for key in KEYS) for k, i in zip(clip, sampled, strict=True)
    )
    assert fast.windows[0].keyframes and not exact.windows[0].keyframes
    assert fast.facts.frames_decoded <= len(KEYS) + 3  # each, and what comes out with the first
    assert exact.facts.frames_decoded > 50
    with open_video(clips["bikes.mp4"]) as video:
        assert video.key_frames.tolist() == KEYS
        assert fast.windows[0].times == tuple(video.times[list(clip)])
    shown = fast.frames[0][0]
    assert all(torch.equal(a, b) == (i == j) for (i, a), (j, b) in pairwise(zip(clip, shown, strict=True)))


def test_a_model_of_all_frames_gets_each_key_frame_once(clips):
    spec = ClipSpec(frames=1000, size=32, resize=32, sampling="all")
    assert ClipReader(spec, keyframes=True).read(clips["bikes.mp4"]).windows[0].clips == (tuple(KEYS),)


def test_a_stretch_keeps_to_itself_where_it_has_a_key_frame(clips):
    reader = ClipReader(ClipSpec(frames=2, size=32, resize=32), keyframes=True)
    path = str(clips["bikes.mp4"])
    assert reader.read(VideoEntry(path, start=140, end=200)).windows[0].clips == ((187, 187),)
    assert reader.read(VideoEntry(path, start=100, end=110)).windows[0].clips == ((76, 137),)


@pytest.mark.parametrize("name", ["clip.npy", "clip.avi"])
def test_where_nothing_is_known_of_key_frames_all_frames_are_read(tmp_path, name):
    if name == "clip.npy":
        np.save(tmp_path / name, np.zeros((24, 40, 40, 3), np.uint8))
    else:
        encode(tmp_path / name, codec="mpeg4")
    (window,) = (
        ClipReader(ClipSpec(frames=4, size=32, resize=32), keyframes=True).read(tmp_path / name).windows
    )
    assert window.clips == ((3, 9, 15, 21),) and not window.keyframes


def test_the_program_says_so(clips, tmp_path, capsys):
    path, model = str(clips["bikes.mp4"]), ("--model", "adafocus_small", "--keyframes")

    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(words)
        assert not end.value.code
        return capsys.readouterr().out

    said = call("predict", path, *model)
    assert "1 crop, key frames only" in said and "key frames read: 0, 30, 76, 137, 187, 242" in said
    said = json.loads(call("predict", path, *model, "--json"))
    assert said["keyframes"] == KEYS and said["protocol"].endswith("key frames only")
    assert "keyframes" not in json.loads(call("predict", path, *model[:2], "--json"))
    out: Path = tmp_path / "features.npz"
    assert "of key frames only" in call("features", path, *model, "--out", str(out))
    assert np.load(out)["keyframes"].tolist() == ["0 30 76 137 187 242"]
