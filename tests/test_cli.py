"""The program as its users meet it: what each verb prints, its exit codes, every bad input in one line."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from foveate.cli import VERBS, main
from foveate.cli.options import EngineChoice, ListChoice, ViewChoice
from foveate.data.synthetic import make_move4mnist
from foveate.data.synthetic.encode import encode_h264
from foveate.models.zoo import create_model, list_models
from foveate.train.config import TrainConfig
from foveate.train.evaluation import load_evaluation
from foveate.train.job import TrainJob
from foveate.weights.file import read_card, save_model
from foveate.weights.origins.efficientnet_lite import packaged_file
from make_bad_videos import KINDS

PROGRAM = Path(sys.executable).with_name("foveate")
CLASSES = ["left", "right", "up", "down"]
TINY = [
    *("--model", "tsm_r10_8", "--batch", "4", "--workers", "0"),
    *("--settings", "width=0.125", "size=32", "resize=32", "frames=2"),
]


GROUPS = ("EngineOptions", "ListOptions", "ViewOptions")  # options that several verbs have


class Said(NamedTuple):
    """What a call of the program came to."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line about what is wrong."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line


Call = Callable[..., Said]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The program sets a handler of SIGTERM; and small clips want one thread."""
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the program in this process."""

    def run(*words: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Said(int(left.value.code or 0), out, err)

    return run


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lists of 8 and 4 tiny videos of 4 classes."""
    return make_move4mnist(tmp_path_factory.mktemp("moves"), train=8, val=4, workers=1)


@pytest.fixture(scope="module")
def run(lists: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training."""
    out = tmp_path_factory.mktemp("runs") / "first"
    words = ["train", "--videos", str(lists["train"]), "--val", str(lists["val"]), "--out", str(out), *TINY]
    with pytest.raises(SystemExit) as left:
        main([*words, "--epochs", "1"])
    assert left.value.code == 0
    return out


@pytest.fixture(scope="module")
def model(run: Path) -> Path:
    return run / "best.safetensors"


def made(kind: str, folder: Path, name: str | None = None) -> Path:
    """A file of the corpus of bad videos."""
    entry, make = KINDS[kind]
    path = folder / (name or entry.file)
    make(path)
    return path


def lines_of_json(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


class TestHelp:
    def test_the_program_alone_lists_its_verbs(self, call: Call) -> None:
        said = call()
        assert (said.code, said.err) == (0, "")
        for name, verb in VERBS.items():
            assert re.search(rf"^  {name} +{re.escape(verb.summary)}$", said.out, re.MULTILINE)
        assert said == call("--help")

    def test_data_lists_its_four(self, call: Call) -> None:
        assert re.findall(r"^  data (\w+)", call("data", "--help").out, re.MULTILINE) == [
            *("check", "make", "list", "cache")
        ]

    def test_version(self, call: Call) -> None:
        assert re.fullmatch(r"foveate \d+\.\d+\.\d+\n", call("--version").out)

    def test_an_unknown_verb_has_a_neighbour(self, call: Call) -> None:
        said = call("predcit")
        assert (said.code, said.out) == (2, "")
        assert said.error == "error: predcit: no verb of foveate (did you mean predict?)"
        assert "did you mean check" in call("data", "chek").error

    @pytest.mark.parametrize("name", VERBS)
    def test_every_option_is_explained(self, call: Call, name: str) -> None:
        said = call(*name.split(), "--help")
        assert said.code == 0
        assert f"usage: foveate {name}" in said.out
        verb = VERBS[name]
        function = getattr(import_module(f"foveate.cli.{verb.module}"), verb.function)
        function = function([]) if name == "train" else function  # whose options depend on the model
        explained = re.findall(
            r"^ {4}(\w+): \S", inspect.cleandoc(function.__doc__).replace("\n", "\n"), re.MULTILINE
        )
        parameters = inspect.signature(function).parameters.values()
        assert explained == [each.name for each in parameters if each.annotation not in GROUPS]

    def test_every_option_of_several_verbs_is_explained(self, call: Call) -> None:
        groups = {"predict": (EngineChoice, ViewChoice), "eval": (EngineChoice, ListChoice)}
        for verb, classes in groups.items():
            said = call(verb, "--help").out
            for field in (field for each in classes for field in fields(each)):
                assert re.search(rf"--{field.name} .*(\n.*)?\n?.*[a-z]{{2,}} [a-z]+", said), field.name

    def test_every_option_of_training_is_explained(self, call: Call) -> None:
        text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", call("train", "--help").out).split())
        options = {
            option.split(maxsplit=1)[0].strip(","): option for option in re.split(r" (?=--[a-z])", text)
        }
        names = {field.name for kind in (TrainJob, TrainConfig) for field in fields(kind)}
        for name in names - {"train", "augment", "plan"}:
            flag = f"--{name.replace('_', '-')}"
            option = options.get(flag.replace("--", "--no-"), options[flag])
            words = re.sub(r"^\S+|[{\[].*?[}\]]", "", option)
            assert re.search(r"[a-z]{2,} .*\((default:|required)", words), option

    def test_listing_verbs_does_not_wait_for_pytorch(self) -> None:
        code = "import sys, foveate.cli, foveate.cli.data; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestModels:
    def test_list(self, call: Call) -> None:
        said = call("models", "tsm_r*_8")
        assert said.code == 0
        (line,) = [line for line in said.out.splitlines() if line.startswith("tsm_r50_8 ")]
        assert line.split()[1:4] == ["8x224x224", "32.7", "24.33"]
        rows = lines_of_json(call("models", "tsm_r*_8", "--json").out)
        assert [row["name"] for row in rows] == list_models("tsm_r*_8")
        assert call("models", "nosuch*").code == 2

    def test_a_cost_that_depends_on_the_video_is_not_a_number(self, call: Call) -> None:
        assert "varies" in call("models", "adafocus_plus*").out
        (row,) = lines_of_json(call("models", "adafocus_plus*", "--json").out)
        assert row["gmacs"] is None

    def test_profile(self, call: Call, model: Path) -> None:
        (report,) = lines_of_json(call("profile", "tsm_r10_8", "--repeats", 1, "--size", 64, "--json").out)
        assert report["input"] == [1, 3, 8, 64, 64]
        assert sum(report["gmacs_by_part"].values()) == pytest.approx(report["gmacs"])
        assert report["latency_ms"]["median"] > 0
        said = call("profile", model, "--repeats", 2, "--threads", 1, "--batch", 2)
        assert "on a clip of 2x3x2x32x32" in said.out
        assert re.search(r"^all +[\d.]+ +100\.0%$", said.out, re.MULTILINE)

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["nosuch"], 2),
            (["tsm_r10_8", "--batch", "0"], 2),
            (["tsm_r10_8", "--device", "tpu"], 2),
            (["tsm_r10_8", "--device", "cuda:77"], 2),
        ],
    )
    def test_profile_of_what_cannot_be(self, call: Call, words: list[str], code: int) -> None:
        said = call("profile", *words)
        assert (said.code, said.out) == (code, "")
        assert said.error

    def test_doctor(self, call: Call) -> None:
        said = call("doctor")
        assert torch.__version__ in said.out
        assert "FFmpeg 8" in said.out
        (facts,) = lines_of_json(call("doctor", "--json").out)
        assert facts["torch"]["found"] == torch.__version__
        assert set(facts) >= {"foveate", "python", "av", "cuda", "bf16", "disk", "lite", "track"}

    def test_convert(self, call: Call, tmp_path: Path) -> None:
        source, out = packaged_file("efficientnet_lite0"), tmp_path / "out.safetensors"
        said = call("convert", source, "--name", "tsm_lite0_8", "--out", out)
        assert (said.code, said.out) == (0, f"{out}: tsm_lite0_8, 1000 classes\n")
        names = tmp_path / "names.txt"
        names.write_text("\n".join(f"thing {number}" for number in range(1000)))
        said = call("convert", source, "--name", "tsm_lite0_8", "--out", out, "--classes", names, "--json")
        assert json.loads(said.out) == {"model": str(out), "name": "tsm_lite0_8", "classes": 1000}
        assert read_card(out).labels[:2] == ("thing 0", "thing 1")
        said = call("convert", source, "--name", "tsm_lite0_8", "--out", out, "--classes", "kinetics400")
        assert (said.code, said.error) == (
            2,
            "error: kinetics400: 400 class names for a model of 1000 classes",
        )

    def test_convert_takes_settings(self, call: Call, tmp_path: Path) -> None:
        source, out = packaged_file("efficientnet_lite0"), tmp_path / "out.safetensors"
        words = ["--name", "tsm_lite0_8", "--out", out, "--settings", "frames=4", "size=192", "--independent"]
        assert call("convert", source, *words).code == 0
        card = read_card(out)
        assert (card.spec.frames, card.spec.size, card.independent) == (4, 192, True)

    def test_convert_refuses_early_and_leaves_nothing(self, call: Call, tmp_path: Path) -> None:
        text = tmp_path / "text.pth"
        text.write_text("hello")
        good = ["--name", "tsm_r50_8", "--out", tmp_path / "x.safetensors"]
        for code, word, words in (
            (4, "no checkpoint", [text, *good]),
            (4, "none.pth", [tmp_path / "none.pth", *good]),
            (2, ".safetensors", [text, "--name", "tsm_r50_8", "--out", tmp_path / "x.pt"]),
            (2, "did you mean", [text, "--name", "tsm_r50_9", "--out", tmp_path / "x.safetensors"]),
            (5, "no folder", [text, "--name", "tsm_r50_8", "--out", tmp_path / "no" / "x.safetensors"]),
            (2, "nosuchset", [text, *good, "--classes", "nosuchset"]),
        ):
            said = call("convert", *words)
            assert (said.code, said.out) == (code, "")
            assert word in said.error
        assert [path.name for path in tmp_path.iterdir()] == ["text.pth"]


