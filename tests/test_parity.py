"""The converted models give the numbers of the official implementations, to 1e-4 relative in float32."""

from __future__ import annotations

import pytest
import torch

from foveate.layers import temporal
from foveate.measure.cost import count_macs
from foveate.weights import convert
from parity_cases import CASES, ParityCase, relative_error

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


def run_frames(case: ParityCase) -> dict[str, torch.Tensor]:
    model = converted(case)
    clip = case.input().unflatten(1, (-1, 3)).transpose(1, 2)  # (B, T*3, H, W) -> (B, 3, T, H, W)
    check_macs(model, case, clip)
    return {"logits": model(clip)}


def check_macs(model: torch.nn.Module, case: ParityCase, clip: torch.Tensor) -> None:
    """The case's count of convolutions and linear layers, where it was taken at the size of the input."""
    if case.info.get("flops_frame_size") == clip.shape[-1] and "nl" not in case.how["name"]:
        assert count_macs(model, clip[:1]).total == pytest.approx(case.info["flops"], rel=1e-3)


def run_steps(case: ParityCase) -> dict[str, torch.Tensor]:
    model, kept, rows = converted(case), [], []
    for frame in case.input():
        logits, kept = model.step(frame[None], kept)
        rows.append(logits)
    buffers = {name: kept[int(name[6:].split("_")[0])] for name in case.info["outputs"] if "buffer" in name}
    return {"logits": torch.cat(rows), **buffers}


def run_layer(case: ParityCase) -> dict[str, torch.Tensor]:
    layer = getattr(temporal, case.how["layer"])(**case.how["fields"])
    return {"y": layer(case.input(), case.how["num_frames"])}


RUNS = {"frames": run_frames, "steps": run_steps, "maps": run_layer}
