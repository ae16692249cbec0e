"""Checkpoints of people's own scripts are converted, or refused with what to do; nothing in them runs."""

from __future__ import annotations

import argparse
import enum
import pathlib
import pickle
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foveate.errors import ModelFileError
from foveate.models.zoo import create_model
from foveate.weights import load_official

FIELDS = {"width": 0.125}


def ours(seed: int = 0, name: str = "tsm_r10_8") -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return create_model(name, 5, **FIELDS).state_dict()


def released(seed: int = 0) -> dict[str, Tensor]:
    """In the names of the TSM release."""
    state = {}
    for key, value in ours(seed).items():
        theirs = key.replace("head.linear.", "new_fc.").replace("backbone.", "base_model.")
        state["module." + re.sub(r"(layer\d\.\d+\.conv1)\.weight", r"\1.net.weight", theirs)] = value
    return state


def wrapped(prefix: str, seed: int = 0) -> dict[str, Tensor]:
    return {prefix + key.removeprefix("module."): value for key, value in released(seed).items()}


def openmmlab(name: str = "tsm_r10_8") -> dict[str, Tensor]:
    """In the names of mmaction2, a module of convolution and norm each."""
    state = {}
    for key, value in ours(name=name).items():
        theirs = key.replace("head.linear.", "cls_head.fc_cls.")
        theirs = re.sub(r"^backbone\.(conv|bn)1\.", r"backbone.conv1.\1.", theirs)
        theirs = re.sub(r"(layer\d\.\d+)\.(conv|bn)(\d)\.", r"\1.conv\3.\2.", theirs)
        theirs = theirs.replace("downsample.0.", "downsample.conv.").replace(
            "downsample.1.", "downsample.bn."
        )
        state[re.sub(r"(layer\d\.\d+\.conv1\.conv)\.weight", r"\1.net.weight", theirs)] = value
    return state


class Level(enum.Enum):
    """Pickled by a call of its class."""

    HIGH = 3


class Settings(dict):
    """As the configuration classes of many projects are, a dict with a state of its own."""


REST = {
    "epoch": 12,
    "arch": "resnet18",
    "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]},
}
CONVERTED: dict[str, Any] = {
    "plain": REST | {"state_dict": released(), "best_prec1": 61.5},
    "a number of NumPy": REST | {"state_dict": released(), "best_prec1": np.float64(61.5)},
    "arrays of NumPy": {"state_dict": released(), "message_hub": {"loss": np.zeros((4, 2))}},
    "a Namespace": REST | {"state_dict": released(), "args": argparse.Namespace(lr=0.01, level=Level.HIGH)},
    "classes of its own": {
        "state_dict": released(),
        "cfg": Settings(a=Level.HIGH),
        "at": pathlib.PurePath("x"),
    },
    "random states": {
        "model": released(),
        "rng": np.random.RandomState(0).get_state(),
        "np": np.random.default_rng(0),
    },
    "model only": {"model": released()},
    "net only": {"net": released(), "acc": 61.5, "epoch": 3},
    "two levels": {"checkpoint": {"model": released()}, "step": 4},
    "an entry of any name": {"recogniser": released(), "epoch": 3},
    "Lightning": {"state_dict": wrapped("model."), "hyper_parameters": Settings(lr=1), "callbacks": {}},
    "Lightning, any attribute": {"state_dict": wrapped("classifier.")},
    "Lightning with a loss": {"state_dict": wrapped("net.") | {"loss.weight": torch.ones(5)}},
    "compiled": wrapped("_orig_mod."),
    "compiled on many": wrapped("module._orig_mod."),
    "our names": {"model": ours()},
    "our names on many": {f"module.{key}": value for key, value in ours().items()},
    "mmaction2": {"meta": {"epoch": 3}, "state_dict": openmmlab()},
    "mmaction2, trained": {
        "state_dict": openmmlab(),
        "message_hub": {"log": np.zeros(3)},
        "meta": Settings(),
    },
}


LEGACY = ("plain", "a number of NumPy", "a Namespace", "random states")  # also as torch before 1.6 wrote it


