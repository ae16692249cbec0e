"""Parity of Uni-AdaFocus: how the inputs of its cases lie, and which of our numbers are theirs."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor

from foveate.layers.boxes import box_pixels, boxes_between
from foveate.layers.frame_choice import choose_frames, thresholds
from foveate.layers.patch import sample_boxes
from foveate.measure.cost import count_macs
from foveate.models.adafocus.seen import Glance
from foveate.models.adafocus.uni import Choice, UniModel
from foveate.models.adafocus.uni_clip import UniTSM, UniX3D
from foveate.models.zoo import create_model
from foveate.train.objective import loss_function
from foveate.train.recipes.uni import UniDraws, find, total
from foveate.weights import convert
from foveate.weights.origins import get_origin
from parity_cases import ParityCase

Found = dict[str, Tensor]


def part_of(case: ParityCase) -> UniModel:
    """The named model with the weights of the case in the part that it is about."""
    how = case.how
    model = create_model(how["name"], how["num_classes"], **how.get("fields", {})).eval()
    renamed = get_origin(how["origin"]).rename(case.state_dict(), how["name"])
    assert renamed and renamed.keys() <= model.state_dict().keys()
    model.load_state_dict(renamed, strict=False)
    assert isinstance(model, UniModel)
    return model


def whole(case: ParityCase) -> UniModel:
    how = case.how
    fields = how.get("fields", {})
    model = convert(case.state_dict(), how["origin"], how["name"], how["num_classes"], **fields)
    ignored = ("global_CNN.classifier.", "local_CNN.fc.")  # ImageNet's
    shapes = {key: shape for key, shape, _ in case.info["state_dict"]}
    unused = sum(prod(shape) for key, shape in shapes.items() if any(name in key for name in ignored))
    assert sum(p.numel() for p in model.parameters()) == case.info["params"] - unused
    assert isinstance(model, UniModel)
    return model


def clip_of(case: ParityCase, index: int = 0) -> Tensor:
    """(B, T*3, H, W), frame by frame, to (B, 3, T, H, W)."""
    return case.input(index).unflatten(1, (-1, 3)).transpose(1, 2)


def same_places(ours: Tensor, case: ParityCase, name: str = "indices") -> None:
    assert torch.equal(ours, case.expected(name).long()), name


def run_temporal(case: ParityCase) -> Found:
    policy = part_of(case).temporal_policy
    return {"scores": policy.scores(case.input()), "weights": policy(case.input())}


def run_frame_choice(case: ParityCase) -> Found:
    weights, config = case.expected("given/weights"), case.info["config"]
    candidates, count = config["candidates"], config["local_frames"]
    same_places(choose_frames(weights, candidates, thresholds(count)), case)
    jittered = thresholds(count, case.expected("given/uniform"))
    same_places(choose_frames(weights, candidates, jittered), case, "indices_training")
    return {}


def run_spatial(case: ParityCase) -> Found:
    model = part_of(case)
    boxes = model.spatial_policy(case.input().unflatten(0, (-1, model.config.glance_frames)))
    return {"boxes": boxes, "candidate_boxes": boxes_between(boxes, model.config.candidates)}


def run_box_crop(case: ParityCase) -> Found:
    boxes = case.expected("given/boxes")
    patches = sample_boxes(case.input(), box_pixels(boxes, 224, 96), 128, "zeros")
    ends = [0, 127]
    return {
        "patches_stride": patches[:, :, ::9, ::9],
        "patches_rows": patches[:, :, ends],
        "patches_columns": patches[..., ends],
        "points": sample_boxes(case.input(1), box_pixels(boxes, 7, 3), 4, "zeros"),
    }


def run_classifier(case: ParityCase) -> Found:
    model, glance = part_of(case), Glance(torch.empty(0), case.input())
    (logits,) = model.answers(glance, case.input(1))
    assert count_macs(model, call=lambda: model.answers(glance, case.input(1))).total == case.info["flops"]
    memory = model.remember(glance)
    alone, last = model.answer_glance(glance, memory), model.answer_looks(memory, case.input(1))[0][:, -1]
    assert torch.equal(alone[:, 0], logits[:, model.config.glance_frames - 1])
    return {"logits": logits, "last_logits": last}


def run_pipeline(case: ParityCase) -> Found:
    model, clip = whole(case), clip_of(case)
    glance, choice, local, logits = seen_of(model, case, lambda: model.see(clip))
    return found_by(model, clip, glance, choice, local) | {
        "glance_boxes": choice.glance_boxes,
        "boxes": choice.boxes,
        "logits": logits,
        "last_logits": logits[:, -1],
        "glance_logits": model.glance_aux(glance.features),
        "local_logits": model.local_aux(local),
    }


def seen_of(
    model: UniModel, case: ParityCase, see: Callable[[], tuple[Glance, Choice, Tensor]]
) -> tuple[Glance, Choice, Tensor, Tensor]:
    """What a pass saw and answered; its multiply-adds and the frames that it chose are those of the case."""
    kept: list[tuple[Glance, Choice, Tensor, Tensor]] = []

    def run() -> None:
        glance, choice, local = see()
        (logits,) = model.answers(glance, local)
        kept.append((glance, choice, local, logits))

    macs = count_macs(model, call=run).total
    assert macs == pytest.approx(case.info["flops"], rel=1e-3)
    same_places(kept[0][1].frames, case)
    return kept[0]


def run_two_inputs(case: ParityCase) -> Found:
    """Glances and candidates that were sampled apart."""
    model, glances, clip = whole(case), clip_of(case), clip_of(case, 1)

    def see() -> tuple[Glance, Choice, Tensor]:
        glance = model.glance_in_turn(glances)
        choice = model.choose(glance, clip.shape[2])
        return glance, choice, model.look_at(model.frames_at(clip, choice.frames), choice.boxes)

    glance, choice, local, logits = seen_of(model, case, see)
    return found_by(model, clip, glance, choice, local) | {
        "box": choice.glance_boxes[:, 0],
        "logits": logits[:, -1],
        "glance_aux_logits": model.answer_glance(glance, ())[:, 0],
        "local_aux_logits": model.auxiliary(model.local_aux(local))[:, 0],
        **answers_of(model, glance, local),
    }


def answers_of(model: UniModel, glance: Glance, local: Tensor) -> Found:
    """Both networks' parts of the answer: TSM's frame by frame, X3D's of the clip."""
    pairs = {"glance": glance.features, "local": local}
    if isinstance(model, UniTSM):
        return {f"{name}_logits": getattr(model, f"{name}_head")(found) for name, found in pairs.items()}
    assert isinstance(model, UniX3D)
    return {
        f"{name}_logits": model.clip_logits(getattr(model, f"{name}_head"), found)
        for name, found in pairs.items()
    }


