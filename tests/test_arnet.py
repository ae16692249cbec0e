"""AR-Net: what is skipped costs nothing, a batch is its videos one by one, and its stages teach it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from foveate.data.lists import VideoList, read_list
from foveate.errors import ModelFileError, UsageError
from foveate.layers.resolution import ResolutionPolicy
from foveate.measure.cost import count_macs
from foveate.models.arnet import ARNet, fuse
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob, named_model, start_from_file, weights_file
from foveate.train.objective import loss_function
from foveate.train.recipes import arnet as resolutions
from foveate.train.stages import train_model
from foveate.video.transform import Augment
from foveate.weights import convert
from foveate.weights.file import read_model, save_model

CLASSES, FRAMES, SIDE = 3, 6, 40
SMALL = {"sizes": (SIDE, 32, 24), "glance_size": 16, "resize": SIDE, "frames": FRAMES, "policy_width": 8}
LOSS = loss_function("cross_entropy")
ANSWER, SKIP1, SKIP2, SKIP4 = 3, 4, 5, 6


def small(spread: float = 40.0, **fields: object) -> ARNet:
    """A model whose policy makes up its mind: by `spread` times what an untrained one would."""
    torch.manual_seed(0)
    model = create_model("arnet_small", CLASSES, **{**SMALL, **fields})
    assert isinstance(model, ARNet)
    with torch.no_grad():
        model.policy.actions.weight *= spread
        model.policy.actions.bias.zero_()
    return model.eval()


def always(action: int, **fields: object) -> ARNet:
    model = small(0.0, **fields)
    with torch.no_grad():
        model.policy.actions.bias[action] = 9.0
    return model


def clip(batch: int = 5, frames: int = FRAMES) -> Tensor:
    level = torch.linspace(-3, 3, batch).view(-1, 1, 1, 1, 1)  # so that policies differ among videos
    return level + torch.randn(batch, 3, frames, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("remember", [False, True])
@torch.inference_mode()
def test_a_batch_is_its_videos_one_by_one(remember: bool) -> None:
    model, videos = small(remember_skipped=remember), clip()
    together = model.output(videos)
    assert len(set(map(tuple, together.sizes.tolist()))) > 1
    for row in range(len(videos)):
        alone = model.output(videos[row : row + 1])
        assert torch.equal(alone.sizes[0], together.sizes[row]) and alone.macs[0] == together.macs[row]
        assert torch.allclose(alone.logits[0], together.logits[row], atol=1e-6)


@torch.inference_mode()
def test_decisions_are_the_same_every_time_in_any_mode() -> None:
    model, videos = small(), clip()
    first = model.output(videos)
    torch.manual_seed(7)
    again = model.output(videos)
    assert torch.equal(first.sizes, again.sizes) and torch.equal(first.logits, again.logits)


@pytest.mark.parametrize("remember", [False, True])
@torch.inference_mode()
def test_sparse_is_dense_with_masks(remember: bool) -> None:
    """The released arithmetic: all networks on all frames, then the chosen answers averaged."""
    model, videos = small(remember_skipped=remember), clip()
    results = model.read_frames(model.resized(videos), len(videos), FRAMES)
    logits, actions = model.branches(model.resized(videos), len(videos), FRAMES)
    assert torch.equal(actions.argmax(-1), results.actions)
    assert torch.allclose(fuse(actions, logits), model.output_of(results).logits, atol=1e-6)


@pytest.mark.parametrize(("skip", "length"), [(SKIP1, 1), (SKIP2, 2), (SKIP4, 4)])
@torch.inference_mode()
def test_skipped_frames_cost_nothing(skip: int, length: int) -> None:
    model, videos = always(skip), clip(2, 8)
    output = model.output(videos)
    looks = 2 * math.ceil(8 / length)
    assert int(output.frames_read.sum()) == looks and not output.sizes.any() and not output.logits.any()
    image = torch.zeros(1, 3, 16, 16)
    look = count_macs(model.glance, image).total + 4 * 8 * (model.glance.channels + 8) + 8 * 7
    assert count_macs(model, videos).total == looks * look == int(output.macs.sum())


@pytest.mark.parametrize("size", [0, 1, 2])
@torch.inference_mode()
def test_a_frame_costs_its_glance_and_its_network(size: int) -> None:
    model, videos = always(size), clip(2)
    side = model.config.sizes[size]
    answer = count_macs(model.nets[size], torch.zeros(1, 3, side, side)).total
    answer += model.heads[size].in_features * CLASSES
    spent, looks = count_macs(model, videos).total, count_macs(always(SKIP1), videos).total
    assert spent - looks == 2 * FRAMES * answer and spent == int(model.output(videos).macs.sum())
    assert (model.output(videos).sizes == side).all()


@torch.inference_mode()
def test_frames_that_are_left_out_may_hold_anything() -> None:
    model, videos = small(), clip()
    output = model.output(videos)
    unseen = ~output.frames_read
    assert unseen.any()
    videos = videos.transpose(1, 2)
    videos[unseen] = float("nan")
    assert torch.equal(model(videos.transpose(1, 2)), output.logits)


@torch.inference_mode()
def test_the_answer_is_the_mean_over_the_frames_that_were_read() -> None:
    output = small().output(clip())
    read = output.sizes > 0
    assert 0 < int(read.sum()) < read.numel()
    for logits, frames, mask in zip(output.logits, output.frame_logits, read, strict=True):
        expected = frames[mask].mean(0) if mask.any() else torch.zeros(CLASSES)
        assert torch.allclose(logits, expected, atol=1e-6)


def test_a_running_skip_keeps_the_action_and_the_memory() -> None:
    torch.manual_seed(0)
    policy = ResolutionPolicy(4, 8, sizes=2, skips=(3,)).eval()
    with torch.no_grad():
        policy.actions.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))
    rows, state = torch.arange(2), policy.start(2)
    _, state = policy(torch.randn(2, 4), rows, state)
    assert state.wait.tolist() == [2, 2]
    _, later = policy(torch.randn(2, 4), rows, state)
    assert later.wait.tolist() == [1, 1]
    assert torch.equal(later.hidden, state.hidden) and torch.equal(later.cell, state.cell)
    policy.remember_skipped = True
    _, leaky = policy(torch.randn(2, 4), rows, state)
    assert torch.equal(leaky.hidden, state.hidden) and not torch.equal(leaky.cell, state.cell)


def test_draws_follow_the_probabilities_and_carry_their_gradient() -> None:
    torch.manual_seed(0)
    policy = ResolutionPolicy(4, 8, sizes=2, skips=(1,))
    hidden = torch.randn(1, 8).expand(4000, 8)
    drawn = policy.choose(hidden, 1.0)
    assert torch.equal(drawn.detach().round(), drawn.detach()) and (drawn.sum(1) - 1).abs().max() < 1e-6
    wanted = policy.actions(hidden[0]).softmax(0)
    assert torch.allclose(drawn.mean(0), wanted, atol=0.03)
    drawn[:, 0].sum().backward()
    assert policy.actions.weight.grad.abs().sum() > 0


@dataclass(frozen=True)
class Batch:
    frames: Tensor
    labels: Tensor
    bad: tuple[object, ...] = ()


def batch(count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(2)
    shape = (count, 1, FRAMES, SIDE, SIDE, 3)
    return Batch(
        torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), torch.arange(count) % CLASSES
    )


def warm(plan: resolutions.ARNetPlan, epoch: int = 0) -> resolutions.WarmBatch:
    return next(iter(resolutions.Annealing(lambda epoch, start: [batch()], plan)(epoch, 0)))


def test_every_parameter_learns_from_the_joint_loss() -> None:
    model, plan = small(1.0, dropout=0.0).train(), resolutions.ARNetPlan()
    objective = resolutions.JointTraining(LOSS, resolutions.relative_costs(model), plan)
    torch.manual_seed(0)
    for _ in range(4):  # draws, so that every network is chosen in one of them
        objective(model, warm(plan))["loss"].backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_costs_are_shares_of_the_dearest() -> None:
    model = small()
    costs = resolutions.relative_costs(model)
    assert costs[0] == 1 > costs[1] > costs[2] > 0 == sum(costs[3:]) and len(costs) == 7
    with torch.device("meta"):
        published = resolutions.relative_costs(create_model("arnet_r50_16"))
    assert published[1:3] == pytest.approx((2.2445 / 4.0875, 0.485 / 4.0875), rel=1e-2)


def test_the_price_alone_teaches_to_spend_less() -> None:
    plan = resolutions.ARNetPlan(accuracy_weight=0.0, balance_weight=0.0, cost_weight=1.0)
    model = small(1.0, dropout=0.0).train()
    objective = resolutions.JointTraining(LOSS, resolutions.relative_costs(model), plan)
    optimizer = torch.optim.Adam(model.policy.parameters(), 0.05)
    torch.manual_seed(0)
    before = objective(model, warm(plan))["cost"]
    for _ in range(8):
        optimizer.zero_grad()
        objective(model, warm(plan))["loss"].backward()
        optimizer.step()
    assert objective(model, warm(plan))["cost"] < 0.7 * before


def test_the_temperature_is_a_function_of_the_epoch() -> None:
    plan = resolutions.ARNetPlan()
    assert warm(plan, 0).temperature == 5
    assert warm(plan, 46).temperature == pytest.approx(0.63, abs=5e-3)  # as its authors state


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": (40, 32)}, "do not match"),
        ({"sizes": (32, 40, 24)}, "larger than the first"),
        ({"sizes": (40, 32, 0)}, "below 1 pixel"),
        ({"glance_size": 0}, "below 1 pixel"),
        ({"resize": 32}, "smaller than the crop"),
        ({"skips": (0,)}, "at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small(**fields)


def test_older_files_number_the_layers_of_the_glance_through() -> None:
    model = create_model("arnet_small", CLASSES, **{**SMALL, "glance": "mobilenetv2"})
    layers = {"expand": (0, 1), "depthwise": (3, 4), "project": (6, 7)}

    def theirs(key: str) -> str:
        if key.startswith("glance.blocks."):
            _, _, block, part, kind, *rest = key.split(".")
            number = layers[part][kind == "norm"] - (3 if block == "0" else 0)
            return ".".join(["lite_backbone.features", str(int(block) + 1), "conv", str(number), *rest])
        for ours, name in (
            ("glance.stem.conv.", "lite_backbone.features.0.0."),
            ("glance.stem.norm.", "lite_backbone.features.0.1."),
            ("glance.last.conv.", "lite_backbone.features.18.0."),
            ("glance.last.norm.", "lite_backbone.features.18.1."),
            ("policy.actions.", "linear."), ("policy.rnn.", "rnn."), ("policy_head.", "lite_fc."),
            ("heads.", "new_fc_list."), ("nets.", "base_model_list."),
        ):  # fmt: skip
            if key.startswith(ours):
                return name + key.removeprefix(ours)
        raise AssertionError(key)

    state = {f"module.{theirs(key)}": value for key, value in model.state_dict().items()}
    read = convert(state, "arnet", "arnet_small", CLASSES, **{**SMALL, "glance": "mobilenetv2"}).state_dict()
    assert all(torch.equal(value, read[key]) for key, value in model.state_dict().items())


# ---- the stages, from files to a finished model


def build_model(job: TrainJob, videos: VideoList) -> VideoModel:
    """What training starts from."""
    model, path = named_model(job, videos), weights_file(job)
    if path:
        start_from_file(model, path)
    return model


def job(videos: Path, out: Path) -> TrainJob:
    plan = resolutions.ARNetPlan(branch_epochs=1, joint_epochs=2, fixed_epochs=1)
    settings = (f"resize={SIDE}", f"sizes=[{SIDE}, 32, 24]", "glance_size=16", "frames=3", "policy_width=8")
    return TrainJob(
        videos, out, "arnet_small", val=videos, settings=settings, workers=0,
        train=TrainConfig(batch=4, optimizer="adamw", reference_batch=None),
        augment=Augment(crop="center"), plan=plan,
    )  # fmt: skip


def test_the_stages_run_resume_and_leave_a_model(videos: Path, tmp_path: Path) -> None:
    model, outcome = train_model(job(videos, tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["branches", "fixed", "joint"]
    assert set(outcome.scores) >= {"top1", "n_ok"}
    loaded, card = read_model(tmp_path / "best.safetensors")
    seen = torch.randn(1, 3, 3, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.equal(loaded(seen), model.eval()(seen))
    assert card.labels == ("dark", "light")
    written = (tmp_path / "joint" / "metrics.jsonl").stat().st_mtime_ns
    again, _ = train_model(replace(job(videos, tmp_path), resume=True))
    assert (tmp_path / "joint" / "metrics.jsonl").stat().st_mtime_ns == written
    same = [torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)]
    assert all(same)


def test_each_network_starts_from_a_file_of_its_own(videos: Path, tmp_path: Path) -> None:
    wide, narrow = create_model("tsn_r10_8", 4), create_model("tsn_r10_8", 4, width=0.25)
    save_model(wide, tmp_path / "wide.safetensors")
    save_model(narrow, tmp_path / "narrow.safetensors")
    parts = tuple(
        f"{part}={tmp_path / name}.safetensors" for part, name in (("nets.0", "wide"), ("glance", "narrow"))
    )
    mine, listed = replace(job(videos, tmp_path), parts=parts), read_list(videos)
    model, fresh = build_model(mine, listed), build_model(job(videos, tmp_path), listed)
    for part, source in ((model.nets[0], wide), (model.glance, narrow), (model.nets[2], fresh.nets[2])):
        given = getattr(source, "backbone", source).state_dict()
        assert all(torch.equal(value, given[key]) for key, value in part.state_dict().items())
    for wrong, message in (
        (
            (f"nets.1={tmp_path}/wide.safetensors",),
            r"wide\.safetensors: holds tsn_r10_8, whose network is not nets.1",
        ),
        (("nets.1",), "nets.1: a part is written network=file"),
    ):
        with pytest.raises((UsageError, ModelFileError), match=message):
            build_model(replace(mine, parts=wrong), listed)
    with pytest.raises(UsageError, match="whole model"):
        build_model(replace(mine, weights=str(tmp_path / "wide.safetensors")), listed)
