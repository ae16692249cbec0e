"""The AdaFocus family: offline equals step by step, skipped work is not done, stages teach what they say."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from foveate.errors import UsageError
from foveate.measure.cost import count_macs
from foveate.models.adafocus import AdaFocus
from foveate.models.early_exit import exit_shares, exit_steps, solve_thresholds
from foveate.models.focus import FocusModel, coarse_to_fine
from foveate.models.zoo import create_model
from foveate.train import focus, focus_clip, rollouts
from foveate.train.objective import loss_function
from foveate.train.ppo import PPOConfig

CLASSES, FRAMES, SIDE = 5, 4, 48
SMALL = {
    "frames": FRAMES, "size": SIDE, "resize": SIDE, "glance_size": 24, "patch": 16,
    "policy_squeeze": 4, "policy_width": 16, "classifier_width": 16,
}  # fmt: skip
LOSS = loss_function("cross_entropy")


def small(name: str = "adafocus_small", **fields: object) -> FocusModel:
    torch.manual_seed(0)
    model = create_model(name, CLASSES, **{**SMALL, **fields})
    assert isinstance(model, FocusModel)
    return model.eval()


def clip(batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, FRAMES, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Batch:
    frames: Tensor
    labels: Tensor
    bad: tuple[object, ...] = ()


def batch(count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(2)
    frames = torch.randint(0, 256, (count, 1, FRAMES, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    return Batch(frames, torch.arange(count) % CLASSES)


KINDS = {
    "v1": ("adafocus_small", {}),
    "mean": ("adafocus_small", {"classifier": "mean"}),
    "coarse": ("adafocus_small", {"order": "coarse_to_fine"}),
    "plus": ("adafocus_small", {"skip": True}),
    "centre": ("adafocus_small", {"policy": "centre"}),
    "v2": ("adafocus_v2_small", {}),
    "v2 gru": ("adafocus_v2_small", {"classifier": "gru"}),
}


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_step_by_step_equals_the_clip(kind: str) -> None:
    name, fields = KINDS[kind]
    model = small(name, **fields)
    whole, kept, rows = model.trace(clip()), [], []
    for place in whole.order.tolist():
        row, kept = model.step(clip()[:, :, place], kept)
        rows.append(row)
    assert torch.allclose(torch.cat([r.step_logits for r in rows], 1), whole.step_logits, atol=1e-5)
    assert torch.allclose(torch.cat([r.corners for r in rows], 1), whole.corners)
    assert torch.equal(torch.cat([r.looked for r in rows], 1), whole.looked)


@torch.inference_mode()
def test_batch_equals_one_by_one() -> None:
    model = small()
    whole = model.trace(clip())
    for number in range(3):
        assert torch.allclose(
            model(clip()[number : number + 1]), whole.logits[number : number + 1], atol=1e-5
        )


@torch.inference_mode()
def test_skipped_frames_cost_nothing_and_count_as_zeros() -> None:
    model = small(skip=True)
    assert isinstance(model, AdaFocus)
    bias = model.skip_policy.actor.bias
    bias.fill_(100.0)
    everything = count_macs(model, clip()).total
    bias.fill_(-100.0)
    nothing = count_macs(model, clip()).total
    trace = model.trace(clip())
    local = 3 * FRAMES * count_macs(model.local, torch.zeros(1, 3, 16, 16)).total
    assert everything - nothing == local
    assert not trace.looked.any()
    seen = model.glance_at(clip())
    zeros = torch.zeros(3, FRAMES, model.local.channels)
    assert torch.allclose(model.classify(seen.features, zeros)[0], trace.step_logits, atol=1e-6)


@torch.inference_mode()
def test_some_frames_skipped_gives_what_zeros_give() -> None:
    model = small(skip=True)
    seen, looked = model.glance_at(clip()), torch.rand(3, FRAMES) < 0.5
    corners = model.choose(seen.maps)
    every = model.look_at(clip(), corners)
    assert torch.allclose(model.look_at(clip(), corners, looked), every * looked.unsqueeze(-1), atol=1e-5)


@torch.inference_mode()
def test_full_size_patch_sees_the_frame() -> None:
    model = small(patch=SIDE)
    trace = model.trace(clip())
    assert not trace.corners.any()


def test_coarse_to_fine_visits_every_frame_once() -> None:
    for frames in range(1, 40):
        order = coarse_to_fine(frames)
        assert sorted(order) == list(range(frames))
    assert coarse_to_fine(16)[:3] == [7, 0, 15]


@pytest.mark.parametrize("budget", [1.5, 4.0, 7.0])
def test_exits_meet_the_budget_on_the_data_they_were_solved_on(budget: float) -> None:
    assert float((exit_shares(8, budget) * torch.arange(1, 9)).sum()) == pytest.approx(budget, abs=1e-6)
    logits = torch.randn(4000, 8, 10, generator=torch.Generator().manual_seed(0)).cumsum(1)
    thresholds = solve_thresholds(logits, budget)
    assert float(exit_steps(logits, thresholds).float().mean()) + 1 == pytest.approx(budget, abs=0.05)


@pytest.mark.parametrize("kind", ["v1", "v2", "v2 gru", "mean", "plus"])
@torch.inference_mode()
def test_early_exit_answers_like_the_whole_and_costs_less(kind: str) -> None:
    name, fields = KINDS[kind]
    model = small(name, **fields)
    whole, cost = model.trace(clip()), count_macs(model, clip()).total
    thresholds = solve_thresholds(whole.step_logits, 2.0)
    model.config = replace(model.config, exits=thresholds)
    trace = model.trace(clip())
    steps = exit_steps(whole.step_logits, thresholds)
    assert torch.equal(trace.steps, steps + 1)
    assert torch.allclose(trace.logits, whole.step_logits[torch.arange(3), steps], atol=1e-5)
    assert count_macs(model, clip()).total < cost
    model.config = replace(model.config, exits=(2.0,) * (FRAMES - 1) + (0.0,))
    assert torch.allclose(model(clip()), whole.logits, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"patch": 64}, "does not fit into a frame"),
        ({"grid": 1}, "leaves nothing to choose"),
        ({"patch": 46, "grid": 7}, "does not fit: a patch can move"),
        ({"glance_size": 64}, "larger than the frame"),
        ({"skip": True, "policy": "centre"}, "skip needs the learned policy"),
    ],
)
def test_sizes_that_do_not_fit_are_named(fields: dict[str, object], cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        small(**fields)


STAGES = {
    "stage 0a": (focus.GlanceWarmup(LOSS), ("glance", "glance_head")),
    "stage 0b": (focus.LocalWarmup(LOSS), ("local", "local_head")),
    "stage 1": (focus.PatchTraining(LOSS, "random", 0.5, 0.2), ("local", "classifier")),
    "stage 3": (focus.PatchTraining(LOSS, "policy"), ("classifier",)),
}


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_teaches_its_parts_and_no_other(stage: str) -> None:
    objective, parts = STAGES[stage]
    model = small(skip=True)
    focus.learn_only(model, *((model.get_submodule(part), 1.0) for part in parts))
    objective(model, batch())["loss"].backward()
    assert taught(model) == set(parts)


def taught(model: nn.Module) -> set[str]:
    """The parts in which every parameter has a gradient; a part with some only fails."""
    grads: dict[str, set[bool]] = {}
    for name, parameter in model.named_parameters():
        grads.setdefault(name.split(".")[0], set()).add(parameter.grad is not None)
    assert all(len(found) == 1 for found in grads.values())
    return {part for part, found in grads.items() if found == {True}}


@pytest.mark.parametrize("reward", ["random", "prev", "conf"])
def test_policy_learns_by_ppo_alone(reward: rollouts.Reward) -> None:
    model = small()
    focus.learn_only(model, (model.policy, 1.0))
    scene = rollouts.LiveScene(model, clip(), torch.eye(CLASSES)[:3])
    with torch.no_grad():
        rollout = rollouts.play(model, scene, reward, PPOConfig())
    rollouts.PolicyObjective(PPOConfig())(model, rollout)["loss"].backward()
    assert taught(model) == {"policy"}
    assert rollout.rewards.shape == (3, FRAMES)


def test_confidence_reward_is_the_confidence() -> None:
    model = small()
    scene = rollouts.LiveScene(model, clip(), torch.eye(CLASSES)[:3])
    with torch.no_grad():
        torch.manual_seed(3)
        conf = rollouts.play(model, scene, "conf", PPOConfig())
        torch.manual_seed(3)
        prev = rollouts.play(model, scene, "prev", PPOConfig())
    assert torch.equal(conf.actions, prev.actions)
    assert torch.allclose(prev.rewards.cumsum(1), conf.rewards, atol=1e-6)


def test_looking_pays_its_price_and_skipping_earns_nothing() -> None:
    model = small(skip=True)
    scene = rollouts.LiveScene(model, clip(), torch.eye(CLASSES)[:3])
    with torch.no_grad():
        torch.manual_seed(4)
        free = rollouts.play_skips(model, scene, 0.0, PPOConfig())
        torch.manual_seed(4)
        dear = rollouts.play_skips(model, scene, 0.3, PPOConfig())
    assert torch.allclose(free.rewards - dear.rewards, 0.3 * free.actions)
    assert 0 < free.actions.mean() < 1
    focus.learn_only(model, (model.skip_policy, 1.0))
    rollouts.PolicyObjective(PPOConfig(), "skip")(model, dear)["loss"].backward()
    assert taught(model) == {"skip_policy"}


def test_v2_trains_everything_at_once_but_spares_the_glance_from_the_policy() -> None:
    model = small("adafocus_v2_small")
    focus.Together(LOSS)(model.train(), batch())["loss"].backward()
    assert taught(model) == {"glance", "glance_head", "local", "local_head", "classifier", "policy"}
    model.zero_grad()
    seen = model.glance_at(clip())
    model.policy(seen.maps)[0].sum().backward()
    assert taught(model) == {"policy"}


def test_clip_policy_of_the_tsm_form() -> None:
    torch.manual_seed(0)
    model = create_model(
        "adafocus_tsm_144", CLASSES, glance="resnet10", local="resnet10", glance_width=0.25, local_width=0.25,
        size=SIDE, resize=SIDE, glance_size=32, patch=16, frames=6, glance_frames=2, local_frames=3,
        policy_squeeze=4, policy_width=16,
    )  # fmt: skip
    videos = torch.randn(3, 3, 6, SIDE, SIDE)
    trace = model.eval().trace(videos)
    assert trace.corners.shape == (3, 1, 2) and trace.local_logits.shape == (3, 3, CLASSES)
    with torch.no_grad():
        rollout = focus_clip.play_clip(model, videos, torch.eye(CLASSES)[:3])
    focus.learn_only(model, (model.policy, 1.0))
    focus_clip.ClipPolicyObjective(PPOConfig())(model.train(), rollout)["loss"].backward()
    assert taught(model) == {"policy"}
    model.zero_grad()
    focus.learn_only(model, (model.local, 1.0), (model.local_head, 1.0))
    focus_clip.ClipPatchTraining(LOSS, "random")(model, batch())["loss"].backward()
    assert taught(model) == {"local", "local_head"}


def test_rollouts_repeat_and_resume() -> None:
    model = small()

    def play(item: Batch) -> rollouts.Rollout:
        videos, labels = focus.clip_of(model, item)
        return rollouts.play(
            model, rollouts.LiveScene(model, videos, torch.eye(CLASSES)[labels]), "conf", PPOConfig()
        )

    played = rollouts.Rollouts(lambda epoch, start: [batch()] * (3 - start), play, seed=0, repeats=2)
    whole = list(played(1, 0))
    assert len(whole) == 6 and whole[0] is whole[1]
    assert not torch.equal(whole[0].actions, whole[2].actions)
    resumed = list(played(1, 3))
    assert [torch.equal(a.actions, b.actions) for a, b in zip(whole[3:], resumed, strict=True)] == [True] * 3
