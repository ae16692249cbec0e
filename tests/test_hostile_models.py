"""Model files from strangers are refused in one line, before they cost anything, and none is executed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate import load_model
from foveate.cli import main
from foveate.errors import DataError, OutputError
from foveate.infer.engine import EagerEngine
from foveate.infer.features import extract_features
from foveate.infer.predict import Predictor
from foveate.infer.read import ClipReader
from foveate.models.zoo import MODELS, create_model, create_outline
from foveate.weights import load_official
from foveate.weights.file import HEADER_LIMIT, read_card, save_model
from hostile_models import NAME, OFFICIAL, OWN, door_words, running, unpacks, weights

SECONDS = 5.0  # for a refusal where other tests keep the machine busy; docs/reliability.md has what one takes
MEGABYTES = 500.0
CASES = [*(("predict", kind) for kind in OWN), *(("convert", kind) for kind in OFFICIAL)]


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], dict[str, Any]]:
    """What one process, whose memory is watched, says of each file."""
    script = Path(__file__).with_name("hostile_models.py")
    done = subprocess.run([sys.executable, script, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = map(json.loads, done.stdout.splitlines())
    return {(row["door"], row["kind"]): row for row in found}


@pytest.mark.parametrize(("door", "kind"), CASES)
def test_a_hostile_file_is_refused(door: str, kind: str, rows: Any) -> None:
    row = rows[door, kind]
    assert row["code"] == 4, row["said"]
    assert row["file"] in row["said"] and row["said"].count("\n") == 1
    assert re.search(row["words"], row["said"]), row["said"]
    assert row["seconds"] < SECONDS and row["mb"] + row["child_mb"] < MEGABYTES and not row["ran"]


def test_a_good_file_is_read(rows: Any) -> None:
    assert rows["predict", "a good file"]["code"] == 0


@pytest.mark.parametrize(
    ("door", "make", "words"),
    [
        ("predict", os.mkfifo, "not a regular file"),
        ("predict", running("zip"), "`foveate convert` reads official checkpoints"),
        ("convert", running("pickle"), "would call"),
        ("convert", unpacks, "unpacks to more than"),
    ],
)
def test_the_command_line_refuses(door: str, make: Any, words: str, tmp_path: Path) -> None:
    make(tmp_path / "m.pth")
    (tmp_path / "v.npy").write_bytes(b"")
    command = [sys.executable, "-m", "foveate", *door_words(door, tmp_path / "m.pth", tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (4, "")
    assert re.fullmatch(rf"error: .*m\.pth: .*{words}.*\n", done.stderr)
    assert {path.name for path in tmp_path.iterdir()} == {"m.pth", "v.npy"}


@pytest.mark.parametrize("verb", ["eval", "features", "profile", "train"])
def test_no_other_verb_reads_an_official_file(verb: str, videos: Path, tmp_path: Path, capsys: Any) -> None:
    path, listed = tmp_path / "m.pth", str(videos)
    torch.save(weights(), path)
    asked = {
        "eval": ["eval", listed, "--model", str(path)],
        "features": ["features", listed, "--model", str(path), "--out", str(tmp_path / "f.npz")],
        "profile": ["profile", str(path)],
        "train": ["train", "--videos", listed, "--out", str(tmp_path / "run"), "--weights", str(path)],
    }
    with pytest.raises(SystemExit) as left:
        main(asked[verb])
    said = capsys.readouterr().err.splitlines()[-1]
    assert left.value.code == 4 and "m.pth: not a safetensors file (`foveate convert` reads" in said


def test_an_official_file_is_read_by_another_process(tmp_path: Path) -> None:
    """All kinds of numbers, views that share a storage, half precision, and a counter that stays whole."""
    state = weights()
    key = "backbone.layer1.0.conv1.weight"
    state |= {
        key: state[key].transpose(0, 1).contiguous().transpose(0, 1),
        "head.linear.bias": torch.ones(9)[2:7],
    }
    state["backbone.conv1.weight"] = state["backbone.conv1.weight"].to(torch.bfloat16)
    state["backbone.bn1.num_batches_tracked"] = torch.tensor(7)
    torch.save({"state_dict": state}, tmp_path / "m.pth")
    read = load_official(tmp_path / "m.pth", NAME, width=0.125).state_dict()
    assert all(torch.equal(read[name], value.to(read[name].dtype)) for name, value in state.items())
    assert read["backbone.bn1.num_batches_tracked"].dtype == torch.int64


def test_an_answer_that_is_not_finite_is_refused(videos: Path, tmp_path: Path) -> None:
    model = load_model("adafocus_small", "figures")
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(3e38)
    video = videos.parent / "0.npy"
    with pytest.raises(DataError, match=r"0\.npy: the model's answer to it is not finite"):
        Predictor(model).predict(video)
    reader = ClipReader(model.spec)
    assert "not finite" in next(extract_features(EagerEngine(model), reader, [str(video)])).cause
    save_model(model, tmp_path / "m.safetensors")
    with pytest.raises(SystemExit) as left:
        main(["predict", str(video), "--model", str(tmp_path / "m.safetensors"), "--json"])
    assert left.value.code == 3


def test_headers_have_room(tmp_path: Path) -> None:
    """The largest of the zoo is far below the limit, as is one with names of 21,000 classes."""
    largest = max(
        (create_outline(name) for name in MODELS if "r101" in name), key=lambda m: len(m.state_dict())
    )
    facts = {"dtype": "F32", "shape": [2048, 512, 3, 1, 1], "data_offsets": [10**9, 10**9]}
    assert 8 * len(json.dumps(dict.fromkeys(largest.state_dict(), facts))) < HEADER_LIMIT
    model = create_model(NAME, 21_000, width=0.125)
    model.labels = tuple(f"class {number}, or by its other name" for number in range(21_000))
    save_model(model, tmp_path / "m.safetensors")
    assert read_card(tmp_path / "m.safetensors").labels == model.labels
    model.labels = tuple(name * 9 for name in model.labels)
    with pytest.raises(OutputError, match=r"n\.safetensors: .* is too long"):
        save_model(model, tmp_path / "n.safetensors")
