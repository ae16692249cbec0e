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
        for key, factor in overrides.get("scale", {}).items():
            state[key] = state[key] * np.float32(factor)
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


def waves(name: str, shape: list[int]) -> torch.Tensor:
    """Smooth pictures: white noise would make a bilinear crop a test of rounding."""
    p = stream(f"input/{name}").standard_normal((*shape[:2], 4))[..., None, None]
    y, x = np.mgrid[: shape[2], : shape[3]]
    value = np.sin(2 * np.pi * (p[:, :, 0] * y + p[:, :, 1] * x) / 112 + p[:, :, 2]) + 0.5 * p[:, :, 3]
    return torch.from_numpy(value.astype(np.float32))


def relative_error(ours: torch.Tensor, expected: torch.Tensor) -> float:
    assert ours.shape == expected.shape, f"{tuple(ours.shape)} against {tuple(expected.shape)}"
    return float((ours.double() - expected.double()).norm() / expected.double().norm())
