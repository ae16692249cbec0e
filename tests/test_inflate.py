"""A clip network that starts from an image network: on a clip that does not change it sees the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from foveate.errors import ModelFileError
from foveate.layers.fold import fold_time, unfold_time
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.weights.start import start_from

SMALL: dict[str, Any] = {"width": 0.125, "size": 64, "resize": 64}
RADIUS = {
    "i3d_ibm_r18_8": 17,
    "slow_r50_8x8": 4,
    "i3d_r50_8x8_nopool": 7,
}  # frames seen to each side, depth 18


def images(**fields: Any) -> VideoModel:
    """A ResNet-18 of images whose norms have seen something."""
    torch.manual_seed(0)
    model = create_model("tsn_r18_8", 3, **SMALL | fields)
    model.labels = ("a", "b", "c")
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0, 0.2)
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.mark.parametrize("name", RADIUS)
def test_a_clip_that_does_not_change_gives_the_features_of_its_image(name: str) -> None:
    source = images()
    fields = SMALL if name.startswith("i3d_ibm") else SMALL | {"depth": 18, "window": 2}
    model = create_model(name, 3, **fields).eval()
    model.labels = source.labels
    start_from(model, source)
    assert torch.equal(model.head.linear.weight, source.head.linear.weight)
    frames, image = 2 * RADIUS[name] + 1, torch.randn(1, 3, 64, 64)
    clip = image.unsqueeze(2).expand(-1, -1, frames, -1, -1)
    with torch.inference_mode():
        expected = source.backbone(image)
        if name.startswith("i3d_ibm"):
            maps = unfold_time(model.backbone(fold_time(clip), frames), frames)
        else:
            maps = model.maps(clip)[0]
    assert torch.allclose(maps[:, :, frames // 2], expected, rtol=1e-4, atol=1e-4)
    if name != "slow_r50_8x8":  # where kernels reach over the ends of the clip, it does not
        assert not torch.allclose(maps[:, :, 0], expected, rtol=1e-2, atol=1e-2)


def test_a_refused_start_says_in_which_settings_both_differ() -> None:
    model, source = (
        create_model("tsn_r10_8", 3, width=width, stem="small", frames=frames)
        for width, frames in ((0.25, 8), (0.5, 4))
    )
    with pytest.raises(ModelFileError, match=r"\(set width=0\.5, as it has\)"):
        start_from(model, source)


def test_a_pathway_widened_by_another_is_refused() -> None:
    model = create_model("slowfast_r18_4x16", 3, **SMALL)
    with pytest.raises(ModelFileError, match="the two models differ in"):
        start_from(model, images())
