"""The cache of shrunk videos: right pixels, resumable, nothing half written, bad files listed."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.clip import ClipSpec
from foveate.data import cache
from foveate.data.cache import cache_videos
from foveate.data.dataset import VideoDataset
from foveate.data.lists import VideoEntry, VideoList, read_list
from foveate.errors import DataError, OutputError, UsageError
from foveate.video import open_video
from foveate.video.transform import resize_short
from make_bad_videos import encode, read_index, zeroed_middle


@pytest.fixture
def videos(tmp_path) -> VideoList:
    """Two videos of 24 and 10 frames, 12 a second, 96 x 64, and a text file."""
    folder = tmp_path / "source"
    folder.mkdir()
    encode(folder / "walk.mp4", n=24)
    encode(folder / "odd, name é.mkv", n=10)
    (folder / "page.mp4").write_text("<html>not a video</html>")
    names = ("walk.mp4", "page.mp4", "odd, name é.mkv")
    entries = tuple(VideoEntry(str(folder / name), (label,)) for label, name in enumerate(names))
    return VideoList(entries, ("walk", "page", "odd"), "folder", ("a note",))


def arrays(video_list: VideoList) -> list[np.ndarray]:
    return [np.load(entry.path) for entry in video_list.entries]


def test_copies_are_the_shrunk_videos(videos, tmp_path):
    cached = cache_videos(videos, tmp_path / "cache", 32, workers=0)
    for entry, copy in zip((videos.entries[0], videos.entries[2]), arrays(cached), strict=True):
        with open_video(entry.path) as video:
            frames = torch.from_numpy(video.read(range(video.info.frames)))
        assert copy.dtype == np.uint8
        assert np.array_equal(copy, resize_short(frames, 32).numpy())
    assert [entry.labels for entry in cached.entries] == [(0,), (2,)]
    assert [entry.frames for entry in cached.entries] == [24, 10]


def test_the_written_list_reads_back_and_gives_clips(videos, tmp_path):
    folder = tmp_path / "cache"
    cached = cache_videos(videos, folder, 64, workers=0)
    again = read_list(folder / "list.jsonl")
    assert again.entries == cached.entries
    assert again.class_names == videos.class_names
    spec = ClipSpec(frames=4, size=64, resize=64)
    small, large = VideoDataset(again.entries, spec, 3), VideoDataset(videos.entries, spec, 3)
    assert torch.equal(small[0, 0].frames, large[0, 0].frames)
    with open_video(again.entries[0].path) as video:
        assert video.info.fps == 12


def test_bad_files_are_listed_with_their_cause(videos, tmp_path):
    calls = []
    cached = cache_videos(
        videos, tmp_path / "cache", 32, workers=0, progress=lambda *call: calls.append(call)
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert len(cached) == 2
    assert cached.notes[0] == "a note"
    assert cached.notes[1].startswith(videos.entries[1].path)
    (line,) = (tmp_path / "cache" / "bad.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == videos.entries[1].path
    assert json.loads(line)["cause"]


def test_processes_write_the_same_bytes(videos, tmp_path):
    alone = cache_videos(videos, tmp_path / "alone", 32, workers=0)
    shared = cache_videos(videos, tmp_path / "shared", 32, workers=2)
    assert alone.notes == shared.notes
    for a, b in zip(alone.entries, shared.entries, strict=True):
        assert Path(a.path).name == Path(b.path).name
        assert Path(a.path).read_bytes() == Path(b.path).read_bytes()
        assert (
            Path(a.path).with_suffix(".json").read_bytes() == Path(b.path).with_suffix(".json").read_bytes()
        )


def written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("*.npy")}


def test_a_second_run_keeps_what_is_complete(videos, tmp_path):
    folder = tmp_path / "cache"
    first = cache_videos(videos, folder, 32, workers=0)
    before = written(folder)
    assert cache_videos(videos, folder, 32, workers=0) == first
    assert written(folder) == before

    walk = Path(first.entries[0].path)
    with walk.open("r+b") as file:
        file.truncate(1000)
    cache_videos(videos, folder, 32, workers=0)
    after = written(folder)
    assert len(np.load(walk)) == 24
    assert {name for name in after if after[name] != before[name]} == {walk.name}


def test_another_setting_or_source_makes_the_copy_again(videos, tmp_path):
    folder = tmp_path / "cache"
    cache_videos(videos, folder, 32, workers=0)
    smaller = cache_videos(videos, folder, 16, workers=0)
    assert [copy.shape for copy in arrays(smaller)] == [(24, 16, 24, 3), (10, 16, 24, 3)]
    encode(Path(videos.entries[0].path), n=13)
    assert [len(copy) for copy in arrays(cache_videos(videos, folder, 16, workers=0))] == [13, 10]


def test_parts_and_limits(videos, tmp_path):
    path = videos.entries[0].path
    parts = (VideoEntry(path, (0,), start=5, end=15), VideoEntry(path, (1,)), VideoEntry(path, (2,)))
    cached = cache_videos(VideoList(parts, ("a", "b", "c"), "jsonl"), tmp_path / "cache", 64, 9, workers=0)
    codes = [[read_index(frame) for frame in copy] for copy in arrays(cached)]
    assert codes == [list(range(5, 15, 2)), list(range(0, 24, 3)), list(range(0, 24, 3))]
    assert [entry.labels for entry in cached.entries] == [(0,), (1,), (2,)]
    assert cached.entries[1].path == cached.entries[2].path
    fps = [json.loads(Path(entry.path).with_suffix(".json").read_text())["fps"] for entry in cached.entries]
    assert fps == [6, 4, 4]


def test_of_a_damaged_video_the_frames_that_are_there_are_kept(videos, tmp_path):
    path = Path(videos.entries[0].path)
    zeroed_middle(path)
    for _ in range(2):  # the second time from the copy of the first
        cached = cache_videos(
            VideoList((VideoEntry(str(path), (0,)),), ("a",), "jsonl"), tmp_path / "cache", 32
        )
        (copy,) = arrays(cached)
        assert 0 < len(copy) < 24
        assert cached.entries[0].frames == len(copy)
        assert [note.startswith(f"{path}: ") for note in cached.notes] == [True]


def test_small_videos_are_not_enlarged_and_false_counts_are_bad(videos, tmp_path):
    entry = videos.entries[0]
    both = VideoList((entry, VideoEntry(entry.path, (0,), start=0, end=99)), ("a",), "jsonl")
    cached = cache_videos(both, tmp_path / "cache", 500, workers=0)
    assert [copy.shape for copy in arrays(cached)] == [(24, 64, 96, 3)]
    assert "frames 0 to 99 are requested, and it has 24" in cached.notes[0]


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path):
    def pictures():
        yield np.zeros((4, 4, 3), np.uint8)
        raise DataError("film.mp4", "ends early")

    with pytest.raises(DataError, match="ends early"):
        cache.write_npy(tmp_path / "copy.npy", pictures())
    assert list(tmp_path.iterdir()) == []


def test_a_copy_of_any_length_is_a_valid_array(tmp_path):
    for count in (1, 12345):
        made = cache.write_npy(
            tmp_path / "copy.npy", (np.full((1, 2, 3), i % 251, np.uint8) for i in range(count))
        )
        copy = np.load(tmp_path / "copy.npy", mmap_mode="r")
        assert copy.shape == (count, 1, 2, 3)
        assert copy[:, 0, 0, 0].tolist() == [i % 251 for i in range(count)]
        assert made == count


@pytest.mark.parametrize("count", [0, 1])
def test_a_folder_that_cannot_be_written_is_an_output_error(videos, tmp_path, count):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        cache_videos(videos, tmp_path / "file", 32, workers=count)
    folder = tmp_path / "cache"
    settings = cache.CacheSettings(folder, 32, None)
    target = settings.target(videos.entries[0])
    target.with_name(f".{target.name}.part").mkdir(parents=True)
    with pytest.raises(OutputError, match="directory") as caught:
        cache_videos(videos, folder, 32, workers=count)
    assert caught.value.subject.endswith(".npy")


def test_a_video_that_kills_its_process_is_left_out(videos, tmp_path, monkeypatch):
    losses = [cache.Lost("killed by SIGSEGV")]

    def one_lost(function, items, *others):
        return chain(losses, map(function, items[1:]))

    monkeypatch.setattr(cache, "map_in_processes", one_lost)
    cached = cache_videos(videos, tmp_path / "cache", 32, workers=2)
    assert [entry.labels for entry in cached.entries] == [(2,)]
    bad = [json.loads(line) for line in (tmp_path / "cache" / "bad.jsonl").read_text().splitlines()]
    assert bad[0] == {
        "path": videos.entries[0].path, "cause": "copying came to no end: killed by SIGSEGV",
    }  # fmt: skip


def test_impossible_sizes_are_refused(videos, tmp_path):
    for fields in ({"short_side": 0}, {"short_side": 32, "max_frames": 0}):
        with pytest.raises(UsageError):
            cache_videos(videos, tmp_path / "cache", **fields)
