"""Imports run one way: what stands left may not import what stands right."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "foveate"
FREE = {"errors", "clip", "choices", "config", "io", "__init__"}  # plain data, open to all
MAY_IMPORT = {
    "video": set(),
    "data": {"video"},
    "layers": set(),
    "backbones": {"layers"},
    "models": {"layers", "backbones"},
    "weights": {"layers", "backbones", "models"},
    "measure": {"layers", "backbones", "models"},
    "train": {"layers", "backbones", "models", "weights", "measure", "video", "data", "infer"},
    "infer": {"layers", "backbones", "models", "weights", "measure", "video", "data"},
    "batch": {"models", "video", "data", "infer"},
    "export": {"models", "measure", "infer"},
}
LAST = {
    "report": {*MAY_IMPORT},
    "api": {*MAY_IMPORT, "report"},
    "serve": {"models", "measure", "video", "infer"},
    "cli": {*MAY_IMPORT, "report", "api", "serve"},
}
ALLOWED = MAY_IMPORT | LAST | {"__main__": {"cli"}}


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = (
                [node.module or ""] if node.module != "foveate" else [f"foveate.{a.name}" for a in node.names]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("foveate.")}
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_one_way(path: Path) -> None:
    here = part(path)
    if here == "__init__":
        return
    wrong = imported_parts(path) - FREE - {"__version__", here} - ALLOWED.get(here, set())
    assert not wrong, f"{path.relative_to(SOURCE)} may not import {sorted(wrong)}"


NEED_TORCH = {"video/transform.py", *(f"data/{name}.py" for name in ("cache", "dataset", "notes", "workers"))}
READING = [path for name in ("video", "data") for path in sorted((SOURCE / name).rglob("*.py"))]


def imported_at_the_top(path: Path) -> set[str]:
    """Modules that importing a file imports, by their full names; those of functions are not among them."""
    body = ast.parse(path.read_text()).body
    plain = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", READING, ids=lambda path: str(path.relative_to(SOURCE)))
def test_decoding_and_lists_start_without_torch(path: Path) -> None:
    here = path.relative_to(SOURCE).as_posix()
    found = imported_at_the_top(path)
    assert any(name.split(".")[0] == "torch" for name in found) == (here in NEED_TORCH)
    if here not in NEED_TORCH:
        needing = {f"foveate.{name.removesuffix('.py').replace('/', '.')}" for name in NEED_TORCH}
        assert not found & needing


def test_lists_know_nothing_of_data_sets() -> None:
    """Reading a list, making videos and decoding are apart: none of the packages knows its users."""
    for folder, strangers in (
        ("data/lists", ("synthetic", "dataset", "check")),
        ("data/synthetic", ("lists",)),
    ):
        for path in (SOURCE / folder).glob("*.py"):
            wrong = {f"foveate.data.{name}" for name in strangers} & imported_at_the_top(path)
            assert not wrong, f"{path.relative_to(SOURCE)} may not import {sorted(wrong)}"
