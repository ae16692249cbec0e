"""Simulated mechanisms: the same video for the same seed, in a box that is small and inside the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from experiments.mechanisms import WORLDS
from experiments.physics import PhysicsConfig, make_physics, render

from foveate.data.lists import read_list
from foveate.video import open_video


@pytest.mark.parametrize("world", list(WORLDS))
def test_every_mechanism_is_small_and_in_the_frame(world: str) -> None:
    config = PhysicsConfig(world=world, side=160, frames=6)  # type: ignore[arg-type]
    assert len(config.classes) >= 10
    for label in range(len(config.classes)):
        clip = render(config, (1, label), label)
        assert clip.frames.shape == (6, 160, 160, 3) and clip.boxes.shape == (6, 4)
        left, top, right, bottom = clip.boxes.T
        assert (left >= 0).all() and (top >= 0).all() and (right <= 160).all() and (bottom <= 160).all()
        assert ((right - left) * (bottom - top) < 0.25 * 160**2).all()
        assert clip.frames[0].std() > 5 and not np.array_equal(clip.frames[0], clip.frames[-1])


def test_a_seed_is_a_video() -> None:
    config = PhysicsConfig(side=96, frames=3)
    one, again, other = (render(config, seed, 2).frames for seed in (5, 5, 6))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_a_folder_of_them_is_a_list(tmp_path: Path) -> None:
    config = PhysicsConfig(side=96, frames=4)
    lists = make_physics(tmp_path / "physics", 4, 2, 2, config=config)
    listed = read_list(lists["train"])
    assert len(listed) == 4 and listed.class_names[: len(config.classes)] == config.classes
    with open_video(listed.entries[0].path) as video:
        assert video.info.frames == 4 and video.info.width == 96
