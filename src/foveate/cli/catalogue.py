"""The verb that lists the models. It reads a table, so that it answers before PyTorch could be imported."""

from __future__ import annotations

import fnmatch
import json as jsonlib
from importlib import resources

import tyro

from foveate.cli.show import print_json, print_line, print_table
from foveate.config import nearest
from foveate.errors import UsageError


def models(pattern: tyro.conf.Positional[str] = "*", pretrained: bool = False, json: bool = False) -> int:
    """List the models by name, with input, cost, what their authors report, and weights by name.

    Args:
        pattern: How the names begin, or a shell pattern of them, such as 'tsm_*_8'.
        pretrained: Only models that have weights by name.
        json: Print one JSON object a model.
    """
    text = (resources.files("foveate.models") / "catalogue.json").read_text(encoding="utf-8")
    rows = [row for row in jsonlib.loads(text) if matches(row["name"], pattern)]
    if not rows:
        known = [row["name"] for row in jsonlib.loads(text)]
        raise UsageError(
            pattern, "no model of this name", nearest(pattern, known, "`foveate models` lists them all")
        )
    rows = [row for row in rows if row["weights"] or not pretrained]
    if json:
        for row in rows:
            print_json(row)
    else:
        columns = ("name", "input", "GMACs#", "M parameters#", "source", "published", "weights")
        print_table(columns, [["varies" if cell is None else cell for cell in row.values()] for row in rows])
        print_line()
        print_line("GMACs: 1e9 multiply-adds for one clip. `foveate profile NAME` measures one.")
    return 0


def matches(name: str, pattern: str) -> bool:
    """Whether a name fits a shell pattern, or begins as a pattern without special characters does."""
    return fnmatch.fnmatch(name, pattern if any(sign in pattern for sign in "*?[") else f"{pattern}*")
