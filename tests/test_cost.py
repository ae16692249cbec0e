"""The counter of multiply-adds against counts by hand, and what torch's own counter misses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foveate.measure.cost import count_macs, count_parameters, measure_latency, peak_memory_mb
from foveate.models.zoo import create_model


def test_convolution_and_linear() -> None:
    assert count_macs(nn.Conv2d(3, 8, 3, 2, 1), torch.zeros(1, 3, 8, 8)).total == 8 * 4 * 4 * 27
    assert count_macs(nn.Conv3d(4, 4, 3, 1, 1, groups=4), torch.zeros(1, 4, 2, 5, 5)).total == 4 * 50 * 27
    assert count_macs(nn.Linear(7, 5), torch.zeros(3, 7)).total == 3 * 35


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("cell", "gates"), [(nn.GRU, 3), (nn.LSTM, 4)])
def test_recurrent(cell: type[nn.RNNBase], gates: int, layers: int) -> None:
    inputs, hidden, batch, steps = 6, 5, 2, 4
    a_step = gates * hidden * (inputs + hidden) + (layers - 1) * gates * hidden * 2 * hidden
    net = cell(inputs, hidden, num_layers=layers)
    assert count_macs(net, torch.zeros(steps, batch, inputs)).total == batch * steps * a_step
    cell_module = {nn.GRU: nn.GRUCell, nn.LSTM: nn.LSTMCell}[cell](inputs, hidden)
    assert count_macs(cell_module, torch.zeros(batch, inputs)).total == batch * gates * hidden * (
        inputs + hidden
    )


def test_attention_products() -> None:
    query, key = torch.zeros(2, 4, 10, 8), torch.zeros(2, 4, 12, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    cost = count_macs(nn.Identity(), query, key, key, call=attend)
    assert cost.total == 2 * 4 * (10 * 12 * 8 * 2)


@pytest.mark.parametrize(
    ("name", "classes", "gmacs"),  # the specification's table, at 224
    [
        ("tsm_r50_8", 174, 32.70),
        ("tsm_r50_16", 101, 65.40),
        ("tsm_r50_8_tpool", 174, 19.49),
        ("tsm_r101_8", 174, 62.40),
        ("tsm_mnv2_8", 400, 2.40),
    ],
)
def test_published_costs(name: str, classes: int, gmacs: float) -> None:
    model = create_model(name, classes)
    clip = torch.zeros(1, 3, model.spec.frames, 224, 224)
    cost = count_macs(model, clip)
    assert cost.total / 1e9 == pytest.approx(gmacs, rel=1e-3)
    assert sum(cost.parts.values()) == cost.total


@pytest.mark.parametrize(
    "name", ["adafocus_small", "arnet_small", "blvnet_small", "fullvideo_small", "slowfast_small"]
)
def test_the_parts_of_every_kind_of_model_sum_to_the_whole(name: str) -> None:
    model = create_model(name)
    cost = count_macs(model, torch.zeros(1, 3, model.spec.frames, model.spec.size, model.spec.size))
    assert sum(cost.parts.values()) == cost.total


def test_counting_leaves_the_modes_alone() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    net[1].eval()
    count_macs(net, torch.zeros(1, 2))
    assert [module.training for module in net.modules()] == [True, True, False]
    with pytest.raises(RuntimeError):
        count_macs(net, torch.zeros(1, 3))
    assert net.training
    assert count_parameters(net) == 6


def test_recurrent_layers_of_cuda_count_as_those_of_the_cpu() -> None:
    """Its operator by shapes alone: mode 3 is a GRU."""
    net, x = nn.GRU(6, 5, num_layers=2, bidirectional=True), torch.zeros(4, 2, 6)
    weights = [weight.detach().to("meta") for weight in net.parameters()]
    state = torch.zeros(4, 2, 5, device="meta")
    cuda = torch.ops.aten._cudnn_rnn.default

    def call(x: torch.Tensor) -> object:
        return cuda(x, weights, 4, None, state, None, 3, 5, 0, 2, False, 0.0, False, True, [], None)

    assert count_macs(net, x.to("meta"), call=call).total == count_macs(net, x).total > 0


def test_latency_and_memory_are_positive() -> None:
    latency = measure_latency(lambda: torch.ones(64, 64) @ torch.ones(64, 64), repeats=4)
    assert 0 < latency.low <= latency.median <= latency.high
    assert peak_memory_mb() > 10
