"""Weights by name: from a real server that breaks off, lies, sends pages, ignores ranges; from a mirror."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate import load_model
from foveate.data.class_names import known_class_names
from foveate.errors import ModelFileError, OutputError, UsageError
from foveate.models.zoo import MODELS, create_model
from foveate.weights import fetch as fetching
from foveate.weights.addresses import all_addresses, find_address
from foveate.weights.fetch import fetch
from foveate.weights.origins import ORIGINS

URL = "https://weights.example/zoo/kinetics/M.pyth"


class Server(BaseHTTPRequestHandler):
    """Sends `content`, badly as `fault` says, and notes the ranges that were asked for."""

    content: bytes = b""
    fault: str = ""
    version: str = '"1"'
    asked: list[str | None]
    left: int = 0  # times that the fault still happens

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).asked.append(wanted)
        if self.fault == "missing":
            return self.send_error(404)
        if self.fault == "busy":
            return self.send_error(503)
        if self.fault == "page":
            return self._send(b"<!doctype html><p>Sign in", kind="text/html")
        if self.fault == "disguised page":
            return self._send(b"\n<!DOCTYPE html><p>Sign in")
        same = self.headers.get("If-Range", self.version) == self.version
        start = int(wanted[6:-1]) if wanted and same and self.fault != "no ranges" else 0
        if start >= len(self.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            return self.end_headers()
        return self._send(self.content[start:], start)

    def _send(self, body: bytes, start: int = 0, kind: str = "application/octet-stream") -> None:
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", kind)
        self.send_header("ETag", self.version)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        announced = len(body) + {"says more": 1000, "says less": -1000}.get(self.fault, 0)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        if self.fault in ("breaks off", "no ranges") and self.left:
            type(self).left -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *words: object) -> None:
        """Quietly."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file as the release would write it."""
    path = tmp_path_factory.mktemp("official") / "M.pyth"
    torch.manual_seed(0)
    torch.save({"model_state": {"x": torch.randn(30_000)}}, path)
    return path


@pytest.fixture
def server(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    """A server of its own, a cache of its own, no waiting."""
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    handler = type("Handler", (Server,), {"content": weights.read_bytes(), "asked": []})
    serving = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("FOVEATE_MIRROR", f"http://127.0.0.1:{serving.server_port}")
    yield handler
    serving.shutdown()
    thread.join()
    serving.server_close()


def kept(cache: Path) -> set[str]:
    return {path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_file_is_downloaded_once(server: type[Server], tmp_path: Path) -> None:
    path = fetch(URL)
    assert path == tmp_path / "cache" / "weights.example" / "zoo" / "kinetics" / "M.pyth"
    assert path.read_bytes() == server.content
    assert fetch(URL) == path
    assert server.asked == [None]
    digest = hashlib.sha256(server.content).hexdigest()
    assert path.with_name("M.pyth.sha256").read_text().split() == [digest, "M.pyth"]
    assert kept(tmp_path) == {"M.pyth", "M.pyth.sha256"}


def test_of_several_at_a_time_one_downloads(server: type[Server]) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(fetch, [URL] * 4))) == 1
    assert server.asked == [None]


def test_a_broken_download_goes_on_where_it_was(server: type[Server]) -> None:
    server.fault, server.left = "breaks off", 2
    assert fetch(URL).read_bytes() == server.content
    half = len(server.content) // 2
    assert server.asked[:2] == [None, f"bytes={half}-"] and len(server.asked) == 3


def test_a_broken_download_goes_on_in_another_run(server: type[Server], tmp_path: Path) -> None:
    server.fault, server.left = "breaks off", fetching.TRIES
    with pytest.raises(ModelFileError, match=r"broke off 5 times.*goes on from there"):
        fetch(URL)
    assert "M.pyth" not in kept(tmp_path)
    server.fault, server.asked = "", []
    assert fetch(URL).read_bytes() == server.content
    assert len(server.asked) == 1 and server.asked[0]


def test_a_file_that_was_replaced_meanwhile_is_sent_whole(server: type[Server], tmp_path: Path) -> None:
    server.fault, server.left = "breaks off", fetching.TRIES
    with pytest.raises(ModelFileError):
        fetch(URL)
    server.fault, server.version = "", '"2"'
    server.content = server.content.replace(b"model_state", b"model_etats")
    assert fetch(URL).read_bytes() == server.content


