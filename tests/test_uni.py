"""Uni-AdaFocus: which frames and boxes are chosen, what is not computed, what it costs, what it learns."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from foveate.backbones.build import Backbone2D, build_backbone
from foveate.errors import ModelFileError, UsageError
from foveate.infer.compiled import CompiledEngine
from foveate.layers.boxes import box_edges, box_pixels, boxes_between
from foveate.layers.frame_choice import (
    choose_frames,
    draw_left_out,
    expected_logits,
    glance_places,
    thresholds,
)
from foveate.layers.normalise import to_clip
from foveate.layers.patch import sample_boxes, sample_patches
from foveate.measure.cost import count_macs
from foveate.models.adafocus.early_exit import NEVER, exit_shares, solve_thresholds
from foveate.models.adafocus.uni import UniModel
from foveate.models.adafocus.uni_clip import UniTSMConfig
from foveate.models.adafocus.uni_policies import SpatialAttention
from foveate.models.zoo import create_model, create_outline
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.objective import loss_function
from foveate.train.optim import learn_mode
from foveate.train.recipes import recipe_for
from foveate.train.recipes.uni import Expected, UniObjective, UniPlan, draw, expected_answer, find, total
from foveate.train.stages import train_model
from foveate.weights import convert
from foveate.weights.file import read_model
from foveate.weights.origins import find_origin
from parity_cases import FOLDER

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES, SIDE = 5, 48
SMALL = {"size": SIDE, "resize": SIDE, "glance_size": 32, "patch": 32}
WIDTHS = {"temporal_width": 8, "spatial_width": 8}
NETS = {"glance": "resnet10", "local": "resnet10", "glance_width": 0.125, "local_width": 0.125}
COUNTS: dict[str, object] = {"candidates": 9, "glance_frames": 3, "local_frames": 4}
THIN = {"width": 0.5, "glance_depth": 1.0, "local_depth": 1.0, "hidden": 16}
KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "long": ("uni_adafocus_small", {"classifier_width": 16}),
    "tsm": ("uni_adafocus_tsm_96", {**NETS, "glance_size": SIDE}),
    "x3d": ("uni_adafocus_x3d_128", {**THIN, "glance_size": SIDE}),
}


def small(kind: str = "long", **fields: object) -> UniModel:
    name, own = KINDS[kind]
    torch.manual_seed(0)
    model = create_model(name, CLASSES, **{**SMALL, **WIDTHS, **COUNTS, **own, **fields})
    assert isinstance(model, UniModel)
    return model.eval()


def clip(batch: int = 3, frames: int = 9) -> Tensor:
    return torch.randn(batch, 3, frames, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def weights_of(rows: int, parts: int, sharpness: float = 2.0) -> Tensor:
    noise = torch.randn(rows, parts, generator=torch.Generator().manual_seed(2))
    return (sharpness * noise).softmax(-1)


# ---- frames


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 30), st.floats(0, 30), st.integers(0, 99))
def test_chosen_frames_rise_and_exist(parts: int, count: int, more: int, sharpness: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = (sharpness * torch.randn(3, parts, generator=generator)).softmax(-1)
    weights[0] = torch.eye(parts)[seed % parts]
    for within in (0.5, 0.0, torch.rand(3, count, generator=generator)):
        frames = choose_frames(weights, count + more, thresholds(count, within))
        assert (frames.diff(dim=1) > 0).all()
        assert frames.min() >= 0 and frames.max() < count + more


@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 5])
def test_equal_weights_choose_the_glances(ratio: int) -> None:
    places = glance_places(16 * ratio, 16)
    assert places.tolist() == [ratio * i + ratio // 2 for i in range(16)]
    assert torch.equal(choose_frames(torch.full((1, 16), 1 / 16), 16 * ratio, thresholds(16))[0], places)


def test_frames_lie_where_the_weights_are() -> None:
    weights = torch.tensor([[0.05, 0.05, 0.85, 0.05]])
    frames = choose_frames(weights, 40, thresholds(8))[0]
    assert ((frames >= 20) & (frames < 30)).sum() == 7
    later = choose_frames(weights.flip(1), 40, thresholds(8))[0]
    assert torch.equal(later, 39 - frames.flip(0))


def test_too_few_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="a clip of 7 frames has no 8 different ones"):
        choose_frames(weights_of(1, 4), 7, thresholds(8))
    with pytest.raises(UsageError, match="clip: has 3 frames, of which 4 different ones are to be looked at"):
        small()(clip(frames=3))


# ---- what the weights learn from


def test_the_expected_answer_is_the_mean_over_all_draws() -> None:
    """Of three frames, one left out: every case, by its probability, is what many draws come to."""
    weights, logits = weights_of(1, 3), torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(3))
    whole = (weights.unsqueeze(-1) * logits).sum(1)
    cases = []
    for out in range(3):
        kept = [i for i in range(3) if i != out]
        rest = weights[:, kept] / weights[:, kept].sum()
        cases.append(weights[0, out] * (rest.unsqueeze(-1) * logits[:, kept]).sum(1))
    exact = (whole + torch.stack(cases).sum(0)) / 2
    torch.manual_seed(0)
    found = expected_logits(weights, logits, draw_left_out(weights, 2, draws=20000))
    assert torch.allclose(found, exact, atol=0.02)


def test_draws_leave_out_different_frames_and_the_heavy_ones_more_often() -> None:
    weights = torch.tensor([[0.7, 0.1, 0.1, 0.1, 0.0]])
    torch.manual_seed(0)
    none, one, two = draw_left_out(weights, 3, draws=4000)
    assert none.shape == (1, 1, 0) and one.shape == (1, 4000, 1) and two.shape == (1, 4000, 2)
    assert (two[..., 0] != two[..., 1]).all() and (one == 4).sum() == 0
    assert (one == 0).float().mean().item() == pytest.approx(0.7, abs=0.03)


def test_only_the_weights_and_the_glances_answers_get_a_gradient() -> None:
    scores = torch.zeros(1, 6, requires_grad=True)
    logits = torch.zeros(1, 6, 2)
    logits[0, 4, 1] = 4.0  # the only frame that says what is right
    loss = torch.nn.functional.cross_entropy(
        expected_logits(scores.softmax(-1), logits, draw_left_out(scores.softmax(-1), 2)), torch.tensor([1])
    )
    loss.backward()
    assert scores.grad is not None and scores.grad[0].argmin() == 4  # descent makes it heavier


def test_the_divisor_that_is_not_differentiated_adds_the_mean() -> None:
    """d mu = sum (z - mu) dw / s; without the gradient of s there is mu sum dw / s beside it."""
    weights = weights_of(1, 5).requires_grad_()
    logits, left_out = torch.randn(1, 5, 1), torch.tensor([[[1, 3]]])
    (found,) = torch.autograd.grad(expected_logits(weights, logits, [left_out]).sum(), weights)
    kept = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])
    total_kept = (weights * kept).sum()
    mean = (weights * kept * logits[..., 0]).sum() / total_kept
    (exact,) = torch.autograd.grad(mean, weights)
    assert torch.allclose(found - exact, kept * (mean / total_kept).detach(), atol=1e-6)


# ---- boxes


def test_every_box_lies_in_the_frame() -> None:
    boxes = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    boxes[:16] = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    left, top, right, bottom = box_edges(box_pixels(boxes, 224, 96)).unbind(-1)
    assert min(left.min(), top.min()) >= 0 and max(right.max(), bottom.max()) <= 224 + 1e-4
    assert (right - left).min() >= 96 - 1e-3 and (bottom - top).max() <= 224 + 1e-3


def test_boxes_of_glances_stay_and_those_between_are_mixtures() -> None:
    boxes = torch.rand(2, 4, 4)
    every = boxes_between(boxes, 12)
    assert torch.allclose(every[:, 1::3], boxes)
    assert torch.allclose(every[:, 2], (2 * boxes[:, 0] + boxes[:, 1]) / 3, atol=1e-6)
    assert torch.allclose(every[:, 0], boxes[:, 0]) and torch.allclose(every[:, 11], boxes[:, 3])
    assert torch.allclose(boxes_between(boxes[:, :1], 5), boxes[:, :1].expand(2, 5, 4))


def test_a_box_as_large_as_the_patch_is_the_patch() -> None:
    images, corners = torch.randn(3, 3, 20, 20), torch.tensor([[0.0, 0.0], [4.5, 12.0], [2.25, 7.75]])
    boxes = torch.cat([corners, torch.full((3, 2), 8.0)], -1)
    for padding in ("border", "zeros"):
        assert torch.allclose(sample_boxes(images, boxes, 8, padding), sample_patches(images, corners, 8))


def test_zeros_darken_only_the_edge_of_an_enlarged_box() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    white = torch.ones(1, 1, 20, 20)
    assert (sample_boxes(white, boxes, 16) == 1).all()
    dark = sample_boxes(white, boxes, 16, "zeros") < 1
    assert dark[0, 0, 0].all() and dark[0, 0, :, 0].all() and not dark[0, 0, 1:, 1:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_maps_teach_the_boxes_and_pixels_do_not(kind: str) -> None:
    model = small(kind)
    glance = model.glance_at(model.frames_at(clip(), model.glanced(clip())))
    choice = model.choose(glance, 9)
    assert choice.glance_boxes.shape == (3, 3 if kind == "long" else 1, 4)
    model.box_logits(glance, choice.glance_boxes).square().sum().backward()
    last = model.spatial_policy.layers[-1].weight
    assert last.grad is not None and last.grad.abs().sum() > 0
    assert all(p.grad is None for name, p in model.named_parameters() if name.startswith("glance."))


# ---- boxes by attention


@pytest.mark.parametrize("kind", KINDS)
def test_attention_makes_boxes_of_the_least_size_and_learns_from_the_maps(kind: str) -> None:
    model = small(kind, spatial="attention")
    glance = model.glance_at(model.frames_at(clip(), model.glanced(clip())))
    choice = model.choose(glance, 9)
    assert choice.glance_boxes.shape == (3, 3 if kind == "long" else 1, 4)
    assert torch.allclose(model.pixels(choice.glance_boxes)[..., 2:], torch.tensor(3 / 7 * SIDE))
    assert torch.allclose(model.spatial_policy.shares(glance.maps).flatten(2).sum(-1), torch.tensor(1.0))
    learn_mode(model)
    losses = UniObjective(loss_function("cross_entropy"))(model, batch())
    losses["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    terms = find(model, clip(), draw(model, 3)).losses(loss_function("cross_entropy"), torch.arange(3))
    model.zero_grad()
    terms["spatial"].backward()
    taught = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert taught == {"spatial_policy", "box_aux"}


@pytest.mark.parametrize("kind", KINDS)
def test_attention_compiles_for_any_batch(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model = small(kind, spatial="attention")
    frames = torch.randint(256, (3, 9, SIDE, SIDE, 3), dtype=torch.uint8)
    expected = model.output(model.prepare(frames)).logits
    engine = CompiledEngine(model, "openvino", folder=tmp_path)
    for count in (1, 3):
        assert torch.allclose(engine.run(frames[:count]).logits, expected[:count], atol=1e-3)


def test_only_what_is_seen_is_normalised() -> None:
    model = small("tsm")
    frames = torch.randint(256, (2, 9, SIDE, SIDE, 3), dtype=torch.uint8)
    stored, clip = model.prepare(frames), to_clip(frames, model.spec)
    places = torch.tensor([[0, 3, 8], [1, 2, 5]])
    for which in (places, places[0]):
        assert torch.equal(model.frames_at(stored, which), model.frames_at(clip, which))
    one = torch.tensor([1])
    assert torch.equal(model.frames_at(stored, places[1:], one), model.frames_at(clip, places[1:], one))
    with torch.inference_mode():
        assert torch.equal(model(stored), model(clip))


@pytest.mark.parametrize("kind", KINDS)
def test_stored_frames_are_glanced_at_as_normalised_ones(kind: str) -> None:
    model = small(kind, glance_size=32)
    frames = torch.randint(256, (2, 9, SIDE, SIDE, 3), dtype=torch.uint8)
    stored, clip = model.prepare(frames), to_clip(frames, model.spec)
    with torch.inference_mode():
        glanced = [model.frames_for_glance(each, model.glanced(clip)) for each in (stored, clip)]
        maps, expected = (model.glance_at(each).maps for each in glanced)
    assert torch.allclose(maps, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_box_lies_around_what_is_attended_to() -> None:
    policy = SpatialAttention(channels=1, width=1, span=2, least=0.25, stride=8, pixels=64).eval()
    for layer in (policy.score[0], policy.score[-1]):
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    maps = torch.zeros(3, 2, 1, 8, 8)
    for video, (frame, row, column) in enumerate([(0, 3, 5), (1, 6, 2), (0, 0, 7)]):
        maps[video, frame, 0, row, column] = 40
    pixels = box_pixels(policy(maps)[:, 0], 64, 16)
    assert torch.allclose(pixels[:2, :2] + 8, torch.tensor([[24.5, 40.5], [48.5, 16.5]]), atol=0.1)
    assert torch.allclose(pixels[2], torch.tensor([0.0, 48.0, 16.0, 16.0]), atol=0.1)  # within the frame
    everywhere = box_pixels(policy(torch.zeros(1, 2, 1, 8, 8))[:, 0], 64, 16)
    assert torch.allclose(everywhere[0, :2] + 8, torch.tensor(28.5), atol=0.1)


def test_attention_knows_its_glance() -> None:
    config = UniTSMConfig(glance="efficientnet_lite0", spatial="attention")
    with torch.device("meta"):
        assert config.build().spatial_policy.offset == config.glance_offset == 31


@pytest.mark.parametrize("net", ["resnet10", "resnet50", "mobilenetv2", "efficientnet_lite0"])
def test_a_cell_of_a_map_is_centred_where_its_offset_says(net: Backbone2D) -> None:
    torch.manual_seed(0)
    network = build_backbone(net, 1.0 if "lite" in net else 0.25).double().eval()
    for parameter in network.parameters():
        parameter.data.abs_()  # then every layer passes everything on
    images = torch.full((1, 3, 608, 608), 1e-50, dtype=torch.float64, requires_grad=True)
    network(images)[0, :, 10, 9].sum().backward()
    assert images.grad is not None
    told = images.grad[0].sum(0)
    there = torch.arange(608, dtype=torch.float64)
    row, column = ((told.sum(axis) * there).sum() / told.sum() for axis in (1, 0))
    offset = UniTSMConfig(glance=net).glance_offset
    assert offset == (31 if net == "efficientnet_lite0" else 0)
    assert abs(row - 10 * 32 - offset) < 5 and abs(column - 9 * 32 - offset) < 5  # not the middle, 15.5


# ---- the pass over a clip


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_an_output_says_what_was_chosen(kind: str) -> None:
    model, videos = small(kind), clip()
    output = model.output(videos)
    glance, choice, local = model.see(videos)
    assert torch.allclose(output.logits, model(videos), atol=1e-5)
    assert torch.allclose(output.logits, model.answers(glance, local)[0][:, -1], atol=1e-5)
    assert output.step_logits.shape == (3, len(model.answers_after), CLASSES)
    for video in range(3):
        assert torch.equal(output.looked[video].nonzero()[:, 0], choice.frames[video])
        seen = {1, 4, 7} | {*choice.frames[video].tolist()}
        assert {*output.frames_read[video].nonzero()[:, 0].tolist()} == seen
        assert torch.equal(output.weights[video, 1::3], choice.weights[video])
    edges = box_edges(box_pixels(choice.candidate_boxes, SIDE, 3 / 7 * SIDE))
    assert torch.allclose(output.boxes, edges, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_video_is_answered_the_same_whoever_it_is_with(kind: str) -> None:
    model, videos = small(kind), clip()
    together = model.output(videos)
    for video in range(3):
        alone = model.output(videos[video : video + 1])
        assert torch.allclose(alone.logits[0], together.logits[video], atol=1e-5)
        assert torch.equal(alone.looked[0], together.looked[video])


@pytest.mark.parametrize(("kind", "group"), [("long", 1), ("long", 3), ("tsm", 0), ("x3d", 0)])
@torch.inference_mode()
def test_who_is_sure_costs_no_more(kind: str, group: int) -> None:
    model, videos = small(kind, **({"exit_group": group} if group else {})), clip()
    whole = model.output(videos)
    sure = whole.step_logits.softmax(-1).amax(-1)  # (3, answers)
    middle = float(sure[:, 0].sort().values[1])  # of three videos two are as sure
    model.set_exits((middle, *(2.0,) * (len(model.answers_after) - 2), 0.0))
    output = model.output(videos)
    left = sure[:, 0] >= middle
    assert left.sum() == 2 and model.dynamic
    assert output.steps.tolist() == [1 if gone else len(model.answers_after) for gone in left]
    assert torch.equal(output.looked.any(1), ~left) and (output.frames_read.sum(1)[left] == 3).all()
    assert torch.allclose(output.logits[left], whole.step_logits[left, 0], atol=1e-5)
    assert torch.allclose(output.logits[~left], whole.logits[~left], atol=1e-5)
    assert (output.macs[left] < output.macs[~left]).all() and not output.boxes[left].any()
    assert count_macs(model, videos).total == output.macs.sum().item()
    assert torch.allclose(model(videos), output.logits, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_the_dial_stops_after_any_answer_at_its_cost(kind: str) -> None:
    model, videos = small(kind), clip(2)
    whole, answers = model.output(videos), len(model.answers_after)
    assert (whole.step_macs.diff(dim=1) > 0).all() and torch.equal(whole.step_macs[:, -1], whole.macs)
    asked = count_macs(model, call=lambda: model.output(videos)).total // 2 - whole.macs[0].item()
    for stop in range(answers):
        model.turn((*(NEVER,) * stop, *(0.0,) * (answers - stop)))
        output = model.output(videos)
        assert (output.steps == stop + 1).all()
        assert torch.allclose(output.logits, whole.step_logits[:, stop], atol=1e-5)
        extra = asked if 0 < stop < answers - 1 else 0  # asked after the glances too, in vain
        assert torch.equal(output.macs, whole.step_macs[:, stop] + extra)
        assert model.dynamic is (stop < answers - 1)
    model.turn(None)
    assert not model.dynamic and torch.equal(model.output(videos).macs, whole.macs)


@torch.inference_mode()
def test_exits_between_looks() -> None:
    """A video that leaves after look k has been shown its k earliest frames, and answers as it did then."""
    model, videos = small(), clip(8)
    whole = model.output(videos)
    model.set_exits(solve_thresholds(whole.step_logits, 2.0, model.answers_after))
    output = model.output(videos)
    assert len(output.steps.unique()) > 2
    for video, step in enumerate(output.steps.tolist()):
        frames = whole.looked[video].nonzero()[:, 0]
        assert output.looked[video].nonzero()[:, 0].tolist() == frames[: step - 1].tolist()
        assert torch.allclose(output.logits[video], whole.step_logits[video, step - 1], atol=1e-5)
    assert output.looked.sum(1).double().mean().item() == pytest.approx(2.0, abs=0.5)


@pytest.mark.parametrize("after", [(0, 4), (0, 1, 2, 3, 4)])
@pytest.mark.parametrize("mean", [0.4, 2.0, 3.9])
def test_shares_of_exits_meet_the_mean_number_of_looks(after: tuple[int, ...], mean: float) -> None:
    shares = exit_shares(len(after), mean, after)
    assert float((shares * torch.tensor(after)).sum()) == pytest.approx(mean, abs=1e-6)
    with pytest.raises(ValueError, match="does not lie within 0 and 4"):
        exit_shares(len(after), 4.5, after)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"local_frames": 10}, "of 9 candidates 10 different frames cannot be chosen"),
        ({"glance_frames": 12}, "of 9 candidates 12 different frames cannot be chosen"),
        ({"least_box": 1.5}, "least_box is 1.5"),
        ({"exits": [0.5, 0.0]}, "2 exit thresholds do not fit 5 answers"),
        ({"exit_group": 0}, "exit_group"),
        ({"patch": 64}, "a patch of 64 pixels does not fit"),
        ({"padding": "mirror"}, "padding"),
    ],
)
def test_numbers_that_make_no_model_are_one_line(fields: dict[str, object], cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        small(**fields)


# ---- cost, in 1e9 multiply-adds as published

SHIFTS = 0.299957 - 0.299511, 1.335314 - 1.334602  # of a glance, of a patch


@pytest.mark.parametrize(
    ("name", "whole", "glances"),
    [
        ("uni_adafocus_mnv2_r50_96", 17.89, 4.89),
        ("uni_adafocus_mnv2_r50_128", 27.23, 4.89),
        ("uni_adafocus_mnv2_r50_160", 39.24, 4.89),
        # without what the release charges for the shift, which moves and does not multiply: 0.010 to 0.015
        ("uni_adafocus_tsm_96", 8.82 - 8 * (SHIFTS[0] + SHIFTS[1]), 2.40),
        ("uni_adafocus_tsm_96_12", 11.84 - 8 * SHIFTS[0] - 12 * SHIFTS[1], 2.40),
        ("uni_adafocus_tsm_128", 18.84 - 8 * SHIFTS[0] - 12 * SHIFTS[1], 2.40),
        ("uni_adafocus_tsm_128_16", 24.18 - 8 * SHIFTS[0] - 16 * SHIFTS[1], 2.40),
        ("uni_adafocus_x3d_128", 8.78, 2.42),
    ],
)
def test_costs_are_the_published_ones(name: str, whole: float, glances: float) -> None:
    model = create_outline(name).eval()
    config = model.config
    seen = torch.empty(1, 3, config.candidates, config.size, config.size, device="meta")
    assert count_macs(model, seen).total / 1e9 == pytest.approx(whole, rel=1e-3)
    glance = model.frames_at(seen, model.glanced(seen))
    first = count_macs(model, call=lambda: model.remember(model.glance_at(glance))).total
    assert first / 1e9 == pytest.approx(glances, rel=4e-3)  # the release charges heads that no answer needs


# ---- checkpoints of the release


def official(case: str) -> dict[str, Tensor]:
    """The keys and shapes of a checkpoint, without values."""
    listed = json.loads((FOLDER / f"uni_adafocus/{case}.json").read_text())["state_dict"]
    kinds = {"int64": torch.int64, "float32": torch.float32}
    return {key: torch.empty(shape, dtype=kinds[kind], device="meta") for key, shape, kind in listed}


@pytest.mark.parametrize(
    ("case", "origin"),
    [
        ("actnet_pipeline_p128_k16", "uni_adafocus"),
        ("tsm_pipeline_p96_8and8", "uni_adafocus_tsm"),
        ("x3d_pipeline_p128_16and32", "uni_adafocus_x3d"),
    ],
)
def test_checkpoints_are_recognised(case: str, origin: str) -> None:
    assert find_origin(official(case).keys(), Path("file")).name == origin


@pytest.mark.parametrize(
    ("case", "name", "fields", "cause"),
    [
        ("actnet_pipeline_p128_k16", "mnv2_r50_128", {"local_frames": 8}, "has 16 blocks in the file"),
        ("tsm_pipeline_p96_8and8", "tsm_96", {"glance_frames": 12}, "spatial_policy.layers.9.weight"),
        ("tsm_pipeline_p96_8and8", "mnv2_r50_128", {}, "missing"),
    ],
)
def test_a_checkpoint_of_another_setting_is_one_line(
    case: str, name: str, fields: dict[str, object], cause: str
) -> None:
    state = official(case)
    origin = find_origin(state.keys(), Path("file")).name
    with pytest.raises(ModelFileError, match=cause) as refused:
        convert(state, origin, f"uni_adafocus_{name}", box_classes(state), **fields)
    assert "\n" not in str(refused.value)


def box_classes(state: dict[str, Tensor]) -> int:
    return len(state["module.aux_fc.weight"])


# ---- what is learnt


@dataclass(frozen=True)
class Batch:
    frames: Tensor
    labels: Tensor
    bad: tuple[object, ...] = ()


def batch(count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(2)
    frames = torch.randint(0, 256, (count, 1, 9, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    return Batch(frames, torch.arange(count) % CLASSES)


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_learns(kind: str) -> None:
    model = small(kind)
    learn_mode(model)
    losses = UniObjective(loss_function("cross_entropy"))(model, batch())
    losses["loss"].backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent


def test_sure_frames_do_not_make_up_for_weight_on_others_in_probabilities() -> None:
    """One frame of four knows the answer, so surely that its logits outvote all others'."""
    model = small("tsm")
    each = torch.zeros(1, 4, CLASSES)
    each[0, 2, 3] = 40.0
    spread, there = torch.full((1, 4), 0.25), torch.tensor([[0.01, 0.01, 0.97, 0.01]])
    loss, label = loss_function("cross_entropy"), torch.tensor([3])
    no_draw = [torch.zeros(1, 1, 0, dtype=torch.int64)]

    def losses(expected: Expected) -> list[float]:
        answers = (expected_answer(model, weights, each, no_draw, expected) for weights in (spread, there))
        return [float(loss(answer, label)) for answer in answers]

    assert max(losses("logits")) < 1e-3  # either will do
    wide, sharp = losses("probabilities")
    assert sharp < 0.05 < 0.9 < wide
    model.independent = True
    shares = expected_answer(model, spread, each, no_draw, "probabilities")
    assert torch.allclose(shares.sigmoid()[0, 3], torch.tensor(0.25 + 0.75 / 2), atol=1e-4)