class TestTrain:
    def test_it_says_where_the_model_is(self, call: Call, lists: dict[str, Path], tmp_path: Path) -> None:
        out = tmp_path / "run"
        said = call("train", "--videos", lists["train"], "--out", out, *TINY, "--epochs", 1)
        assert said.code == 0
        assert f"foveate predict VIDEO --model {out / 'best.safetensors'}" in said.out
        assert "labels count from 0" in said.err
        assert re.search(r"epoch 1 of 1.*loss", said.err)

    def test_json_alone_on_standard_output(self, call: Call, run: Path, tmp_path: Path) -> None:
        said = call("train", "--config", run / "config.yaml", "--out", tmp_path / "again", "--json")
        (report,) = lines_of_json(said.out)
        assert (said.code, report["steps"], report["n_ok"]) == (0, 2, 4)
        assert 0 <= report["top1"] == report["best"] <= 1

    def test_options_override_the_file(self, call: Call, run: Path, tmp_path: Path) -> None:
        words = ["--out", tmp_path / "b", "--epochs", 2, "--no-flip", *TINY[6:], "dropout=0.1"]
        said = call("train", f"--config={run / 'config.yaml'}", *words, "--json")
        assert json.loads(said.out)["steps"] == 4
        settings = (tmp_path / "b" / "config.yaml").read_text()
        assert "flip: false" in settings
        assert "dropout=0.1" in settings

    def test_a_finished_run_goes_on_from_its_own_file(self, call: Call, run: Path) -> None:
        said = call("train", "--config", run / "config.yaml")
        assert said.code == 2
        assert "holds a run already (add --resume" in said.error
        before = (run / "best.safetensors").read_bytes()
        assert call("train", "--config", run / "config.yaml", "--resume").code == 0
        assert (run / "best.safetensors").read_bytes() == before

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("modle: tsm_r10_8", "config.yaml: unknown key 'modle' (did you mean model?)"),
            ("train: {epoch: 3}", "config.yaml: train: unknown key 'epoch' (did you mean epochs"),
            ("train: {batch: 0}", "config.yaml: train: batch is 0; it must be at least 1"),
            ("train: {rate: fast}", "config.yaml: train: rate: expected float, got 'fast'"),
            ("augment: {crop: middle}", "config.yaml: augment: crop: 'middle' is not allowed"),
            ("train: {rate: .nan}", "config.yaml: train: rate: nan is not a finite number"),
            ("model: a\nmodel: b", "duplicate key 'model'"),
            ("", "config.yaml: is not a mapping of keys to values"),
        ],
    )
    def test_a_wrong_file_names_its_key(self, call: Call, tmp_path: Path, text: str, words: str) -> None:
        config = tmp_path / "config.yaml"
        config.write_text(text)
        said = call("train", "--config", config, "--videos", "x", "--out", tmp_path / "run")
        assert said.code == 2
        assert words in said.error

    def test_a_file_that_leaves_something_open(self, call: Call, tmp_path: Path) -> None:
        config = tmp_path / "config.yaml"
        config.write_text("model: tsm_r10_8")
        said = call("train", "--config", config, "--videos", "x")
        assert said.code == 2
        assert "--out" in said.err

    @pytest.mark.parametrize(
        ("words", "code", "cause"),
        [
            (["--batch", "0"], 2, "batch is 0; it must be at least 1"),
            (["--batch", "9"], 3, "8 videos are fewer than one batch of 9"),
            (["--model", "tsm_r10"], 2, "did you mean tsm_r10_8"),
            (["--monitor", "accuracy"], 2, "--monitor accuracy"),
            (["--device", "cuda:77"], 2, "device"),
            (["--workers", "-1"], 2, "--workers: is -1"),
            (["--weights", "none.safetensors"], 4, "none.safetensors"),
            (["--videos", "none.csv"], 3, "none.csv: no such file"),
            (["--out", "/dev/null/run"], 5, "/dev/null/run"),
            (["--epoch", "3"], 2, "--epoch"),
        ],
    )
    def test_what_cannot_be_is_refused_before_it_starts(
        self, call: Call, lists: dict[str, Path], tmp_path: Path, words: list[str], code: int, cause: str
    ) -> None:
        said = call("train", "--videos", lists["train"], "--out", tmp_path / "run", *TINY, *words)
        assert said.code == code
        assert cause in said.err
        assert not (tmp_path / "run").exists()


