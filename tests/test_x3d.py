"""X3D: the four published sizes, and squeeze-and-excite in every other block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from foveate.backbones.x3d import SqueezeExcite
from foveate.errors import ModelFileError
from foveate.measure.cost import count_macs, count_parameters
from foveate.models.zoo import create_model
from foveate.weights import load_official


@pytest.mark.parametrize(
    ("name", "published", "parameters"),
    [
        ("x3d_xs", 0.60, 3_794_274),
        ("x3d_s", 1.96, 3_794_274),
        ("x3d_m", 4.73, 3_794_274),
        ("x3d_l", 18.37, 6_153_384),
    ],
)
def test_published_sizes(name: str, published: float, parameters: int) -> None:
    with torch.device("meta"):
        model = create_model(name)
    spec = model.spec
    view = torch.empty(1, 3, spec.frames, spec.size, spec.size, device="meta")
    assert count_macs(model, view).total / 1e9 == pytest.approx(published, rel=0.01)
    assert count_parameters(model) == parameters


def test_pyslowfast_has_48_parameters_more() -> None:
    with torch.device("meta"):
        assert count_parameters(create_model("x3d_s", shortcut_norm=True)) == 3_794_322


def pyslowfast_name(key: str) -> str:
    """What PySlowFast calls a weight of ours."""
    ends = {"backbone.last.0": "head.conv_5", "backbone.last.1": "head.conv_5_bn"}
    ends |= {"head.embed.0": "head.lin_5", "head.linear": "head.projection"}
    for number, part in enumerate(("conv_xy", "conv", "bn")):
        ends[f"backbone.stem.{number}"] = f"s1.pathway0_stem.{part}"
    for ours, theirs in ends.items():
        if key.startswith(f"{ours}."):
            return key.replace(ours, theirs)
    stage, block, part = re.fullmatch(r"backbone\.res(\d)\.(\d+)\.(.+)", key).groups()
    parts = {"downsample.0": "branch1", "downsample.1": "branch1_bn"}
    parts |= {"squeeze.squeeze": "branch2.se.fc1", "squeeze.excite": "branch2.se.fc2"}
    for number, letter in enumerate("abc", start=1):
        parts |= {f"conv{number}": f"branch2.{letter}", f"bn{number}": f"branch2.{letter}_bn"}
    place, _, kind = part.rpartition(".")
    return f"s{stage}.pathway0_res{block}.{parts[place]}.{kind}"


def test_a_file_of_pyslowfast_is_read(tmp_path: Path) -> None:
    fields = {"width": 0.5, "depth": 1.0, "hidden": 16, "window": 2}
    torch.manual_seed(0)
    made = create_model("x3d_s", 5, shortcut_norm=True, **fields).eval()
    for norm in (m for m in made.modules() if isinstance(m, torch.nn.BatchNorm3d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    state = {pyslowfast_name(key): value for key, value in made.state_dict().items()}
    torch.save({"model_state": state}, tmp_path / "x3d_s.pyth")
    model = load_official(tmp_path / "x3d_s.pyth", "x3d_s", **fields)
    clip = torch.randn(1, 3, 4, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(clip), made(clip))
    assert (model.spec.antialias, model.spec.crop_up) == (False, True)
    with pytest.raises(ModelFileError, match="slow_r50_8x8 from pyslowfast: missing net"):
        load_official(tmp_path / "x3d_s.pyth", "slow_r50_8x8")


def test_every_other_block_squeezes() -> None:
    with torch.device("meta"):
        backbone = create_model("x3d_s").backbone
    for stage in (backbone.res2, backbone.res3, backbone.res4, backbone.res5):
        assert [isinstance(block.squeeze, SqueezeExcite) for block in stage] == [
            number % 2 == 0 for number in range(len(stage))
        ]


def test_a_silent_squeeze_halves() -> None:
    squeeze = SqueezeExcite(16)
    torch.nn.init.zeros_(squeeze.excite.weight)
    torch.nn.init.zeros_(squeeze.excite.bias)
    x = torch.randn(1, 16, 2, 3, 3)
    assert torch.allclose(squeeze(x), x / 2)


def test_a_larger_crop_has_more_windows() -> None:
    torch.manual_seed(0)
    model = create_model("x3d_s", 5, width=0.5, depth=1.0, hidden=16, window=2).eval()
    with torch.inference_mode():
        clip = torch.randn(1, 3, 4, 96, 96)
        output, features = model.output(clip), model.features(clip)
        assert output.position_logits.shape == (1, 4, 5)
        assert features.shape == (1, 16)
        assert torch.allclose(output.logits, model.head.linear(features), atol=1e-6)
