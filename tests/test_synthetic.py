"""The made data sets: the same bytes for a seed, true boxes, balanced classes, real H.264, own folders."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from foveate.data import synthetic
from foveate.data.lists import read_list
from foveate.data.synthetic import (
    ACTIONS,
    HAND_ACTIONS,
    FiguresConfig,
    Move4MnistConfig,
    make_figures,
    make_move4mnist,
    render_clip,
    render_move4mnist,
)
from foveate.data.synthetic.move4mnist import BLACK, DIRECTIONS, KINDS, MOVER, PLAIN, STILL, digits_of
from foveate.data.synthetic.person import make_person
from foveate.errors import DataError, OutputError, UsageError

with np.load(Path(synthetic.__file__).with_name("mnist_digits.npz")) as stored:
    IMAGES, LABELS = stored["images"], stored["labels"]
SMALL = FiguresConfig(width=96, height=72, frames=6)
EMPTY = replace(SMALL, clutter=(0, 0), scenery=(0, 0), texture_light=(0, 0), noise=0)


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def read_lines(path: Path) -> tuple[list[str], list[dict]]:
    head, *lines = (json.loads(line) for line in path.read_text().splitlines())
    assert head["foveate"] == 1
    return head["classes"], lines


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Drawing figures


def test_a_clip_is_a_function_of_its_seed():
    first, again, other = (render_clip(SMALL, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert first.frames.shape == (6, 72, 96, 3)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.frames, other.frames)


def test_another_size_and_frame_count_show_the_same_event():
    small = render_clip(FiguresConfig(), 5, size=(160, 120), frames=3, label=4)
    large = render_clip(FiguresConfig(), 5, size=(320, 240), frames=9, label=4)
    assert np.abs(small.boxes * 2 - large.boxes[1::3]).max() <= 3
    shrunk = large.frames[1::3].reshape(3, 120, 2, 160, 2, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - small.frames).mean() < 6


def test_an_outfit_changes_the_clothes_alone():
    first, second, plain = (
        render_clip(EMPTY, 7, label=3, outfit=outfit) for outfit in ("red over blue", "blue over red", None)
    )
    assert np.array_equal(first.boxes, second.boxes) and np.array_equal(first.boxes, plain.boxes)
    for clip, sign in ((first, 1), (second, -1)):
        for frame, (_, top, _, bottom) in zip(clip.frames, clip.boxes, strict=True):
            upper, lower = np.split(frame[top:bottom].astype(int), [(bottom - top) // 2])
            assert sign * (upper[..., 0] - upper[..., 2]).sum() > 0
            assert sign * (lower[..., 0] - lower[..., 2]).sum() < 0


@pytest.mark.parametrize("label", range(len(ACTIONS)))
def test_boxes_hug_the_person(label):
    clip = render_clip(EMPTY, 7, label=label, size=(320, 240))
    for frame, (left, top, right, bottom) in zip(clip.frames, clip.boxes, strict=True):
        rows, columns = (np.flatnonzero(frame.max(axis=(2, axis)) > 0) for axis in (1, 0))
        assert left <= columns[0] <= left + 1
        assert top <= rows[0] <= top + 1
        assert right - 1 <= columns[-1] + 1 <= right
        assert bottom - 1 <= rows[-1] + 1 <= bottom


def test_clutter_leaves_the_person_in_place():
    grey, white = (replace(SMALL, figure_light=(light, light)) for light in (170, 255))
    first, second = render_clip(grey, 3), render_clip(white, 3)
    assert np.array_equal(first.boxes, render_clip(replace(EMPTY, figure_light=(170, 170)), 3).boxes)
    for one, two, (left, top, right, bottom) in zip(first.frames, second.frames, first.boxes, strict=True):
        changed = (one != two).any(axis=2)
        assert changed[top:bottom, left:right].sum() == changed.sum() > 20


def test_the_person_is_small_and_survives_the_centre_crop():
    width, height = 320, 240
    clips = [render_clip(FiguresConfig(), seed, frames=4, label=seed % 10) for seed in range(60)]
    boxes = np.concatenate([clip.boxes for clip in clips])
    shares = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (width * height)
    assert 0.02 < shares.mean() < 0.06
    assert shares.max() < 0.12
    margin = height / 16
    edge = (width - height) / 2 + margin
    assert boxes[:, 0].min() >= edge - 1
    assert boxes[:, 2].max() <= width - edge + 1
    assert boxes[:, 1].min() >= margin - 1
    assert boxes[:, 3].max() <= height - margin + 1
    assert np.ptp(boxes[:, :2], axis=0).min() > 80  # anywhere in there, not at one place


def test_the_person_is_lighter_than_everything_else():
    config = replace(SMALL, noise=0)
    for seed in range(5):
        clip = render_clip(config, seed)
        for frame, (left, top, right, bottom) in zip(clip.frames, clip.boxes, strict=True):
            person = frame[top:bottom, left:right]
            assert (person.min(axis=2) > 150).sum() > 20
            outside = frame.copy()
            outside[top:bottom, left:right] = 0
            assert 60 < outside.max() <= 145


def test_nothing_but_the_movement_tells_the_action():
    times, area = np.linspace(0, 1, 5), np.array([4 / 3, 1])
    people = [make_person(SMALL, name, area, times, np.random.default_rng(2)) for name in ACTIONS]
    for person in people[1:]:
        assert np.array_equal(person.colours, people[0].colours)
        assert np.array_equal(person.radii, people[0].radii)


@pytest.mark.parametrize("action", sorted({*ACTIONS, *HAND_ACTIONS}))
def test_every_action_moves_and_no_two_look_alike(action):
    config, times, area = replace(SMALL, drift=0, jitter=0), np.linspace(0, 1, 24), np.array([4 / 3, 1])

    def shape(name: str) -> np.ndarray:
        ends = make_person(config, name, area, times, np.random.default_rng(4)).ends
        return ends - ends.mean(axis=(1, 2), keepdims=True)

    mine = shape(action)
    assert mine.std(axis=0).max() > 0.01
    for other in {*ACTIONS, *HAND_ACTIONS} - {action}:
        assert np.abs(mine - shape(other)).max() > 0.03


def test_noise_and_contrast_are_knobs():
    quiet, loud = (render_clip(replace(EMPTY, noise=noise, texture_light=(90, 90)), 1) for noise in (0, 9))
    corner = np.s_[:, :6, :6, 0]
    assert quiet.frames[corner].std() == 0
    assert 6 < loud.frames[corner].std() < 12
    assert not np.array_equal(loud.frames[0][:6, :6], loud.frames[1][:6, :6])


@pytest.mark.parametrize(
    "wrong",
    [
        {"actions": ("walk", "fly")},
        {"actions": ()},
        {"width": 33},
        {"frames": 0},
        {"stature": (0.4, 0.3)},
    ],
)
def test_wrong_figure_settings_are_refused(wrong):
    with pytest.raises(UsageError, match="FiguresConfig"):
        FiguresConfig(**wrong)


# Drawing moving digits


def place_of(frame: np.ndarray, digit: np.ndarray) -> tuple[int, int]:
    """Left and top of a digit, by the smallest difference at the digit's bright pixels."""
    windows = np.lib.stride_tricks.sliding_window_view(frame.astype(float), (28, 28))
    error = (np.abs(windows - digit) * (digit > 128)).sum(axis=(2, 3))
    top, left = np.unravel_index(error.argmin(), error.shape)
    return int(left), int(top)


