"""The converted models give the numbers of the official implementations, to 1e-4 relative in float32."""

from __future__ import annotations

import pytest
import torch

from foveate.layers import temporal
from foveate.layers.aggregate import AggregationConfig
from foveate.layers.cluster import TemporalClustering
from foveate.layers.cluster_rules import equal_steps
from foveate.layers.fold import fold_time
from foveate.layers.lateral import slow_indices
from foveate.layers.patch import sample_patches
from foveate.measure.cost import count_macs
from foveate.models.adafocus.parts import ClipFeatures
from foveate.models.arnet import fuse
from foveate.models.zoo import create_model
from foveate.train.ppo import PPOConfig, discounted_returns, normalised, ppo_loss
from foveate.weights import convert
from foveate.weights.origins import get_origin
from parity_cases import CASES, ParityCase, drifting_maps, drifting_video, relative_error
from parity_uni import UNI_RUNS

TOLERANCE = 1e-4


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_case(name: str) -> None:
    case = ParityCase(name)
    for output, ours in RUNS[case.how["layout"]](case).items():
        assert relative_error(ours, case.expected(output)) < TOLERANCE, output


def converted(case: ParityCase) -> torch.nn.Module:
    how = case.how
    model = convert(
        case.state_dict(), how["origin"], how["name"], how["num_classes"], **how.get("fields", {})
    )
    assert sum(p.numel() for p in model.parameters()) == case.info["params"]
    return model


def run_image(case: ParityCase) -> dict[str, torch.Tensor]:
    return run_of(case, case.input().unsqueeze(2))  # a clip of one frame


def run_video(case: ParityCase) -> dict[str, torch.Tensor]:
    return run_of(case, case.input())  # (B, 3, T, H, W)


def run_frames(case: ParityCase) -> dict[str, torch.Tensor]:
    return run_of(case, clip_input(case))  # (B, T*3, H, W) -> (B, 3, T, H, W)


def run_of(case: ParityCase, clip: torch.Tensor) -> dict[str, torch.Tensor]:
    model = converted(case)
    check_macs(model, case, clip)
    return {"logits": model(clip)}


def check_macs(model: torch.nn.Module, case: ParityCase, clip: torch.Tensor) -> None:
    """The case's count of convolutions and linear layers, where it was taken at the size of the input."""
    if case.info.get("flops_frame_size") == clip.shape[-1] and "nl" not in case.how["name"]:
        assert count_macs(model, clip[:1]).total == pytest.approx(case.info["flops"], rel=1e-3)


def run_steps(case: ParityCase) -> dict[str, torch.Tensor]:
    model, kept, rows = converted(case), [], []
    for frame in case.input():
        output, kept = model.step(frame[None], kept)
        rows.append(output.logits)
    buffers = {name: kept[int(name[6:].split("_")[0])] for name in case.info["outputs"] if "buffer" in name}
    return {"logits": torch.cat(rows), **buffers}


def run_layer(case: ParityCase) -> dict[str, torch.Tensor]:
    layer = getattr(temporal, case.how["layer"])(**case.how["fields"])
    return {"y": layer(case.input(), case.how["num_frames"])}


def run_aggregation(case: ParityCase) -> dict[str, torch.Tensor]:
    stem = {f"tam.{key}": value for key, value in case.state_dict().items()}  # it stands alone in the case
    part = AggregationConfig(**case.how["fields"]).build(case.input().shape[1])
    renamed = get_origin("blvnet").rename(stem, "aggregation")
    part.load_state_dict({key.removeprefix("backbone.temporal."): value for key, value in renamed.items()})
    return {"y": part(case.input(), case.how["num_frames"])}


def part_of(case: ParityCase) -> torch.nn.Module:
    """The named model with the weights of the case in the part that it is about."""
    how = case.how
    model = create_model(how["name"], how["num_classes"], **how.get("fields", {})).eval()
    renamed = get_origin(how["origin"]).rename(case.state_dict(), how["name"])
    assert renamed.keys() <= model.state_dict().keys()
    model.load_state_dict(renamed, strict=False)
    return model


def run_glance(case: ParityCase) -> dict[str, torch.Tensor]:
    model = part_of(case)
    seen = model.glance_at(case.input().transpose(0, 1).unsqueeze(0))  # four frames of one clip
    return {
        "feature": seen.features[0],
        "logits": model.glance_head(seen.features[0]),
        "feature_map_mean_channels": seen.maps[0].mean(1),
    }


