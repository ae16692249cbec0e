"""Foveate imports on every system, and tells type checkers that it is typed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import field_files as field

ROOT = Path(__file__).parents[1]

IMPORT_ALL = """
import importlib, importlib.abc, pkgutil, sys

HIDDEN = {"fcntl", "resource", "pwd", "grp", "termios"}  # modules that Windows has not

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in HIDDEN:
            raise ImportError(f"{name} is not on this system")

for name in HIDDEN:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hide())
import foveate

count = 0
for module in pkgutil.walk_packages(foveate.__path__, "foveate."):
    if module.name != "foveate.__main__":
        importlib.import_module(module.name)
        count += 1
print(count)
"""


def test_every_module_imports_where_unix_modules_are_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORT_ALL], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    modules = [path for path in (ROOT / "src/foveate").rglob("*.py") if path.name != "__main__.py"]
    assert int(done.stdout.split()[-1]) == len(modules) - 1  # without foveate itself


VERBS = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None
from foveate.cli import main

settings = ["--settings", "size=32", "resize=32", "frames=2", "--batch", "2", "--workers", "0"]
for words in (
    ["models"],
    ["data", "check", "videos", "--workers", "1"],
    ["train", "--videos", "videos", "--out", "run", "--model", "tsn_r10_8", "--epochs", "1", *settings],
    ["predict", "videos/run/run0.mp4", "--model", "run"],
    ["eval", "videos", "--model", "run", "--workers", "0"],
):
    try:
        main(words)
    except SystemExit as end:
        print("left with", end.code or 0, "after", words[0])
"""


def test_the_verbs_work_where_unix_modules_are_missing(tmp_path: Path) -> None:
    field.companions(tmp_path / "videos", apart=False)
    command = [sys.executable, "-W", "ignore", "-c", VERBS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=250)
    left = [line for line in done.stdout.splitlines() if line.startswith("left with")]
    verbs = ("models", "data", "train", "predict", "eval")
    assert left == [f"left with 0 after {verb}" for verb in verbs], done.stderr[-2000:]


def test_the_wheel_says_that_it_is_typed(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel")
    wheel = next(builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "foveate/py.typed" in names and "foveate/video/__init__.py" in names
