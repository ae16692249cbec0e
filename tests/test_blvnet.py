"""bLVNet on pairs equals the released order of operations; costs are the published ones; any pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.blvnet import as_released, randomised
from torch import Tensor

from foveate.backbones.blresnet import BigLittleStage, BLResNet, PairBLResNet
from foveate.backbones.slots import temporal_slot
from foveate.errors import UsageError
from foveate.layers.aggregate import AggregationConfig
from foveate.layers.fold import fold_time
from foveate.measure.cost import count_macs, count_parameters
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.weights import convert, load_official
from foveate.weights.start import start_from


def net(depth: int = 50, taps: int = 3, method: str = "sum", **fields: int) -> PairBLResNet:
    """A narrow network none of whose parts is trivial: norms off their start, blocks that do something."""
    torch.manual_seed(0)
    slot = temporal_slot("aggregation", aggregation=AggregationConfig(taps, method)) if taps else None
    made = PairBLResNet(depth, width=8, **fields, **({"slot": slot} if slot else {})).eval()
    randomised(made)
    return made


def frames(count: int, side: int = 40, batch: int = 2) -> Tensor:
    return torch.randn(batch * count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("count", [2, 6, 16])
@pytest.mark.parametrize(
    ("taps", "method"), [(0, "sum"), (1, "sum"), (2, "sum"), (3, "sum"), (4, "sum"), (9, "sum"), (3, "max")]
)
@torch.inference_mode()
def test_equals_the_released_order_of_operations(taps: int, method: str, count: int) -> None:
    model, images = net(26, taps, method), frames(count)
    theirs = as_released(model, images, count)
    assert (model(images, count) - theirs).norm() < 1e-6 * theirs.norm()


@pytest.mark.parametrize("side", [33, 48, 56])  # big maps that are not half of the little ones
@torch.inference_mode()
def test_any_side(side: int) -> None:
    model, images = net(50), frames(4, side, batch=1)
    theirs = as_released(model, images, 4)
    assert (model(images, 4) - theirs).norm() < 1e-6 * theirs.norm()


@torch.inference_mode()
def test_each_frame_goes_to_its_branch() -> None:
    model, images = net(26, taps=0), frames(4, batch=1)
    little, big = [], []
    model.stem.l_conv0.register_forward_pre_hook(lambda _, inputs: little.append(inputs[0].clone()))
    model.stem.b_conv0.register_forward_pre_hook(lambda _, inputs: big.append(inputs[0].clone()))
    model(images, 4)
    seen = model.stem.shared(images)
    assert torch.allclose(little[0], seen[0::2]) and torch.allclose(big[0], seen[1::2])


COSTS = [  # name, classes, parameters, GMACs a clip at 224, as measured on the released code
    ("blvnet_tam_r50_8x2", 174, 25_020_142, 23.85),
    ("blvnet_r50_8x2", 174, 25_002_094, 23.78),
    ("blvnet_tam_r101_8x2", 174, 40_177_134, 32.15),
    ("blvnet_tam_r50_16x2", 174, 25_020_142, 47.7),
    ("blvnet_tam_r101_16x2", 174, 40_177_134, 64.3),
    ("blvnet_tam_r101_24x2", 174, 40_177_134, 96.4),
    ("blvnet_tam_r101_32x2", 174, 40_177_134, 128.6),
    ("blresnet50", 1000, 26_694_568, 2.856),
    ("blresnet101", 1000, 41_851_560, 3.893),
    ("tsn_r50_8", 174, 23_864_558, 32.70),
    ("tam_r50_8", 174, 23_903_918, 32.83),
    ("tam_r18_16_tpool", 400, 11_386_128, 15.0707),
    ("tam_r50_8_tpool", 174, 23_903_918, 14.21),
    ("i3d_ibm_r50_8", 400, 46_980_944, 64.19),
]


@pytest.mark.parametrize(("name", "classes", "parameters", "gmacs"), COSTS)
def test_published_costs(name: str, classes: int, parameters: int, gmacs: float) -> None:
    with torch.device("meta"):
        model = create_model(name, classes)
    cost = count_macs(model, torch.empty(1, 3, model.spec.frames, 224, 224, device="meta"))
    assert count_parameters(model) == parameters
    assert cost.total / 1e9 == pytest.approx(gmacs, rel=1e-3)


def test_temporal_parts_of_every_depth_cost_the_same() -> None:
    for depth in (26, 50, 101, 152):
        with torch.device("meta"):
            both = [
                create_model("blvnet_tam_r50_8x2", depth=depth, temporal=t) for t in ("none", "aggregation")
            ]
        plain, mixed = map(count_parameters, both)
        assert mixed - plain == 18_048 - (2048 * 3 if depth == 26 else 0)  # one block less in stage 4


@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (4, 2), (2, 8)])
def test_any_alpha_and_beta(alpha: int, beta: int) -> None:
    made = net(50, alpha=alpha, beta=beta)
    assert [len(stage.little) for stage in (made.layer1, made.layer2, made.layer3)] == [
        max(1, blocks // beta - 1) for blocks in (3, 4, 6)
    ]
    assert made.stem.l_conv0.out_channels == 8 // alpha
    assert made(frames(2, batch=1), 2).shape == (1, 256, 2, 2)


def test_the_image_network_takes_them_by_name() -> None:
    made = create_model("blresnet50", 5, alpha=4, beta=1, width=0.125).backbone
    assert made.stem.l_conv0.out_channels == 2
    assert [len(stage.little) for stage in (made.layer1, made.layer2, made.layer3)] == [2, 3, 5]
    with pytest.raises(UsageError, match="alpha and beta are for bLResNets, not resnet18"):
        create_model("tsn_r18_8", alpha=4)


def test_the_last_block_of_a_big_branch_has_no_relu() -> None:
    for depth in (26, 50, 101):
        stages = [m for m in net(depth).modules() if isinstance(m, BigLittleStage)]
        for stage in stages:
            assert [block.last_relu for block in stage.big] == [True] * (len(stage.big) - 1) + [False]
            assert all(block.last_relu for block in (*stage.little, *stage.fusion))


def test_new_blocks_are_their_shortcuts() -> None:
    model = BLResNet(26, width=8)
    assert not any(m.bn3.weight.any() for m in model.modules() if hasattr(m, "bn3"))


def small(name: str = "blvnet_small", **fields: object) -> VideoModel:
    torch.manual_seed(0)
    return create_model(name, 5, **fields).eval()


def test_odd_frames_are_one_clear_line() -> None:
    with pytest.raises(UsageError, match="bLVNet: 3 frames do not form pairs"):
        small()(torch.zeros(1, 3, 3, 64, 64))
    with pytest.raises(UsageError, match="bLVNet: 0 frames do not form pairs"):
        small()(torch.zeros(1, 3, 0, 64, 64))
    with pytest.raises(UsageError, match="15 frames do not form pairs"):
        create_model("blvnet_small", frames=15)
    with pytest.raises(UsageError, match="does not divide"):
        create_model("blvnet_small", alpha=3)


@torch.inference_mode()
def test_output_answers_for_every_pair() -> None:
    model, clip = small(), torch.randn(2, 3, 6, 64, 64)
    output = model.output(clip)
    assert output.frame_logits.shape == (2, 3, 5)
    assert torch.allclose(output.logits, model(clip), atol=1e-6)


@torch.inference_mode()
def test_the_image_network_gives_both_branches_the_same() -> None:
    torch.manual_seed(0)
    image, images = small("blresnet50", width=0.125), frames(2, 64, 1)
    clip = images.unsqueeze(2)  # two clips of one frame
    pairs = PairBLResNet(50, width=8).eval()
    pairs.load_state_dict(image.backbone.state_dict())
    twice = pairs(fold_time(clip.expand(-1, -1, 2, -1, -1)), 2)
    assert torch.allclose(image.backbone(images), twice, atol=1e-5)


NAMED, NUMBERED = ("prev", "curr", "next"), tuple(f"blending_layers.{place}" for place in range(3))


def released(prefix: str = "", taps: tuple[str, ...] = NAMED) -> dict[str, Tensor]:
    """The state dict of the small model as the release names it."""

    def theirs(key: str) -> str:
        key = key.replace("backbone.stem.", "backbone.").replace("head.linear.", "new_fc.")
        stem, _, place = key.rpartition(".temporal.weights.")
        key = f"{stem}.tam.{taps[int(place)]}.weight" if stem else key
        return prefix + key.replace("backbone.", "baseline_model.", 1)

    return {theirs(key): value for key, value in small().state_dict().items()}


@pytest.mark.parametrize("wrapped", [False, True])
def test_both_layouts_of_files(wrapped: bool, tmp_path: Path) -> None:
    state = released("module." if wrapped else "")
    torch.save({"epoch": 1, "state_dict": state} if wrapped else state, tmp_path / "m.pth.tar")
    model = load_official(tmp_path / "m.pth.tar", "blvnet_small")
    ours = small().state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in model.state_dict().items())


def test_windows_of_numbered_taps_count_from_the_past() -> None:
    state = released(taps=NUMBERED)
    model = convert(state, "blvnet", "blvnet_small", 5)
    last = state["baseline_model.tam.blending_layers.2.weight"]
    assert torch.equal(model.backbone.temporal.weights[2], last)


def test_a_video_model_starts_from_images_and_keeps_its_own_aggregation() -> None:
    image = small("blresnet50", width=0.125)
    model = create_model("blvnet_tam_r50_4x2", 7, width=0.125)
    before = model.backbone.layer1.temporal.weights[0].clone()
    start_from(model, image)
    assert torch.equal(model.backbone.layer3.big[0].conv1.weight, image.backbone.layer3.big[0].conv1.weight)
    assert torch.equal(model.backbone.layer1.temporal.weights[0], before)
