"""An engine runs any model by its parts, and the outputs of a model are what its parts make of a clip."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from foveate.errors import UsageError
from foveate.infer.engine import EagerEngine, open_engine, with_parts
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = (
    "tsm_r10_8",
    "blvnet_small",
    "slowfast_small",
    "x3d_xs",
    "fullvideo_small",
    "arnet_small",
    "adafocus_small",
    "adafocus_v2_small",
    "uni_adafocus_small",
    "uni_adafocus_any_small",
)


def model_of(name: str, **fields: Any) -> VideoModel:
    torch.manual_seed(0)
    return create_model(name, 4, **fields).eval()


def frames_of(model: VideoModel, batch: int = 2) -> torch.Tensor:
    spec, numbers = model.spec, torch.Generator().manual_seed(1)
    shape = (batch, spec.frames, spec.size, spec.size, 3)
    return torch.randint(0, 256, shape, generator=numbers, dtype=torch.uint8)


@pytest.mark.parametrize("name", SMALL)
def test_every_part_can_be_replaced_by_a_twin(name: str) -> None:
    """What an engine that compiles does: all calls go through the twins, and the answers stay."""
    model = model_of(name)
    called: Counter[str] = Counter()

    def twin(part: str) -> Any:
        def run(*inputs: Any, **named: Any) -> Any:
            called[part] += 1
            return getattr(model, part)(*inputs, **named)

        return run

    engine = EagerEngine(with_parts(model, {part: twin(part) for part in model.parts}))
    frames = frames_of(model)
    ours, plain = engine.run(frames), EagerEngine(model).run(frames)
    assert set(called) == set(model.parts) and model.parts
    assert torch.equal(ours.logits, plain.logits)
    assert ours.macs is not None and plain.macs is not None and torch.equal(ours.macs, plain.macs)


@pytest.mark.parametrize("name", SMALL)
def test_an_output_says_what_the_model_reports(name: str) -> None:
    model = model_of(name)
    output = EagerEngine(model).run(frames_of(model))
    assert output.logits.shape == (2, 4) and output.frames_read.shape == (2, model.spec.frames)
    assert output.features is not None and output.features.shape[0] == 2 and output.features.dim() == 2
    filled = {name for name, value in vars(output).items() if value is not None and len(value)}
    assert filled == {"logits", "frames_read", "macs", "features", *model.reports}


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_answers_nearly_the_same(name: str) -> None:
    model = model_of(name)
    frames = frames_of(model, 1)
    exact, fast = (open_engine(model, precision=p).run(frames).logits for p in ("fp32", "bf16"))  # type: ignore[arg-type]
    scale = exact.abs().max().clamp(min=1e-3)
    assert (exact - fast.float()).abs().max() < 0.1 * scale


def test_nothing_runs_before_it_is_asked_for() -> None:
    model = model_of("tsm_r10_8")
    calls: list[int] = []
    model.register_forward_pre_hook(lambda *_: calls.append(0))
    model.backbone.register_forward_pre_hook(lambda *_: calls.append(1))
    engine = EagerEngine(model)
    assert not calls
    engine.warmup(2)
    assert calls


def test_an_engine_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no engine of this name"):
        open_engine(model_of("tsm_r10_8"), "warp")
    with pytest.raises(UsageError, match=r"no engine has it \(choose fp32 or bf16 or fp16 or int8"):
        open_engine(model_of("tsm_r10_8"), precision="int4")  # type: ignore[arg-type]


def test_in_training_no_multiply_adds_are_said() -> None:
    model = model_of("tsm_r10_8").train()
    assert model.output(model.prepare(frames_of(model))).macs is None
