"""Shift, pool and non-local block: what moves where, and that streams equal clips."""

from __future__ import annotations

import pytest
import torch

from foveate.infer.compilers.trace import traced
from foveate.layers.aggregate import AggregationConfig
from foveate.layers.fold import fold_time, unfold_time
from foveate.layers.nonlocal_block import NonLocal
from foveate.layers.temporal import PastShift, StreamMemory, TemporalPool, TemporalShift
from foveate.models.zoo import create_model


def maps(frames: int = 4, channels: int = 20, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch * frames, channels, 3, 2, generator=torch.Generator().manual_seed(0))


def test_folding_there_and_back() -> None:
    clip = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(unfold_time(fold_time(clip), 4), clip)
    assert torch.equal(fold_time(clip)[5], clip[1, :, 1])


def test_shift_moves_the_first_folds_and_leaves_the_rest() -> None:
    x = maps()
    clip, moved = x.unflatten(0, (2, 4)), TemporalShift(8)(x, 4).unflatten(0, (2, 4))
    fold = 20 // 8
    assert torch.equal(moved[:, :-1, :fold], clip[:, 1:, :fold])
    assert torch.equal(moved[:, 1:, fold : 2 * fold], clip[:, :-1, fold : 2 * fold])
    assert torch.equal(moved[:, :, 2 * fold :], clip[:, :, 2 * fold :])
    assert not moved[:, -1, :fold].any() and not moved[:, 0, fold : 2 * fold].any()


def test_shift_does_not_write_into_its_input() -> None:
    x = maps()
    before = x.clone()
    TemporalShift()(x, 4), PastShift()(x, 4)
    assert torch.equal(x, before)


def test_past_shift_streams_like_a_clip() -> None:
    x, part, kept, rows = maps(batch=1), PastShift(), [], []
    for frame in x:
        memory = StreamMemory(kept)
        rows.append(part(frame[None], 1, memory))
        kept = memory.now
    assert torch.equal(torch.cat(rows), part(x, 4))


def test_two_sided_shift_cannot_stream() -> None:
    with pytest.raises(ValueError, match="past"):
        TemporalShift()(maps(), 4, StreamMemory())


@pytest.mark.parametrize("name", ["tsm_r50_8_online", "tsm_mnv2_8_online"])
def test_online_model_step_by_step_equals_the_clip(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, 6).eval()
    clip, kept, rows = torch.randn(2, 3, 4, 64, 64), [], []
    with torch.inference_mode():
        for t in range(4):
            output, kept = model.step(clip[:, :, t], kept)
            rows.append(output.logits)
        assert torch.allclose(torch.stack(rows, 1), model.output(clip).frame_logits, atol=1e-6)


def test_online_mobilenet_keeps_the_published_amount() -> None:
    model = create_model("tsm_mnv2_8_online").eval()
    with torch.inference_mode():
        _, kept = model.step(torch.zeros(1, 3, 224, 224))
    assert [k.shape[1] for k in kept] == [3, 4, 4, 8, 8, 8, 12, 12, 20, 20]
    assert sum(k.numel() for k in kept) == 27_048


@pytest.mark.parametrize(("frames", "left"), [(8, 4), (7, 4), (1, 1)])
def test_temporal_pool_halves(frames: int, left: int) -> None:
    x = maps(frames)
    pooled = TemporalPool()(x, frames).unflatten(0, (2, left))
    clip = x.unflatten(0, (2, frames))
    assert torch.equal(pooled[:, 0], clip[:, :2].amax(1))


def test_new_nonlocal_block_changes_nothing_and_then_sees_all_frames() -> None:
    torch.manual_seed(0)
    block, x = NonLocal(20).eval(), torch.randn(8, 20, 4, 4)
    assert torch.equal(block(x, 4), x)
    torch.nn.init.ones_(block.norm.weight)
    other = x.clone()
    other[3] += 1  # the last frame of the first clip
    change = (block(other, 4) - block(x, 4)).abs().amax((1, 2, 3))
    assert (change[:4] > 0).all() and not change[4:].any()


def test_tsn_is_blind_to_order_and_tsm_is_not() -> None:
    clip = torch.randn(1, 3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    for name, blind in (("tsn_r10_8", True), ("tsm_r10_8", False)):
        torch.manual_seed(0)
        model = create_model(name, 6).eval()
        with torch.inference_mode():
            same = torch.allclose(model(clip), model(clip.flip(2)), atol=1e-6)
        assert same is blind


def test_deep_resnets_shift_every_second_block() -> None:
    net = create_model("tsm_r101_8", 5).backbone
    assert [block.temporal is not None for block in net.layer1] == [True, False, True]
    assert all(block.temporal is not None for block in create_model("tsm_r50_8", 5).backbone.layer3)


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("kind", ["shift", "past", "sum", "max", "full"])
def test_what_a_compiler_reads_of_a_module_does_the_same(kind: str, frames: int) -> None:
    torch.manual_seed(0)
    modules = {
        "shift": TemporalShift(4),
        "past": PastShift(4),
        "sum": AggregationConfig().build(8),
        "max": AggregationConfig(taps=4, method="max").build(8),
        "full": AggregationConfig(full=True).build(8),
    }
    module, maps = modules[kind], torch.randn(3 * frames, 8, 4, 4)

    class Call(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return self.module(maps, frames)

    with torch.no_grad():
        graph = traced(Call(), [maps[: 2 * frames]])
        assert torch.allclose(graph(maps), module(maps, frames), atol=1e-6)
