"""Uni-AdaFocus for any budget: narrower networks inside of one, its dial and curve, and what teaches them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foveate.backbones.resnet2d import ResNet2D
from foveate.backbones.slim import SlimResNet
from foveate.errors import ModelFileError, UsageError
from foveate.infer.budget import BudgetDial
from foveate.infer.engine import EagerEngine, open_engine
from foveate.layers.slim import SlimConv2d, SlimLinear, SlimNorm2d, make_slim
from foveate.measure.cost import count_macs
from foveate.models.adafocus.early_exit import NEVER
from foveate.models.adafocus.uni import UniModel
from foveate.models.adafocus.uni_any import UniAny
from foveate.models.budget import Curve, Point
from foveate.models.dials import LookDial
from foveate.models.zoo import create_model
from foveate.train.budget import frontier, solve_curve
from foveate.train.config import TrainConfig
from foveate.train.evaluate import score
from foveate.train.job import TrainJob
from foveate.train.objective import loss_function
from foveate.train.recipes import recipe_for
from foveate.train.recipes.uni import draw, find, look_twice
from foveate.train.recipes.uni_any import UniAnyObjective, UniAnyPlan, draw_looks
from foveate.train.stages import train_model
from foveate.weights.file import read_model, save_model
from foveate.weights.start import start_from, start_part

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTHS = (0.25, 0.5, 0.75, 1.0)
SIZES: dict[str, Any] = {"size": 32, "resize": 32, "glance_size": 16, "patch": 24, "classifier_width": 16}
COUNTS = {"candidates": 12, "glance_frames": 4, "local_frames": 3, "temporal_width": 8, "spatial_width": 8}
NAME = "uni_adafocus_any_small"


def small(**fields: Any) -> UniAny:
    torch.manual_seed(0)
    model = create_model(NAME, 2, **{**SIZES, **COUNTS, "small_patches": (12, 16), **fields})
    assert isinstance(model, UniAny)
    used(model)
    return model.eval()


def plain(**fields: Any) -> UniModel:
    torch.manual_seed(0)
    model = create_model("uni_adafocus_small", 2, **{**SIZES, **COUNTS, **fields})
    assert isinstance(model, UniModel)
    return model.eval()


def used(net: nn.Module) -> None:
    """Norms as after training: other weights and statistics in each."""
    generator = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                assert value is not None
                value.data.copy_(0.5 + torch.rand(value.shape, generator=generator))


def cut(narrow: nn.Module, wide: nn.Module) -> nn.Module:
    """A truly narrow network, given the first weights of a slimmable one and the norms of its width."""
    for name, module in narrow.named_modules():
        source = wide.get_submodule(name)
        if isinstance(source, SlimNorm2d):
            source = {norm.num_features: norm for norm in (source, *source.narrower)}[module.num_features]
        if name == "local_classifier.norm":
            classifier = wide.get_submodule("local_classifier")
            source = {**classifier.narrower}.get(str(narrow.local_channels), source)
        for key, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            value.data.copy_(getattr(source, key)[tuple(slice(size) for size in value.shape)])
    return narrow.train(wide.training)


def clip(batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, 12, 32, 32, generator=torch.Generator().manual_seed(1))


# ---- the network inside


@pytest.mark.parametrize(
    ("name", "multiplier"), [("resnet10", 0.125), ("resnet18", 0.25), ("resnet50", 0.125)]
)
@pytest.mark.parametrize("learning", [False, True])
def test_a_narrow_network_cut_out_finds_the_same(name: str, multiplier: float, learning: bool) -> None:
    torch.manual_seed(0)
    wide = SlimResNet(name, multiplier, "small", WIDTHS)
    used(wide)
    wide.double().train(learning)
    images = torch.randn(5, 3, 33, 33, dtype=torch.float64)
    for width, first in wide.first.items():
        narrow = cut(ResNet2D(int(name[6:]), first, "small").double(), wide)
        assert torch.allclose(wide(images, width=width), narrow(images), rtol=1e-9)


def test_a_width_leaves_the_norms_of_others_alone() -> None:
    wide = SlimResNet("resnet10", 0.25, "small", WIDTHS).train()
    before = {key: value.clone() for key, value in wide.state_dict().items()}
    wide(torch.randn(4, 3, 16, 16), width=0.5).square().sum().backward()
    changed = {key for key, value in wide.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all(".narrower.1.running_" in key or ".narrower.1.num_" in key for key in changed)
    kernel = wide.layer2[0].conv1.weight  # type: ignore[union-attr]
    assert kernel.grad is not None and kernel.grad[:16, :8].abs().min() > 0
    assert kernel.grad[16:].abs().max() == 0 and kernel.grad[:, 8:].abs().max() == 0


def test_the_layers_alone() -> None:
    layer, norm = SlimLinear(6, 4), SlimNorm2d([2, 4])
    x = torch.randn(3, 6)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    zeros = torch.cat([x[:, :2], torch.zeros(3, 4)], 1)
    assert torch.allclose(layer(x[:, :2]), layer(zeros), atol=1e-6)
    assert norm(torch.randn(2, 4, 1, 1)).shape[1] == 4 and norm(torch.randn(2, 2, 1, 1)).shape[1] == 2
    assert SlimConv2d(4, 8, 3, bias=False)(torch.randn(1, 1, 5, 5)).shape == (1, 2, 3, 3)
    for conv in (nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=4, bias=False)):
        with pytest.raises(ValueError, match="bias or groups cannot be slimmed"):
            make_slim(nn.Sequential(conv), [2, 4])


# ---- the model


def test_every_setting_is_a_narrower_model_and_costs_as_much() -> None:
    model, seen = small(widths=(0.25, 0.75, 1.0), small_patches=(12,)), clip()
    assert [*model.config.looks] == [(width, side) for width in (0.25, 0.75, 1.0) for side in (12, 24)]
    costs = set()
    for setting in model.dial.whole:
        model.turn(setting)
        width, side = model.look
        alone = cut(plain(patch=side, local_width=0.25 * width), model)
        assert isinstance(alone, UniModel)
        with torch.inference_mode():
            ours, theirs = model.output(seen), alone.output(seen)
            assert count_macs(model, seen).total == int(ours.macs.sum())  # type: ignore[union-attr]
        assert torch.allclose(ours.logits, theirs.logits, atol=1e-5)
        assert torch.equal(ours.macs, theirs.macs)  # type: ignore[arg-type]
        assert torch.equal(ours.looked, theirs.looked)  # type: ignore[arg-type]
        assert torch.allclose(ours.boxes, theirs.boxes)  # type: ignore[arg-type]
        costs.add(int(ours.macs[0]))  # type: ignore[index]
    assert len(costs) == 6


def test_fewer_looks_cost_what_a_model_for_so_many_costs() -> None:
    """But for the answer after the glances, where one may stop."""
    model, alone, seen = small(), plain(patch=16, local_width=0.125, local_frames=2), clip(1)
    model.turn((0.5, 16, NEVER, NEVER, 0.0, 0.0))
    with torch.inference_mode():
        ours, theirs = model.output(seen).macs, alone.output(seen).macs
    assert ours is not None and theirs is not None
    assert int(ours - theirs) == model.config.classifier_width * model.num_classes


def test_so_many_looks_for_everybody() -> None:
    """Their answer and cost are those on the way to all looks; the first ones lie over the whole video."""
    model, seen = small(), clip()
    model.turn((0.5, 16, NEVER, NEVER, NEVER, 0.0))
    with torch.inference_mode():
        whole = model.output(seen)
        for looks in range(4):
            model.turn((0.5, 16.0, *(NEVER,) * looks, *(0.0,) * (4 - looks)))
            output = model.output(seen)
            assert count_macs(model, seen).total == int(output.macs.sum())  # type: ignore[union-attr]
            assert torch.allclose(output.logits, whole.step_logits[:, looks], atol=1e-6)  # type: ignore[index]
            assert (output.looked.sum(1) == looks).all()  # type: ignore[union-attr]
            if looks == 1:
                places = whole.looked.nonzero()[:, 1].view(3, 3)  # type: ignore[union-attr]
                assert torch.equal(output.looked.nonzero()[:, 1], places[:, 1])  # type: ignore[union-attr]


def test_a_setting_changes_no_weight_and_training_knows_none() -> None:
    model, seen = small(), clip()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        before = model.output(seen)
        model.turn(model.dial.whole[0])
        cheap = model.output(seen)
        assert model.train().look == (1.0, 24) and model.eval().look == (0.25, 12)
        model.turn(None)
        again = model.output(seen)
    assert torch.equal(before.logits, again.logits) and not torch.equal(before.logits, cheap.logits)
    assert before.features.shape == cheap.features.shape  # type: ignore[union-attr]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    with model.looking((0.5, 16)):
        assert model.look == (0.5, 16)
    assert model.look == (1.0, 24)


def test_compiled_parts_serve_all_settings() -> None:
    pytest.importorskip("openvino")
    model = small(widths=(0.5, 1.0), small_patches=(16,))
    engine, eager = open_engine(model, "openvino"), EagerEngine(model)
    frames = torch.randint(0, 256, (2, 12, 32, 32, 3), dtype=torch.uint8)
    stopping = (0.5, 16, 0.0 + NEVER, 0.4, 0.4, 0.0)
    for _ in range(2):
        for setting in (*model.dial.whole, stopping):
            model.turn(setting)
            ours, theirs = engine.run(frames), eager.run(frames)
            assert torch.allclose(ours.logits, theirs.logits, atol=1e-3)
            assert torch.equal(ours.macs, theirs.macs)  # type: ignore[arg-type]
        made = engine.store.made  # type: ignore[attr-defined]
    assert engine.store.made == made  # type: ignore[attr-defined]
    assert len(engine.parts["local_features"]._ways) == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"widths": (0.25, 0.5)}, "widths [0.25, 0.5] of the local network must end with the whole one, 1.0"),
        ({"widths": ()}, "must end with the whole one"),
        ({"widths": (0.5, 0.25, 1.0)}, "widths [0.5, 0.25, 1.0] must rise"),
        ({"widths": (0.5, 0.5, 1.0)}, "widths [0.5, 0.5, 1.0] must rise"),
        ({"widths": (0.5, 1.0, 1.5)}, "must end with the whole one"),
        ({"widths": (0.01, 0.02, 1.0)}, "widths [0.01, 0.02, 1.0] of the local network come to [1, 1, 16]"),
        ({"small_patches": (16, 12)}, "small_patches [16, 12] must rise"),
        ({"small_patches": (16, 24)}, "small_patches [16, 24] must be below the patch, 24"),
        ({"local": "mobilenetv2", "local_stem": "large"}, "is a ResNet, not mobilenetv2"),
        ({"local": "blresnet50", "local_stem": "large"}, "is a ResNet, not blresnet50"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_one_line(fields: dict[str, Any], cause: str) -> None:
    with pytest.raises(UsageError) as raised:
        small(**fields)
    assert cause in str(raised.value) and "\n" not in str(raised.value)


def test_one_way_to_look_is_a_model_too() -> None:
    model = small(widths=(1.0,), small_patches=())
    assert model.config.looks == ((1.0, 24),) and draw_looks(model) == []
    assert model.output(clip()).logits.shape == (3, 2)


# ---- the dial


DIAL = LookDial(((0.5, 16), (0.5, 24), (1.0, 16), (1.0, 24)), 3)


@pytest.mark.parametrize(
    ("setting", "cause"),
    [
        ((0.3, 16, 0.0, 0.0, 0.0), r"cannot be \[0.3, 16\]; 0.5 at 16, 0.5 at 24, 1 at 16, 1 at 24 pixels"),
        ((0.5, 17, 0.0, 0.0, 0.0), r"cannot be \[0.5, 17\]"),
        ((0.5, float("nan"), 0.0, 0.0, 0.0), r"are possible"),
        ((0.5,), r"cannot be \[0.5\]"),
        ((), r"cannot be \[\]"),
        ((0.5, 16), "0 thresholds of exits do not fit 3"),
        ((0.5, 16, 0.5, 0.0), "2 thresholds of exits do not fit 3"),
        ((0.5, 16, 0.5, 0.5, 0.5), "do not fit"),
        ((0.5, 16, 2.0, 0.5, 0.0), "do not fit"),
    ],
)
def test_what_cannot_be_set_is_refused(setting: tuple[float, ...], cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        DIAL.check(setting)


def test_between_settings() -> None:
    low, high, other = (0.5, 16.0, 0.2, 0.4, 0.0), (0.5, 16.0, 0.4, 0.8, 0.0), (1.0, 16.0, 0.0, 0.0, 0.0)
    assert DIAL.between(low, high, 0.5) == pytest.approx((0.5, 16, 0.3, 0.6, 0))
    assert DIAL.between(low, other, 0.9) == low  # a budget is not exceeded
    assert DIAL.full == (1.0, 24, NEVER, NEVER, 0.0) == DIAL.steady(DIAL.full, 1.0)
    assert DIAL.steady(low, 0.1) == (0.5, 16, NEVER, 0.0, 0.0)
    for setting in (*DIAL.whole, DIAL.steady(low, 0.1), DIAL.between(low, high, 0.9)):
        DIAL.check(setting)


# ---- the curve


def points_of(*pairs: tuple[float, float]) -> list[Point]:
    return [Point(share, share, accuracy, (share,)) for share, accuracy in pairs]


def test_of_all_points_those_stay_that_no_cheaper_one_equals() -> None:
    found = frontier(points_of((0.1, 0.3), (0.2, 0.2), (0.3, 0.5), (0.4, 0.5), (0.9, 0.8), (1.0, 0.7)), 8)
    assert [point.share for point in found] == [0.1, 0.3, 0.9]
    best_first = points_of((0.1, 0.9), (0.5, 0.5), (1.0, 0.9))
    assert [point.share for point in frontier(best_first, 8)] == [0.1, 1.0]
    many = points_of(*((place / 100, place / 100) for place in range(1, 101)))
    thinned = [point.share for point in frontier(many, 4)]
    assert thinned == pytest.approx([0.01, 0.34, 0.67, 1.0])
    assert [point.share for point in frontier(many, 2)] == [0.01, 1.0]


def batches(clips: Tensor, labels: Tensor) -> Any:
    frames = (clips.movedim(1, -1) * 40 + 128).clamp(0, 255).byte().unsqueeze(1)
    whole = SimpleNamespace(frames=frames, labels=labels, indices=torch.arange(len(labels)), bad=[])
    return lambda: iter([whole])


def test_a_curve_over_all_ways_to_look_says_what_they_cost(tmp_path: Path) -> None:
    model = small(widths=(0.5, 1.0))
    loader, engine, runs = batches(*bursts(40, 5)[:2]), EagerEngine(model), []
    curve = solve_curve(engine, loader, 6, report=lambda done, total: runs.append((done, total)))
    assert runs == [(place, 6) for place in range(6)] and model.setting is None
    assert curve.dial == "looks" and 2 <= len(curve.points) <= 6
    for point in curve.points:
        model.turn(point.setting)
        scored = score(engine, loader())
        # the answer after the glances costs something where one may stop there
        assert float(scored.macs.mean()) == pytest.approx(point.gmacs * 1e9, rel=1e-5)
        assert float((scored.scores.argmax(1) == scored.labels).double().mean()) == point.accuracy
    model.turn(None)
    full = float(score(engine, loader()).macs.mean())
    assert curve.full_gmacs == pytest.approx(full / 1e9)
    model.curve, model.labels = curve, ("red", "blue")
    save_model(model, tmp_path / "m.safetensors")
    again = read_model(tmp_path / "m.safetensors")[0]
    assert again.curve == curve and again.config == model.config
    dial = BudgetDial(EagerEngine(again))
    assert len(dial.milliseconds()) == len(curve.points)
    assert dial.set(curve.points[0].share) == curve.points[0].share
    assert again.setting == curve.points[0].setting
    with pytest.raises(UsageError, match="below the model's least"):
        dial.set(0.5 * curve.points[0].share)


def test_a_curve_of_other_ways_to_look_is_refused(tmp_path: Path) -> None:
    model = small(widths=(1.0,))
    points = tuple(
        Point(cost, cost, cost, (0.5, side, 0.5, 0.5, 0.5, 0.0)) for cost, side in ((0.5, 12), (1.0, 16))
    )
    model.curve = Curve("looks", "top1", 10, points)
    save_model(model, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="its budgets do not fit: a width and a patch cannot be"):
        read_model(tmp_path / "m.safetensors")


# ---- what teaches it


def bursts(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Clips of noise (count, 3, 12, 32, 32), in six frames of which a square is red or blue, and classes."""
    generator = torch.Generator().manual_seed(seed)
    clips = 0.5 * torch.randn(count, 3, 12, 32, 32, generator=generator)
    labels = torch.arange(count) % 2
    corners = torch.randint(0, 22, (count, 2), generator=generator)
    colour = torch.tensor([3.0, 0.0, -3.0]).view(3, 1, 1, 1)
    for video, (row, column) in enumerate(corners.tolist()):
        sign = 1 - 2 * int(labels[video])
        clips[video, :, 3:9, row : row + 10, column : column + 10] += sign * colour
    return clips, labels