class TestEval:
    def test_accuracy_beside_cost(self, call: Call, lists: dict[str, Path], model: Path) -> None:
        said = call("eval", lists["val"], "--model", model, "--workers", 0)
        assert said.code == 0
        assert re.search(r"^top1 +[\d.]+$", said.out, re.MULTILINE)
        words = ["--clips", 2, "--crops", 3, "--average", "softmax", "--workers", 0, "--json"]
        (report,) = lines_of_json(call("eval", lists["val"], "--model", model, *words).out)
        assert (report["views"], report["n_ok"], report["n_total"]) == ("2x3", 4, 4)
        assert report["gmacs_per_video"] == pytest.approx(6 * report["gmacs_per_view"])

    def test_the_scores_of_two_models_are_added(
        self, call: Call, lists: dict[str, Path], model: Path, tmp_path: Path
    ) -> None:
        torch.manual_seed(3)
        other = create_model("tsn_r10_8", 4, frames=2, size=32, resize=32)
        other.labels = tuple(CLASSES)
        save_model(other, tmp_path / "other.safetensors")
        words = ["eval", lists["val"], "--workers", 0, "--json", "--model"]
        a, b, both = (tmp_path / f"{name}.npz" for name in ("a", "b", "both"))
        alone = json.loads(call(*words, model, "--scores", a).out)
        second = json.loads(call(*words, tmp_path / "other.safetensors", "--scores", b).out)
        add = ["--join", a, "--join-weights", 3, "--scores", both]
        report = json.loads(call(*words, tmp_path / "other.safetensors", *add).out)
        assert report["joined"] == [{"scores": str(a), "weight": 3.0}]
        ones, twos, sums = (load_evaluation(path) for path in (a, b, both))
        wanted = (3 * ones.probabilities + twos.probabilities) / 4
        assert np.allclose(sums.probabilities, wanted, atol=1e-6)
        assert report["top1"] == pytest.approx((wanted.argmax(1) == ones.labels).mean(), abs=1e-4)
        costs = [each["gmacs_per_view"] for each in (alone, second, report)]
        assert costs[2] == pytest.approx(costs[0] + costs[1])
        for wrong, cause in (
            (["--join", a, "--join-weights", 1, 2], "has 2 numbers for 1 files"),
            (["--join", a, "--join-weights", 0], "weights are above 0"),
            (["--join", lists["val"]], "cannot be read as an evaluation"),
        ):
            assert cause in call(*words, model, *wrong).error
        half = tmp_path / "half.npz"
        kept = {name: getattr(ones, name)[:2] for name in ("probabilities", "labels", "macs")}
        replace(ones, **kept, entries=ones.entries[:2], details={}).save(half)
        said = call(*words, model, "--join", half)
        assert said.code == 3 and "has no scores of" in said.error

    def test_another_size_of_the_crop(
        self, call: Call, lists: dict[str, Path], model: Path, tmp_path: Path
    ) -> None:
        words = ["eval", lists["val"], "--workers", 0, "--json", "--model"]
        own, larger = (
            json.loads(call(*words, model, *more).out)["gmacs_per_view"] for more in ([], ["--size", 64])
        )
        assert larger == pytest.approx(4 * own, rel=0.01)
        said = call(*words, model, "--size", 64, "--resize", 48)
        assert (said.code, said.error) == (2, said.error) and "smaller than the crop of 64" in said.error
        save_model(create_model("adafocus_small", 4, frames=2), tmp_path / "fixed.safetensors")
        assert "sizes of its own" in call(*words, tmp_path / "fixed.safetensors", "--size", 64).error

    def test_a_model_that_chooses_is_charged_for_what_it_did(
        self, call: Call, lists: dict[str, Path], tmp_path: Path
    ) -> None:
        torch.manual_seed(0)
        spent = []
        for threshold in (0.0, 1.0):
            model = create_model("adafocus_small", 4, frames=2, skip=True, skip_threshold=threshold)
            model.labels = tuple(CLASSES)
            save_model(model, tmp_path / "chooses.safetensors")
            words = ["--model", tmp_path / "chooses.safetensors", "--workers", 0, "--json"]
            spent.append(json.loads(call("eval", lists["val"], *words).out)["gmacs_per_view"])
        assert spent[0] > 2 * spent[1] > 0

    def test_unreadable_videos_count(
        self, call: Call, lists: dict[str, Path], model: Path, tmp_path: Path
    ) -> None:
        text = made("text_renamed", tmp_path)
        listed = [{"path": str(path), "labels": [0]} for path in (text, tmp_path / "gone.mp4")]
        both = tmp_path / "both.jsonl"
        entries = lists["val"].read_text().replace('"val/', f'"{lists["val"].parent}/val/')
        both.write_text(entries + "".join(json.dumps(line) + "\n" for line in listed))
        said = call("eval", both, "--model", model, "--workers", 0, "--json")
        assert said.code == 3
        assert (json.loads(said.out)["n_ok"], json.loads(said.out)["n_total"]) == (4, 6)
        assert f"{text}: a text file, not a video" in said.err
        assert "gone.mp4: no such file" in said.err

    @pytest.mark.parametrize(
        ("text", "code", "cause"),
        [
            ("", 3, "the list is empty"),
            ("path,label\na.mp4,9\n", 2, "label 9 is out of range 0 to 3"),
            ("path,label\na.mp4,-1\nb.mp4,0\n", 3, "label -1 is negative"),
            ("path,label\na.mp4,lefd\n", 2, "unknown class name 'lefd'"),
            ("a.mp4\nb.mp4\n", 3, "2 of 2 videos have no label"),
            ('{"foveate": 1, "classes": ["a", "b"]}\n{"path": "a.mp4", "labels": [0]}\n', 2, "classes"),
            (
                '{"foveate": 1, "classes": ["a", "b"]}\n{"path": "a.mp4", "labels": [2]}\n',
                3,
                "label 2 is out of range",
            ),
        ],
    )
    def test_a_list_that_does_not_fit(
        self, call: Call, model: Path, tmp_path: Path, text: str, code: int, cause: str
    ) -> None:
        path = tmp_path / "list.csv"
        path.write_text(text)
        said = call("eval", path, "--model", model, "--workers", 0)
        assert (said.code, said.out) == (code, "")
        assert cause in said.error
        assert "list.csv" in said.error

    def test_impossible_numbers(self, call: Call, lists: dict[str, Path], model: Path) -> None:
        for words in (["--batch", 0], ["--crops", 2], ["--clips", 0], ["--workers", -1]):
            assert call("eval", lists["val"], "--model", model, *words).code == 2