def test_a_server_without_ranges_is_asked_from_the_start(server: type[Server]) -> None:
    server.fault, server.left = "no ranges", 2
    assert fetch(URL).read_bytes() == server.content


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "404"),
        ("page", "web page"),
        ("disguised page", "web page"),
        ("says less", "cannot be used: damaged"),
    ],
)
def test_what_is_no_file_is_refused_and_not_kept(
    server: type[Server], tmp_path: Path, fault: str, message: str
) -> None:
    server.fault = fault
    with pytest.raises(ModelFileError, match=message) as caught:
        fetch(URL)
    assert "\n" not in str(caught.value)
    assert not {name for name in kept(tmp_path) if name.startswith("M.pyth")}


ARRAYS = {"blobs": {f"conv{i}_w": np.random.default_rng(i).random(500) for i in range(4)}}


def legacy_torch() -> bytes:
    file = io.BytesIO()
    torch.save({"model_state": {"x": torch.randn(1000)}}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize(
    "whole",
    [pickle.dumps(ARRAYS, 2), gzip.compress(pickle.dumps(ARRAYS, 2), 1, mtime=0), legacy_torch()],
    ids=["pickle", "gzip", "legacy torch"],
)
def test_a_body_that_ends_early_is_not_kept(server: type[Server], tmp_path: Path, whole: bytes) -> None:
    """The announced length is too small, by much or by the last byte, and is all that is ever sent."""
    for length in (len(whole) - 1000, len(whole) - 1):
        server.content = whole[:length]
        with pytest.raises(ModelFileError, match="cannot be used: ") as caught:
            fetch(URL)
        assert "\n" not in str(caught.value)
        assert not {name for name in kept(tmp_path) if name.startswith("M.pyth")}
    server.content = whole
    assert fetch(URL).read_bytes() == whole


@pytest.mark.parametrize(
    "body", [b'{"error": "not found"}', b"Access denied.", b"<Error>AccessDenied</Error>"]
)
def test_words_in_place_of_weights_are_not_kept(server: type[Server], tmp_path: Path, body: bytes) -> None:
    server.content = body
    for _ in range(2):
        with pytest.raises(ModelFileError, match="cannot be used: the file is"):
            fetch(URL)
    assert not {name for name in kept(tmp_path) if name.startswith("M.pyth")}


def test_a_file_of_the_cache_that_does_not_load_says_how_to_be_rid_of_it(server: type[Server]) -> None:
    with pytest.raises(ModelFileError, match=r"SLOW_8x8_R50\.pyth: .*remove it to download it again"):
        load_model("slow_r50_8x8", weights="kinetics400")


def test_more_is_announced_than_there_is(server: type[Server]) -> None:
    server.fault = "says more"
    assert fetch(URL).read_bytes() == server.content  # the range behind the end says how long it is
    server.fault = ""


def test_a_damaged_copy_is_noticed(server: type[Server]) -> None:
    path = fetch(URL)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelFileError, match="has changed"):
        fetch(URL)


def test_the_last_reason_is_told(server: type[Server]) -> None:
    server.fault = "busy"
    with pytest.raises(ModelFileError, match=r"cannot be reached, 5 times: the server says 503.*FOVEATE_MIR"):
        fetch(URL)
    server.fault, server.left = "breaks off", fetching.TRIES
    with pytest.raises(ModelFileError, match=r"0\.1 of 0\.1 MB are here: the connection was closed"):
        fetch(URL)


def test_who_does_not_speak_tls_is_named(server: type[Server]) -> None:
    mirror = os.environ["FOVEATE_MIRROR"].replace("http:", "https:")
    with pytest.raises(ModelFileError, match=r"cannot be reached, 5 times: .*SSL"):
        fetch(URL, mirror)


def test_a_tag_that_cannot_be_written_is_no_fault_of_the_connection(
    server: type[Server], tmp_path: Path
) -> None:
    place = tmp_path / "cache" / "weights.example" / "zoo" / "kinetics"
    (place / "M.pyth.tag").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"M\.pyth\.tag: .*make room") as caught:
        fetch(URL)
    assert len(server.asked) == 1 and "\n" not in str(caught.value)


def test_nobody_answers(server: type[Server], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"cannot be reached.*FOVEATE_MIRROR"):
        fetch(URL, mirror="http://127.0.0.1:1")


