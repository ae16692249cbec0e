"""Regenerate the weights and inputs of a parity case; the rules stand in docs/parity.md."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import numpy as np
import torch
import yaml

FOLDER = Path(os.environ.get("FOVEATE_PARITY", Path(__file__).parent / "parity"))
CASES = yaml.safe_load((FOLDER / "cases.yaml").read_text())


def stream(key: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(key.encode()))


def weight(key: str, shape: list[int], dtype: str) -> torch.Tensor:
    if "int" in dtype:
        return torch.zeros(shape, dtype=torch.int64)
    if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
        value = stream(key).uniform(0.75, 1.25, shape)
    elif len(shape) < 2:
        value = np.float32(0.1) * stream(key).standard_normal(shape).astype(np.float32)
    else:
        value = stream(key).standard_normal(shape).astype(np.float32)
        value = value * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    return torch.from_numpy(np.asarray(value, np.float32))


def override(state: dict[str, torch.Tensor], which: str, what: object) -> None:
    """Apply one line such as "keys ending in bn3.weight": "the table value times 0.2"."""
    ending = which.removeprefix("keys ending in ")
    for key in [k for k in state if k == which or (ending != which and k.endswith(ending))]:
        if isinstance(what, list):
            state[key] = torch.tensor(what, dtype=torch.float32)
        elif str(what).startswith("the table value times "):
            state[key] = state[key] * np.float32(str(what).split()[-1])
    if which.endswith(".*") and str(what).startswith("the same values as "):
        for key in [k for k in state if k.startswith(which[:-1])]:
            state[key] = state[key.replace("policy_old", "policy")]


class ParityCase:
    """One case: its description, and weights, inputs and expected outputs as tensors."""

    def __init__(self, name: str) -> None:
        self.how = CASES[name]
        self.info = json.loads((FOLDER / f"{name}.json").read_text())
        self.arrays = np.load(FOLDER / f"{name}.npz")

    def state_dict(self) -> dict[str, torch.Tensor]:
        state = {key: weight(key, shape, dtype) for key, shape, dtype in self.info.get("state_dict", [])}
        overrides = self.info.get("overrides", {})
        if isinstance(overrides, list):
            return scaled(state, overrides)
        for key, factor in overrides.get("scale", {}).items():
            state[key] = state[key] * np.float32(factor)
        state |= {key: torch.tensor(numbers) for key, numbers in overrides.get("values", {}).items()}
        for which, what in overrides.items():
            override(state, which, what)
        return state

    def input(self, index: int = 0) -> torch.Tensor:
        name, shape = self.info["inputs"][index]
        if "input frames" in self.info.get("overrides", {}):
            return waves(name, shape)
        return torch.from_numpy(stream(f"input/{name}").standard_normal(shape).astype(np.float32))

    def expected(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])


def scaled(state: dict[str, torch.Tensor], factors: list[tuple[str, float]]) -> dict[str, torch.Tensor]:
    """Each value times the factor of the first suffix that its key ends in."""
    return {
        key: value * np.float32(next((factor for suffix, factor in factors if key.endswith(suffix)), 1))
        if value.is_floating_point()
        else value
        for key, value in state.items()
    }


def waves(name: str, shape: list[int]) -> torch.Tensor:
    """Smooth pictures: white noise would make a bilinear crop a test of rounding."""
    p = stream(f"input/{name}").standard_normal((*shape[:2], 4))[..., None, None]
    y, x = np.mgrid[: shape[2], : shape[3]]
    value = np.sin(2 * np.pi * (p[:, :, 0] * y + p[:, :, 1] * x) / 112 + p[:, :, 2]) + 0.5 * p[:, :, 3]
    return torch.from_numpy(value.astype(np.float32))


def drift(noise: torch.Tensor, steps: torch.Tensor) -> np.ndarray:
    """Frames (B, T, ...) that change by as much as `steps` (B, T) says, in float64, of constant spread."""
    steps = np.asarray(steps, np.float64).reshape(*steps.shape, *[1] * (noise.ndim - 2))
    return (steps * np.asarray(noise, np.float64)).cumsum(1) / np.sqrt((steps**2).cumsum(1))


def drifting_video(case: ParityCase) -> torch.Tensor:
    """Full video's clips (B, 3, T, H, W): between their scenes, if frames are clustered, little changes."""
    scale = case.input(1).double().abs()
    steps = 0.6 + scale
    clusters = case.info["config"]["clusters"]
    if clusters:
        largest = case.input(1)[:, 1:].argsort(1, descending=True)[:, : clusters - 1] + 1
        steps = (0.02 + 0.03 * scale).scatter(1, largest, steps.gather(1, largest))
    steps[:, 0] = 1
    return torch.from_numpy(drift(case.input(), steps).astype(np.float32)).transpose(1, 2)


def drifting_maps(case: ParityCase) -> torch.Tensor:
    """Maps (B, T, C, H, W) as behind a ReLU."""
    steps = 0.05 + case.input(1).double().abs() ** 3
    return torch.from_numpy(drift(case.input(), steps).clip(0).astype(np.float32))


def relative_error(ours: torch.Tensor, expected: torch.Tensor) -> float:
    assert ours.shape == expected.shape, f"{tuple(ours.shape)} against {tuple(expected.shape)}"
    return float((ours.double() - expected.double()).norm() / expected.double().norm())