class TestPredict:
    def test_real_clips(self, call: Call, clips: dict[str, Path], model: Path) -> None:
        said = call("predict", *clips.values(), "--model", model, "--window", 2)
        assert (said.code, said.err) == (0, "")
        for path in clips.values():
            assert f"{path} (" in said.out
        assert len(re.findall(r"^ *1 +(left|right|up|down) +[\d.]+%$", said.out, re.MULTILINE)) == 3
        assert "GMACs" in said.out

    def test_json_has_the_documented_keys(self, call: Call, clips: dict[str, Path], model: Path) -> None:
        said = call("predict", clips["bikes.mp4"], "--model", model, "--top", 2, "--json")
        (result,) = lines_of_json(said.out)
        assert list(result) == [
            *("video", "model", "trained_on", "duration_s", "fps", "status", "cause"),
            *("protocol", "predictions", "segments", "cost", "timing_ms"),
        ]
        assert [set(guess) for guess in result["predictions"]] == [{"rank", "label", "index", "score"}] * 2
        assert set(result["segments"][0]) == {"start_s", "end_s", "label", "index", "score"}
        assert set(result["cost"]) == {"gmacs", "frames_decoded", "frames_used", "patches"}
        assert result["video"] == str(clips["bikes.mp4"])

    def test_a_pipe_and_an_address_are_videos(
        self, call: Call, clips: dict[str, Path], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clip = clips["carphone_pristine.mp4"]
        (file,) = lines_of_json(call("predict", clip, "--model", model, "--json").out)
        with clip.open("rb") as opened:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(opened))
            (pipe,) = lines_of_json(call("predict", "-", "--model", model, "--json").out)
        (address,) = lines_of_json(call("predict", clip.as_uri(), "--model", model, "--json").out)
        assert file["predictions"] == pipe["predictions"] == address["predictions"]
        assert address["video"] == clip.as_uri()
        assert call("predict", "-", "--model", model, "--overlay", tmp_path / "o.mp4").code == 2
        assert "live source" in call("predict", "rtsp://camera/1", "--model", model).error

    def test_one_line_of_values_a_video(self, call: Call, clips: dict[str, Path], model: Path) -> None:
        said = call("predict", *clips.values(), "--model", model, "--csv", "--top", 2)
        names, *rows = csv.reader(said.out.splitlines())
        assert names[:4] == ["video", "model", "status", "cause"] and len(rows) == 3
        assert all(len(row) == len(names) for row in rows)
        assert call("predict", *clips.values(), "--model", model, "--csv", "--json").code == 2

    def test_features_have_a_row_for_every_video(
        self, call: Call, clips: dict[str, Path], model: Path, tmp_path: Path
    ) -> None:
        bad = tmp_path / "bad.mp4"
        bad.write_bytes(b"no video")
        said = call("features", clips["bikes.mp4"], bad, "--model", model, "--out", tmp_path / "f.npz")
        assert said.code == 3 and "bad.mp4" in said.err
        with np.load(tmp_path / "f.npz") as table:
            assert table["features"].shape[0] == 2 and table["features"].dtype == np.float32
            assert np.isfinite(table["features"][0]).all() and np.isnan(table["features"][1]).all()
            assert table["cause"][0] == "" and table["cause"][1]
        assert call("features", bad, "--model", model, "--out", tmp_path / "f.txt").code == 2
        assert call("features", bad, "--model", model, "--out", tmp_path / "g.npz").code == 3

    def test_a_folder_with_bad_files_goes_on_to_the_end(
        self, call: Call, lists: dict[str, Path], model: Path, tmp_path: Path
    ) -> None:
        video = next(lists["val"].parent.glob("val/*/*.mp4"))
        names = [b"line\nbreak.mp4", "视频.mp4".encode(), b'[red]quo\'te "x".mp4', b"\xff.mp4"]
        for name in names:
            shutil.copy(video, os.fsencode(tmp_path) + b"/" + name)
        for kind in ("text_renamed", "audio_only", "cut_half_front_index"):
            made(kind, tmp_path)
        said = call("predict", tmp_path, tmp_path / "gone.mp4", "--model", model, "--json")
        assert said.code == 3
        found = {
            result["video"].removeprefix(f"{tmp_path}/"): result["status"]
            for result in lines_of_json(said.out)
        }
        assert found == {
            "line\nbreak.mp4": "ok",
            "视频.mp4": "ok",
            '[red]quo\'te "x".mp4': "ok",
            "\\udcff.mp4": "ok",
            "text_renamed.mp4": "refused",
            "audio_only.mp4": "refused",
            "cut_half_front_index.mp4": "partial",
            "gone.mp4": "refused",
        }
        table = call("predict", tmp_path, "--model", model, "--top", 1)
        assert table.code == 3
        for name in ("line\\nbreak.mp4", "视频.mp4", '[red]quo\'te "x".mp4', "\\udcff.mp4"):
            assert f"{tmp_path}/{name} (" in table.out
        assert len(re.findall(r"^error: ", table.err, re.MULTILINE)) == 2
        assert "audio_only.mp4: no video stream" in table.err or "audio_only.mp4" in table.err

    def test_a_truncated_video_is_used_with_a_warning(self, call: Call, model: Path, tmp_path: Path) -> None:
        path = made("cut_half_front_index", tmp_path)
        said = call("predict", path, "--model", model)
        assert said.code == 0
        assert said.err.startswith(f"warning: {path}: 10 of 24 frames")
        assert f"{path} (0.8 s)" in said.out

    @pytest.mark.parametrize("kind", ["text_renamed", "audio_only", "zero_byte", "no_moov"])
    def test_a_file_that_is_no_video(self, call: Call, model: Path, tmp_path: Path, kind: str) -> None:
        path = made(kind, tmp_path, "bad.mp4")
        said = call("predict", path, "--model", model)
        assert (said.code, said.out) == (3, "")
        assert said.error.startswith(f"error: {path}: ")
        assert len(said.err.splitlines()) == 1

    def test_lists_and_pictures(
        self, call: Call, lists: dict[str, Path], model: Path, tmp_path: Path
    ) -> None:
        results = lines_of_json(call("predict", lists["val"], "--model", model, "--json").out)
        assert [Path(result["video"]).parent.name for result in results] == CLASSES
        listed = tmp_path / "gone.csv"
        listed.write_text("path,label\ngone.mp4,0\n")
        assert "gone.mp4: no such file" in call("predict", listed, "--model", model).error
        folder = tmp_path / "pictures"
        folder.mkdir()
        from PIL import Image

        for number in range(4):
            Image.new("RGB", (40, 30), (9, 9, 9)).save(folder / f"frame{number}.png")
        (result,) = lines_of_json(call("predict", folder, "--model", model, "--json").out)
        assert (result["video"], result["cost"]["frames_used"]) == (str(folder), 2)

    def test_nothing_to_look_at(self, call: Call, model: Path, tmp_path: Path) -> None:
        assert call("predict", "--model", model).code == 2
        empty = tmp_path / "empty"
        empty.mkdir()
        for words, cause in (
            ([empty], "holds no videos (nothing in it, or below it, has the name of a video"),
            ([tmp_path / "none.mp4"], "no such file"),
            ([tmp_path / "none.csv"], "no such file"),
        ):
            said = call("predict", *words, "--model", model)
            assert said.code == 3
            assert cause in said.error

    def test_model_files_that_cannot_be_used(
        self, call: Call, clips: dict[str, Path], run: Path, tmp_path: Path
    ) -> None:
        good = (run / "best.safetensors").read_bytes()
        (tmp_path / "cut.safetensors").write_bytes(good[:-1000])
        (tmp_path / "text.safetensors").write_text("hello")
        (tmp_path / "empty.safetensors").write_bytes(b"")
        other = tmp_path / "other.safetensors"
        narrow = create_model("tsm_r10_8", 4, width=0.125)
        save_model(narrow, other)
        other.write_bytes(other.read_bytes().replace(b'\\"width\\": 0.125', b'\\"width\\": 0.250'))
        for name, code, cause in (
            ("tsm_r10_8", 2, "is an untrained model"),
            ("tsm_r10_9", 2, "did you mean tsm_r10_8"),
            (tmp_path / "none.safetensors", 4, "none.safetensors"),
            (tmp_path / "cut.safetensors", 4, "cut.safetensors"),
            (tmp_path / "text.safetensors", 4, "text.safetensors"),
            (tmp_path / "empty.safetensors", 4, "empty.safetensors"),
            (other, 4, "wanted"),
            (run / "last.ckpt", 4, "last.ckpt"),
        ):
            said = call("predict", clips["bikes.mp4"], "--model", name)
            assert (said.code, said.out) == (code, "")
            assert cause in said.error