@pytest.mark.parametrize(("kind", "legacy"), [(k, False) for k in CONVERTED] + [(k, True) for k in LEGACY])
def test_what_training_scripts_leave_is_converted(kind: str, legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.pth.tar"
    torch.save(CONVERTED[kind], path, _use_new_zipfile_serialization=not legacy)
    model = load_official(path, "tsm_r10_8", **FIELDS)
    assert model.num_classes == 5
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in ours().items())


def test_tsn_of_mmaction2_and_a_recogniser_that_is_not_converted(tmp_path: Path) -> None:
    plain = {key.replace(".net.", "."): value for key, value in openmmlab("tsn_r10_8").items()}
    torch.save({"state_dict": plain}, tmp_path / "tsn.pth")
    model = load_official(tmp_path / "tsn.pth", "tsn_r10_8", **FIELDS)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in ours(name="tsn_r10_8").items())
    torch.save(
        {"backbone.slow_path.conv1.conv.weight": torch.zeros(2), "cls_head.x": torch.zeros(2)},
        tmp_path / "s.pth",
    )
    with pytest.raises(ModelFileError, match="only TSN and TSM on ResNet are converted"):
        load_official(tmp_path / "s.pth", "slow_r50_8x8")


def test_a_model_and_its_average_are_told_apart_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    torch.save({"model": released(), "ema": wrapped("module.", seed=1), "epoch": 3}, path)
    with pytest.raises(ModelFileError, match=r"weights under model and ema \(choose one: --entry ema\)"):
        load_official(path, "tsm_r10_8", **FIELDS)
    for entry, seed in (("model", 0), ("ema", 1)):
        model = load_official(path, "tsm_r10_8", entry=entry, **FIELDS)
        assert torch.equal(model.state_dict()["head.linear.weight"], ours(seed)["head.linear.weight"])
    with pytest.raises(ModelFileError, match=r"no weights under 'swa' \(there are model, ema\)"):
        load_official(path, "tsm_r10_8", entry="swa", **FIELDS)


class Net(nn.Module):
    """A class that only the script has."""


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("module", [nn.Sequential(nn.Linear(4, 5)), Net()])
def test_a_pickled_module_is_refused_with_what_to_save(
    module: nn.Module, inside: bool, tmp_path: Path
) -> None:
    path = tmp_path / "m.pth"
    torch.save({"model": module, "epoch": 3} if inside else module, path)
    with pytest.raises(
        ModelFileError, match=r"whole \w+ object.*torch\.save\(model\.state_dict\(\)"
    ) as refused:
        load_official(path, "tsm_r10_8")
    assert len(str(refused.value)) - len(str(path)) < 200


class Call:
    """Pickled as a call of any function."""

    def __init__(self, function: Any, *values: Any) -> None:
        self.call = function, values

    def __reduce__(self) -> Any:
        return self.call


def mischief(trace: Path) -> list[Call]:
    words = ["touch", str(trace)]
    return [
        Call(subprocess.Popen, words),
        Call(subprocess.check_call, words),
        Call(eval, f"open({str(trace)!r}, 'w')"),
        Call(getattr, Path, "touch"),
        Call(Path.touch, trace),
        Call(pickle.loads, pickle.dumps(Call(subprocess.check_call, words))),
    ]


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("saved", ["zip", "legacy", "pickle"])
def test_no_function_of_a_file_is_called(number: int, saved: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "m.pth", tmp_path / "ran"
    content = {
        "state_dict": {"x": np.zeros(2)} if saved == "pickle" else released(),
        "more": mischief(trace)[number],
    }
    if saved == "pickle":
        path.write_bytes(pickle.dumps(content, 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=saved == "zip")
    with pytest.raises(ModelFileError, match="not loaded"):
        load_official(path, "tsm_r10_8", **FIELDS)
    assert not trace.exists()


def test_torchscript_is_code_and_not_loaded(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning):
        torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "m.pt")
    with pytest.raises(ModelFileError, match="TorchScript archive, which is code; not loaded"):
        load_official(tmp_path / "m.pt", "tsm_r10_8")