def test_a_cache_that_cannot_be(
    server: type[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="FOVEATE_CACHE"):
        fetch(URL)


@pytest.mark.parametrize(
    "place", ["weights.example/zoo/kinetics", "zoo/kinetics", "kinetics", ".", "kinetics/M.pyth"]
)
def test_a_mirror_is_a_folder_or_a_file(place: str, weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "kinetics" / "M.pyth" if place.endswith("pyth") else tmp_path / place / "M.pyth"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, target)
    assert fetch(URL, mirror=target if place.endswith("pyth") else tmp_path) == target


def test_a_mirror_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"holds no M\.pyth"):
        fetch(URL, mirror=tmp_path)


def test_a_name_brings_weights_and_class_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = create_model("slow_r50_8x8", 400, width=0.125).eval()
    torch.save({"model_state": as_pytorchvideo(made)}, tmp_path / "SLOW_8x8_R50.pyth")
    model = load_model("slow_r50_8x8", weights="kinetics400", mirror=tmp_path, width=0.125)
    assert model.labels == known_class_names("kinetics400")
    clip = torch.randn(1, 3, 2, 48, 48)
    with torch.inference_mode():
        assert torch.equal(model(clip), made(clip))


def test_a_file_of_other_classes_is_refused(tmp_path: Path) -> None:
    made = create_model("slow_r50_8x8", 5, width=0.125)
    torch.save(as_pytorchvideo(made), tmp_path / "SLOW_8x8_R50.pyth")
    with pytest.raises(ModelFileError, match="has 5 classes and something_v2 has 174"):
        load_model("slow_r50_8x8", weights="something_v2", mirror=tmp_path, width=0.125)


def test_weights_bring_the_protocol_they_were_trained_by(tmp_path: Path) -> None:
    for weights, classes in (("something_v2", 174), ("charades", 157)):
        made = create_model("slow_r50_8x8", classes, width=0.125)
        torch.save(as_pytorchvideo(made), tmp_path / "SLOW_8x8_R50.pyth")
        model = load_model("slow_r50_8x8", weights=weights, mirror=tmp_path, width=0.125)
        several = weights == "charades"
        assert (model.independent, model.spec.sampling) == (
            several,
            "even" if several else "rounded_segments",
        )
        assert (model.spec.antialias, model.spec.crop_up) == (False, True)


def as_pytorchvideo(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {pytorchvideo_name(key): value for key, value in model.state_dict().items()}


def pytorchvideo_name(key: str) -> str:
    parts = {"downsample.0": "branch1_conv", "downsample.1": "branch1_norm"}
    for number, letter in enumerate("abc", start=1):
        parts |= {f"conv{number}": f"branch2.conv_{letter}", f"bn{number}": f"branch2.norm_{letter}"}
    if match := re.fullmatch(r"net\.res(\d)\.(\d+)\.(.+)\.(\w+)", key):
        return f"blocks.{int(match[1]) - 1}.res_blocks.{match[2]}.{parts[match[3]]}.{match[4]}"
    stem = key.replace("net.stem.conv", "blocks.0.conv").replace("net.stem.bn", "blocks.0.norm")
    return stem.replace("head.linear", "blocks.5.proj")


def test_addresses_are_of_the_zoo() -> None:
    known = all_addresses()
    assert {"slowfast_r50_8x8", "x3d_s", "tsm_r50_8"} <= {address.model for address in known} <= MODELS.keys()
    assert {address.origin for address in known} <= {origin.name for origin in ORIGINS}
    assert len({(address.model, address.weights) for address in known}) == len(known)
    assert all(address.url.startswith("https://") for address in known)
    assert all(address.labels for address in known)
    kinetics = find_address("slowfast_r50_8x8", "kinetics400_caffe2")
    assert (kinetics.origin, len(kinetics.labels)) == ("caffe2", 400)
    charades = find_address("slowfast_r50_8x8", "charades")
    assert (charades.labels, charades.independent) == (known_class_names("charades"), True)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("slowfast_r50_8x8", "kinetics40", "kinetics400, something_v2"),
        ("slowfast_small", "kinetics400", "path of a model file"),
        ("slowfast_r50_8x8", None, "a name without weights"),
        ("blvnet_tam_r50_8x2", "something_v1", r"by hand.*https://"),
    ],
)
def test_what_nobody_published_is_one_line(name: str, weights: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_model(name, weights=weights)