@pytest.mark.parametrize("index", range(4))
def test_the_digit_moves_half_a_pixel_at_each_appearance(index):
    video = render_move4mnist(Move4MnistConfig(), 0, "train", index)
    seen = [t for t, kind in enumerate(video.kinds) if kind == "mover"]
    way = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])[index]
    for appearance, t in enumerate(seen):
        expected = np.array(video.start) + (appearance + 1) // 2 * way
        assert place_of(video.frames[t, ..., 0], IMAGES[video.digits[0]]) == tuple(expected)
    assert 7 <= len(seen) // 2 <= 9


def test_other_frames_come_in_their_order():
    counts = Counter()
    for index in range(60):
        video = render_move4mnist(Move4MnistConfig(), 1, "val", index)
        kinds = [KINDS.index(kind) for kind in video.kinds]
        others = [kind for kind in kinds if kind != MOVER]
        assert others == sorted(others)
        assert 14 <= kinds.count(MOVER) <= 18
        assert all(4 <= kinds.count(kind) <= 7 for kind in (STILL, BLACK, PLAIN))
        dark = [not frame.any() for frame in video.frames]
        assert dark == [kind == BLACK for kind in kinds]
        counts[kinds.count(MOVER)] += 1
    assert len(counts) == 5


def test_knobs_of_the_digits():
    config = Move4MnistConfig(frames=64, canvas=96, movers=0.3, step=1, still="anywhere")
    videos = [render_move4mnist(config, 0, "test", index) for index in range(20)]
    shares = [video.kinds.count("mover") / 64 for video in videos]
    assert videos[0].frames.shape == (64, 96, 96, 3)
    assert 0.22 < np.mean(shares) < 0.38
    rare = render_move4mnist(Move4MnistConfig(movers=0.01), 0, "train", 0)
    assert rare.kinds.count("mover") == 2
    with pytest.raises(UsageError, match="even number from"):
        Move4MnistConfig(canvas=32)
    with pytest.raises(UsageError, match="above 0"):
        Move4MnistConfig(step=0)