def test_a_glance_without_a_shift_sees_a_frame_alone() -> None:
    videos, other = clip(1), clip(1)
    other[:, :, 1:] = 0
    for kind, alone in ((None, False), ("none", True)):
        model = small("tsm", glance_temporal=kind)
        first, second = (model.glance_at(x[:, :, ::4]).features[0, 0] for x in (videos, other))
        assert torch.allclose(first, second, atol=1e-6) == alone


@pytest.mark.parametrize("kind", KINDS)
def test_each_term_teaches_its_own(kind: str) -> None:
    model = small(kind).train()
    step = find(model, clip(), draw(model, 3))
    terms = step.losses(loss_function("cross_entropy"), torch.arange(3))
    parameters = dict(model.named_parameters())

    def taught(term: str) -> set[str]:
        grads = torch.autograd.grad(terms[term], [*parameters.values()], retain_graph=True, allow_unused=True)
        return {
            name.partition(".")[0] for name, grad in zip(parameters, grads, strict=True) if grad is not None
        }

    assert taught("spatial") == {"spatial_policy", "box_aux"}
    assert taught("size") == {"spatial_policy"}
    own = {"temporal_policy"} if model.detached else {"temporal_policy", "glance", "glance_aux"}
    assert taught("temporal") == own
    policies = {"temporal_policy", "spatial_policy"}
    assert not any(taught(term) & policies for term in ("policy", "random", "glance", "local_policy"))
    heads = {"glance_head", "local_head"}
    assert taught("policy") == heads if model.detached else {"glance", "local"} < taught("policy")


