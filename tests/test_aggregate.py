"""Temporal aggregation: equal to the released order of operations, at any length, in any slot."""

from __future__ import annotations

import pytest
import torch
from benchmarks.blvnet import aggregated
from torch import Tensor

from foveate.backbones.slots import temporal_slot
from foveate.errors import UsageError
from foveate.layers.aggregate import AggregationConfig, TemporalAggregation
from foveate.layers.temporal import PastShift, StreamMemory, TemporalPool, TemporalShift
from foveate.measure.cost import count_macs
from foveate.models.zoo import create_model

CHANNELS = 6
WAYS = [("sum", False), ("sum", True), ("max", False), ("max", True)]


def part(
    taps: int = 3, method: str = "sum", full: bool = False, channels: int = CHANNELS
) -> TemporalAggregation:
    torch.manual_seed(taps)
    return AggregationConfig(taps, method, full).build(channels)


def maps(frames: int, batch: int = 2, channels: int = CHANNELS) -> Tensor:
    return torch.randn(batch * frames, channels, 3, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize(("method", "full"), WAYS)
def test_equals_the_released_order_of_operations(method: str, full: bool, taps: int, frames: int) -> None:
    tam, x = part(taps, method, full), maps(frames)
    assert torch.allclose(tam(x, frames), aggregated(tam, x, frames), atol=1e-6)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("method", "full"), WAYS)
def test_pairs_are_frames_that_stand_twice(method: str, full: bool, taps: int, frames: int) -> None:
    tam, x = part(taps, method, full), maps(frames)
    written_out = tam(x.repeat_interleave(2, 0), 2 * frames).unflatten(0, (-1, 2))
    first, second = tam.split_pairs(x, frames)
    assert torch.allclose(first, written_out[:, 0], atol=1e-6)
    assert torch.allclose(second, written_out[:, 1], atol=1e-6)


@pytest.mark.parametrize("taps", [1, 2, 3, 4])
def test_from_identity_nothing_is_mixed_and_all_taps_learn(taps: int) -> None:
    tam, x = AggregationConfig(taps, start="identity").build(CHANNELS), maps(4).abs()
    mixed = tam(x, 4)
    assert torch.equal(mixed, x)
    mixed.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.ne(0).all() for weight in tam.weights)


def test_shift_is_a_special_case() -> None:
    tam, x = part(), maps(4).abs()  # the ReLU leaves it alone
    shift = TemporalShift(div=3)
    weights = torch.zeros(3, CHANNELS)
    weights[2, :2] = weights[0, 2:4] = weights[1, 4:] = 1
    with torch.no_grad():
        for mine, given in zip(tam.weights, weights, strict=True):
            mine.copy_(given.view(-1, 1, 1, 1))
    assert torch.equal(tam(x, 4), shift(x, 4))


def test_clips_of_a_batch_do_not_mix() -> None:
    tam, x = part(5), maps(4, batch=3)
    alone = [tam(x[4 * i : 4 * i + 4], 4) for i in range(3)]
    assert torch.equal(tam(x, 4), torch.cat(alone))