def objective(soft: float = 0.5) -> UniAnyObjective:
    loss = loss_function("cross_entropy")
    return UniAnyObjective(loss, loss, UniAnyPlan(size_weight=0.1, soft=soft))


def batch_of(model: UniAny, count: int, seed: int) -> Any:
    clips, labels = bursts(count, seed)
    return next(batches(clips, labels)())


def test_in_every_step_the_narrowest_and_another_learn() -> None:
    model = small()
    torch.manual_seed(0)
    pairs = [draw_looks(model) for _ in range(200)]
    assert all(first[0] == 0.25 for first, _ in pairs)
    assert {first for first, _ in pairs} == {(0.25, 12), (0.25, 16), (0.25, 24)}
    assert {other for _, other in pairs} == {*model.config.looks[:-1]}


def test_every_parameter_learns_at_some_step() -> None:
    model = small().train()
    torch.manual_seed(0)
    for step in range(6):
        objective()(model, batch_of(model, 4, step))["loss"].backward()
    silent = [
        key for key, value in model.named_parameters() if value.grad is None or not value.grad.abs().max()
    ]
    assert not silent and model.look == (1.0, 24)


def test_narrower_ones_learn_from_the_labels_and_the_widest() -> None:
    """By hand: halves of both kinds of boxes, of the answers after the looks and of the auxiliary head."""
    model = small(dropout=0.0, aux_dropout=0.0).train()
    clips, labels = bursts(4, 0)
    torch.manual_seed(0)
    widest = find(model, clips, draw(model, 4))
    with model.looking((0.25, 12)):
        looks = look_twice(model, clips, widest.seen, widest.choice, widest.random_boxes)
    assert looks.policy.shape == (4, 4 + 3, 2)
    found = []
    for soft in (0.0, 1.0, 0.25):
        wanted = torch.zeros(())
        for name in ("policy", "random", "local_policy", "local_random"):
            given, taught = getattr(looks, name)[:, -3:], getattr(widest, name)[:, -3:].detach().softmax(-1)
            hard = -given.log_softmax(-1)[torch.arange(4), :, labels].mean()
            learnt = -(taught * given.log_softmax(-1)).sum(-1).mean()
            wanted = wanted + ((1 - soft) * hard + soft * learnt) / 2
        found.append(objective(soft).of_narrower(model, looks, widest, labels))
        assert found[-1].item() == pytest.approx(wanted.item(), rel=1e-5)
    assert not torch.allclose(found[0], found[1])
    heads = [*model.local_classifier.heads.parameters()]
    gradients = torch.autograd.grad(found[1], heads, retain_graph=True)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="soft is"):
            UniAnyPlan(soft=wrong)


