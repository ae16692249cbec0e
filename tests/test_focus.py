"""The AdaFocus family: offline equals step by step, skipped work is not done, stages teach what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from foveate.errors import UsageError
from foveate.infer.engine import with_parts
from foveate.measure.cost import count_macs
from foveate.models.adafocus.early_exit import exit_shares, solve_thresholds
from foveate.models.adafocus.parts import FocusModel, coarse_to_fine, given
from foveate.models.adafocus.tsm import AdaFocusTSM
from foveate.models.adafocus.v1 import AdaFocus
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.config import Loss, TrainConfig
from foveate.train.job import TrainJob
from foveate.train.objective import loss_function
from foveate.train.optim import learn_mode, learn_only
from foveate.train.ppo import PPOConfig
from foveate.train.recipes import Stage, with_plan
from foveate.train.recipes import focus_objectives as focus

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


def live(model: FocusModel, videos: Tensor | None = None) -> focus.FeatureBatch:
    """The features of three clips, with the labels 0, 1, 2."""
    return focus.FeatureBatch(model.see(clip() if videos is None else videos), torch.arange(3))


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
    whole, state = model.output(clip()), None
    for number, place in enumerate(model.order(FRAMES)):
        row, state = model.step(clip()[:, :, place], state)
        assert torch.allclose(row.logits, whole.step_logits[:, number], atol=1e-5)
        assert torch.allclose(row.boxes[:, 0], whole.boxes[:, place], atol=1e-4)
        assert torch.equal(row.looked[:, 0], whole.looked[:, place])
    assert state.frames == FRAMES


@torch.inference_mode()
def test_batch_equals_one_by_one() -> None:
    model = small()
    whole = model.output(clip())
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
    output = model.output(clip())
    local = 3 * FRAMES * count_macs(model.local, torch.zeros(1, 3, 16, 16)).total
    assert everything - nothing == local
    assert not output.looked.any() and output.frames_read.all()
    seen = model.glance_at(clip())
    zeros = torch.zeros(3, FRAMES, model.local.channels)
    assert torch.allclose(model.classify(seen.features, zeros)[0], output.step_logits, atol=1e-6)


@torch.inference_mode()
def test_some_frames_skipped_gives_what_zeros_give() -> None:
    model = small(skip=True)
    seen, looked = model.glance_at(clip()), torch.rand(3, FRAMES) < 0.5
    corners, _ = model.choose_place(seen.maps)
    every = model.look_at(clip(), corners)
    assert torch.allclose(model.look_at(clip(), corners, looked), every * looked.unsqueeze(-1), atol=1e-5)


@torch.inference_mode()
def test_full_size_patch_sees_the_frame() -> None:
    model = small(patch=SIDE)
    boxes = model.output(clip()).boxes
    assert torch.equal(boxes, torch.tensor([0.0, 0, SIDE, SIDE]).expand_as(boxes))


def test_coarse_to_fine_visits_every_frame_once() -> None:
    for frames in range(1, 40):
        order = coarse_to_fine(frames)
        assert sorted(order) == list(range(frames))
    assert coarse_to_fine(16)[:3] == [7, 0, 15]


def exit_steps(step_logits: Tensor, thresholds: tuple[float, ...]) -> Tensor:
    """The step, from 0, at which each video stops. step_logits: (N, T, classes). Returns (N,)."""
    sure = step_logits.softmax(-1).amax(-1) >= torch.tensor(thresholds)
    sure[:, -1] = True
    return sure.int().argmax(1)


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
    whole, cost = model.output(clip()), count_macs(model, clip()).total
    thresholds = solve_thresholds(whole.step_logits, 2.0)
    model.config = replace(model.config, exits=thresholds)
    output = model.output(clip())
    steps = exit_steps(whole.step_logits, thresholds)
    assert torch.equal(output.steps, steps + 1)
    assert torch.allclose(output.logits, whole.step_logits[torch.arange(3), steps], atol=1e-5)
    order = torch.tensor(model.order(FRAMES))
    for video, stop in enumerate((steps + 1).tolist()):
        assert output.frames_read[video, order].tolist() == [True] * stop + [False] * (FRAMES - stop)
        unread = order[stop:]
        assert not output.looked[video, unread].any() and not output.boxes[video, unread].any()
        assert torch.allclose(output.step_logits[video, :stop], whole.step_logits[video, :stop], atol=1e-5)
        assert (output.step_logits[video, stop - 1 :] == output.logits[video]).all()
    assert count_macs(model, clip()).total < cost
    model.config = replace(model.config, exits=(2.0,) * (FRAMES - 1) + (0.0,))
    assert torch.allclose(model(clip()), whole.logits, atol=1e-5)


@pytest.mark.parametrize("name", ["adafocus_small", "adafocus_v2_small"])
@pytest.mark.parametrize("group", [2, 3, 9])
@torch.inference_mode()
def test_in_groups_videos_leave_later_with_the_same_answer(name: str, group: int) -> None:
    single, grouped = small(name), small(name, exit_group=group)
    confidence = single.output(clip()).step_logits.softmax(-1).amax(-1)  # (3, T)
    first = float(confidence[:, 0].sort().values[1:].mean())
    exits = (first, float(confidence[:, 1].min()) / 2, 0.0, 0.0)  # one video after one frame, two after two
    for model in (single, grouped):
        model.set_exits(exits)
    alone, together = single.output(clip()), grouped.output(clip())
    assert sorted(alone.steps.tolist()) == [1, 2, 2]
    assert together.steps.tolist() == [min(group, FRAMES)] * 3
    assert torch.equal(together.frames_read.sum(1), together.steps)
    assert torch.allclose(together.logits, alone.logits, atol=1e-5)
    assert torch.allclose(together.step_logits, alone.step_logits, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"exit_group": 0}, "must be at least 1 frame"),
        ({"patch": 64}, "does not fit into a frame"),
        ({"patch": 0}, "must be at least one pixel"),
        ({"patch": -5}, "must be at least one pixel"),
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
    "stage 0a": (focus.Warmup(LOSS, "glance"), ("glance", "glance_head")),
    "stage 0b": (focus.Warmup(LOSS, "local"), ("local", "local_head")),
    "stage 1": (focus.PatchTraining(LOSS, "random", 0.5, 0.2), ("local", "classifier")),
    "stage 3": (focus.PatchTraining(LOSS, "policy"), ("classifier",)),
}


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_teaches_its_parts_and_no_other(stage: str) -> None:
    objective, parts = STAGES[stage]
    model = small(skip=True)
    learn_only(model, *((model.get_submodule(part), 1.0) for part in parts))
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
def test_policy_learns_by_ppo_alone(reward: focus.Reward) -> None:
    model = small()
    learn_only(model, (model.policy, 1.0))
    with torch.no_grad():
        rollout = focus.PlaceRollout(reward, PPOConfig())(model, live(model))
    focus.PolicyObjective(PPOConfig())(model, rollout)["loss"].backward()
    assert taught(model) == {"policy"}
    assert rollout.rewards.shape == (3, FRAMES)


def test_confidence_reward_is_the_confidence() -> None:
    model = small()
    with torch.no_grad():
        torch.manual_seed(3)
        conf = focus.PlaceRollout("conf", PPOConfig())(model, live(model))
        torch.manual_seed(3)
        prev = focus.PlaceRollout("prev", PPOConfig())(model, live(model))
    assert torch.equal(conf.actions, prev.actions)
    assert torch.allclose(prev.rewards.cumsum(1), conf.rewards, atol=1e-6)


def test_looking_pays_its_price_and_skipping_earns_nothing() -> None:
    model = small(skip=True)
    with torch.no_grad():
        torch.manual_seed(4)
        free = focus.LookRollout(0.0, PPOConfig())(model, live(model))
        torch.manual_seed(4)
        dear = focus.LookRollout(0.3, PPOConfig())(model, live(model))
    assert torch.allclose(free.rewards - dear.rewards, 0.3 * free.actions)
    assert 0 < free.actions.mean() < 1
    learn_only(model, (model.skip_policy, 1.0))
    focus.PolicyObjective(PPOConfig(), "skip")(model, dear)["loss"].backward()
    assert taught(model) == {"skip_policy"}


def test_v2_trains_everything_at_once_but_spares_the_glance_from_the_policy() -> None:
    model = small("adafocus_v2_small")
    focus.EndToEndObjective(LOSS)(model.train(), batch())["loss"].backward()
    assert taught(model) == {"glance", "glance_head", "local", "local_head", "classifier", "policy"}
    model.zero_grad()
    seen = model.glance_at(clip())
    model.policy(seen.maps)[0].sum().backward()
    assert taught(model) == {"policy"}


def small_tsm(**fields: object) -> AdaFocusTSM:
    torch.manual_seed(0)
    model = create_model(
        "adafocus_tsm_144", CLASSES, glance="resnet10", local="resnet10", glance_width=0.25, local_width=0.25,
        size=SIDE, resize=SIDE, glance_size=32, frames=6, glance_frames=2, local_frames=3,
        policy_squeeze=4, policy_width=16, **{"patch": 16, **fields},
    )  # fmt: skip
    assert isinstance(model, AdaFocusTSM)
    return model


def test_clip_policy_of_the_tsm_form() -> None:
    model = small_tsm()
    videos = torch.randn(3, 3, 6, SIDE, SIDE)
    output = model.eval().output(videos)
    assert (output.boxes == output.boxes[:, :1]).all() and output.step_logits is None
    learn_only(model, (model.policy, 1.0))
    learn_mode(model)
    with torch.no_grad():
        rollout = focus.PlaceRollout("random", PPOConfig())(model, live(model, videos))
    assert rollout.actions.shape == (3, 1, 2) and 0 <= rollout.actions.min() <= rollout.actions.max() <= 1
    focus.PolicyObjective(PPOConfig())(model, rollout)["loss"].backward()
    assert taught(model) == {"policy"}
    model.zero_grad()
    learn_only(model, (model.local, 1.0), (model.local_head, 1.0))
    focus.PatchTraining(LOSS, "random")(model, batch())["loss"].backward()
    assert taught(model) == {"local", "local_head"}


def test_a_grid_of_positions_for_the_clip() -> None:
    """The likeliest cell is looked at; stage 2 plays by the odds of all n x n, and teaches them."""
    model, videos = small_tsm(grid=3).eval(), torch.randn(3, 3, 6, SIDE, SIDE)
    model.policy.actor.bias.data[5] = 100.0  # the second row's last
    assert torch.equal(model.output(videos).boxes, torch.tensor([32.0, 16, 48, 32]).expand(3, 6, 4))
    model.policy.actor.bias.data[5] = 0.0
    learn_only(model, (model.policy, 1.0))
    learn_mode(model)
    with torch.no_grad():
        rollout = focus.PlaceRollout("random", PPOConfig())(model, live(model, videos))
        odds = model.policy(rollout.maps)[0].log_softmax(-1)
    assert rollout.actions.shape == (3, 1) and rollout.actions.max() < 9
    assert torch.allclose(rollout.log_probs, odds.gather(1, rollout.actions), atol=1e-6)
    before = odds.gather(1, rollout.actions)
    paid = replace(rollout, returns=torch.ones(3, 1))
    rate = torch.optim.SGD(model.policy.parameters(), 0.1)
    focus.PolicyObjective(PPOConfig())(model, paid)["loss"].backward()
    assert taught(model) == {"policy"}
    rate.step()
    after = model.policy(rollout.maps)[0].log_softmax(-1).gather(1, rollout.actions)
    assert after.mean() > before.mean()
    with pytest.raises(UsageError, match="a grid of 1 x 1 positions leaves nothing to choose"):
        small_tsm(grid=1)


def test_the_tsm_form_without_a_policy_looks_where_it_is_told() -> None:
    videos = torch.randn(3, 3, 6, SIDE, SIDE)
    boxes = small_tsm(policy="centre").eval().output(videos).boxes
    assert (boxes[..., :2] == (SIDE - 16) // 2).all()
    places = small_tsm(policy="random").eval().output(videos).boxes[:, 0, :2]
    assert len(places.unique()) > 3


def test_the_tsm_form_drops_features_in_stage_1_and_not_in_stage_3() -> None:
    model = small_tsm(dropout=0.9, patch=SIDE).eval()  # which leaves one place to look at
    stages = {stage.name: stage.objective for stage in staged(model, "adafocus_tsm_144")}
    for stage, varies in (("stage1", True), ("stage3", False)):
        objective = stages[stage]
        losses = {objective(model, batch())["loss"].item() for _ in range(2)}
        assert (len(losses) == 2) is varies


@pytest.mark.parametrize("reward", ["conf", "prev"])
def test_the_tsm_form_can_be_paid_for_confidence(reward: focus.Reward) -> None:
    model, target = small_tsm(), torch.eye(CLASSES)[:3]
    videos = torch.randn(3, 3, 6, SIDE, SIDE)
    learn_mode(model.requires_grad_(False))
    with torch.no_grad():
        paid = focus.PlaceRollout(reward, PPOConfig())(model, live(model, videos))
        logits = model.focus(model.see(videos), place=given(model.corners_of(paid.actions))).step_logits
    assert torch.allclose(paid.rewards, focus.confidence(logits, target), atol=1e-6)


STAGED = {"v1": "adafocus_small", "tsm": "adafocus_tsm_144"}


@pytest.mark.parametrize("kind", STAGED)
def test_stage_2_updates_the_policy_in_the_mode_in_which_it_played(kind: str) -> None:
    """A recurrent net in eval mode cannot learn on a GPU, and a norm must see what it saw when it chose."""
    model = small() if kind == "v1" else small_tsm()
    stage = next(s for s in staged(model, STAGED[kind]) if s.name == "stage2")
    learn_only(model, (model.policy, 1.0))
    learn_mode(model)
    modes = [module.training for module in model.modules()]
    played = next(focus.Rollouts(model, lambda epoch, start: [batch()], stage.collect_rollout, (0,))(0, 0))
    assert [module.training for module in model.modules()] == modes
    assert model.policy.gru.training and not model.local.training
    assert isinstance(played, focus.Rollout)
    losses = [stage.objective(model, played)["loss"].item() for _ in range(2)]
    assert losses[0] == losses[1]
    same = replace(played, log_probs=_chances(model, played))
    assert stage.objective(model, same)["loss"].item() == pytest.approx(losses[0], abs=1e-6)  # ratios of 1


def _chances(model: AdaFocus | AdaFocusTSM, played: focus.Rollout) -> Tensor:
    return model.place_choice(played.maps)[0].log_prob(played.actions).detach()


def staged(model: VideoModel, name: str, loss: Loss = "cross_entropy") -> list[Stage]:
    job = TrainJob(Path("list"), Path("out"), name, train=TrainConfig(loss=loss))
    job, recipe = with_plan(job)
    return recipe.stages(model, job)


@pytest.mark.parametrize(("kind", "readable"), [("v1", 0), ("tsm", 0), ("tsm", 1)])
def test_a_batch_with_too_few_readable_clips_teaches_a_policy_nothing(kind: str, readable: int) -> None:
    model = small() if kind == "v1" else small_tsm()
    stage = next(s for s in staged(model, STAGED[kind]) if s.name == "stage2")
    few = replace(batch(max(readable, 1)), bad=("file",))
    few = replace(few, frames=few.frames[:readable], labels=few.labels[:readable])
    play = focus.Rollouts(model, lambda epoch, start: [few], stage.collect_rollout, (0,), stage.least)
    (played,) = play(0, 0)
    assert len(played.labels) == 0 and played.bad == ("file",)


def test_one_readable_clip_teaches_the_frame_policy() -> None:
    model = small()
    stage = next(s for s in staged(model, "adafocus_small") if s.name == "stage2")
    learn_only(model, (model.policy, 1.0))
    play = focus.Rollouts(model, lambda epoch, start: [batch(1)], stage.collect_rollout, (0,), stage.least)
    (played,) = play(0, 0)
    assert torch.isfinite(stage.objective(model, played)["loss"])


def test_probabilities_are_not_taken_for_logits() -> None:
    with pytest.raises(UsageError, match=r"classifier=mean: answers with probabilities .*soft_cross_entropy"):
        staged(small(classifier="mean"), "adafocus_small", "bce")


def test_each_model_has_the_epochs_and_rates_of_its_paper() -> None:
    found = {
        name: {s.name: (s.epochs, s.rate, dict(s.parts)) for s in staged(model, name)}
        for name, model in (("adafocus_small", small()), ("adafocus_tsm_144", small_tsm()))
    }
    frames, clips = found.values()
    assert frames["stage1"] == (50, 5e-4, {"local": 1.0, "classifier": 100.0})  # 5e-4 and 0.05
    assert clips["stage1"] == (10, 1e-5, {"local": 1.0, "local_head": 1000.0})  # 1e-5 and 0.01
    assert (frames["stage0_local"][:2], clips["stage0_local"][:2]) == ((15, 0.01), (50, 0.01))
    assert (frames["stage3"][:2], clips["stage3"][:2]) == ((10, 5e-3), (10, 1e-3))
    assert list(clips) == ["stage0", "stage0_local", "stage1", "stage2", "stage3"]


def test_a_warm_up_judges_the_mean_of_the_frames_or_each() -> None:
    model = small()
    clip_, labels = focus.clip_of(model, batch())
    logits = model.glance_head(model.glance_at(clip_).features)
    of_clip = focus.Warmup(LOSS, "glance", "clip")(model, batch())["loss"]
    of_frames = focus.Warmup(LOSS, "glance", "frames")(model, batch())["loss"]
    assert of_clip.item() == pytest.approx(LOSS(logits.mean(1), labels).item(), abs=1e-5)
    each = torch.stack([LOSS(logits[:, t], labels) for t in range(FRAMES)]).mean()
    assert of_frames.item() == pytest.approx(each.item(), abs=1e-5)
    local = [focus.Warmup(LOSS, "local", of)(model, batch())["loss"].item() for of in ("clip", "frames")]
    assert local[0] < local[1]  # the loss is convex


DYNAMIC = KINDS | {
    "random": ("adafocus_small", {"policy": "random"}),
    "tam": ("adafocus_small", {"glance_temporal": "aggregation"}),
    "exits": ("adafocus_small", {}),
    "plus exits": ("adafocus_small", {"skip": True}),
    "coarse exits": ("adafocus_small", {"order": "coarse_to_fine"}),
    "v2 exits": ("adafocus_v2_small", {}),
    "group exits": ("adafocus_small", {"exit_group": 2}),
}


@pytest.mark.parametrize("kind", DYNAMIC)
@torch.inference_mode()
def test_what_each_video_cost_is_what_was_counted(kind: str) -> None:
    name, fields = DYNAMIC[kind]
    model = small(name, **fields)
    if "plus" in kind:  # skip 5 of the 12 frames
        wishes = model.skip_policy(model.glance_at(clip()).maps).logits.sigmoid().flatten().sort().values
        model.config = replace(model.config, skip_threshold=wishes[4].item())
    if "exits" in kind:
        model.set_exits(solve_thresholds(model.output(clip()).step_logits, 2.0))
    assert count_macs(model, clip()).total == model.output(clip()).macs.sum().item()
    macs = model.output(clip()).macs
    assert (len(macs.unique()) > 1) is model.dynamic
    assert macs[0].item() == count_macs(model, clip()[:1]).total


@pytest.mark.parametrize("policy", ["learned", "centre"])
@torch.inference_mode()
def test_the_tsm_form_costs_what_was_counted(policy: str) -> None:
    model, videos = small_tsm(policy=policy).eval(), torch.randn(3, 3, 6, SIDE, SIDE)
    assert count_macs(model, videos).total == model.output(videos).macs.sum().item() > 0


@pytest.mark.parametrize("kind", [*KINDS, "tam", "exits", "tsm"])
@torch.inference_mode()
def test_parts_can_be_replaced(kind: str) -> None:
    """An engine puts twins in their places: each is called, and the answer stays."""
    name, fields = DYNAMIC.get(kind, ("", {}))
    model = small(name, **fields) if name else small_tsm().eval()
    videos = clip() if name else torch.randn(3, 3, 6, SIDE, SIDE)
    if kind == "plus":
        model.config = replace(model.config, skip_threshold=0.0)
    if kind == "exits":
        model.set_exits(solve_thresholds(model.output(videos).step_logits, 2.0))
    whole, calls = model.output(videos), dict.fromkeys(model.parts, 0)

    def twin(part: str) -> Callable[..., object]:
        def called(*inputs: object) -> object:
            calls[part] += 1
            return getattr(model, part)(*inputs)

        return called

    output = with_parts(model, {part: twin(part) for part in model.parts}).output(videos)
    assert all(calls.values()), calls
    assert torch.equal(output.logits, whole.logits) and torch.equal(output.macs, whole.macs)


@torch.inference_mode()
def test_the_form_with_one_position_says_which_frames_it_read() -> None:
    nets = {"glance": "resnet10", "local": "resnet10", "glance_width": 0.125, "local_width": 0.125}
    model = create_model("adafocus_tsm_144", CLASSES, **nets, glance_frames=3, local_frames=4).eval()
    output = model.output(torch.randn(1, 3, 12, 224, 224))
    assert output.looked[0].nonzero().flatten().tolist() == [1, 4, 7, 10]
    assert output.frames_read[0].nonzero().flatten().tolist() == [1, 2, 4, 6, 7, 10]


@pytest.mark.parametrize("name", ["adafocus_small", "adafocus_v2_small"])
def test_in_training_the_glance_sees_the_whole_batch(name: str) -> None:
    """Its batch norms have the statistics of all frames of all clips."""
    model, seen = small(name).train(), []
    model.glance.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
    model(clip())
    assert seen == [3 * FRAMES]


def test_rollouts_resume() -> None:
    model = small()

    collect = focus.PlaceRollout("conf", PPOConfig())
    played = focus.Rollouts(model, lambda epoch, start: [batch()] * (3 - start), collect, (0,))
    whole, resumed = list(played(1, 0)), list(played(1, 1))
    assert len(whole) == 3 and not torch.equal(whole[0].actions, whole[1].actions)
    assert all(torch.equal(a.actions, b.actions) for a, b in zip(whole[1:], resumed, strict=True))
