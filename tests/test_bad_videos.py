"""Every odd, damaged and hostile file gets the answer it deserves, quickly, and never a silent one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import make_bad_videos
from foveate.video import DecodeError, Limits, Scan, open_video, scan
from make_bad_videos import KINDS, encode, encode_bytes, picture, png, read_index

PARTIAL = [name for name, (entry, _) in KINDS.items() if entry.policy == "partial"]
REFUSED = [name for name, (entry, _) in KINDS.items() if entry.policy in ("refuse", "either")]
ACCEPTED = [name for name, (entry, _) in KINDS.items() if entry.policy == "accept"]
NUMBERED = [name for name in ACCEPTED if KINDS[name][0].indexed]
NOBODY = 65534


def path_of(corpus, kind: str) -> Path:
    return corpus[0] / KINDS[kind][0].file


def test_the_corpus_is_what_the_tests_think(corpus):
    assert len(corpus[1]["files"]) == len(PARTIAL) + len(REFUSED) + len(ACCEPTED) == 86
    assert make_bad_videos.verify(corpus[0], corpus[1]["files"]) == []


@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_right_file_raises_no_alarm(corpus, kind):
    entry, _ = KINDS[kind]
    result = scan(path_of(corpus, kind))
    assert (result.status, result.cause) == ("ok", "")
    if entry.frames_expected is not None:
        assert result.frames == entry.frames_expected
    with open_video(path_of(corpus, kind)) as video:
        info = video.info
        assert (info.frames, info.width, info.height) == (result.frames, result.width, result.height)
        ends = video.read([0, video.info.frames - 1])
        assert ends.shape == (2, result.height, result.width, 3)
        assert not video.damage


@pytest.mark.parametrize("kind", NUMBERED)
def test_each_frame_is_the_one_asked_for(corpus, kind):
    with open_video(path_of(corpus, kind)) as video:
        upright = (
            video.info.width == 64 and video.info.height == 96
        )  # rotated_90: the bar code lies on its side
        turn = 1 if upright else 0
        total = video.info.frames

        def codes(frames) -> list[int]:
            return [read_index(np.rot90(frame, turn)) for frame in frames]

        streamed = [frame for _, frame in video.stream()]
        first = codes(streamed[:1])[0]
        expected = list(range(first, first + total))
        assert codes(streamed) == expected
        assert codes(video.read(range(total))) == expected
        assert codes(video.read(range(total - 1, -1, -1))) == expected[::-1]
        mixed = np.random.default_rng(1).integers(0, total, 9)
        assert codes(video.read(mixed)) == [first + int(i) for i in mixed]
        for i in mixed[:3]:
            assert np.array_equal(video.read([i])[0], streamed[i])
        times = video.times
        if (np.diff(times) > 0).all():
            assert codes(video.at(times)) == expected


@pytest.mark.parametrize("kind", PARTIAL)
def test_damage_is_named_and_what_is_left_can_be_read(corpus, kind):
    entry, _ = KINDS[kind]
    result = scan(path_of(corpus, kind))
    assert result.status == "partial"
    assert result.cause and "\n" not in result.cause
    assert 0 < result.frames <= entry.frames_intended
    with open_video(path_of(corpus, kind)) as video:
        left = video.read(range(result.frames))
        streamed = np.stack([frame for _, frame in video.stream()])
        assert np.array_equal(left, streamed)
        assert video.damage and video.info.frames == result.frames
        with pytest.raises(DecodeError, match=f"frame {result.frames} does not exist.*foveate data check"):
            video.read([result.frames])
    for threads in (1, 2):
        with open_video(path_of(corpus, kind), limits=Limits(threads=threads)) as video:
            # a fresh one, which may not know of the damage yet
            assert np.array_equal(np.stack(list(video.iterate(range(result.frames)))), streamed)


def test_the_cause_says_how_much_is_missing(corpus):
    with open_video(path_of(corpus, "cut_last_bytes")) as video, pytest.raises(DecodeError) as caught:
        video.read([23])
    assert "cut_last_bytes.mp4: frame 23 does not exist: 23 of 24 frames: the data ends early" in str(
        caught.value
    )
    headless = scan(path_of(corpus, "no_keyframe_at_start"))
    assert headless.cause == "12 of 23 frames: the first key frame is missing"
    assert scan(path_of(corpus, "cut_mkv")).cause == "the data ends early, at 1.0 of 2.0 s"


UNSEEN_BY_PACKETS = {  # damage inside pictures, and a cut that only the last picture shows
    *("cut_ts", "zeroed_middle", "bit_flips_h264", "bit_flips_mpeg2", "one_bad_jpeg")
}


@pytest.mark.parametrize("kind", [*PARTIAL, *REFUSED])
def test_packets_alone_show_most_of_what_is_wrong(corpus, kind):
    quick = quick_scan(path_of(corpus, kind))
    assert (quick.status == "ok") == (kind in UNSEEN_BY_PACKETS)
    full = scan(path_of(corpus, kind))
    if quick.status == "refused" or full.status == "refused":
        assert quick == full


@pytest.mark.parametrize("kind", ACCEPTED)
def test_packets_alone_raise_no_alarm_and_count_right(corpus, kind):
    path = path_of(corpus, kind)
    assert quick_scan(path) == scan(path)
    with open_video(path, quick=True) as video:
        video.scan()
        assert video.frames_decoded < max(8, video.info.frames)


def test_the_documents_say_what_packets_show():
    bad = len(PARTIAL) + len(REFUSED)
    said = f"{bad - len(UNSEEN_BY_PACKETS)} of the {bad} kinds"
    text = (Path(__file__).parents[1] / "docs/data.md").read_text()
    assert said in " ".join(text.split())


def quick_scan(path: Path) -> Scan:
    try:
        with open_video(path, quick=True) as video:
            return video.scan()
    except DecodeError as error:
        return Scan("refused", error.cause)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_a_video_is_refused_in_one_line(corpus, kind):
    path = path_of(corpus, kind)
    result = scan(path)
    assert result.status == "refused" and result.frames == 0
    with pytest.raises(DecodeError) as caught:
        open_video(path)
    line = str(caught.value)
    assert line.startswith(str(path)) and len(line.splitlines()) == 1
    assert result.cause in line and caught.value.hint in line and caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("zero_byte", "empty"),
        ("html_error_page", "web page"),
        ("zip_renamed", "zip archive"),
        ("text_renamed", "text file"),
        ("png_renamed", "still picture"),
        ("audio_only", "no video stream"),
        ("no_moov", "never finished"),
        ("no_mdat", "picture data is missing"),
        ("noise_mdat", "0 of 24 frames"),
        ("concat_script", "points to other files"),
        ("playlist_renamed", "points to other files"),
        ("special_directory", "without numbered pictures"),
        ("special_dangling", "link to a file that does not exist"),
        ("special_loop", "leads to itself"),
        ("special_fifo", "named pipe"),
    ],
)
def test_the_cause_is_in_words(corpus, kind, words):
    assert words in scan(path_of(corpus, kind)).cause


def test_still_pictures_of_any_kind_are_refused(tmp_path):
    path = tmp_path / "picture.mp4"
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF"):
        Image.fromarray(picture(3)).save(path, format=kind)
        assert "still picture" in scan(path).cause, kind
    encode(path, codec="libsvtav1", n=1, options={"preset": "12"}, fmt="avif")  # a picture inside MP4
    if hasattr(os, "sched_setscheduler"):  # as root SVT-AV1 leaves its caller with real-time priority
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    assert "still picture" in scan(path).cause


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", [name for name in KINDS if name.startswith("special")])
def test_what_is_no_file_is_refused_at_once(corpus, kind):
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assert scan(path_of(corpus, kind)).status == "refused"
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.1


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("live.mp4")
        assert scan("live.mp4").cause == "a socket, not a file"


@pytest.mark.timeout(30)
def test_a_script_never_opens_its_neighbour(corpus, tmp_path):
    script = tmp_path / "innocent.mp4"
    script.write_text("ffconcat version 1.0\nfile neighbour.mkv\n")
    shutil.copy(path_of(corpus, "plain_mkv"), tmp_path / "neighbour.mkv")
    with av.open(str(script)) as naive:
        assert sum(1 for _ in naive.decode(video=0)) == 24  # so the danger is real
    (tmp_path / "neighbour.mkv").unlink()
    os.mkfifo(tmp_path / "neighbour.mkv")  # opening it would wait for ever
    assert scan(script).status == "refused"


@contextmanager
def nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read(corpus):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        secret = Path(folder, "secret.mp4")
        shutil.copy(path_of(corpus, "plain_mp4"), secret)
        shutil.copy(path_of(corpus, "plain_mp4"), Path(folder, "secret.npy"))
        for file in (secret, Path(folder, "secret.npy")):
            file.chmod(0)
            with nobody():
                assert scan(file).cause == "permission denied"


def test_a_file_that_is_not_there(tmp_path):
    assert scan(tmp_path / "missing.mp4").cause == "no such file"
    assert scan(tmp_path / ("x" * 300)).status == "refused"
    assert scan("a\0b.mp4").status == "refused"


def test_a_name_that_is_not_utf8(corpus):
    with tempfile.TemporaryDirectory() as folder:
        name = os.fsencode(folder) + b"/\xff\xfe.mp4"
        shutil.copy(path_of(corpus, "plain_mp4"), name)
        path = Path(os.fsdecode(name))
        assert scan(path).status == "ok"
        with open_video(path) as video, pytest.raises(DecodeError) as caught:
            video.read([24])
        assert json.loads(json.dumps(str(caught.value))) == str(caught.value)


def test_a_relative_name_is_not_taken_for_a_protocol(corpus, monkeypatch):
    monkeypatch.chdir(corpus[0])
    for kind in ("name_colon", "name_dash", "name_pattern", "name_newline"):
        assert scan(KINDS[kind][0].file).frames == 6


def replace_packets(which: range, payload: bytes):
    """An `edit_packet` that puts another picture in place of some packets."""

    def edit(i: int, packet: av.Packet) -> av.Packet:
        if i not in which:
            return packet
        other = av.Packet(payload)
        other.pts, other.dts, other.time_base, other.stream = (
            packet.pts,
            packet.dts,
            packet.time_base,
            packet.stream,
        )
        other.is_keyframe = True
        return other

    return edit


@pytest.fixture(scope="module")
def bombs(corpus, tmp_path_factory) -> list[Path]:
    """Files that unfold to 768 MB a picture: alone, inside a video, in its middle, as a GIF canvas."""
    folder = tmp_path_factory.mktemp("bombs")
    huge = png(16000, 16000, (b"\0" + bytes(2000)) * 16000, depth=1)
    encode(folder / "all.mov", codec="png", pix_fmt="rgb24", n=6, edit_packet=replace_packets(range(6), huge))
    encode(
        folder / "middle.mov",
        codec="png",
        pix_fmt="rgb24",
        n=6,
        edit_packet=replace_packets(range(3, 4), huge),
    )
    gif = encode_bytes(folder / "plain.gif", codec="gif", pix_fmt="rgb8", n=3)
    (folder / "canvas.gif").write_bytes(gif[:6] + struct.pack("<HH", 16000, 16000) + gif[10:])
    inside = [folder / name for name in ("all.mov", "middle.mov", "canvas.gif")]
    return inside + [path_of(corpus, kind) for kind in KINDS if kind.startswith("picture_")]


def test_bombs_are_refused_before_they_unfold(corpus, bombs):
    program = """