def test_splits_share_no_digit_and_no_video():
    train, val, test = (set(digits_of(split).tolist()) for split in ("train", "val", "test"))
    assert not (train & val or train & test or val & test)
    assert len(train | val | test) == 10_000
    for split in (train, val, test):
        assert min(np.bincount(LABELS[sorted(split)])) >= 100
    for index in range(10):
        video = render_move4mnist(Move4MnistConfig(), 0, "val", index)
        assert set(video.digits) <= val
        assert LABELS[video.digits[0]] != LABELS[video.digits[1]]


# Folders of real files


def test_figures_on_disk(tmp_path):
    steps = []
    lists = make_figures(
        tmp_path, train=20, val=10, config=SMALL, workers=1, progress=lambda *at: steps.append(at)
    )
    assert steps == [(n, 30) for n in range(1, 31)]
    assert sorted(lists) == ["train", "val"]
    classes, lines = read_lines(lists["train"])
    assert tuple(classes) == ACTIONS
    assert Counter(line["labels"][0] for line in lines) == dict.fromkeys(range(10), 2)
    assert [entry.labels[0] for entry in read_list(lists["train"]).entries] == 2 * list(range(10))
    for line in lines[:10]:
        video = tmp_path / line["path"]
        facts = json.loads(video.with_suffix(".json").read_text())
        frames = decode(video)
        assert frames.shape == (line["frames"], 72, 96, 3)
        assert facts["action"] == classes[line["labels"][0]] == video.parent.name
        clip = render_clip(SMALL, facts["seed"], label=line["labels"][0])
        assert facts["boxes"] == clip.boxes.tolist()
        assert np.abs(frames.astype(int) - clip.frames).mean() < 8
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]


def test_move4mnist_on_disk(tmp_path):
    lists = make_move4mnist(tmp_path, train=8, val=4, workers=1)
    classes, lines = read_lines(lists["train"])
    assert tuple(classes) == DIRECTIONS
    assert Counter(line["labels"][0] for line in lines) == dict.fromkeys(range(4), 2)
    for line in lines:
        frames = decode(tmp_path / line["path"])
        facts = json.loads((tmp_path / line["path"]).with_suffix(".json").read_text())
        drawn = render_move4mnist(Move4MnistConfig(), *facts["seed"][:1], "train", facts["seed"][2])
        assert frames.shape == (32, 64, 64, 3)
        assert tuple(facts["kinds"]) == drawn.kinds
        assert np.abs(frames.astype(int) - drawn.frames).mean() < 2
        last = max(t for t, kind in enumerate(facts["kinds"]) if kind == "mover")
        digit = IMAGES[facts["digits"][0]]
        assert place_of(frames[last, ..., 0], digit) == place_of(drawn.frames[last, ..., 0], digit)


def test_equal_bytes_with_any_number_of_workers_and_after_a_stop(tmp_path):
    def make(name: str, train: int, workers: int) -> dict[str, bytes]:
        make_figures(tmp_path / name, train=train, val=0, config=SMALL, workers=workers)
        return contents(tmp_path / name)

    alone = make("alone", 10, 1)
    assert make("together", 10, 2) == alone
    make("stopped", 4, 1)
    video = tmp_path / "stopped/train/walk/00000.mp4"
    before = video.stat().st_mtime_ns
    (tmp_path / "stopped/train/run/00001.mp4").unlink()
    (tmp_path / "stopped/train/jump/00002.json").unlink()
    assert make("stopped", 10, 1) == alone
    assert video.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 1}, "seed"), ({"config": replace(SMALL, noise=9)}, "noise")],
)
def test_a_folder_of_another_recipe_is_refused(tmp_path, change, named):
    make_figures(tmp_path, train=1, val=0, config=SMALL, workers=1)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=f"made with another {named}"):
        make_figures(tmp_path, **{"train": 2, "val": 0, "config": SMALL, "workers": 1, **change})
    with pytest.raises(UsageError, match="another kind"):
        make_move4mnist(tmp_path, train=1, val=0, workers=1)
    assert contents(tmp_path) == before


def test_foreign_and_damaged_folders_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("holiday")
    with pytest.raises(UsageError, match=r"no made\.json"):
        make_move4mnist(tmp_path, train=1, val=0, workers=1)
    with pytest.raises(OutputError, match=r"mine\.txt"):
        make_move4mnist(tmp_path / "mine.txt", train=1, val=0, workers=1)
    (tmp_path / "made.json").write_text("{")
    with pytest.raises(DataError, match="cannot read"):
        make_move4mnist(tmp_path, train=1, val=0, workers=1)
    with pytest.raises(UsageError, match="-1 videos"):
        make_move4mnist(tmp_path / "new", train=-1, workers=1)
    with pytest.raises(UsageError, match="seed: is -1"):
        make_move4mnist(tmp_path / "new", train=1, seed=-1, workers=1)
    assert not (tmp_path / "new").exists()
