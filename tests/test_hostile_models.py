"""Model files from strangers: what they claim is refused in one line before anything of that size is made."""

from __future__ import annotations

import json
import os
import resource
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate import load_model
from foveate.cli import main
from foveate.errors import DataError, ModelFileError
from foveate.infer.engine import EagerEngine
from foveate.infer.features import extract_features
from foveate.infer.predict import Predictor
from foveate.infer.read import ClipReader
from foveate.weights.file import read_model, save_model

Header = dict[str, Any]
SECONDS, MEGABYTES = 2.0, 300.0  # that a refusal may take beside PyTorch, which is loaded


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Header, bytes]:
    """The header and the data of a good file."""
    path = tmp_path_factory.mktemp("good") / "m.safetensors"
    save_model(load_model("adafocus_small", "figures"), path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def write(path: Path, header: Header, data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def card(header: Header, **fields: Any) -> Header:
    """The header with other fields in its description; config__size for a field of the configuration."""
    described = json.loads(header["__metadata__"]["foveate"])
    for name, value in fields.items():
        place, *path = described, *name.split("__")
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    return header | {"__metadata__": {"foveate": json.dumps(described)}}


def first_weight(header: Header) -> str:
    return next(key for key, facts in header.items() if key.endswith("weight") and facts["dtype"] == "F32")


def with_tensor(header: Header, **facts: Any) -> Header:
    key = first_weight(header)
    return header | {key: header[key] | facts}


HOSTILE: dict[str, tuple[Callable[[Header], Header], str]] = {
    "many classes": (lambda h: card(h, config__num_classes=20_000_000, labels=[]), "is .* wanted"),
    "wide": (lambda h: card(h, config__glance_width=4000), "is .* wanted|wanted"),
    "many frames": (lambda h: card(h, config__frames=10**9), "frames above"),
    "a long clip": (lambda h: card(h, spec__frames=10**9), "at most"),
    "a large clip": (lambda h: card(h, spec__size=10**6, spec__resize=10**6), "at most"),
    "no deviation": (lambda h: card(h, spec__std=[0.0, 1.0, 1.0]), "deviations are above 0"),
    "fewer labels": (lambda h: card(h, labels=["a", "b"]), "names 2 classes and answers for 8"),
    "integers": (lambda h: with_tensor(h, dtype="I32"), "is of type int32"),
    "another shape": (lambda h: with_tensor(h, shape=[1 << 40]), "wanted"),
    "no shape": (lambda h: with_tensor(h, shape="x"), "damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_claim_is_refused_before_it_costs_anything(
    kind: str, parts: tuple[Header, bytes], tmp_path: Path
) -> None:
    change, words = HOSTILE[kind]
    path = write(tmp_path / "m.safetensors", change(parts[0]), parts[1])
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ModelFileError, match=words) as refusal:
        read_model(path)
    assert time.monotonic() - start < SECONDS and "\n" not in str(refusal.value)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


def test_a_good_file_is_read(parts: tuple[Header, bytes], tmp_path: Path) -> None:
    assert read_model(write(tmp_path / "m.safetensors", *parts))[0].labels[0] == "walk"


def test_deep_json_is_refused(tmp_path: Path) -> None:
    text = b"[" * 100_000
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        read_model(tmp_path / "m.safetensors")


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "m.safetensors"
    os.mkfifo(path)
    yield path


@pytest.mark.parametrize("verb", ["predict", "convert"])
def test_a_named_pipe_does_not_wait(
    verb: str, pipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.safetensors")
    asked = {
        "predict": ["predict", "x.mp4", "--model", str(pipe)],
        "convert": ["convert", str(pipe), "--name", "tsn_r50_8", "--out", out],
    }
    with pytest.raises(SystemExit) as left:
        main(asked[verb])
    assert left.value.code == 4
    assert "not a regular file" in capsys.readouterr().err


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
        main(["predict", str(videos.parent / "0.npy"), "--model", str(tmp_path / "m.safetensors"), "--json"])
    assert left.value.code == 3
