"""A clock that starts again or wraps in the middle of a file: every frame once, times in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foveate.video import open_video, scan
from foveate.video.clock import line_of_frames, line_of_packets
from make_bad_videos import FPS, N, encode, encode_bytes, read_index

HOUR = {"output_ts_offset": "3600"}
BEFORE_WRAP = {"output_ts_offset": "95441"}  # seconds; the clock of 33 bits wraps after 95443.7


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Transport streams by name, whose frames are numbered from 0, 24, .."""
    folder = tmp_path_factory.mktemp("parts")

    def stream(number: int, n: int = N, suffix: str = "ts", **options) -> bytes:
        return encode_bytes(folder / f"part.{suffix}", start=N * number, n=n, **options)

    return {
        "first": stream(0),
        "second": stream(1),
        "third": stream(2),
        "hour": stream(0, mux=HOUR),
        "wrapping": stream(0, n=2 * N, mux=BEFORE_WRAP),
        "long": stream(0, n=5 * N),
        "one": stream(0, n=1),
        "no_key": stream(1, edit_packet=lambda i, packet: None if i < 4 else packet),
        "mkv": stream(0, suffix="mkv"),
        "second_mkv": stream(1, suffix="mkv"),
        "mpg": stream(0, suffix="mpg", codec="mpeg2video", fps=25),
        "second_mpg": stream(1, suffix="mpg", codec="mpeg2video", fps=25),
    }


JOINED = {
    "restart": ("first", "second"),
    "twice": ("first", "second", "third"),
    "long": ("long", "second"),
    "hour_back": ("hour", "second"),  # which FFmpeg takes for a wrap of 26.5 hours
    "wrap": ("wrapping",),
    "wrap_and_restart": ("wrapping", "third"),
    "one_frame": ("one", "one", "first"),
    "matroska": ("mkv", "second_mkv"),
    "programme_stream": ("mpg", "second_mpg"),
}


def suffix_of(names: tuple[str, ...]) -> str:
    return next((kind for kind in ("mkv", "mpg") if names[0].endswith(kind)), "ts")


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", JOINED)
def test_joined_files_follow_one_another(parts, tmp_path, kind):
    names, suffix = JOINED[kind], suffix_of(JOINED[kind])
    alone = [write(tmp_path, f"{number}.{suffix}", parts[name]) for number, name in enumerate(names)]
    joined = write(tmp_path, f"joined.{suffix}", b"".join(parts[name] for name in names))
    codes, lengths = [], []
    for path in alone:
        with open_video(path) as video:
            codes += [read_index(frame) for _, frame in video.stream()]
            lengths.append(video.info.duration_s)
    with open_video(joined) as video:
        streamed = list(video.stream())
        assert [read_index(frame) for _, frame in streamed] == codes
        assert video.info.frames == len(codes)
        assert video.info.duration_s == pytest.approx(sum(lengths), rel=0.02)
        assert video.info.fps == pytest.approx(25 if suffix == "mpg" else FPS, rel=0.02)
        steps = np.diff(video.times)
        assert steps == pytest.approx(1 / video.info.fps, rel=0.05)
        assert [seconds for seconds, _ in streamed] == pytest.approx(list(video.times))
        frames = np.stack([frame for _, frame in streamed])
        assert np.array_equal(video.read(range(len(codes))), frames)
        chosen = np.random.default_rng(0).integers(0, len(codes), 9)
        assert np.array_equal(video.read(chosen), frames[chosen])
        assert np.array_equal(video.at(video.times[chosen]), frames[chosen])
    found = scan(joined)
    assert (found.status, found.frames, found.cause) == ("ok", len(codes), "")


def test_a_join_that_loses_frames_is_said(parts, tmp_path):
    """The second file begins in the middle of a group; its frames come out in disorder, or not at all."""
    found = scan(write(tmp_path, "joined.ts", parts["first"] + parts["no_key"]))
    assert found.status == "partial"
    assert found.cause == f"{found.frames} of {2 * N - 4} frames"
    assert found.duration_s == pytest.approx(found.frames / FPS)  # by the rate, as times are not to be had


def test_a_clock_that_goes_forward_is_believed(parts, tmp_path):
    path = write(tmp_path, "gap.ts", parts["second"] + parts["hour"])
    with open_video(path) as video:
        assert video.info.frames == 2 * N
        assert np.diff(video.times).max() == pytest.approx(3600, rel=0.01)


@pytest.mark.parametrize("name", ["first", "big"])
def test_a_joined_stream_under_another_number_is_said(parts, tmp_path, name):
    """FFmpeg sees a second stream, or nothing of it where it begins behind what is probed."""
    path = tmp_path / "other.ts"
    encode(path, start=N, mux={"mpegts_start_pid": "0x101"})
    big = {"big": encode_bytes(tmp_path / "big.ts", n=160, size=(640, 480), options={"qp": "4"})}
    tail = path.read_bytes() * (1 if name == "first" else 40)
    joined = write(tmp_path, "joined.ts", (parts | big)[name] + tail)
    found = scan(joined)
    assert found.status == "partial"
    assert "the picture goes on in another stream, which is not read" in found.cause
    with open_video(joined) as video:
        assert [read_index(frame) for _, frame in video.stream()] == list(range(found.frames))


def test_lines_of_small_clocks():
    def line(pts, dts, wraps=True, keys=None):
        keys = [True] + [False] * (len(pts) - 1) if keys is None else keys
        arrays = [np.array(values, dtype=np.int64) for values in (pts, dts, [10] * len(pts))]
        return line_of_packets(*arrays, np.array(keys, dtype=bool), wraps)

    steady = line([10, 30, 20, 40], [0, 10, 20, 30])
    assert (list(steady.times), steady.restarts) == ([10, 30, 20, 40], 0)
    again = line([10, 30, 20, 10, 30, 20], [0, 10, 20, 0, 10, 20])
    assert (list(again.times), again.restarts) == ([10, 30, 20, 40, 60, 50], 1)
    wrapped = line([10, 20, 30 - 2**33, 40 - 2**33], [10, 20, 30 - 2**33, 40 - 2**33])
    assert (list(wrapped.times), wrapped.restarts) == ([10, 20, 30, 40], 0)
    other = line([10, 30, 20, 10, 30, 20], [0] * 6, wraps=False, keys=[1, 0, 0, 1, 0, 0])
    assert (list(other.times), other.restarts) == ([10, 30, 20, 40, 60, 50], 1)
    frames = line_of_frames(np.array([10, 20, 30, 10, 20]), wraps=True)
    assert (list(frames.times), frames.restarts) == ([10, 20, 30, 40, 50], 1)
