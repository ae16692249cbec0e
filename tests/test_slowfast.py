"""SlowFast and its single pathways: published sizes, every lateral kind, windows, weaker inputs, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.errors import UsageError
from foveate.layers.fast_input import CHANNELS, fast_view
from foveate.layers.flow import optical_flow
from foveate.layers.lateral import slow_indices
from foveate.measure.cost import count_macs, count_parameters
from foveate.models.zoo import create_model
from foveate.weights.file import read_model, save_model

TINY: dict[str, Any] = {"width": 0.25, "frames": 8, "size": 64, "resize": 64, "window": 4}
GMACS = [  # name, at 256 and 224 pixels, parameters; attention products left out
    ("c2d_r50_8x8", 25.463, 19.493, 24_327_632),
    ("i3d_r50_8x8", 37.106, 28.408, 28_043_472),
    ("i3d_nln_r50_8x8", 43.817, 33.546, 35_401_936),
    ("i3d_r101_8x8", 61.332, 46.956, 51_754_192),
    ("slow_r50_4x16", 27.262, 20.871, 32_454_096),
    ("slow_r50_8x8", 54.521, 41.741, 32_454_096),
    ("slowfast_r50_4x16", 36.102, 27.639, 34_480_216),
    ("slowfast_r50_8x8", 65.712, 50.309, 34_566_488),
    ("slowfast_r101_8x8_50_50", 106.514, 81.548, 53_774_808),
    ("slowfast_r101_8x8_50_101", 107.655, 82.421, 53_914_072),
    ("slowfast_r101_8x8", 125.908, 96.397, 62_826_968),
    ("slowfast_r101_16x8", 213.024, 163.095, 53_774_808),
    ("slowfast_nln_r101_16x8", 229.130, 175.426, 60_080_088),
    ("slowfast_nln_r50_4x16", 42.813, 32.777, 41_838_680),
    ("slowfast_nln_r50_8x8", 78.722, 60.270, 41_838_680),
]
ALONE = [("slow_r50_4x16", 27.26), ("fast_r50_32x2", 6.90)]  # the pathways of SlowFast 4x16, GMACs at 256
ABLATION = [  # of SlowFast 4x16: changed fields, GMACs at 256, parameters where they are known
    ({"lateral": "none"}, 34.16, None),
    ({"lateral": "channels", "fusion": "sum"}, 34.16, None),
    ({"lateral": "channels"}, 39.87, 37_842_488),
    ({"lateral": "sample"}, 34.88, 33_667_128),
    ({"beta": 0.25}, 53.60, 37_940_960),
    ({"beta": 1 / 16}, 30.60, 33_287_828),
    ({"beta": 1 / 32}, 28.66, 32_826_130),
    ({"fast_input": "gray"}, 34.05, None),
    ({"fast_input": "flow"}, 35.07, None),
]


def shape_of(name: str, **fields: Any) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(name, **fields)


def gmacs(model: Any, side: int) -> float:
    return count_macs(model, torch.empty(1, 3, model.spec.frames, side, side, device="meta")).total / 1e9


def attention(model: Any, side: int) -> float:
    """Products of the non-local blocks in 1e9: places x keys x channels, twice; keys are pooled 2 x 2."""
    frames = model.spec.frames // (model.config.alpha if hasattr(model.config, "alpha") else 1)
    frames //= 2 if getattr(model.config, "pool_time", False) else 1
    places = {50: {8: (2, 256), 16: (3, 512)}, 101: {16: (3, 512)}}[model.config.depth]
    total = 0
    for stride, (blocks, inner) in places.items():
        keys = frames * (side // stride // 2) ** 2
        total += blocks * 2 * inner * frames * (side // stride) ** 2 * keys
    return total / 1e9


@pytest.mark.parametrize(("name", "at_256", "at_224", "parameters"), GMACS, ids=[row[0] for row in GMACS])
def test_published_sizes(name: str, at_256: float, at_224: float, parameters: int) -> None:
    model = shape_of(name)
    assert count_parameters(model) == parameters
    for side, expected in ((256, at_256), (224, at_224))[: 1 if "r101" in name else 2]:
        products = attention(model, side) if "nln" in name else 0
        assert gmacs(model, side) - products == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("name", "at_256"), ALONE)
def test_sizes_of_a_pathway_alone(name: str, at_256: float) -> None:
    assert gmacs(shape_of(name), 256) == pytest.approx(at_256, rel=1e-3)


@pytest.mark.parametrize(("fields", "at_256", "parameters"), ABLATION, ids=[str(row[0]) for row in ABLATION])
def test_sizes_of_the_ablation(fields: dict[str, Any], at_256: float, parameters: int | None) -> None:
    model = shape_of("slowfast_r50_4x16", **fields)
    assert gmacs(model, 256) == pytest.approx(at_256, rel=1e-3)
    assert parameters is None or count_parameters(model) == parameters


def test_beta_is_rounded_up_to_whole_channels() -> None:
    widths = [
        shape_of("slowfast_r50_4x16", beta=beta).fast.stem.conv.out_channels
        for beta in (1 / 6, 1 / 12, 1 / 32, 1 / 500, 1e-8)
    ]
    assert widths == [11, 6, 2, 1, 1]


def small(name: str = "slowfast_small", **fields: Any) -> Any:
    torch.manual_seed(0)
    return create_model(name, 5, **TINY | fields)


def clip(frames: int = 8, side: int = 64, batch: int = 2, channels: int = 3) -> torch.Tensor:
    noise = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, frames, side, side, generator=noise)


LATERALS = [
    *(("conv", fusion) for fusion in ("concat", "sum")),
    *(("channels", fusion) for fusion in ("concat", "sum")),
    ("sample", "concat"),
    ("none", "concat"),
]


@pytest.mark.parametrize(("lateral", "fusion"), LATERALS)
def test_every_lateral_learns_and_survives_a_file(lateral: str, fusion: str, tmp_path: Path) -> None:
    model = small(lateral=lateral, fusion=fusion).train()
    before = model(clip()).logsumexp(1).mean()
    torch.nn.functional.cross_entropy(model(clip()), torch.tensor([0, 1])).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.1 * parameter.grad)
    assert model(clip()).logsumexp(1).mean() != before
    save_model(model.eval(), tmp_path / "m.safetensors")
    with torch.inference_mode():
        assert torch.equal(read_model(tmp_path / "m.safetensors")[0](clip()), model(clip()))


def test_silent_laterals_leave_the_slow_pathway_alone() -> None:
    model = small(depth=50).eval()  # whose first block has a shortcut with or without laterals
    alone = small("slow_small", depth=50, frames=2).eval()
    with torch.no_grad():
        for lateral in model.laterals:
            lateral.transform.conv.weight.zero_()
        weights = alone.net.state_dict()
        for key, value in model.slow.state_dict().items():
            weights[key] = value[:, : weights[key].shape[1]] if value.dim() > 1 else value
        alone.net.load_state_dict(weights)
        slow, _ = model.maps(clip())
        assert torch.allclose(slow, alone.net(clip()[:, :, [0, 7]]), atol=1e-5)


def test_features_are_what_is_classified() -> None:
    model = small().eval()
    with torch.inference_mode():
        features = model.features(clip(side=96))
        assert features.shape == (2, model.slow.channels + model.fast.channels)
        assert torch.allclose(model.head.linear(features), model(clip(side=96)), atol=1e-5)
    assert shape_of("slowfast_r50_8x8").features(torch.empty(1, 3, 32, 64, 64, device="meta")).shape == (
        1,
        2304,
    )


@torch.inference_mode()
def test_the_output_says_which_frames_each_pathway_read() -> None:
    model, seen = small("slowfast_small").eval(), clip()
    frames = seen.shape[2]
    slow = tuple(slow_indices(frames, model.config.alpha))
    assert model.output(seen).pathways == {"slow": slow, "fast": tuple(range(frames))}


@pytest.mark.parametrize("name", ["slowfast_small", "slow_small"])
def test_a_larger_crop_is_windows_of_the_training_crop(name: str) -> None:
    model = small(name).eval()
    with torch.inference_mode():
        plain, wide = model.output(clip()), model.output(clip(side=80))
        assert plain.position_logits.shape == (2, 1, 5)
        assert torch.allclose(plain.position_logits[:, 0], plain.logits)
        assert wide.position_logits.shape == (2, 4, 5)
        assert torch.allclose(wide.logits, wide.position_logits.mean(1), atol=1e-6)
        maps = model.maps(clip(side=80))
        corner = torch.cat([x[..., :4, :4].mean((2, 3, 4)) for x in maps], dim=1)
        assert torch.allclose(model.head.linear(corner), wide.position_logits[:, 0], atol=1e-5)


@pytest.mark.parametrize("frames", [3, 6, 15])
def test_odd_alphas_and_other_lengths_are_read(frames: int) -> None:
    assert small(alpha=3, frames=9).eval()(clip(frames)).shape == (2, 5)


@pytest.mark.parametrize("frames", [1, 3, 6, 9])
def test_a_clip_that_alpha_does_not_divide_is_one_line(frames: int) -> None:
    with pytest.raises(UsageError, match=f"clip: has {frames} frames, .* 4 Fast ones .*multiple of 4"):
        small()(clip(frames))


def test_one_frame_cannot_be_halved() -> None:
    with pytest.raises(UsageError, match="clip: has 1 frame, and the temporal pool needs 2"):
        small("slow_small", pathway="c2d", pool_time=True)(clip(1))


@pytest.mark.parametrize("sides", [(448, 448), (480, 512), (256, 448)])
def test_half_a_resolution_fits_the_windows_of_any_crop(sides: tuple[int, int]) -> None:
    model = small(fast_input="half", stem="large", window=7, width=0.0625).eval()
    plain = torch.randn(1, 3, 8, *sides, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        slow, fast = model.maps(plain)
        features = model.head.features(slow, fast)
    down, across = (side // 32 - 6 for side in sides)
    assert features.shape == (1, down * across, model.head.channels)
    first, last = features[0, 0, slow.shape[1] :], features[0, -1, slow.shape[1] :]
    cells = [-(-7 * own // side) for own, side in zip(fast.shape[3:], slow.shape[3:], strict=True)]
    assert torch.allclose(first, fast[0, :, :, : cells[0], : cells[1]].mean((1, 2, 3)), atol=1e-5)
    assert torch.allclose(last, fast[0, :, :, -cells[0] :, -cells[1] :].mean((1, 2, 3)), atol=1e-5)


def test_a_picture_too_small_for_a_non_local_block_is_one_line() -> None:
    model = create_model("slow_nln_r50_8x8", 5, width=0.125, window=1)
    with pytest.raises(UsageError, match="clip: is too small for the 2x2 pool"):
        model(clip(side=16))


def test_frames_may_come_from_the_whole_video() -> None:
    for name in ("slowfast_small", "slow_small"):
        assert create_model(name).spec.sampling == "even"
        assert create_model(name, sampling="rounded_segments").spec.sampling == "rounded_segments"
        with pytest.raises(UsageError, match="'all' is not allowed"):
            create_model(name, sampling="all")


@pytest.mark.parametrize("kind", CHANNELS)
def test_weaker_inputs(kind: str) -> None:
    seen = fast_view(clip(), kind)
    assert seen.shape[:3] == (2, CHANNELS[kind], 8)
    assert small(fast_input=kind).eval()(clip(side=48)).isfinite().all()


def test_what_does_not_move_gives_no_motion() -> None:
    still = clip(1).expand(-1, -1, 4, -1, -1)
    assert not fast_view(still, "difference").any()
    assert fast_view(still, "flow").abs().max() < 1e-5


def test_a_flow_from_elsewhere_takes_the_place_of_ours() -> None:
    model = small(fast_input="flow").eval()
    given = torch.cat([clip(), fast_view(clip(), "flow")], dim=1)
    with torch.inference_mode():
        assert torch.allclose(model(given), model(clip()), atol=1e-5)
        assert not torch.allclose(
            model(torch.cat([clip(), 0 * given[:, 3:]], dim=1)), model(clip()), atol=1e-4
        )


@pytest.mark.parametrize(("kind", "channels"), [("rgb", 4), ("flow", 6)])
def test_other_channels_than_the_fast_pathway_reads_are_one_line(kind: str, channels: int) -> None:
    message = rf"has {channels - 3} channels beyond the third \(the Fast pathway reads {CHANNELS[kind]} there"
    with pytest.raises(UsageError, match=message):
        small(fast_input=kind)(clip(channels=channels))


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, -2), (3, 2)])
def test_flow_follows_a_shifted_picture(right: int, down: int) -> None:
    noise = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(2))
    smooth = torch.nn.functional.interpolate(noise, size=(96, 96), mode="bicubic")
    flow = optical_flow(smooth, smooth.roll((down, right), (2, 3)))
    middle = flow[0, :, 16:-16, 16:-16].flatten(1).median(1).values
    assert torch.allclose(middle, torch.tensor([right, down]).float(), atol=0.2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 0}, "alpha is 0"),
        ({"alpha": 9}, "alpha is 9, of 8 Fast frames"),
        ({"alpha": 3}, "alpha is 3, of 8 Fast frames; it must divide them"),
        ({"slow_res4": -3}, "slow_res4 is -3; res4 has 1 blocks"),
        ({"fast_res4": 99}, "fast_res4 is 99; res4 has 1 blocks"),
        ({"beta": 0.0}, "beta is 0"),
        ({"lateral_kernel": 4}, "odd"),
        ({"fusion": "sum", "lateral": "sample"}, "a sum needs"),
        ({"size": 80}, "smaller than the crop"),
        ({"stride": 0}, "stride is 0"),
        ({"window": 0}, "window is 0"),
        ({"non_local": "dot"}, "depths 50 and 101"),
        ({"lateral": "sideways"}, "sideways"),
    ],
)
def test_what_cannot_be_is_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        small(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 1, 8, 64, 64), (2, 3, 0, 64, 64)])
def test_what_is_no_clip_is_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="batch x 3 x frames"):
        small()(torch.zeros(shape))


def test_a_new_block_begins_as_the_identity() -> None:
    model = small("slow_small", depth=18).eval()
    x = torch.rand(1, 16, 2, 8, 8)
    assert torch.allclose(model.net.res2[1](x), x)


def test_a_2d_networks_part_takes_the_place_of_temporal_kernels() -> None:
    """TAM in Slow-only: no kernel spans time, and yet a frame changes what its neighbours become."""
    torch.manual_seed(0)
    model = create_model("slow_small", 4, temporal="aggregation").eval()
    assert all(m.kernel_size[0] == 1 for m in model.modules() if isinstance(m, torch.nn.Conv3d))
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d)):
        torch.nn.init.ones_(norm.weight)  # blocks start as the identity otherwise
    side = model.spec.size
    clip = torch.randn(1, 3, 4, side, side)
    other = clip.clone()
    other[:, :, 3] = 0
    with torch.inference_mode():
        changed = (model.maps(clip)[0] - model.maps(other)[0]).abs().amax((0, 1, 3, 4))
    assert (changed > 0).all()
    torch.testing.assert_close(create_model("slow_small", 4)(clip).shape, model(clip).shape)


def test_the_part_of_a_pathway_is_chosen_as_in_a_2d_network() -> None:
    """TSM shifts in every second block of a ResNet-101; TAM takes its options."""
    with torch.device("meta"):
        model = create_model("slow_tam_r50_8x8", depth=101, temporal="shift", shift_div=4)
        wide = create_model("slow_tam_r50_8x8", aggregation={"taps": 5})
    parts = [block.temporal for stage in model.net.stages for block in stage]
    assert [part is not None for part in parts[:7]] == [True, False, True, True, False, True, False]
    assert {part.div for part in parts if part} == {4}
    assert len(wide.net.res2[0].temporal.weights) == 5