import resource, sys
from foveate.video import scan
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
scan(sys.argv[1])
before = peak()
print(*(scan(path).status for path in sys.argv[2:]), peak() - before)
"""
    command = [sys.executable, "-c", program, str(path_of(corpus, "plain_mp4")), *map(str, bombs)]
    *statuses, grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert statuses == ["refused"] * 6
    assert int(grown) < 100  # MB


def test_a_bomb_in_the_middle_is_named_and_what_lies_before_it_is_not_lost(bombs):
    middle = next(path for path in bombs if path.name == "middle.mov")
    assert "larger than 16777216 pixels" in scan(middle).cause
    with open_video(middle) as video:
        assert [read_index(frame) for frame in video.read([0, 1, 2])] == [0, 1, 2]
        with pytest.raises(DecodeError, match="larger than"):
            video.read([3])


def test_limits_can_be_lowered(corpus):
    plain = path_of(corpus, "plain_mp4")
    assert scan(plain, limits=Limits(max_pixels=96 * 64)).status == "ok"
    assert "larger than 6143 pixels" in scan(plain, limits=Limits(max_pixels=96 * 64 - 1)).cause
    assert "more than 23 frames" in scan(plain, limits=Limits(max_frames=23)).cause


def test_lying_tables_and_clocks(tmp_path):
    """More headers that lie: a clock of zero, four thousand million samples, a table beyond the file."""
    data = make_bad_videos.front(tmp_path / "x.mp4")

    def variant(box: str, offset: int, value: bytes) -> Path:
        at = make_bad_videos.box(data, box)[1] + offset
        (tmp_path / "variant.mp4").write_bytes(make_bad_videos.patch(data, at, value))
        return tmp_path / "variant.mp4"

    table = "moov/trak/mdia/minf/stbl/"
    assert scan(variant(table + "stts", 8, struct.pack(">I", 4_000_000_000))).status == "ok"
    assert scan(variant(table + "stsz", 8, struct.pack(">I", 2_000_000_000))).status == "refused"
    assert scan(variant("moov/mvhd", 12, bytes(4))).status == "ok"
    assert scan(variant("moov/trak/mdia/mdhd", 12, bytes(4))).cause == "1 of 24 frames"


@pytest.mark.parametrize(("first", "count"), [(5, 19), (12, 3)])
def test_a_trimmed_clip_shows_only_its_part(tmp_path, first, count):
    """An edit list may start between two key frames: what lies before is decoded and not shown."""
    data = make_bad_videos.front(tmp_path / "x.mp4", options={"bf": "0"})
    scale = struct.unpack_from(">I", data, make_bad_videos.box(data, "moov/trak/mdia/mdhd")[1] + 12)[0]
    movie = struct.unpack_from(">I", data, make_bad_videos.box(data, "moov/mvhd")[1] + 12)[0]
    edit = struct.pack(">Ii", movie * count // 12, scale * first // 12)
    at = make_bad_videos.box(data, "moov/trak/edts/elst")[1] + 8
    (tmp_path / "trimmed.mp4").write_bytes(make_bad_videos.patch(data, at, edit))
    assert scan(tmp_path / "trimmed.mp4").status == "ok"
    with open_video(tmp_path / "trimmed.mp4") as video:
        assert [read_index(f) for f in video.read(range(count))] == list(range(first, first + count))


def test_a_lost_frame_deep_inside_a_long_file(tmp_path):
    """A seek steps over damage unseen; once it is met, frames are numbered by what really comes out."""

    def spoil(i: int, packet: av.Packet) -> av.Packet:
        return replace_packets(range(30, 31), bytes(packet.size))(i, packet)

    path = tmp_path / "hole.mp4"
    encode(path, codec="mjpeg", pix_fmt="yuvj420p", n=60, edit_packet=spoil)
    with open_video(path) as video:
        assert video.info.frames == 60 and read_index(video.read([50])[0]) == 50
        assert [read_index(frame) for frame in video.read(range(28, 32))] == [28, 29, 31, 32]
        assert video.damage == ["59 of 60 frames: 1 packet cannot be decoded"]
        assert video.info.frames == 59 and read_index(video.read([58])[0]) == 59
        assert video.times[30] == pytest.approx(31 / 12)  # the time of what is shown, not of its number


def test_a_file_that_changes_under_the_reader(tmp_path):
    path = tmp_path / "growing.mp4"
    encode(path, n=6)
    with open_video(path) as video:
        encode(path, n=12)
        with pytest.raises(DecodeError, match="changed after it was opened"):
            video.read([0])
        path.unlink()
        with pytest.raises(DecodeError, match="no such file"):
            video.read([0])


@pytest.mark.parametrize("kind", ["plain_mp4", "plain_mkv", "full_range", "late_start", "vp9", "raw_stream"])
def test_random_damage_gives_an_answer_and_never_a_silent_one(corpus, tmp_path, kind):
    source = path_of(corpus, kind)
    whole = source.read_bytes()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        at, length = int(rng.integers(len(whole))), int(rng.integers(1, 400))
        noise = rng.integers(0, 256, length, np.uint8).tobytes()
        damaged = [whole[:at], whole[:at] + noise + whole[at:], whole[:at] + noise + whole[at + length :]][
            seed % 3
        ]
        target = tmp_path / f"damaged{source.suffix}"
        target.write_bytes(damaged)
        result = scan(target)
        if result.status == "refused":
            continue
        with open_video(target) as video:
            streamed = np.stack([frame for _, frame in video.stream()])
            assert bool(video.damage) == (result.status == "partial")
            assert len(streamed) == result.frames == video.info.frames
            assert np.array_equal(video.read(range(result.frames)), streamed)


def test_the_bar_code_survives_so_that_identity_means_something():
    assert [read_index(picture(i)) for i in range(256)] == list(range(256))