class TestData:
    def test_make_and_check(self, call: Call, tmp_path: Path) -> None:
        said = call(
            "data",
            "make",
            "move4mnist",
            tmp_path / "m",
            "--train",
            4,
            "--val",
            2,
            "--test",
            0,
            "--workers",
            1,
        )
        assert (said.code, said.out.split()) == (
            0,
            [str(tmp_path / "m" / f"{s}.jsonl") for s in ("train", "val")],
        )
        made("text_renamed", tmp_path / "m" / "train" / "up")
        made("zeroed_middle", tmp_path / "m" / "train" / "up")
        manifest, usable = tmp_path / "manifest.jsonl", tmp_path / "usable.jsonl"
        words = ["--split", "train", "--workers", 1, "--out", manifest, "--usable", usable]
        said = call("data", "check", tmp_path / "m", *words, "--json")
        assert said.code == 3
        rows = {Path(row["path"]).name: row for row in lines_of_json(said.out)}
        assert len(rows) == 6
        assert rows["text_renamed.mp4"]["status"] == "refused"
        assert rows["zeroed_middle.mp4"]["frames"] == 14
        assert rows["00000.mp4"]["width"] == 64
        assert len(manifest.read_text().splitlines()) == 7
        kept = {Path(line["path"]).name: line for line in lines_of_json(usable.read_text())[1:]}
        assert set(kept) == set(rows) - {"text_renamed.mp4"}
        assert kept["zeroed_middle.mp4"] == {
            **{"path": "m/train/up/zeroed_middle.mp4", "labels": [3], "frames": 14}
        }
        table = call("data", "check", tmp_path / "m", *words[:4])
        assert re.search(r"^ok +4$", table.out, re.MULTILINE)
        assert "refused  " in table.out

    def test_check_quick_and_again(self, call: Call, tmp_path: Path) -> None:
        for kind in ("plain_mp4", "cut_mkv", "bit_flips_h264", "text_renamed"):
            made(kind, tmp_path)
        words = ["data", "check", tmp_path, "--out", tmp_path / "m.jsonl", "--workers", 1]
        said = call(*words, "--quick", "--json")
        assert said.code == 3
        assert "quick: damage inside the pictures is not looked for" in said.err
        found = {Path(row["path"]).name: row["status"] for row in lines_of_json(said.out)}
        assert found == {
            **{"plain.mp4": "ok", "cut.mkv": "partial", "bit_flips_h264.mp4": "ok"},
            **{"text_renamed.mp4": "refused"},
        }
        assert "earlier check" not in call(*words).err
        assert "4 rows are of an earlier check" in call(*words).err
        assert "earlier check" not in call(*words, "--afresh").err

    def test_list(self, call: Call, tmp_path: Path) -> None:
        source, out = tmp_path / "list.csv", tmp_path / "list.jsonl"
        source.write_text("path,label\na.mp4,run\nb.mp4,walk\n")
        said = call("data", "list", source, out)
        assert (said.code, said.out) == (0, f"{out}: 2 videos, 2 classes\n")
        assert "format csv, detected" in said.err
        assert json.loads(out.read_text().splitlines()[0])["classes"] == ["run", "walk"]
        (report,) = lines_of_json(call("data", "list", source, out, "--json").out)
        assert (report["videos"], report["classes"]) == (2, 2)

    def test_lists_are_refused_before_anything_is_written(self, call: Call, tmp_path: Path) -> None:
        source = tmp_path / "list.csv"
        source.write_text("path,label\na.mp4,run\nb.mp4,walk\n")
        before = source.read_text()
        for out, code, cause in (
            (source, 2, "is the input itself"),
            (tmp_path, 5, "is a folder"),
            (tmp_path / "no" / "x.jsonl", 5, "there is no folder"),
        ):
            for verb in (["list", source, out], ["check", source, "--out", out]):
                said = call("data", *verb)
                assert (said.code, said.out) == (code, "")
                assert cause in said.error
        assert source.read_text() == before
        assert list(tmp_path.iterdir()) == [source]

    def test_cache(self, call: Call, lists: dict[str, Path], tmp_path: Path) -> None:
        words = ["--short-side", 16, "--max-frames", 4, "--workers", 0]
        said = call("data", "cache", lists["val"], tmp_path / "small", *words)
        assert (said.code, said.out) == (0, f"{tmp_path / 'small' / 'list.jsonl'}: 4 videos, 4 classes\n")
        array = next((tmp_path / "small").glob("*.npy"))
        assert np.load(array).shape == (4, 16, 16, 3)
        listed = tmp_path / "gone.csv"
        listed.write_text(f"path,label\ngone.mp4,0\n{next(lists['val'].parent.glob('val/*/*.mp4'))},1\n")
        said = call("data", "cache", listed, tmp_path / "less", *words, "--json")
        assert said.code == 3
        assert json.loads(said.out)["videos"] == 1