def found_by(model: UniModel, clip: Tensor, glance: Glance, choice: Choice, local: Tensor) -> Found:
    """What all three models find in the candidates of a clip."""
    frames = model.frames_at(clip, choice.frames)
    patches = model.cut(frames.transpose(1, 2).flatten(0, 1), choice.boxes.flatten(0, 1))
    return {
        "weights": choice.weights,
        "spatial_logits": model.box_logits(glance, choice.glance_boxes),
        "patch_corner": patches.unflatten(0, choice.frames.shape)[..., :4, :4],
    }


def run_step(case: ParityCase) -> Found:
    """One training step with all random numbers given."""
    with torch.inference_mode(False), torch.enable_grad():
        return step_of(case)


def step_of(case: ParityCase) -> Found:
    case.how = case.how | {"fields": case.how["fields"] | {"dropout": 0.0, "aux_dropout": 0.0}}
    model, clip, config = whole(case).train(), clip_of(case), case.info["config"]
    for net in (model.get_submodule("glance"), model.get_submodule("local")):
        net.eval()
    given = {name: case.expected(f"given/{name}") for name in ("glance_offsets", "uniform", "random_boxes")}
    parts = config["candidates"] // config["glance_frames"]
    most = config["glance_frames"] // 3
    left_out = [torch.zeros(len(clip), 1, 0, dtype=torch.int64)]
    left_out += [case.expected(f"given/draws_{count}").long() for count in range(1, most)]
    within = (given["glance_offsets"] + 0.5) / parts
    draws = UniDraws(within, given["uniform"], given["random_boxes"], left_out)
    labels = case.expected("given/labels").long()

    step = find(model, clip, draws)
    terms = step.losses(loss_function("cross_entropy"), labels)
    loss = total(terms, config["norm_ratio"])
    loss.backward()
    same_places(step.choice.frames, case)
    named = {f"module.{key}": torch.empty(0) for key in case.info["grad_norms order"]}
    ours = get_origin(case.how["origin"]).rename(named, "gradients")
    gradients = [model.get_parameter(key).grad for key in ours]
    found = {
        "weights": step.choice.weights,
        "glance_boxes": step.choice.glance_boxes,
        "boxes": step.choice.boxes,
        "random_boxes": step.random_boxes,
        "expected_logits": step.expected,
        "spatial_logits": step.spatial,
        "last_logits": step.policy[:, -1],
        "last_logits_random": step.random[:, -1],
        "losses": torch.stack([*(terms[name] for name in case.info["losses order"][:-1]), loss]),
        "grad_norms": torch.stack([grad.double().norm() for grad in gradients if grad is not None]),
    }
    return {name: value.detach() for name, value in found.items()}


UNI_RUNS: dict[str, Callable[[ParityCase], Found]] = {
    "uni_temporal": run_temporal,
    "frame_choice": run_frame_choice,
    "uni_spatial": run_spatial,
    "box_crop": run_box_crop,
    "uni_classifier": run_classifier,
    "uni": run_pipeline,
    "uni_tsm": run_two_inputs,
    "uni_x3d": run_two_inputs,
    "uni_step": run_step,
}