@pytest.mark.parametrize(("method", "full"), WAYS)
def test_gradients_are_those_of_the_released_order(method: str, full: bool) -> None:
    tam, x, aim = part(4, method, full).double(), maps(5).double().requires_grad_(), maps(5).double()
    grads = []
    for run in (lambda: tam(x, 5), lambda: aggregated(tam, x, 5)):
        grads.append(torch.autograd.grad((run() * aim).sum(), [x, *tam.weights]))
    for ours, theirs in zip(*grads, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_it_does_not_write_into_its_input_and_cannot_stream() -> None:
    tam, x = part(), maps(4)
    before = x.clone()
    tam(x, 4), tam.split_pairs(x, 4)
    assert torch.equal(x, before)
    with pytest.raises(ValueError, match="past"):
        tam(x, 4, StreamMemory())


def test_multiply_adds_are_those_of_the_depthwise_convolutions() -> None:
    x = maps(8)
    inside = 2 * (8 + 7 + 7) * CHANNELS * 6  # taps that look outside a clip cost nothing
    assert count_macs(part(), x, 8).total == inside
    assert count_macs(part(full=True), x, 8).total == inside * CHANNELS
    assert count_macs(torch.nn.Identity(), x, call=lambda x: x * 2 * x.sigmoid()).total == 0


def test_slots_by_name() -> None:
    assert temporal_slot("none")(1, 0, 8) is None
    assert isinstance(temporal_slot("shift")(1, 0, 8), TemporalShift)
    assert isinstance(temporal_slot("past")(1, 0, 8), PastShift)
    wide = temporal_slot("aggregation", aggregation=AggregationConfig(5))(1, 1, 8)
    assert isinstance(wide, TemporalAggregation) and len(wide.weights) == 5
    assert temporal_slot("shift", "resnet101")(3, 1, 8) is None
    assert temporal_slot("aggregation", "resnet101")(3, 1, 8) is not None


SMALL_FOCUS = {
    "size": 64, "resize": 64, "glance_size": 32, "patch": 32, "frames": 4, "glance_width": 0.25,
    "local_width": 0.25,
}  # fmt: skip
SMALL_CLIP_FOCUS = SMALL_FOCUS | {"glance_frames": 4, "local_frames": 4, "local": "resnet10"}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tam_r10_8", {}),
        ("tam_mnv2_8", {"width": 0.25}),
        ("adafocus_tsm_144", SMALL_CLIP_FOCUS | {"temporal": "aggregation"}),
    ],
)
def test_networks_with_it_see_the_order_of_frames(name: str, fields: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = create_model(name, 5, **fields).eval()
    clip = torch.randn(1, 3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        forward, backward = model(clip), model(clip.flip(2))
    assert (forward - backward).norm() > 1e-3 * forward.norm()


@torch.inference_mode()
def test_behind_the_clusters_of_a_full_video_they_see_each_other() -> None:
    torch.manual_seed(0)
    fields = {"width": 0.25, "aggregation": {"taps": 5}}
    model = create_model("fullvideo_tam_r18_32to8", 5, **fields).eval()
    first, *late = [
        [m for m in s.modules() if isinstance(m, TemporalAggregation)] for s in model.backbone.stages
    ]
    assert not first and [len(parts) for parts in late] == [2, 2, 2]
    assert {len(part.weights) for parts in late for part in parts} == {5}
    clip = torch.randn(1, 3, 12, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = model.early(clip[0].transpose(0, 1)[:8])
    assert torch.allclose(model.output(clip).logits, model(clip))
    forward, backward = model.late(maps, 8).mean(0), model.late(maps.flip(0), 8).mean(0)
    assert (forward - backward).norm() > 1e-3 * forward.norm()


def test_taps_of_a_glance_are_a_setting() -> None:
    model = create_model("adafocus_tam_mnv2_r50_128", 5, **SMALL_FOCUS, glance_aggregation={"taps": 5})
    parts = [part for part in model.glance.modules() if isinstance(part, TemporalAggregation)]
    assert len(parts) == 10 and all(len(part.weights) == 5 for part in parts)
    assert not any(isinstance(part, TemporalAggregation) for part in model.local.modules())


def test_a_glance_of_adafocus_may_see_neighbours() -> None:
    torch.manual_seed(0)
    model = create_model("adafocus_small", 5, **SMALL_FOCUS, glance_temporal="aggregation").eval()
    clip = torch.randn(1, 3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model.glance_at(clip).features
        clip[:, :, 3] += 1
        changed = (model.glance_at(clip).features - before).abs().amax(2)[0] > 0
    assert changed[2:].all()  # four blocks reach further than one frame
    with pytest.raises(ValueError, match="stream"):
        model.step(clip[:, :, 0])
    with pytest.raises(UsageError, match="order of time"):
        create_model("adafocus_small", glance_temporal="shift", exits=[0.5] * 8)


def test_average_over_time_counts_the_zeros_around_the_clip() -> None:
    x = maps(4)
    clip, pooled = x.unflatten(0, (2, 4)), TemporalPool("average")(x, 4).unflatten(0, (2, 2))
    assert torch.allclose(pooled[:, 0], clip[:, :2].sum(1) / 3)
    assert torch.allclose(pooled[:, 1], clip[:, 1:].mean(1))


def test_no_taps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        AggregationConfig(0)


def test_no_identity_among_all_channels() -> None:
    with pytest.raises(ValueError, match="choose full or start=identity"):
        AggregationConfig(full=True, start="identity")
