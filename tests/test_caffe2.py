"""Caffe2 names, and files that are not what they are called: Python 2 pickles, gzip, legacy torch, traps."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foveate.errors import ModelFileError
from foveate.models.zoo import create_model
from foveate.weights import load_official
from foveate.weights.checkpoint_file import open_checkpoint
from foveate.weights.origins import find_origin, get_origin
from foveate.weights.origins.caffe2 import TO_PYSLOWFAST
from foveate.weights.rename import rename
from parity_cases import FOLDER

TRAP = Path("/tmp/foveate-trap-went-off")
LISTS = {"slowfast_r50": "slowfast_r50_4x16", "slowfast_nln_r50": "slowfast_nln_r50_4x16"}


def pairs(which: str) -> list[tuple[str, str]]:
    return json.loads((FOLDER / "slowfast" / f"caffe2_names_{which}.json").read_text())["pairs"]


@pytest.mark.parametrize("which", LISTS)
def test_every_blob_has_its_place(which: str) -> None:
    nothing = torch.zeros(())
    blobs = dict.fromkeys((blob for blob, _ in pairs(which)), nothing)
    assert list(rename(blobs, TO_PYSLOWFAST, which)) == [name for _, name in pairs(which)]
    with torch.device("meta"):
        ours = create_model(LISTS[which]).state_dict().keys()
    assert find_origin(blobs, Path(which)).name == "caffe2"
    unused = {"lr": nothing, "conv1_w_momentum": nothing}
    theirs = get_origin("caffe2").rename(blobs | unused, which).keys()
    assert theirs == {key for key in ours if not key.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model("slowfast_r50_4x16", 3, width=0.125).eval()


@pytest.fixture(scope="module")
def blobs(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """The weights of the model as the zoo would call them."""
    places = {blob: torch.tensor(i) for i, (blob, _) in enumerate(pairs("slowfast_r50"))}
    names = get_origin("caffe2").rename(places, "names")
    state = model.state_dict()
    order = [blob for blob, _ in pairs("slowfast_r50")]
    return {order[int(place)]: state[key].numpy() for key, place in names.items()} | {"lr": np.float32(0.1)}


def read(path: Path) -> None:
    with open_checkpoint(path):
        pass


def load(path: Path, **options: Any) -> torch.nn.Module:
    return load_official(path, "slowfast_r50_4x16", width=0.125, **options)


@pytest.mark.parametrize("kind", ["protocol 0", "protocol 2", "protocol 4", "gzip", "big-endian"])
def test_a_caffe2_file_is_read(kind: str, blobs: Any, model: Any, tmp_path: Path) -> None:
    content = {"blobs": blobs}
    if kind == "big-endian":
        content = {"blobs": {name: np.asarray(value, ">f4") for name, value in blobs.items()}}
    data = pickle.dumps(content, int(kind[-1]) if kind.startswith("protocol") else 2)
    (tmp_path / "m.pkl").write_bytes(gzip.compress(data, 1) if kind == "gzip" else data)
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.inference_mode():
        assert torch.equal(load(tmp_path / "m.pkl")(clip), model(clip))


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """Byte strings for names and for the numbers of an array, as `cPickle.dump(..., 2)` wrote them there."""
    numbers = np.arange(3, dtype="<f4").tobytes()
    words = (
        b"\x80\x02}U\x05blobs}U\x06conv_w"
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x0c" + numbers + b"tbss."
    )
    (tmp_path / "m.pkl").write_bytes(words)
    with open_checkpoint(tmp_path / "m.pkl") as file:
        assert file.read(file.content["blobs"])["conv_w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("legacy", [True, False])
def test_a_torch_file_may_be_called_pkl(legacy: bool, model: Any, tmp_path: Path) -> None:
    path = tmp_path / "SLOWFAST.pkl"
    state = as_pyslowfast(model)
    torch.save({"model_state": state}, path, _use_new_zipfile_serialization=not legacy)
    assert load(path).num_classes == 3
    with pytest.raises(ModelFileError, match=r"names its keys as pyslowfast does, not as caffe2") as caught:
        load(path, origin="caffe2")
    assert "\n" not in str(caught.value)


def as_pyslowfast(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    names = [name for _, name in pairs("slowfast_r50")]
    ours = get_origin("pyslowfast").rename({name: torch.tensor(i) for i, name in enumerate(names)}, "names")
    state = model.state_dict()
    return {names[int(place)]: state[key] for key, place in ours.items()}


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (TRAP,))


def test_nothing_is_run(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    for data in (
        pickle.dumps({"blobs": {"conv1_w": Trap()}}, 2),
        gzip.compress(pickle.dumps({"blobs": Trap()}, 4), mtime=0),
        b"cos\nsystem\n(S'touch /tmp/foveate-trap-went-off'\ntR.",
        b"(dp0\nS'blobs'\ncos\nsystem\n(S'touch /tmp/foveate-trap-went-off'\ntRs.",
    ):
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match=r"m\.pkl"):
            read(path)
    assert not TRAP.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!doctype html>", "a web page"),
        (b"\n <html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"just words", "no checkpoint"),
        (pickle.dumps([1, 2], 2), "holds a list"),
        (pickle.dumps(119547037146038801333356, 2), "it ends early"),  # how a legacy torch file begins
        (pickle.dumps({"a": np.ones(3)}, 2)[:-30], "truncated"),
        (gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "in a gzip archive"),
        (gzip.compress(b"x" * 100, mtime=0)[:-12], "damaged gzip"),
        (gzip.compress(b"words", mtime=0), "no checkpoint"),
    ],
)
def test_what_it_really_is_stands_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        read(tmp_path / "m.pkl")
    assert "\n" not in str(caught.value) and "m.pkl" in str(caught.value)


def test_a_network_of_another_depth_is_named(blobs: Any, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"blobs": blobs}, 2))
    with pytest.raises(ModelFileError, match=r"slow\.res4 has 6 blocks in the file and 23 in the model"):
        load_official(tmp_path / "m.pkl", "slowfast_r101_8x8", width=0.125)


def test_a_lateral_of_another_kernel_is_named(blobs: Any, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"blobs": blobs}, 2))
    with pytest.raises(ModelFileError, match=r"laterals\.0\.transform\.conv\.weight is \[2, 1, 5, 1, 1\]"):
        load_official(tmp_path / "m.pkl", "slowfast_r50_8x8", width=0.125)