def test_all_ways_to_look_are_learnt_at_once() -> None:
    torch.manual_seed(0)
    fields = {"pool": "average", "glance_width": 0.25, "classifier_width": 64}
    model = small(**fields, widths=(0.5, 1.0), small_patches=(16,)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(24):
        loss = objective()(model, batch_of(model, 16, step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    loader = batches(*bursts(64, 99))
    for setting in model.dial.whole:
        model.turn(setting)
        scored = score(EagerEngine(model), loader())
        assert (scored.scores.argmax(1) == scored.labels).float().mean() > 0.9, setting[:2]


def test_it_starts_from_plain_networks() -> None:
    model, whole = small(), plain()
    used(whole)
    start_from(model, whole)
    assert torch.equal(model.local.layer1[0].bn1.weight, whole.local.layer1[0].bn1.weight)
    image = create_model("tsn_r10_8", 2, width=0.25, stem="small")
    start_part(model, "local", image)
    assert torch.equal(model.local.conv1.weight, image.backbone.conv1.weight)  # type: ignore[union-attr]
    with pytest.raises(ModelFileError, match="the two models differ in"):
        start_from(whole, model)


def test_the_recipe_runs_from_list_to_a_budget(videos: Path, tmp_path: Path) -> None:
    nets = ("size=32", "resize=32", "glance_size=16", "patch=16", "classifier_width=8", "small_patches=[12]")
    counts = ("candidates=4", "glance_frames=2", "local_frames=2", "temporal_width=4", "spatial_width=4")
    job = TrainJob(
        videos,
        tmp_path,
        NAME,
        val=videos,
        settings=(*nets, *counts),
        recipe="small",
        workers=0,
        train=TrainConfig(batch=4, epochs=1, optimizer="adamw", reference_batch=None),
        plan=UniAnyPlan(exit_frames=1.0),
    )
    _, outcome = train_model(job)
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"together"}
    assert set(outcome.scores) >= {"top1", "top1_after_0", "top1_after_2"}
    loaded, card = read_model(tmp_path / "best.safetensors")
    assert len(card.config["exits"]) == 3 and loaded.dynamic and card.training["plan"]["soft"] == 0.5
    assert (
        recipe_for(NAME).plan.soft == 0.5 and recipe_for(NAME).train == recipe_for("uni_adafocus_small").train
    )
