"""Every command, Python block and example of the documents runs, on small files of the names that they use.

A page is a session: its commands run in their order in a folder of their own. Trainings are cut to one epoch.
What cannot be run here is parsed by the real parser; `PARSED` says why.
"""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import signal
import sys
import tomllib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.__main__ import BENCHMARKS
from experiments.__main__ import EXPERIMENTS

import foveate.cli as cli
import foveate.train.stages as stages
from docs_inputs import CHECKPOINTS, make_inputs
from foveate.models.zoo import create_model
from foveate.train.job import TrainJob, parse_settings
from foveate.weights.load import known_weights

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(foveate [a-z][^`]*)`")
MODULE = re.compile(r"python -m (experiments|benchmarks)(?: (\w+))?")
LANGUAGES = {"", "python", "json", "text"}  # a block without a name is of shell commands

PAPERS = "a paper's recipe: hours on a GPU, and its data set"
PARSED = {  # how a command looks that is only parsed, and why
    r"--weights (kinetics400|charades)\b": "its weights are on a server of their authors",
    r"^train .*--model (arnet|blvnet_tam|fullvideo|slowfast|tsm)_r\d": PAPERS,
    r"^train .*--model adafocus_\w*(mnv2|144)": PAPERS,
    r"^train .*--model uni_adafocus_(mnv2|tsm|x3d)": PAPERS,
    r"^stream (0|rtsp:|https:)": "needs a camera or its server; tests/test_feed.py has servers",
    r"^serve\b": "runs until a signal, as in tests/test_serve.py",
    r"\bhf:|^push ": "its server is the Hub; tests/test_hub.py has one",
    r"--ray\b": "starts a cluster, as tests/test_batch.py does",
    r"^convert (mobilenet_v2|resnet\d+|blresnet50|st2stv1\S*)\.pth": "no parity case has its keys",
}
SHELL = {  # first words of lines that set something up outside of Foveate
    "git": "the address is the reader's",
    "pip": "installs from a package registry",
    "python3": "makes an environment",
    ".": "enters it",
    "curl": "asks a server; tests/test_serve.py asks the same",
    "tar": "asks a server; tests/test_serve.py asks the same",
}
CUT = {  # options of what is run, to make it short
    "train": ("--workers", "0", "--batch", "4"),
    "data make": ("--train", "4", "--val", "1", "--test", "1", "--workers", "0"),
    "data cache": ("--workers", "0"),
    "profile": ("--size", "64", "--repeats", "1"),
}
EPOCHS = {  # by recipe: `train --epochs` is not an option of a model that is trained in stages
    "adafocus_small": (
        "--glance-epochs",
        "--local-epochs",
        "--patch-epochs",
        "--policy-epochs",
        "--tune-epochs",
    ),
    "adafocus_lite0_lite0_128": ("--views", "--attend-epochs", "--answer-epochs", "--tune-epochs"),
}
SMALLER = {"size=112": "size=64", "resize=128": "resize=64"}
SMALL = ("frames=2", "size=64", "resize=64")  # settings of a training that names none
INSTEAD = {  # lines of Python blocks that need a server, or more time than they tell
    "randn(2, 3, 16, 224, 224)": "randn(1, 3, 4, 224, 224)",
    "randn(1, 3, 16, 224, 224)": "randn(1, 3, 16, 64, 64)",
    "randn(1, 3, 8, 224, 224)": "randn(1, 3, 8, 64, 64)",
    'load_model("slowfast_r50_8x8", weights="kinetics400")': 'create_model("slowfast_r50_8x8", 400).eval()',
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    torch.set_num_threads(1)
    make_inputs(folder)
    return folder


@pytest.fixture
def session(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a reader of one page, without a network."""
    folder = tmp_path / "reader"
    shutil.copytree(made, folder, copy_function=lambda source, target: Path(target).hardlink_to(source))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("foveate.weights.load._reachable", lambda url: False)
    handler = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, handler)


def blocks(page: Path, language: str) -> list[str]:
    found = FENCE.findall(page.read_text())
    assert {name for name, _ in found} <= LANGUAGES, page
    return [text for name, text in found if name == language]


def lines_of(page: Path) -> list[str]:
    """The lines of the shell blocks, those that end in a backslash joined, without comments."""
    joined = "".join(blocks(page, "")).replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.join(shlex.split(line, comments=True)))]


def commands(page: Path) -> list[str]:
    return [line.removeprefix("foveate ") for line in lines_of(page) if line.startswith("foveate ")]


def reason(command: str) -> str | None:
    """Why a command is only parsed; None if it is run."""
    return next((why for sign, why in PARSED.items() if re.search(sign, command)), None)


def verb_of(command: str) -> str:
    words = command.split()
    return " ".join(words[: 2 if words[0] == "data" else 1])


def parse(command: str) -> partial[int]:
    """The call that a command asks for, not made; its model, settings and weights are looked up."""
    name = verb_of(command)
    verb = cli.VERBS[name]
    function: Callable[..., Any] = getattr(import_module(f"foveate.cli.{verb.module}"), verb.function)
    words = shlex.split(command)[len(name.split()) :]
    call = (
        cli._parse(function(words), name, words)
        if name == "train"
        else cli._parse(function, name, words, cli.PLAIN)
    )
    assert isinstance(call, partial)
    if name == "train":
        (job,) = (value for value in (*call.args, *call.keywords.values()) if isinstance(value, TrainJob))
        with torch.device("meta"):
            create_model(job.model, 4, **parse_settings(job.settings))
    weights = re.search(r"--model (\w+) --weights ([a-z]\w+)(?: |$)", command)
    if weights:
        assert weights[2] in known_weights(weights[1])
    return call


def cut(command: str) -> list[str]:
    """The words of a command, made short; a training may write where the page has written before."""
    name, words = verb_of(command), [SMALLER.get(word, word) for word in shlex.split(command)]
    extra = dict(zip(CUT.get(name, ())[::2], CUT.get(name, ())[1::2], strict=True))
    if name == "train" and "--config" not in words:
        extra |= dict.fromkeys(next((EPOCHS[word] for word in words if word in EPOCHS), ("--epochs",)), "1")
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
        known = not {"--settings", "uni_adafocus_any_small"} & {*words}  # which has no `frames`
        small = SMALL if known and extra.get("--epochs") else ()
        words += ["--settings", *small] if small else []
    elif name == "train":
        extra = {}
    for option, value in extra.items():
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return words


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_commands_run(page: Path, session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(page):
        if reason(command):
            parse(command)
            continue
        with pytest.raises(SystemExit) as left:
            cli.main(cut(command))
        said = capsys.readouterr()
        assert left.value.code == 0, f"foveate {command}\n{said.out[-2000:]}{said.err}"


def test_every_reason_is_needed() -> None:
    found = [command for page in PAGES for command in commands(page)]
    for sign in PARSED:
        assert any(re.search(sign, command) for command in found), sign


@pytest.mark.parametrize("command", ["predict video.mp4 --no-such-option 1", "predict nowhere.mp4"])
def test_a_wrong_command_would_be_found(command: str, session: Path) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(cut(command))
    assert left.value.code in (2, 3)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_within_sentences_have_their_options(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They name files that stand for any, so that they are not run."""
    for span in SPAN.findall(page.read_text()):
        command = " ".join(span.split()).removeprefix("foveate ")
        assert verb_of(command) in (*cli.VERBS, "data"), span
        options = re.findall(r"--[a-z][a-z-]*", command.replace("--help", ""))
        if not options:
            continue
        model = re.findall(r"--model (\w+_\w+)", command) if verb_of(command) == "train" else []
        with pytest.raises(SystemExit):
            cli.main([*verb_of(command).split(), *(("--model", *model) if model else ()), "--help"])
        listed = capsys.readouterr().out
        for option in options:
            assert re.search(rf"(^|[\s,|]){option}\b", listed), f"{span}: {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_other_commands_name_what_is_there(page: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in lines_of(page):
        first, *rest = shlex.split(re.sub(r"^[A-Z_]+=\S+ ", "", line).replace(".venv/bin/", ""))
        if first == "make":
            assert rest[0] in targets, line
        elif first == "python":
            assert any((ROOT / word).is_file() for word in rest), line
        else:
            assert first == "foveate" or first in SHELL, line
        for extra in re.findall(r"\.\[(\w+)\]", line):
            assert extra in extras, line
    for module, name in MODULE.findall(page.read_text()):
        assert not name or name in {"experiments": EXPERIMENTS, "benchmarks": BENCHMARKS}[module], name


def given(page: Path) -> dict[str, Any]:
    """Names that the blocks of a page take as known."""
    if page.stem == "fullvideo":
        videos = [torch.randint(0, 256, (frames, 64, 64, 3), dtype=torch.uint8) for frames in (20, 12)]
        return {
            "clip": torch.randn(1, 3, 16, 64, 64),
            "long": videos[0],
            "short": videos[1],
            "chunks": videos,
            "patches": torch.randn(32, 3, 96, 96),
        }
    if page.stem == "slowfast":
        return {"clip": torch.randn(1, 3, 32, 64, 64)}
    if page.stem == "parity":
        return {"np": np, "zlib": zlib, "key": "conv1.weight"}
    if page.stem == "engines":
        model = create_model("tsm_r10_8", 4, frames=2, size=64, resize=64)
        return {"model": model, "videos": [torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)] * 16}
    if page.stem == "porting":
        first = next(iter(CHECKPOINTS))
        Path("checkpoint.pth").hardlink_to(first)
        return {"state_dict": torch.load(first)["state_dict"]}
    return {}


@pytest.fixture
def brief_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings from Python last one epoch, wherever their folder stands already."""
    train = stages.train_model

    def brief(job: TrainJob, *more: Any) -> Any:
        shutil.rmtree(job.out, ignore_errors=True)
        config = replace(job.train, epochs=1, batch=4)
        return train(replace(job, workers=0, settings=job.settings or SMALL, train=config), *more)

    monkeypatch.setattr(stages, "train_model", brief)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "python") and page.stem != "architecture"],
    ids=lambda page: page.stem,
)
def test_python_blocks_run(page: Path, session: Path, brief_training: None) -> None:
    names = {"__name__": "__main__", **given(page)}
    for block in blocks(page, "python"):
        code = block
        for line, other in INSTEAD.items():
            code = code.replace(line, other)
        exec(compile(code, str(page), "exec"), names)


def test_examples_run(
    session: Path, brief_training: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, *words in (
        ("train_on_a_folder.py", "my_videos/train"),
        ("predict_a_file.py", "video.mp4", "work/examples/run"),
    ):
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert re.search(r"clap, wave.*video.mp4, 1.5 s\n.*%  (clap|wave)", capsys.readouterr().out, re.DOTALL)


def test_the_walk_is_a_part_of_the_code() -> None:
    """Of docs/architecture.md, whose block is no program."""
    (block,) = blocks(ROOT / "docs/architecture.md", "python")
    code = (ROOT / "src/foveate/infer/predict.py").read_text()
    for line in block.splitlines():
        assert line.partition("  #")[0].strip() in code, line
