"""Exported Uni-AdaFocus chooses frames and boxes as the model does, stops where it does, answers the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from foveate.choices import ExportTarget
from foveate.export.check import check_export
from foveate.export.drivers import uni_adafocus as driver
from foveate.export.drivers.run import Exported
from foveate.export.write import export_model
from foveate.infer.choice import relative_error
from foveate.layers.boxes import box_edges, box_pixels, boxes_between
from foveate.layers.frame_choice import choose_frames, thresholds
from foveate.layers.normalise import to_clip
from foveate.layers.patch import sample_boxes
from foveate.models.adafocus.early_exit import NEVER, solve_thresholds
from foveate.models.adafocus.uni import UniModel
from foveate.models.base import ModelOutput
from test_any import used
from test_uni import KINDS, SIDE, small

pytest.importorskip("openvino")
pytestmark = pytest.mark.usefixtures("one_thread")

KINDS["any"] = ("uni_adafocus_any_small", {"classifier_width": 16, "small_patches": (20, 24)})
CLIPS, CANDIDATES = 6, 9


def decided(kind: str, **fields: Any) -> UniModel:
    """A model whose policies choose differently from clip to clip, with boxes at the frame's edge too."""
    model = small(kind, **fields)
    used(model)
    clip = model.prepare(clips())
    with torch.no_grad():
        glance = model.glance_at(model.frames_at(clip, model.glanced(clip)))
        given = (model.temporal_policy, glance.features, 1.5), (model.spatial_policy, glance.maps, 3.0)
        for policy, features, spread in given:
            for norm in policy.modules():
                if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                    norm.reset_parameters()
                    norm.momentum = 1.0  # of these clips alone, so that they differ in what it gives
            policy.train()(features)
            last = [layer for layer in policy.eval().modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)][
                -1
            ]
            found: list[Tensor] = []
            hook = last.register_forward_hook(lambda _, __, output, found=found: found.append(output))
            policy(features)
            hook.remove()
            last.weight *= spread / found[0].std()
    return model