SIGNALS = [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.stress)]


class TestProcess:
    """What only a process of its own can show."""

    def start(self, *words: object, **options: object) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # Where tests run in the background Ctrl-C is ignored, and a child would inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen([PROGRAM, *map(str, words)], **pipes, **options)
        finally:
            signal.signal(signal.SIGINT, before)

    @pytest.mark.parametrize("signum", SIGNALS)
    def test_a_training_that_is_told_to_stop_can_go_on(self, run: Path, tmp_path: Path, signum: int) -> None:
        out = tmp_path / "run"
        program = self.start("train", "--config", run / "config.yaml", "--out", out, "--epochs", 100000)
        deadline = time.monotonic() + 60
        while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        program.send_signal(signum)
        _, err = program.communicate(timeout=60)
        assert program.returncode == 128 + signum
        assert "everything is saved (continue with --resume)" in err.decode().splitlines()[-1]
        assert (out / "last.ckpt").exists()

    @pytest.mark.parametrize("signum", SIGNALS)
    def test_a_prediction_that_is_told_to_stop(self, model: Path, tmp_path: Path, signum: int) -> None:
        video = tmp_path / "0.mp4"
        video.write_bytes(encode_h264(np.zeros((8, 32, 32, 3), np.uint8), 8, 18))
        for number in range(1, 5000):
            os.link(video, tmp_path / f"{number}.mp4")
        program = self.start("predict", tmp_path, "--model", model, "--json")
        assert program.stdout is not None
        assert json.loads(program.stdout.readline())["status"] == "ok"
        program.send_signal(signum)
        _, err = program.communicate(timeout=60)
        assert program.returncode == 128 + signum
        assert b"Traceback" not in err

    def test_a_reader_who_has_seen_enough(self) -> None:
        program = self.start("models", "tsm_r*", "--json")
        assert program.stdout is not None
        program.stdout.close()
        _, err = program.communicate(timeout=60)
        assert (program.returncode, err) == (0, b"")

    def test_a_terminal_without_unicode(self, model: Path, tmp_path: Path) -> None:
        video = tmp_path / "视频.mp4"
        video.write_bytes(encode_h264(np.zeros((8, 32, 32, 3), np.uint8), 8, 18))
        surroundings = {**os.environ, "PYTHONIOENCODING": "ascii"}
        program = self.start("predict", video, "--model", model, "--json", env=surroundings)
        out, err = program.communicate(timeout=60)
        assert (program.returncode, err) == (0, b"")
        assert json.loads(out)["video"] == str(video)

    def test_debug_shows_where(self, tmp_path: Path) -> None:
        program = self.start(
            "eval", tmp_path / "none.csv", "--model", tmp_path / "none.safetensors", "--debug"
        )
        _, err = program.communicate(timeout=60)
        assert program.returncode == 4
        assert b"Traceback" in err
        assert err.decode().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["eval", "x.csv"], "required options: Missing from foveate eval: --model STR"),
        (
            ["predict", "x.mp4", "--model", "m", "--top", "z"],
            "value error: Error parsing --top: invalid literal",
        ),
        (
            ["train", "--videos", "a", "--out", "b", "--epochz", "1"],
            "no option --epochz; did you mean --epochs?",
        ),
        (["data", "make", "nothing"], "invalid choice 'nothing'"),
    ],
)
def test_options_that_cannot_be_are_one_line(call: Call, words: list[str], cause: str) -> None:
    said = call(*words)
    assert (said.code, said.out) == (2, "")
    assert len(said.err.splitlines()) == 1
    assert said.error.startswith(f"error: foveate {words[0]}")
    assert cause in said.error
    assert said.error.endswith("--help)")


