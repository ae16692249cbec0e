"""Frames come back exactly as a plain decoder yields them, from files, folders of pictures and arrays."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from foveate.errors import UsageError
from foveate.video import DecodeError, Limits, container, open_video, scan
from foveate.video.source import FileOnDisk
from make_bad_videos import encode, picture, read_index

GROUPS = {
    "closed.mp4": {"options": {"g": "12", "bf": "3"}},
    "open.mkv": {"options": {"g": "12", "bf": "3", "x264-params": "open-gop=1:keyint=12"}},
    "refresh.mkv": {"options": {"g": "12", "bf": "0", "x264-params": "intra-refresh=1:keyint=12"}},
    "intra.mp4": {"options": {"g": "1", "bf": "0"}},
    "fragments.mp4": {"mux": {"movflags": "+frag_keyframe+empty_moov+default_base_moof"}},
    "hevc.mp4": {"codec": "libx265"},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "12", "cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "12"}},
    "mpeg2.mkv": {"codec": "mpeg2video", "fps": 25, "options": {"g": "12", "bf": "2"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "h264.flv": {"options": {"g": "12", "bf": "2"}},
    "h264.ts": {"options": {"g": "12", "bf": "2"}},
    "mov_png.mov": {"codec": "png", "pix_fmt": "rgb24"},
}
FORMATS = (
    *("gray.mkv", "ten_bit.mp4", "hdr_pq.mp4", "alpha.mov", "full_range.avi", "interlaced.mpg"),
    *("animation.gif", "vp9.webm", "odd_size.mp4", "odd_size_420.avi", "two_by_two.mp4", "very_wide.mp4"),
)
N = 60


def plain(path: Path) -> list[np.ndarray]:
    """What PyAV yields from start to end, as RGB: the frames that the numbering is about."""
    with av.open(str(path)) as file:
        file.streams.video[0].codec_context.thread_count = 1
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def codes(frames: np.ndarray) -> list[int]:
    return [read_index(frame) for frame in frames]


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 frames in ten groups of twelve, at 12 frames a second."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    encode(path, n=120, options={"g": "12", "bf": "2"})
    return path


# ---- container files


@pytest.mark.parametrize(
    ("name", "size", "fps", "frames"),
    [
        ("carphone_pristine.mp4", (176, 144), 30000 / 1001, 120),
        ("bikes.mp4", (640, 272), 25.0, 250),
        ("bigbuckbunny.mp4", (1280, 720), 25.0, 132),
    ],
)
def test_what_is_known_of_a_real_clip(clips, name, size, fps, frames):
    with open_video(clips[name]) as video:
        info = video.info
    assert (info.width, info.height, info.frames, info.codec) == (*size, frames, "h264")
    assert info.fps == pytest.approx(fps) and info.duration_s == pytest.approx(frames / fps, abs=0.01)
    assert info.name == str(clips[name])


def test_a_real_clip_is_whole_and_exact(clips):
    path = clips["bikes.mp4"]
    assert scan(path).status == "ok"
    reference = plain(path)
    with open_video(path) as video:
        asked = [249, 3, 130, 3, 0, 77, 248]
        assert np.array_equal(video.read(asked), np.stack([reference[i] for i in asked]))


@pytest.mark.parametrize("name", GROUPS)
def test_seeking_gives_the_frames_of_a_pass_from_the_start(tmp_path, name):
    path = tmp_path / name
    encode(path, n=N, **GROUPS[name])
    reference = plain(path)
    assert len(reference) == N
    with open_video(path) as video:
        assert video.info.frames == N
        for wanted in ([N - 1], [13], [0, N - 1], [2, 25, 26, 51], [40, 5, 40]):
            assert np.array_equal(video.read(wanted), np.stack([reference[i] for i in wanted])), wanted
        for wanted in (range(20, 45), [2, 25, 26, 51]):
            picked = np.stack(list(video.iterate(wanted)))
            assert np.array_equal(picked, np.stack([reference[i] for i in wanted])), wanted
        assert all(np.array_equal(rgb, reference[i]) for i, (_, rgb) in enumerate(video.stream()))
        assert not video.damage
    assert scan(path).status == "ok"


def test_only_needed_frames_are_converted_and_whole_groups_are_skipped(long_clip, monkeypatch):
    converted = []

    class CountingRGBConverter(container.RGBConverter):
        def __call__(self, frame):
            converted.append(frame.pts)
            return super().__call__(frame)

    monkeypatch.setattr(container, "RGBConverter", CountingRGBConverter)
    with open_video(long_clip) as video:
        before = video.frames_decoded
        assert before <= 4 and not converted  # the first frame only, and what is complete with it
        assert codes(video.read([115, 3, 3, 115])) == [115, 3, 3, 115]
        assert len(converted) == 2
        # up to frame 3, then the last group, and the few that each decoding holds back
        assert video.frames_decoded - before <= 4 + 8 + 8
        before = video.frames_decoded
        assert codes(video.read([10, 14])) == [10, 14]
        assert video.frames_decoded - before <= 15 + 4  # neighbouring groups: one pass, no frame twice


def test_no_frame_of_a_small_file_is_decoded_twice(long_clip):
    """What opening has decoded is where the first read goes on; a file that is not small seeks back."""
    with open_video(long_clip) as video:
        assert codes(video.read(range(video.info.frames))) == list(range(video.info.frames))
        assert video.frames_decoded == video.info.frames
        assert codes(video.read([0, 1])) == [0, 1]


def test_picking_stops_at_the_last_frame_and_holds_none(long_clip):
    with open_video(long_clip) as video:
        before = video.frames_decoded
        assert [read_index(frame) for frame in video.iterate(range(62, 80))] == list(range(62, 80))
        assert video.frames_decoded - before <= 20 + 12  # from frame 60 on, and what decoding holds back


def test_one_thread_decodes_unless_more_are_asked_for(long_clip):
    with container.Decoder(FileOnDisk(long_clip), Limits()) as decoder:
        assert decoder.stream.codec_context.thread_count == 1
    with open_video(long_clip, limits=Limits(threads=2)) as video:
        assert codes(video.read([7, 119])) == [7, 119]


def test_no_frames_asked_for(long_clip):
    with open_video(long_clip) as video:
        assert video.read([]).shape == (0, 64, 96, 3)


@pytest.mark.parametrize("wrong", [-1, 120, 10**12])
def test_a_frame_that_does_not_exist(long_clip, wrong):
    with (
        open_video(long_clip) as video,
        pytest.raises(DecodeError, match=f"frame {wrong} does not exist") as caught,
    ):
        video.read([0, wrong])
    with open_video(long_clip) as video, pytest.raises(DecodeError, match="frames count from 0"):
        list(video.iterate([0, 10**6]))
    assert "the video has 120 frames" in str(caught.value)


def test_half_a_frame_is_a_mistake_of_the_caller(long_clip):
    with open_video(long_clip) as video, pytest.raises(TypeError, match="must be integers"):
        video.read([0.5])


def test_the_frame_shown_at_a_time(long_clip):
    with open_video(long_clip) as video:
        assert codes(video.at([0.0, 1 / 12, 0.99 / 12, 5.04, 10.0, 3.0])) == [0, 1, 0, 60, 119, 36]
        for outside in (-0.5, 10.5, float("nan")):
            with pytest.raises(DecodeError, match="no frame is shown"):
                video.at([outside])


def test_times_follow_the_clock_of_the_file(corpus):
    folder, _ = corpus
    with open_video(folder / "variable_rate.mp4") as video:
        assert np.allclose(video.times, [(i + i * i // 4) / 12 for i in range(24)], atol=1e-3)
        assert codes(video.at([video.times[20] + 0.4])) == [20]
        assert [round(s, 3) for s, _ in video.stream()] == [round(float(t), 3) for t in video.times]
        assert video.info.duration_s == pytest.approx(13.0)
    with open_video(folder / "late_start.ts") as video:
        assert video.times[0] == 0 and video.times[12] == pytest.approx(1.0, abs=1e-3)
    with open_video(folder / "time_gap_10h.mp4") as video:
        assert codes(video.at([0.95, 1800.0, 36001.0])) == [11, 11, 12]
    with open_video(folder / "duplicate_times.mkv") as video:
        assert codes(video.at([0.0, 0.5])) == [1, 7]  # of two frames at one time the later one stays
    with open_video(folder / "raw_stream.h264") as video:
        assert np.allclose(video.times, np.arange(24) / video.info.fps)


def test_rotation_is_applied(corpus):
    path = corpus[0] / "rotated_90.mp4"
    with open_video(path) as video:
        frames = video.read(range(24))
    assert frames.shape == (24, 96, 64, 3) and frames.flags.c_contiguous
    assert np.array_equal(frames, np.rot90(np.stack(plain(path)), -1, axes=(1, 2)))  # top edge to the right


def test_a_change_of_size_keeps_the_first_one(corpus):
    with open_video(corpus[0] / "size_change.ts") as video:
        frames = video.read(range(48))
        assert frames.shape == (48, 64, 96, 3) and codes(frames) == list(range(48))
        assert {rgb.shape for _, rgb in video.stream()} == {(64, 96, 3)}


@pytest.mark.parametrize("name", FORMATS)
def test_colours_are_those_of_a_plain_conversion(corpus, name):
    reference = np.stack(plain(corpus[0] / name)).astype(int)
    with open_video(corpus[0] / name) as video:
        frames = video.read(range(len(reference)))
    assert frames.dtype == np.uint8 and np.abs(frames - reference).max() <= 3


def test_a_drawn_picture_comes_back_in_its_colours(tmp_path):
    encode(tmp_path / "lossless.mkv", codec="ffv1", pix_fmt="bgr0", n=3)
    with open_video(tmp_path / "lossless.mkv") as video:
        assert np.array_equal(video.read([2])[0], picture(2))


def test_a_stream_does_not_hold_what_it_has_shown(clips):
    with open_video(clips["bigbuckbunny.mp4"]) as video:
        frames = video.stream()
        next(frames)
        tracemalloc.start()
        for _, (_, rgb) in zip(range(40), frames, strict=False):
            assert rgb.shape == (720, 1280, 3)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        frames.close()
    assert peak < 5 * rgb.nbytes  # forty would be 110 MB


# ---- folders of numbered pictures


def write_pictures(folder: Path, template: str, numbers, size: tuple[int, int] = (96, 64)) -> Path:
    folder.mkdir(exist_ok=True)
    for i, number in enumerate(numbers):
        Image.fromarray(picture(i, *size)).save(folder / template.format(number), quality=95)
    return folder


@pytest.mark.parametrize("template", ["img_{:05d}.jpg", "{}.png", "image_{:06d}.bmp", "Frame {:03d}.JPG"])
@pytest.mark.parametrize("base", [0, 1, 7])
def test_numbered_pictures(tmp_path, template, base):
    folder = write_pictures(tmp_path / "clip", template, range(base, base + 12))
    (folder / "notes.txt").write_text("not a picture")
    for given in (None, template):
        with open_video(folder, template=given) as video:
            assert (video.info.frames, video.info.width, video.info.height) == (12, 96, 64)
            assert codes(video.read([11, 0, 5, 5])) == [11, 0, 5, 5]
            assert codes([rgb for _, rgb in video.stream()]) == list(range(12))
            assert codes(video.at([0.04, 0.44])) == [1, 11] and video.info.fps == 25
            with pytest.raises(DecodeError, match="frame 12 does not exist"):
                video.read([12])
        assert scan(folder, template=given).status == "ok"


def test_a_template_in_printf_style_and_wrong_ones(tmp_path):
    folder = write_pictures(tmp_path / "clip", "img_{:05d}.jpg", range(1, 5))
    with open_video(folder, template="img_%05d.jpg") as video:
        assert video.info.frames == 4
    for wrong in ("image_{:05d}.jpg", "img_{:04d}.jpg", "img_{:05d}.png"):
        assert f"a folder without pictures like {wrong}" in scan(folder, template=wrong).cause
    with pytest.raises(UsageError, match="one number field"):
        open_video(folder, template="img.jpg")


def test_flow_beside_frames(tmp_path):
    """The larger family is taken; two equal ones need a template."""
    folder = write_pictures(tmp_path / "clip", "img_{:05d}.jpg", range(1, 6))
    write_pictures(folder, "flow_x_{:05d}.jpg", range(1, 5))
    with open_video(folder) as video:
        assert video.info.frames == 5
    write_pictures(folder, "flow_x_{:05d}.jpg", range(5, 6))
    assert "two series of pictures" in scan(folder).cause
    assert scan(folder, template="img_{:05d}.jpg").status == "ok"
    write_pictures(folder, "img_{:06d}.jpg", [3])
    assert "two pictures have the number 3" in scan(folder).cause


def test_missing_pictures_are_reported(tmp_path):
    every_fifth = write_pictures(tmp_path / "fifth", "{:04d}.jpg", range(0, 40, 5))
    assert scan(every_fifth).status == "ok"
    folder = write_pictures(tmp_path / "gap", "{:04d}.jpg", range(1, 11))
    (folder / "0004.jpg").unlink()
    (folder / "0005.jpg").unlink()
    result = scan(folder)
    assert (result.status, result.frames) == ("partial", 8)
    assert result.cause == "2 pictures are missing, the first after number 3"
    with open_video(folder) as video:
        assert video.damage == [result.cause] and codes(video.read([2, 3])) == [2, 5]


@pytest.mark.timeout(30)
def test_broken_pictures_are_named(tmp_path):
    folder = write_pictures(tmp_path / "clip", "{:04d}.jpg", range(8))
    cut = folder / "0003.jpg"
    cut.write_bytes(cut.read_bytes()[:400])
    (folder / "0005.jpg").write_text("no picture")
    (folder / "0006.jpg").unlink()
    os.mkfifo(folder / "0006.jpg")
    with open_video(folder) as video:
        assert codes(video.read([2, 4])) == [2, 4]
        for broken, cause in ((3, "truncated"), (5, "not a picture"), (6, "named pipe")):
            with pytest.raises(DecodeError, match=f"000{broken}.jpg: .*{cause}"):
                video.read([broken])
    result = scan(folder)
    assert (result.status, result.frames) == ("partial", 5)
    assert result.cause.startswith("5 of 8 pictures can be read (0003.jpg: ")


def test_pictures_of_other_sizes_and_kinds(tmp_path):
    folder = write_pictures(tmp_path / "clip", "{:02d}.png", range(4))
    Image.fromarray(picture(1, 192, 128)).save(folder / "01.png")
    Image.fromarray(picture(2)).convert("P").save(folder / "02.png")
    Image.fromarray((picture(3)[..., 1].astype(np.uint16) << 8) + 255).save(folder / "03.png")  # 16 bits
    with open_video(folder) as video:
        assert codes(video.read(range(4))) == [0, 1, 2, 3]
        assert np.array_equal(video.read([3])[0, ..., 0], picture(3)[..., 1])


def test_a_picture_bomb_in_a_folder(tmp_path):
    folder = write_pictures(tmp_path / "clip", "{:02d}.png", range(3))
    assert "larger than 6000 pixels" in scan(folder, limits=Limits(max_pixels=6000)).cause
    Image.new("1", (12000, 12000)).save(folder / "01.png")
    with open_video(folder) as video, pytest.raises(DecodeError, match=r"01\.png"):
        video.read([1])


# ---- arrays


def write_array(path: Path, frames: int = 10) -> Path:
    np.save(path, np.stack([picture(i) for i in range(frames)]))
    return path


def test_an_array_is_a_video(tmp_path):
    path = write_array(tmp_path / "clip.npy")
    with open_video(path) as video:
        assert (video.info.frames, video.info.width, video.info.height, video.info.fps) == (10, 96, 64, 25)
        assert np.array_equal(video.read([9, 0, 9]), np.stack([picture(9), picture(0), picture(9)]))
        assert codes([rgb for _, rgb in video.stream()]) == list(range(10))
        assert video.read([]).shape == (0, 64, 96, 3)
        with pytest.raises(DecodeError, match="frame 10 does not exist"):
            video.read([10])
    path.with_suffix(".json").write_text(json.dumps({"fps": 5}))
    with open_video(path) as video:
        assert video.info.duration_s == 2.0 and codes(video.at([1.0])) == [5]
    assert scan(path).status == "ok"


def test_an_array_is_not_read_whole(tmp_path):
    path = tmp_path / "big.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(400, 256, 256, 3)).flush()
    tracemalloc.start()
    with open_video(path) as video:
        video.read([0, 399])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # of 79 MB


@pytest.mark.parametrize("text", ["", "{}", '{"fps": 0}', '{"fps": "fast"}', '{"fps": NaN}', "[25]"])
def test_a_wrong_sidecar_is_named(tmp_path, text):
    path = write_array(tmp_path / "clip.npy", 2)
    path.with_suffix(".json").write_text(text)
    with pytest.raises(DecodeError, match=r"clip\.json: .*fps"):
        open_video(path)


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.zeros((4, 8, 8, 3), np.float32), "float32"),
        (np.zeros((4, 3, 8, 8), np.uint8), r"\(4, 3, 8, 8\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"\(0, 8, 8, 3\)"),
        (np.array([{}], dtype=object), "a damaged or truncated .npy file"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, cause):
    np.save(tmp_path / "clip.npy", array)
    with pytest.raises(DecodeError, match=cause):
        open_video(tmp_path / "clip.npy")


def test_a_cut_array_is_refused(tmp_path):
    path = write_array(tmp_path / "clip.npy")
    for size in (0, 5, 100, 20000):
        path.write_bytes(path.read_bytes()[:20000][:size])
        assert scan(path).status == "refused"
        write_array(path)
    assert "larger than 6143" in scan(path, limits=Limits(max_pixels=6143)).cause
    assert "more than 9 frames" in scan(path, limits=Limits(max_frames=9)).cause
