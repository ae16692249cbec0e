"""The documents name what is there: links, verbs, models, modules, pages of the site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from foveate.cli import VERBS
from foveate.models.zoo import MODELS
from foveate.weights.origins import ORIGINS

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


def test_the_table_of_models_is_of_this_zoo() -> None:
    """After a change of the zoo: `python docs/make_tables.py`."""
    named = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    assert named == sorted(MODELS)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{len(MODELS)} named models" in readme
    assert f"checkpoints of {len(ORIGINS) - 1} code bases" in readme  # one of the origins is Foveate


def test_the_tree_of_the_architecture_is_there() -> None:
    block = (ROOT / "docs/architecture.md").read_text().split("```text\n")[1].split("```")[0]
    folders: list[str] = []
    for line in filter(None, block.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [line.split()[0]]
        assert ROOT.joinpath(*folders).exists(), "/".join(folders)


def pages_of(nav: list[object]) -> list[str]:
    """The files of a navigation of mkdocs, of all its levels."""
    entries = [entry for item in nav if isinstance(item, dict) for entry in item.values()]
    return [page for entry in entries for page in (pages_of(entry) if isinstance(entry, list) else [entry])]


def test_every_page_is_in_the_navigation() -> None:
    found = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    docs = {page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/**/*.md")}
    assert sorted(found) == sorted(docs | {"CONTRIBUTING.md", "CHANGELOG.md"})


@pytest.mark.skipif(not find_spec("mkdocs_autorefs"), reason="pip install -e '.[docs]'")
def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    calm = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=calm, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fetched = re.compile(r'(?:<script[^>]*src|<link[^>]*stylesheet[^>]*href|<img[^>]*src)="https?:[^"]*"')
    for page in tmp_path.rglob("*.html"):
        assert not fetched.search(page.read_text()), page
    assert "benchmarks/results/loader.html" in (tmp_path / "data.html").read_text()