def test_a_bug_is_one_line_and_exit_code_1(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate.cli import doctor

    monkeypatch.setattr(doctor, "_machine", lambda: 1 / 0)
    said = call("doctor")
    assert (said.code, said.out) == (1, "")
    assert (
        said.error
        == "error: bug: ZeroDivisionError: division by zero (a bug of Foveate; --debug shows where)"
    )


def test_the_demo(call: Call, tmp_path: Path) -> None:
    said = call("demo", "--out", tmp_path / "demo", "--videos", 16, "--workers", 0)
    assert said.code == 0
    first = said.out.splitlines()
    assert re.search(r"first.mp4 shows 'wave'; adafocus_small of the package says 'wave' \(\d+%\)", first[0])
    assert "8 actions" in first[1] and "first_looks.mp4" in first[2]
    assert first[3].startswith("report: ") and "going on" not in said.out
    assert {"first.mp4", "first_looks.mp4", "first_looks.png"} <= {
        p.name for p in (tmp_path / "demo").iterdir()
    }
    assert "making 26 videos" in said.err
    for row in ("glance alone", "random patch", "centre patch", "full frame", "learned patch"):
        assert re.search(rf"^{row} +[\d.]+% +[\d.]+ +[\d.]+$", said.out, re.MULTILINE)
    assert re.search(r"^chance +10.0%$", said.out, re.MULTILINE)
    words = said.out.splitlines()[-1].split()
    assert words[:3] == ["foveate", "predict", "VIDEO"]
    run = Path(words[4]).parent
    made = {"best.safetensors", "overlay.mp4", "overlay.png", "report.html"}
    assert made <= {path.name for path in run.iterdir()}
    steps = (run / "stage1" / "metrics.jsonl").read_text()
    (run / "stage3" / "last.ckpt").unlink()  # as if it had been stopped before that stage
    again = call("demo", "--out", tmp_path / "demo", "--videos", 16, "--workers", 0)
    assert again.code == 0
    assert f"going on with the demo in {run}: what is done is kept" in again.out
    assert "stage1: goes on, 2 of 2 epochs are done" in again.err
    assert (run / "stage1" / "metrics.jsonl").read_text() == steps
    assert {"best.safetensors", "overlay.mp4", "overlay.png"} <= {path.name for path in run.iterdir()}


@pytest.mark.parametrize("verb", ["", "predict", "features", "eval"])
def test_help_does_not_wait_for_pytorch_or_ffmpeg(verb):
    program = """
import sys
from foveate.cli import main
try:
    main([*sys.argv[1:], "--help"])
except SystemExit as end:
    assert not end.code and not {"torch", "av", "matplotlib"} & {*sys.modules}
else:
    raise AssertionError
"""
    command = [sys.executable, "-c", program, *([verb] if verb else [])]
    assert "foveate" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
