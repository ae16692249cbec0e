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


class ParityCase:
    """One case: its description, and weights, inputs and expected outputs as tensors."""

    def __init__(self, name: str) -> None:
        self.how = CASES[name]
        self.info = json.loads((FOLDER / f"{name}.json").read_text())
        self.arrays = np.load(FOLDER / f"{name}.npz")

    def state_dict(self) -> dict[str, torch.Tensor]:
        state = {key: weight(key, shape, dtype) for key, shape, dtype in self.info.get("state_dict", [])}
        for key, factor in self.info.get("overrides", {}).get("scale", {}).items():
            state[key] = state[key] * np.float32(factor)
        return state

    def input(self, index: int = 0) -> torch.Tensor:
        name, shape = self.info["inputs"][index]
        return torch.from_numpy(stream(f"input/{name}").standard_normal(shape).astype(np.float32))

    def expected(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])


def relative_error(ours: torch.Tensor, expected: torch.Tensor) -> float:
    assert ours.shape == expected.shape, f"{tuple(ours.shape)} against {tuple(expected.shape)}"
    return float((ours.double() - expected.double()).norm() / expected.double().norm())
