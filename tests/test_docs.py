"""The documents name what is there: links, verbs, options, models, modules."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from foveate.cli import VERBS, main
from foveate.models.fullvideo import FullVideo
from foveate.models.zoo import MODELS, create_model
from foveate.train.job import TrainJob, parse_settings

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
COMMAND = re.compile(r"^foveate ([a-z]+(?: (?:check|make|list|cache)\b)?)", re.MULTILINE)
SOURCE = re.compile(r"`((?:src/foveate|tests|experiments|video|models|layers|backbones|train)/[\w/]+\.py)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page: Path) -> None:
    text = page.read_text()
    for target in LINK.findall(text):
        assert (page.parent / target).exists(), target
    for name in SOURCE.findall(text):
        assert (ROOT / name).exists() or (ROOT / "src/foveate" / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_verbs(page: Path) -> None:
    for name in COMMAND.findall(page.read_text()):
        assert name in VERBS, name


def commands(page: Path) -> list[list[str]]:
    """Words of each command of Foveate in a block of its own, lines that end in a backslash joined."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(text for language, text in blocks if not language).replace("\\\n", " ")
    found = re.findall(r"^foveate (.*)", lines, re.MULTILINE)
    return [shlex.split(command, comments=True) for command in found]


def test_protocols_of_full_video_are_commands_that_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options by the parser, settings by the model they build."""
    jobs: list[TrainJob] = []

    def note(job: TrainJob, after_epoch: object) -> None:
        jobs.append(job)
        sys.exit(0)

    monkeypatch.setattr("foveate.cli.training.train_model", note)
    for words in commands(ROOT / "docs/models/fullvideo.md"):
        if words[0] == "train":
            with pytest.raises(SystemExit) as left:
                main(words)
            assert left.value.code == 0, words
    assert len(jobs) == 8
    for job in jobs:
        with torch.device("meta"):
            model = create_model(job.model, 4, **parse_settings(job.settings))
        assert isinstance(model, FullVideo) and model.spec.frames >= 32


def test_the_table_of_models_is_of_this_zoo() -> None:
    """After a change of the zoo: `python docs/make_tables.py`."""
    named = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    assert named == sorted(MODELS)
    assert f"{len(MODELS)} named models" in (ROOT / "README.md").read_text()


def test_the_tree_of_the_architecture_is_there() -> None:
    block = (ROOT / "docs/architecture.md").read_text().split("```text\n")[1].split("```")[0]
    folders: list[str] = []
    for line in filter(None, block.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [line.split()[0]]
        assert ROOT.joinpath(*folders).exists(), "/".join(folders)