def run_local(case: ParityCase) -> dict[str, torch.Tensor]:
    model = part_of(case)
    feature = model.local_features(case.input())
    return {"feature": feature, "logits": model.local_head(feature)}


def run_classifier_gru(case: ParityCase) -> dict[str, torch.Tensor]:
    logits, _ = part_of(case).classifier(case.input())
    return {"logits": logits, "last_logits": logits[:, -1]}


def run_classifier_mean(case: ParityCase) -> dict[str, torch.Tensor]:
    log_probs, _ = part_of(case).classifier(case.input())
    return {"log_probs": log_probs[:, -1], "probs": log_probs[:, -1].exp()}


def run_policy(case: ParityCase) -> dict[str, torch.Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        policy = part_of(case).policy
        decision = policy(case.input())
        choice = torch.distributions.Categorical(logits=decision.logits)
        actions = decision.logits.argmax(-1)
        log_probs = choice.log_prob(actions)
        config = PPOConfig()
        returns = normalised(discounted_returns(0.1 * case.input(1), config.gamma))
        old = log_probs.detach() + 0.3 * case.input(2)
        loss = ppo_loss(log_probs, old, decision.value, returns, choice.entropy(), config)
        loss.backward()
    order = ("encoder.0.weight", "encoder.3.weight", "encoder.3.bias", "gru.weight_ih_l0", "gru.weight_hh_l0")
    order += (
        "gru.bias_ih_l0",
        "gru.bias_hh_l0",
        "actor.weight",
        "actor.bias",
        "critic.weight",
        "critic.bias",
    )
    named = dict(policy.named_parameters())
    assert torch.equal(actions, case.expected("actions").long())
    return {
        "action_probs": choice.probs.detach(),
        "values": decision.value.detach(),
        "log_probs": log_probs.detach(),
        "entropy": choice.entropy().detach(),
        "returns": returns,
        "ppo_loss": loss.detach().reshape(1),
        "grad_norms": torch.stack([named[name].grad.norm() for name in order]),
    }


def clip_input(case: ParityCase, index: int = 0) -> torch.Tensor:
    return case.input(index).unflatten(1, (-1, 3)).transpose(1, 2)


def run_focus(case: ParityCase) -> dict[str, torch.Tensor]:
    model = convert(case.state_dict(), case.how["origin"], case.how["name"], case.how["num_classes"])
    clip = clip_input(case)
    assert count_macs(model, clip).total == pytest.approx(case.info["flops"], rel=1e-3)
    output = model.output(clip)
    decision = model.policy(model.glance_at(clip).maps)
    assert torch.equal(decision.logits.argmax(-1), case.expected("actions").long())
    assert torch.equal(output.boxes[..., :2].flip(-1), case.expected("coordinates").float())
    return {
        "action_probs": decision.logits.softmax(-1),
        "logits": output.step_logits,
        "last_logits": output.logits,
    }


def run_focus_v2(case: ParityCase) -> dict[str, torch.Tensor]:
    how = case.how
    model = convert(case.state_dict(), how["origin"], how["name"], how["num_classes"], **how["fields"])
    clip = clip_input(case)
    assert count_macs(model, clip).total == pytest.approx(case.info["flops"], rel=1e-3)
    seen = model.focus(ClipFeatures(model, clip))
    patches = sample_patches(fold_time(clip), seen.corners.flatten(0, 1), model.config.patch)
    return {
        "actions": model.policy(seen.glance.maps)[0],
        "logits": seen.step_logits,
        "last_logits": model(clip),
        "global_logits": model.glance_head(seen.glance.features),
        "local_logits": model.local_head(seen.local),
        "patch_corner": patches[None, :, :, :4, :4],
    }


def run_focus_tsm(case: ParityCase) -> dict[str, torch.Tensor]:
    model = convert(case.state_dict(), case.how["origin"], case.how["name"], case.how["num_classes"])
    clips = clip_input(case), clip_input(case, 1)
    macs = count_macs(model, call=lambda: model.focus(ClipFeatures(model, *clips))).total
    assert macs == pytest.approx(case.info["flops"], rel=1e-3)
    seen = model.focus(ClipFeatures(model, *clips))
    assert torch.equal(seen.corners[:, 0], case.expected("coordinates").long())
    return {
        "action": model.policy(seen.glance.maps)[0].sigmoid(),
        "glance_logits": model.glance_head(seen.glance.features),
        "local_logits": model.local_head(seen.local),
        "logits": seen.step_logits[:, 0],
    }


def run_clusters(case: ParityCase) -> dict[str, torch.Tensor]:
    maps, found = drifting_maps(case), {}
    batch, length, *shape = maps.shape
    for rule, lose_last, name in (
        ("slope", False, "slope/output"),
        ("cumulative", False, "cumulative/output"),
        ("cumulative", True, "cumulative/official_output"),
    ):
        if name not in case.arrays:
            continue
        clustering = TemporalClustering(case.info["config"]["clusters"], rule, lose_last=lose_last)
        rows, grouping = clustering(maps.flatten(0, 1), [length] * batch)
        found[name] = rows.view(batch, -1, *shape)
        assert torch.equal(grouping.assignment, case.expected(f"{rule}/assign").long()), name
        assert torch.equal(grouping.distances, case.expected("hamming").long())
        if rule == "cumulative":
            steps = equal_steps(grouping.distances, clustering.clusters)
            assert torch.equal(steps, case.expected("cumulative/threshold_assign").long())
    return found


def run_full_video(case: ParityCase) -> dict[str, torch.Tensor]:
    model, clip = converted(case), drifting_video(case)
    answer = model.cluster_videos(clip)
    if "assign" not in case.arrays:  # no clustering
        return {"logits": answer.logits}
    assert torch.equal(answer.assignment, case.expected("assign").long())
    # signs of activations next to zero hang on the order in which a processor adds: one bit of a million
    assert (answer.distances - case.expected("hamming").long()).abs().max() <= 2
    if "logits_repaired" not in case.arrays:
        return {"logits": answer.logits}
    model.clustering.lose_last = True
    return {"logits": model(clip), "logits_repaired": answer.logits}


def run_clip(case: ParityCase) -> dict[str, torch.Tensor]:
    """A clip as it is. Where several pathways were fed, ours takes the Slow frames by itself."""
    model, clip = converted(case), case.input()
    for _, _, _, indices in case.info.get("derived_inputs", []):
        assert slow_indices(clip.shape[2], model.config.alpha) == indices
    output = model.output(clip)
    windows = output.position_logits
    scores = windows.softmax(-1).mean(1)  # as PySlowFast averages them: a softmax at each window first
    found = {"logits": output.logits, "scores": scores}
    if "logits_map" in case.info["outputs"]:
        found["logits_map"] = windows.reshape(case.expected("logits_map").shape)
    return {name: found[name] for name in case.info["outputs"]}


def run_resolutions(case: ParityCase) -> dict[str, torch.Tensor]:
    model, batch, frames = converted(case), case.input().shape[0], case.info["frames"]
    sizes = [fold_time(clip_input(case, size)) for size in range(4)]
    readings = model.read_frames(lambda size, places: sizes[size][places], batch, frames)
    base_logits, actions = model.branches(lambda size, places: sizes[size][places], batch, frames)
    assert torch.equal(readings.actions, case.expected("decisions").argmax(-1))
    return {"decisions": actions, "base_logits": base_logits, "logits": model.output_of(readings).logits}


def run_all_resolutions(case: ParityCase) -> dict[str, torch.Tensor]:
    model, batch, frames = converted(case), case.input().shape[0], case.info["frames"]
    sizes = [fold_time(clip_input(case, size)) for size in range(4)]
    base_logits, actions = model.branches(lambda size, places: sizes[size][places], batch, frames)
    return {"base_logits": base_logits, "logits": fuse(torch.ones_like(actions), base_logits)}


RUNS = {
    "clusters": run_clusters,
    "full_video": run_full_video,
    "frames": run_frames,
    "steps": run_steps,
    "clip": run_clip,
    "image": run_image,
    "video": run_video,
    "maps": run_layer,
    "aggregation": run_aggregation,
    "glance": run_glance,
    "local": run_local,
    "classifier_gru": run_classifier_gru,
    "classifier_mean": run_classifier_mean,
    "policy": run_policy,
    "focus": run_focus,
    "focus_v2": run_focus_v2,
    "focus_tsm": run_focus_tsm,
    "resolutions": run_resolutions,
    "all_resolutions": run_all_resolutions,
    **UNI_RUNS,
}
