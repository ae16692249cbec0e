"""X3D: the four published sizes, and squeeze-and-excite in every other block."""

from __future__ import annotations

import pytest
import torch

from foveate.backbones.x3d import SqueezeExcite
from foveate.measure.cost import count_macs, count_parameters
from foveate.models.zoo import create_model


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
        trace = model.trace(torch.randn(1, 3, 4, 96, 96))
        assert trace.logits_map.shape == (1, 4, 5)
        assert trace.features.shape == (1, 16)
        assert torch.allclose(trace.logits, model.head.linear(trace.features), atol=1e-6)