def clips() -> Tensor:
    """Blots and noise, uint8 (B, N, S, S, 3), in which no two frames are the same."""
    numbers = torch.Generator().manual_seed(4)
    blots = torch.randn(CLIPS, CANDIDATES, 6, 6, 3, generator=numbers)
    noise = torch.randn(CLIPS, CANDIDATES, SIDE, SIDE, 3, generator=numbers)
    frames = blots.repeat_interleave(SIDE // 6, 2).repeat_interleave(SIDE // 6, 3)
    return (128 + 50 * frames + 10 * noise).clamp(0, 255).to(torch.uint8)


def stopping(model: UniModel) -> tuple[float, ...]:
    """Thresholds at which some of the clips stop early."""
    answers = output_of(model, clips()).step_logits
    assert answers is not None
    after = model.answers_after
    return solve_thresholds(answers, 0.5 * after[-1], after)


@torch.no_grad()
def output_of(model: UniModel, frames: Tensor) -> ModelOutput:
    return model.output(model.prepare(frames))


class Seen(NamedTuple):
    """What exported files did with a clip. looked: frame and box of each close look, in their order."""

    logits: Tensor
    looked: list[tuple[int, Tensor]]
    calls: Counter[str]


def run_on(exported: Exported, frames: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    seen = []
    cut, parts = driver.cut, exported.parts
    for clip in frames.numpy():
        looked: list[tuple[int, Tensor]] = []
        calls: Counter[str] = Counter()

        def watched(frame: Any, box: Any, facts: Any, clip: Any = clip, looked: Any = looked) -> Any:
            place = next(i for i, candidate in enumerate(clip) if np.array_equal(candidate, frame))
            pixels = box_pixels(torch.from_numpy(box), SIDE, facts["least"])
            looked.append((place, box_edges(pixels)))
            return cut(frame, box, facts)

        def counted(part: str, arrays: list[Any], calls: Any = calls) -> list[Any]:
            calls[part] += 1
            return parts[part](arrays)

        with monkeypatch.context() as patched:
            patched.setattr(driver, "cut", watched)
            names = {part: lambda arrays, part=part, run=counted: run(part, arrays) for part in parts}
            patched.setattr(exported, "parts", names)
            seen.append(Seen(torch.from_numpy(exported(clip[None])), looked, calls))
    return seen


def agree(model: UniModel, to: ExportTarget, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModelOutput:
    """Assert that files answer, choose and stop as the model; what the model found."""
    frames = clips()
    wanted = output_of(model, frames)
    found = run_on(Exported(export_model(model, to, folder)), frames, monkeypatch)
    assert relative_error(torch.cat([one.logits for one in found]), wanted.logits) < 1e-4
    assert wanted.looked is not None and wanted.boxes is not None and wanted.steps is not None
    first = 1 if model.exits else 0  # an answer after the glances
    for number, one in enumerate(found):
        places = [place for place, _ in one.looked]
        assert sorted(places) == wanted.looked[number].nonzero().flatten().tolist()
        for place, edges in one.looked:
            assert torch.allclose(edges.float(), wanted.boxes[number, place], atol=1e-3)
        steps = int(wanted.steps[number]) - first if model.exits else 1
        calls = {"glance": 1, "choose": int(steps > 0), "local": steps, "classify": steps}
        assert one.calls == Counter(calls)
    return wanted


CASES: list[tuple[str, dict[str, Any]]] = [
    ("long", {}),
    ("long", {"padding": "zeros", "spatial": "attention", "least_box": 0.5}),
    ("any", {"padding": "zeros"}),
    ("tsm", {"padding": "zeros"}),
    ("tsm", {"spatial": "attention", "least_box": 0.5}),
    ("x3d", {}),
    ("x3d", {"padding": "zeros", "spatial": "attention", "least_box": 0.5}),
]


@pytest.mark.parametrize("exits", [False, True], ids=["all", "exits"])
@pytest.mark.parametrize(("kind", "fields"), CASES, ids=str)
def test_files_choose_stop_and_answer_as_the_model(
    kind: str, fields: dict[str, Any], exits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = decided(kind, **fields)
    if exits:
        model.set_exits(stopping(model))
    wanted = agree(model, "openvino", tmp_path, monkeypatch)
    assert wanted.looked is not None and wanted.steps is not None and wanted.boxes is not None
    assert len(wanted.looked.unique(dim=0)) > 2 and len(wanted.boxes.unique(dim=0)) > 2  # clips differ
    assert (len(wanted.steps.unique()) > 1) == exits


@pytest.mark.parametrize(
    ("to", "kind"),
    [
        ("onnx", "long"),
        ("torch", "tsm"),
        *(pytest.param("onnx", kind, marks=pytest.mark.stress) for kind in ("any", "tsm", "x3d")),
        *(pytest.param("torch", kind, marks=pytest.mark.stress) for kind in ("long", "any", "x3d")),
    ],
)
def test_other_forms_give_the_same(
    to: ExportTarget, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    fields = {"long": {"padding": "zeros"}, "tsm": {"spatial": "attention", "least_box": 0.5}}.get(kind, {})
    model = decided(kind, **fields)
    model.set_exits(stopping(model))
    agree(model, to, tmp_path, monkeypatch)


@pytest.mark.parametrize(("width", "exits"), [(0.25, True), (0.5, False)], ids=str)
def test_a_model_for_any_budget_is_written_as_it_is_set(
    width: float, exits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = decided("any")
    model.turned["setting"] = (width, 24, *(NEVER,) * 4, 0.0)
    if exits:
        model.turned["setting"] = (width, 24, *stopping(model))
    agree(model, "openvino", tmp_path, monkeypatch)


def test_a_group_stops_at_the_same_look_and_reads_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = decided("long", exit_group=3)
    model.set_exits((NEVER, 0.0, 0.0, 0.0, 0.0))
    wanted = output_of(model, clips())
    found = run_on(Exported(export_model(model, "openvino", tmp_path)), clips(), monkeypatch)
    assert wanted.looked is not None and wanted.looked.sum(1).tolist() == [3] * CLIPS
    assert [len(one.looked) for one in found] == [1] * CLIPS
    assert relative_error(torch.cat([one.logits for one in found]), wanted.logits) < 1e-4


def test_files_run_where_this_package_is_not(tmp_path: Path) -> None:
    model = decided("long")
    model.set_exits(stopping(model))
    check = check_export(model, export_model(model, "openvino", tmp_path), [*clips()])
    assert check.error < 1e-4 and check.same == 1 and check.clips == CLIPS


# ---- the driver


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 30), st.floats(0, 30), st.integers(0, 99))
def test_frames_are_those_of_the_model(
    parts: int, count: int, more: int, sharpness: float, seed: int
) -> None:
    noise = torch.randn(1, parts, generator=torch.Generator().manual_seed(seed))
    for weights in ((sharpness * noise).softmax(-1), torch.eye(parts)[None, seed % parts]):
        wanted = choose_frames(weights, count + more, thresholds(count))
        assert driver.choose(weights[0].numpy(), count + more, count).tolist() == wanted[0].tolist()


@pytest.mark.parametrize(("glances", "candidates"), [(3, 9), (4, 9), (8, 24), (5, 5), (1, 7)])
def test_boxes_are_those_of_the_model(glances: int, candidates: int) -> None:
    boxes = torch.rand(1, glances, 4, generator=torch.Generator().manual_seed(0))
    found = driver.boxes_at(np.arange(candidates), candidates, boxes[0].numpy())
    assert np.abs(found - boxes_between(boxes, candidates)[0].numpy()).max() < 1e-6


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("points", [9, 24, 40])
@pytest.mark.parametrize(
    "box", [(0, 0, 0, 0), (1, 1, 0, 0), (0.3, 0.8, 0.2, 0.9), (0.5, 0.5, 1, 1), (0, 1, 1, 0)], ids=str
)
def test_patches_are_those_of_the_model(padding: Any, points: int, box: tuple[float, ...]) -> None:
    model = small(padding=padding)
    frame = torch.randint(0, 256, (1, 1, 24, 24, 3), generator=torch.Generator().manual_seed(0)).byte()
    image = to_clip(frame, model.spec)[:, :, 0]
    wanted = sample_boxes(image, box_pixels(torch.tensor([box]), 24, 10), points, padding)
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (model.spec.mean, model.spec.std))
    beyond = model.pieces().decisions["beyond"]
    facts = {"least": 10.0, "patch": points, "beyond": beyond}
    patch = driver.cut(frame[0, 0].numpy(), np.array(box, np.float32), facts)
    assert patch.dtype == np.float32 and (beyond is None) == (padding == "border")
    levels = wanted[0] * std + mean
    assert np.abs(patch - levels.permute(1, 2, 0).numpy()).max() < 0.01
