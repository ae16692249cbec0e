"""A model goes to a hub and comes back with the same bytes; what is wrong on the way is said in one line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import foveate
from foveate.cli import main
from foveate.errors import ModelFileError, OutputError, UsageError
from foveate.models.zoo import create_model
from foveate.report.model_card import model_card
from foveate.weights.file import save_model
from foveate.weights.hub import CARD, FILE, pull, push
from hub_server import TOKEN, Hub, running_hub

pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = create_model("tsm_r10_8", 3, width=0.125, frames=2, size=32, resize=32).eval()
    net.labels, net.trained_on = ("clap", "wave | or <b>", "walk_*slowly*"), "my videos"
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_model(net, path, {"videos": 120, "epochs": 3})
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub of its own and a user who is signed in. Large files go by LFS: Xet takes another server."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's attempts
    with running_hub() as (handler, address):
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield handler


@pytest.fixture
def shared(hub: type[Hub], model: Path) -> type[Hub]:
    """With a model in me/clap."""
    push(model, "me/clap", "# A card")
    return hub


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([*map(str, words)])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_what_is_pushed_comes_back_with_the_same_bytes(
    hub: type[Hub], model: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("push", model, "me/clap", "--license", "mit", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "hf:me/clap"
    assert hub.repositories["me/clap"]["main"].keys() == {FILE, CARD}
    assert pull("hf:me/clap").read_bytes() == model.read_bytes()
    here, there = (
        foveate.predict(clips["carphone_pristine.mp4"], name, window=0) for name in (model, "hf:me/clap")
    )
    assert here.predictions == there.predictions


def test_every_verb_takes_the_name(
    shared: type[Hub], videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("eval", videos, "--model", "hf-hub:me/clap", "--workers", 0) == 2  # its classes are others
    assert "its classes are others" in capsys.readouterr().err
    assert run("profile", "hf:me/clap", "--repeats", 1) == 0
    words = ("--model", "tsm_r10_8", "--weights", "hf:me/clap", "--epochs", 1, "--batch", 4, "--workers", 0)
    small = ("--settings", "width=0.125", "size=32", "resize=32", "frames=2")
    assert run("train", "--videos", videos, "--val", videos, "--out", tmp_path / "run", *words, *small) == 0
    assert foveate.load_model("hf_hub:me/clap").labels[0] == "clap"


def test_branches_private_ones_and_other_servers(
    hub: type[Hub], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = foveate.weights.hub._endpoint(None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert push(model, "hf:me/own", "# A card", private=True, revision="v2", endpoint=address)
    monkeypatch.setenv("HF_ENDPOINT", str(address))
    assert hub.private == {"me/own"} and FILE not in hub.repositories["me/own"]["main"]
    assert pull("hf:me/own@v2").read_bytes() == model.read_bytes()
    with pytest.raises(ModelFileError, match="hf:me/own@v3: has no such revision"):
        pull("hf:me/own@v3")
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("FOVEATE_CACHE", str(model.parent / "another"))
    with pytest.raises(ModelFileError, match=r"no such repository, or a private one .*HF_TOKEN"):
        pull("hf:me/own@v2")


def test_a_newer_model_is_fetched_and_the_same_one_is_not(shared: type[Hub], model: Path) -> None:
    first = pull("hf:me/clap")
    shared.asked.clear()
    assert pull("hf:me/clap") == first and not [asked for asked in shared.asked if asked.startswith("GET")]
    newer = model.with_name("newer.safetensors")
    save_model(create_model("tsm_r10_8", 2, width=0.125, frames=2, size=32, resize=32).eval(), newer)
    push(newer, "me/clap", "# A card")
    assert pull("hf:me/clap").read_bytes() == newer.read_bytes()


def test_a_card_that_somebody_wrote_is_kept(
    shared: type[Hub], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = shared.repositories["me/clap"]["main"]
    push(model, "me/clap", "# Another card")
    assert files[CARD].startswith(b"# Another card") and not caplog.records
    files[CARD] = b"# My own words"
    push(model, "me/clap", "# A third card")
    assert files[CARD] == b"# My own words" and "README.md is kept" in caplog.text


def test_the_card_says_what_the_file_says(model: Path) -> None:
    text = model_card(model, "me/clap", "apache-2.0")
    _, header, body = text.split("---\n", 2)
    facts = yaml.safe_load(header)
    assert facts["license"] == "apache-2.0" and facts["library_name"] == "foveate"
    assert facts["pipeline_tag"] == "video-classification"
    for said in ("| classes | 3 |", "2 frames of 32x32 pixels", "| trained on | my videos |", "hf:me/clap"):
        assert said in body
    assert "| training: videos | 120 |" in body
    assert r"wave \| or &lt;b&gt;, walk\_\*slowly\*" in body, "names do nothing but stand there"


@pytest.mark.parametrize("name", ["arnet_small", "fullvideo_small"])
def test_a_card_for_every_kind_of_model(name: str, tmp_path: Path) -> None:
    save_model(create_model(name, 2).eval(), tmp_path / "model.safetensors")
    assert " G" in model_card(tmp_path / "model.safetensors", "me/it").split("multiply-adds of a clip |")[1]


class TestErrors:
    """Each is one line that names what was asked for."""

    def test_no_token(self, hub: type[Hub], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "")
        with pytest.raises(UsageError, match="no token of the Hub is known"):
            push(model, "me/clap", "")
        assert not hub.asked

    def test_a_wrong_token_and_a_strange_place(
        self, hub: type[Hub], model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(OutputError, match=r"^others/clap: the server refuses it \(403\)"):
            push(model, "others/clap", "")
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        with pytest.raises(OutputError, match=r"^me/clap: the server refuses it \(401\)"):
            push(model, "me/clap", "")

    @pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:me/..", "hf:me/a b"])
    def test_no_name(self, name: str, hub: type[Hub]) -> None:
        with pytest.raises(UsageError, match="is no name of a repository"):
            pull(name)
        assert not hub.asked

    def test_no_repository_and_no_model_in_it(self, hub: type[Hub]) -> None:
        with pytest.raises(ModelFileError, match=r"^hf:me/gone: no such repository"):
            pull("hf:me/gone")
        hub.repositories["me/text"] = {"main": {"config.json": b"{}"}}
        with pytest.raises(ModelFileError, match=r"^hf:me/text: holds no model\.safetensors"):
            pull("hf:me/text")

    def test_a_file_in_place_of_a_name(self, hub: type[Hub], model: Path) -> None:
        with pytest.raises(UsageError, match="own weights and configuration"):
            foveate.load_model("hf:me/clap", "kinetics400")
        with pytest.raises(ModelFileError, match="not a safetensors file"):
            model_card(Path(__file__), "me/clap")

    @pytest.mark.parametrize(
        ("content", "cause"),
        [
            (pickle.dumps({"weight": 1}), "not a safetensors file"),
            (b"", "not a safetensors file"),
            ((1 << 40).to_bytes(8, "little") + b"{}", "header is larger than"),
            ((2).to_bytes(8, "little") + b"{}", "not a Foveate model"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "not a safetensors file"),
        ],
        ids=["pickle", "empty", "huge header", "another library", "pointer"],
    )
    def test_a_file_that_is_none_of_ours(self, content: bytes, cause: str, hub: type[Hub]) -> None:
        hub.repositories["me/bad"] = {"main": {FILE: content}}
        with pytest.raises(ModelFileError, match=f"^hf:me/bad: .*{cause}"):
            foveate.load_model("hf:me/bad")

    def test_tensors_that_do_not_fit_their_description(self, hub: type[Hub], model: Path) -> None:
        content = model.read_bytes().replace(b'\\"width\\": 0.125', b'\\"width\\": 0.250')
        hub.repositories["me/bad"] = {"main": {FILE: content}}
        assert content != model.read_bytes()
        with pytest.raises(ModelFileError, match=r"^hf:me/bad: "):
            foveate.load_model("hf:me/bad")

    def test_a_download_that_breaks_off_goes_on(self, shared: type[Hub], model: Path) -> None:
        shared.fault, shared.left = "breaks off", 1
        assert pull("hf:me/clap").read_bytes() == model.read_bytes()
        assert shared.left == 0

    def test_a_download_that_stays_broken(self, shared: type[Hub], model: Path) -> None:
        shared.fault, shared.left = "breaks off", 1000
        with pytest.raises(ModelFileError, match=r"^hf:me/clap: (cannot be reached|was not transferred)"):
            pull("hf:me/clap")
        shared.fault = ""
        assert pull("hf:me/clap").read_bytes() == model.read_bytes()

    def test_altered_bytes_are_found_and_not_kept(self, shared: type[Hub], model: Path) -> None:
        shared.fault = "altered"
        with pytest.raises(ModelFileError, match="damaged on its way"):
            pull("hf:me/clap")
        shared.fault = ""
        assert pull("hf:me/clap").read_bytes() == model.read_bytes()

    def test_offline_the_last_copy_is_taken(
        self, shared: type[Hub], model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pull("hf:me/clap")
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        assert pull("hf:me/clap").read_bytes() == model.read_bytes()
        with pytest.raises(ModelFileError, match=r"^hf:me/other: cannot be reached, and no copy is here"):
            pull("hf:me/other")
        with pytest.raises(OutputError, match=r"^me/clap: cannot be reached"):
            push(model, "me/clap", "")

    def test_a_server_that_is_busy(self, shared: type[Hub]) -> None:
        shared.fault = "busy"
        with pytest.raises(ModelFileError, match="the server says 503"):
            pull("hf:me/clap")

    def test_a_full_disk(self, hub: type[Hub], small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.repositories["me/large"] = {"main": {FILE: bytes(1 << 20)}}
        monkeypatch.setenv("FOVEATE_CACHE", str(small_disk))
        with pytest.raises(OutputError, match=r"(no space left|file too large).*make room"):
            pull("hf:me/large")
