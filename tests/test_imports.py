"""Imports run one way: what stands left may not import what stands right."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "foveate"
FREE = {"errors", "clip", "config", "whole", "__init__"}  # plain data, open to all
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
}
LAST = {"report": {*MAY_IMPORT}, "cli": {*MAY_IMPORT, "report"}}
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
