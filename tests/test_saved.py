"""Model files that earlier versions wrote still load, and give the same numbers.

A case of tests/saved/ is the header of such a file as it was written, its tensors by key, shape and type,
and the logits of one clip. Weights and clip are made by the rules of docs/parity.md. A case stays as it is
whatever becomes of the configuration: weights/file.py brings old headers up to date. To add one, of what this
version writes:

    python tests/test_saved.py MODEL_FILE CASE.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from foveate import load_model
from foveate.errors import ModelFileError
from foveate.models.base import VideoModel
from foveate.weights.file import read_model
from parity_cases import relative_error, stream, weight

CASES = sorted((Path(__file__).parent / "saved").glob("*.json"))


def write_file(case: dict[str, Any], path: Path) -> None:
    state = {key: weight(key, shape, dtype) for key, shape, dtype in case["state_dict"]}
    safetensors.torch.save_file(state, path, {"foveate": json.dumps(case["header"])})


@torch.inference_mode()
def logits_of(model: VideoModel) -> torch.Tensor:
    shape = (1, 3, model.spec.frames, model.spec.size, model.spec.size)
    return model(torch.from_numpy(stream("input/clip").standard_normal(shape)).float())


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_file_of_an_earlier_version_loads(path: Path, tmp_path: Path) -> None:
    case = json.loads(path.read_text())
    write_file(case, tmp_path / "m.safetensors")
    model, card = read_model(tmp_path / "m.safetensors")
    assert list(model.labels) == case["header"]["labels"] and card.version == case["header"]["version"]
    assert relative_error(logits_of(model), torch.tensor(case["logits"])) < 1e-4


def test_the_model_in_the_package_gives_its_numbers() -> None:
    expected = [-8.7849, -2.8997, 2.8279, 0.5651, 6.5593, -0.8607, -0.5503, -4.2564]
    assert relative_error(logits_of(load_model("adafocus_small", "figures")), torch.tensor([expected])) < 1e-4


def test_a_field_of_another_version_is_named(tmp_path: Path) -> None:
    case = json.loads(next(path for path in CASES if path.stem == "slow_small").read_text())
    case["header"] |= {"version": "7.0.0", "config": case["header"]["config"] | {"later": 1}}
    write_file(case, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"m\.safetensors: .*version 7\.0\.0.*unknown key 'later'"):
        read_model(tmp_path / "m.safetensors")


def write_case(model_file: Path, case_file: Path) -> None:
    with safetensors.safe_open(model_file, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
        header = json.loads(file.metadata()["foveate"])
    rows = [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in tensors.items()
    ]
    case = {"header": header, "state_dict": rows}
    write_file(case, model_file)
    lines = ",\n".join(json.dumps(row) for row in rows)
    logits = json.dumps([[round(x, 6) for x in row] for row in logits_of(read_model(model_file)[0]).tolist()])
    text = f'{{"header": {json.dumps(header)},\n"logits": {logits},\n"state_dict": [\n{lines}]}}\n'
    case_file.write_text(text)


if __name__ == "__main__":
    write_case(*map(Path, sys.argv[1:]))