def test_random_boxes_have_the_size_of_the_patch() -> None:
    model = small("tsm")
    draws = draw(model, 2)
    pixels = model.pixels(model.random_boxes(draws.corners))
    assert torch.allclose(pixels[..., 2:], torch.tensor(32.0))
    assert (pixels[..., :2] >= 0).all() and (pixels[..., :2] <= SIDE - 32).all()
    assert torch.equal(draws.corners[:, 0], draws.corners[:, 3])  # a video has one box
    long = draw(small(), 2).corners
    assert not torch.equal(long[:, 0], long[:, 3])


def test_zeros_or_border_is_a_setting() -> None:
    model, corner = small(), torch.zeros(3, 4)  # the smallest box, which is enlarged
    border = model.cut(clip()[:, :, 0], corner)
    model.config = replace(model.config, padding="zeros")
    zeros = model.cut(clip()[:, :, 0], corner)
    assert torch.equal(border[..., 1:, 1:], zeros[..., 1:, 1:])
    assert (zeros[..., 0, :].abs() < border[..., 0, :].abs()).float().mean() > 0.9


def bursts(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Clips of noise (count, 3, 12, 32, 32), in three frames of which a square is red or blue.

    Returns them, their classes, and which of four parts of the clip the square is in.
    """
    generator = torch.Generator().manual_seed(seed)
    clips = 0.5 * torch.randn(count, 3, 12, 32, 32, generator=generator)
    labels, parts = torch.arange(count) % 2, torch.randint(0, 4, (count,), generator=generator)
    corners = torch.randint(0, 22, (count, 2), generator=generator)
    colour = torch.tensor([3.0, 0.0, -3.0]).view(3, 1, 1, 1)
    for video, (row, column) in enumerate(corners.tolist()):
        first, sign = 3 * int(parts[video]), 1 - 2 * int(labels[video])
        clips[video, :, first : first + 3, row : row + 10, column : column + 10] += sign * colour
    return clips, labels, parts


def test_what_matters_is_learnt() -> None:
    """The weights find the frames that show something, so f_L sees more of them than of any others."""
    torch.manual_seed(0)
    sizes = {"size": 32, "resize": 32, "glance_size": 32, "patch": 16, "glance_width": 0.25}
    counts = {"candidates": 12, "glance_frames": 4, "local_frames": 3, "classifier_width": 64}
    widths = {"temporal_width": 16, "spatial_width": 16, "pool": "average"}
    model = create_model("uni_adafocus_small", 2, **sizes, **counts, **widths).train()
    assert isinstance(model, UniModel)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for step in range(25):
        clips, labels, _ = bursts(16, step)
        terms = find(model, clips, draw(model, 16)).losses(loss_function("cross_entropy"), labels)
        loss = total(terms, 0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    clips, labels, parts = bursts(64, 99)
    with torch.inference_mode():
        output = model.eval().output(clips)
    assert (output.logits.argmax(1) == labels).float().mean() > 0.95
    of_the_part = output.weights[:, 1::3].gather(1, parts.unsqueeze(1))
    assert of_the_part.mean() > 0.5  # 0.25 without having learnt
    seen = output.looked.unflatten(1, (4, 3)).sum(2).gather(1, parts.unsqueeze(1))
    assert seen.float().mean() > 1.5  # 0.75 of uniform frames


def test_the_recipe_runs_from_list_to_model_file(videos: Path, tmp_path: Path) -> None:
    nets = ("size=32", "resize=32", "glance_size=16", "patch=16", "classifier_width=8")
    counts = ("candidates=4", "glance_frames=2", "local_frames=2", "temporal_width=4", "spatial_width=4")
    whole = TrainJob(
        videos,
        tmp_path,
        "uni_adafocus_small",
        val=videos,
        settings=(*nets, *counts),
        recipe="small",
        workers=0,
        train=TrainConfig(batch=4, epochs=1, optimizer="adamw", reference_batch=None),
        plan=UniPlan(exit_frames=1.0),
    )
    _, outcome = train_model(whole)
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"together"}
    assert set(outcome.scores) >= {"top1", "top1_after_0", "top1_after_2"}
    loaded, card = read_model(tmp_path / "best.safetensors")
    assert len(card.config["exits"]) == 3 and loaded.dynamic
    last = json.loads((tmp_path / "together" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last.keys() >= {"temporal", "spatial", "size"}


@pytest.mark.parametrize(
    ("model", "recipe", "rate", "batch", "decay", "size_weight"),
    [
        ("uni_adafocus_mnv2_r50_128", "", 0.002, 32, 2e-4, 1.0),
        ("uni_adafocus_mnv2_r50_128", "fcvid", 0.004, 64, 1e-4, 1.0),
        ("uni_adafocus_mnv2_r50_128", "mini_kinetics", 0.003, 48, 1e-4, 0.75),
        ("uni_adafocus_tsm_128", "", 0.02, 64, 5e-4, 0.5),
        ("uni_adafocus_tsm_128", "something_v1", 0.02, 64, 1e-3, 0.5),
        ("uni_adafocus_tsm_128", "jester", 0.02, 64, 1e-3, 0.25),
        ("uni_adafocus_x3d_128", "", 0.005, 64, 5e-5, 0.5),
    ],
)
def test_recipes_are_the_published_ones(
    model: str, recipe: str, rate: float, batch: int, decay: float, size_weight: float
) -> None:
    found = recipe_for(model, recipe)
    job = TrainJob(Path("list"), Path("out"), model, recipe=recipe, train=found.train, plan=found.plan)
    (stage,) = found.stages(create_outline(model), job)
    assert (stage.epochs, stage.rate * found.train.scale, found.train.batch) == (50, rate, batch)
    assert (found.train.weight_decay, found.plan.size_weight) == (decay, size_weight)
    assert found.augment.flip is ("tsm" not in model)
    rates = dict(stage.parts)
    policies, classifier = (0.4 if "x3d" in model else 0.2), rates.get("local_classifier", 20.0)
    assert (rates["temporal_policy"], rates["spatial_policy"], classifier) == (policies, policies, 20.0)
    assert (rates["glance"], rates["glance_aux"], rates["box_aux"], rates["local"]) == (0.5, 0.5, 0.5, 1.0)
