"""A video is the same video whether it comes as a path, a URL, bytes, a file object or frames in memory."""

from __future__ import annotations

import builtins
import io
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.errors import UsageError
from foveate.video import DecodeError, Limits, Video, open_video, scan
from make_bad_videos import KINDS, picture

FRAMES = np.stack([picture(i) for i in range(6)])
FILES = [name for name in KINDS if not name.startswith("special_")]


class Pipe(io.RawIOBase):
    """A file object that cannot go back, and gives few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.left = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.left.read(min(size, 5000) if size >= 0 else -1)


def refused(source, **options) -> str:
    """The one line with which a source is refused."""
    with pytest.raises((DecodeError, UsageError)) as caught:
        open_video(source, **options)
    line = str(caught.value)
    assert len(line.splitlines()) == 1 and len(line) < 240 and caught.value.hint
    return line


# ---- files of bytes


@pytest.mark.parametrize("name", ["carphone_pristine.mp4", "bikes.mp4", "bigbuckbunny.mp4"])
def test_real_clips_give_the_same_frames_from_anywhere(clips, name):
    path = clips[name]
    with open_video(path) as video:
        info = video.info
        places = [0, 17, info.frames - 1, 17]
        expected, times = video.read(places), video.times
    data = path.read_bytes()
    with path.open("rb") as file:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), file, Pipe(data)):
            with open_video(source) as video:
                assert np.array_equal(video.read(places), expected)
                assert np.array_equal(video.times, times)
                assert (video.info.frames, video.info.fps, video.info.codec) == (
                    info.frames,
                    info.fps,
                    "h264",
                )
    assert scan(data).status == "ok"


@pytest.mark.parametrize("kind", FILES)
def test_the_bytes_of_any_file_get_the_answer_of_the_file(corpus, kind):
    path = corpus[0] / KINDS[kind][0].file
    by_path, by_bytes = scan(path), scan(path.read_bytes())
    assert by_bytes == by_path


def test_names_of_what_has_no_path(clips, tmp_path):
    path = clips["carphone_pristine.mp4"]
    data = path.read_bytes()
    with path.open("rb") as file, tempfile.TemporaryFile(dir=tmp_path) as nameless:
        nameless.write(data)
        nameless.seek(0)
        names = [open_video(source).info.name for source in (data, io.BytesIO(data), nameless, file, FRAMES)]
    assert names == ["<bytes>", "<file>", "<file>", str(path), "<frames>"]


def test_reading_from_memory_writes_nothing(clips, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    open_video(Pipe(clips["carphone_pristine.mp4"].read_bytes())).read([3])
    assert not list(tmp_path.iterdir())


def test_a_file_object_is_read_from_where_it_stands(clips):
    file = io.BytesIO(b"four" + clips["carphone_pristine.mp4"].read_bytes())
    file.seek(4)
    assert open_video(file).info.frames == 120
    assert "nothing is left to read (go back to its start: file.seek(0))" in refused(file)


def test_bytes_that_are_no_video():
    still = io.BytesIO()
    Image.fromarray(picture(3)).save(still, format="PNG")
    assert refused(b"").startswith("<bytes>: the file is empty")
    assert "still picture" in refused(still.getvalue())
    assert "web page" in refused(b"<html>no</html>")
    assert refused(b"secret text, not to be shown").startswith("<bytes>: a text file, not a video")
    assert "not a video of an accepted format" in refused(os.urandom(100) + bytes(100))
    assert "empty" in refused(io.BytesIO())


def test_file_objects_that_cannot_be_read(tmp_path, clips):
    text = tmp_path / "a.txt"
    text.write_text("words")
    with text.open() as file:
        assert 'reading gives str, not bytes (open it with "rb")' in refused(file)
    assert "the file object is closed" in refused(file)
    with (tmp_path / "out").open("wb") as file:
        assert "cannot be read" in refused(file)

    class Broken(io.RawIOBase):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    assert "the disk reports an error" in refused(Broken())
    data = clips["carphone_pristine.mp4"].read_bytes()
    small = Limits(max_bytes=len(data) - 1)
    assert f"more than {len(data) - 1} bytes" in refused(Pipe(data), limits=small)
    assert open_video(data, limits=small).info.frames == 120  # these are in memory already


def test_an_array_file_in_memory(tmp_path):
    np.save(tmp_path / "clip.npy", FRAMES)
    data = (tmp_path / "clip.npy").read_bytes()
    with open_video(data, fps=5) as video:
        assert np.array_equal(video.read([5, 0]), FRAMES[[5, 0]]) and video.info.fps == 5
    assert "a damaged or truncated .npy file" in refused(data[:200])


# ---- addresses


def test_urls_are_read_through_fsspec(clips, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    path = clips["carphone_pristine.mp4"]
    with open_video(path) as video:
        expected = video.read([0, 119])
    fsspec.filesystem("memory").pipe("/videos/clip.mp4", path.read_bytes())
    for url in (f"file://{path}", "memory://videos/clip.mp4"):
        with open_video(url) as video:
            assert np.array_equal(video.read([0, 119]), expected) and video.info.name == url
    assert "there is nothing at this address" in refused("memory://videos/none.mp4")
    assert "more than 1000 bytes" in refused("memory://videos/clip.mp4", limits=Limits(max_bytes=1000))
    assert "cannot be read: protocol not known" in refused("unheardof://x/y.mp4").lower()
    assert scan("memory://videos/none.mp4").status == "refused"


def test_a_url_without_fsspec_or_its_backend(monkeypatch):
    real = builtins.__import__

    def without(name, *others):
        if name.partition(".")[0] in ("fsspec", "s3fs"):
            raise ImportError(f"No module named {name}")
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "which is not installed (pip install fsspec aiohttp)" in refused("https://example.org/a.mp4")
    assert "(pip install fsspec s3fs)" in refused("s3://bucket/a.mp4")
    assert "(pip install fsspec)" in refused("ftp://example.org/a.mp4")


@pytest.mark.parametrize(
    ("address", "package"),
    [("https://example.org/a.mp4", "aiohttp"), ("s3://bucket/a.mp4", "s3fs"), ("gs://bucket/a.mp4", "gcsfs")],
)
def test_the_package_that_an_address_needs_is_named(address, package, monkeypatch):
    registry = pytest.importorskip("fsspec.registry")

    def without(protocol):  # as fsspec itself says it
        raise ImportError(registry.known_implementations[protocol]["err"])

    monkeypatch.setattr("fsspec.core.get_filesystem_class", without)
    assert refused(address).endswith(f"fsspec needs another package for this address (pip install {package})")


def test_no_password_or_signature_of_a_url_is_shown():
    line = refused("memory://user:secret@host/a.mp4?signature=secret")
    assert line.startswith("memory://host/a.mp4: ") and "secret" not in line


@pytest.mark.parametrize("live", ["rtsp://u:p@cam/1", "rtmp://x/y", "/dev/video0", Path("/dev/video12"), 0])
def test_live_sources_are_for_another_verb(live):
    line = refused(live)
    assert "a live source" in line and "foveate stream" in line and "u:p" not in line


# ---- frames in memory


def sources() -> Iterator[object]:
    yield FRAMES
    yield torch.from_numpy(FRAMES)
    yield torch.from_numpy(FRAMES).permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    yield np.asfortranarray(FRAMES)
    yield list(FRAMES)
    yield tuple(torch.from_numpy(frame) for frame in FRAMES)
    yield iter(FRAMES)
    yield (frame for frame in FRAMES)


def test_frames_in_memory_are_a_video():
    for source in sources():
        with open_video(source, fps=12) as video:
            info = video.info
            assert (info.frames, info.width, info.height, info.fps, info.duration_s) == (6, 96, 64, 12, 0.5)
            assert np.array_equal(video.read([5, 0, 5]), FRAMES[[5, 0, 5]])
            assert np.array_equal(np.stack([rgb for _, rgb in video.stream()]), FRAMES)
            assert np.array_equal(video.at([0.26])[0], FRAMES[3])
            assert video.read([]).shape == (0, 64, 96, 3)
            with pytest.raises(DecodeError, match="<frames>: frame 6 does not exist"):
                video.read([6])
    assert scan(FRAMES).status == "ok" and open_video(FRAMES).info.fps == 25


def test_arrays_are_not_copied_and_frames_of_a_camera_are():
    array = FRAMES.copy()
    video = open_video(array)
    array[2] = 7
    assert (video.read([2]) == 7).all()

    def camera() -> Iterator[np.ndarray]:
        buffer = np.empty((8, 8, 3), np.uint8)
        for level in range(4):
            buffer[:] = level
            yield buffer

    assert open_video(camera()).read([0, 1, 2, 3])[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_a_camera_that_never_ends_is_stopped():
    endless = itertools.repeat(FRAMES[0])
    line = refused(endless, limits=Limits(max_bytes=10 * FRAMES[0].nbytes))
    assert line == (
        f"<frames>: more than {10 * FRAMES[0].nbytes} bytes of frames "
        "(take fewer frames, or raise Limits.max_bytes)"
    )
    assert "more than 3 frames" in refused(itertools.repeat(FRAMES[0]), limits=Limits(max_frames=3))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (FRAMES.astype(np.float32) / 255, "frames of float32, not uint8 (scale the values to 0..255"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.bfloat16), "frames of float32, not uint8 (scale"),
        (FRAMES.astype(np.int64), "frames of int64, not uint8"),
        (torch.zeros(4, 3, 8, 9, dtype=torch.uint8), "permute (T, 3, H, W) to (T, H, W, 3) by (0, 2, 3, 1)"),
        (torch.zeros(3, 4, 8, 9, dtype=torch.uint8), "permute (3, T, H, W) to (T, H, W, 3) by (1, 2, 3, 0)"),
        (FRAMES[0], "one image is not a video"),
        (Image.fromarray(FRAMES[0]), "one image is not a video"),
        (FRAMES[None], "one video of a batch"),
        (FRAMES[..., :1], "an array of (6, 64, 96, 1), not frames"),
        (FRAMES[:0], "no pixels"),
        (np.float32(3), "an array of (), not frames"),
        (np.zeros((2, 5000, 5000, 3), np.uint8), "larger than 16777216 pixels"),
        ([], "no frames"),
        (iter(()), "no frames"),
        ([FRAMES[0], FRAMES[1, :32]], "frame 1 is 96x32 pixels, frame 0 is 96x64 (resize them"),
        ([FRAMES[0], FRAMES[1] / 255], "frames of float64, not uint8 (scale"),
        ([FRAMES[0], FRAMES[1].transpose(2, 0, 1)], "frame 1 is an array of (3, 64, 96)"),
        ([FRAMES[0], None], "item 1 is of type NoneType, not a frame"),
        (["a.mp4", "b.mp4"], "item 0 is of type str, not a frame"),
        ({"a": FRAMES}, "item 0 is of type str"),
        (None, "source: is of type NoneType (give a path"),
        (object(), "source: is of type object"),
    ],
)
def test_other_frames_are_refused_with_what_to_do(source, words):
    assert words in refused(source)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), "25", 0.0])
def test_a_rate_that_cannot_be(fps):
    assert refused(FRAMES, fps=fps).startswith(f"fps: is {fps!r}")


def test_the_rate_of_what_has_one_or_none(tmp_path, clips):
    np.save(tmp_path / "clip.npy", FRAMES)
    assert open_video(tmp_path / "clip.npy", fps=6).info.duration_s == 1
    for number, frame in enumerate(FRAMES):
        (tmp_path / "clip").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / f"clip/{number}.png")
    assert open_video(tmp_path / "clip", fps=6).info.duration_s == 1
    assert "has its own frame rate (leave fps out)" in refused(clips["bikes.mp4"], fps=10)
    assert "has its own frame rate" in refused(clips["bikes.mp4"].read_bytes(), fps=10)


# ---- another process goes on reading


def read_last(video: Video) -> np.ndarray:
    with video:
        return video.read([video.info.frames - 1])


def test_a_video_can_be_pickled(clips, tmp_path):
    path = clips["carphone_pristine.mp4"]
    np.save(tmp_path / "clip.npy", FRAMES)
    (tmp_path / "clip").mkdir()
    for number in range(3):
        Image.fromarray(FRAMES[number]).save(tmp_path / f"clip/{number}.png")
    data = path.read_bytes()
    given = [path, data, io.BytesIO(data), tmp_path / "clip.npy", tmp_path / "clip", FRAMES, list(FRAMES)]
    videos = [open_video(source) for source in given]
    expected = [video.read([video.info.frames - 1]) for video in videos]
    for video, frames in zip(videos, expected, strict=True):
        again = pickle.loads(pickle.dumps(video))
        assert again.info == video.info and np.array_equal(read_last(again), frames)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(read_last, videos)
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    assert len(pickle.dumps(videos[0])) < 20_000 and len(pickle.dumps(videos[3])) < 2000


def test_opening_a_video_needs_no_torch(clips):
    program = (
        "import sys; from foveate.video import scan; scan(sys.argv[1]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(clips["carphone_pristine.mp4"])], check=True)
