"""Packets that nobody needs are left out of decoding, and not one pixel of the others changes."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import av
import numpy as np
import pytest

from foveate.video import Limits, container, open_video
from foveate.video.disposable import H264Packets
from make_bad_videos import encode, read_index

N = 96
STREAMS = {
    "plain.mp4": {"options": {"g": "48", "bf": "3", "x264-params": "b-pyramid=none"}},
    "pyramid.mkv": {"options": {"g": "48", "bf": "5", "x264-params": "b-pyramid=normal:b-adapt=0"}},
    "slices.mp4": {"options": {"g": "24", "bf": "2", "x264-params": "slices=4:nal-hrd=vbr:vbv-maxrate=900"}},
    "open.flv": {"options": {"g": "24", "bf": "3", "x264-params": "open-gop=1"}},
    "fields.mkv": {"options": {"g": "48", "bf": "3", "x264-params": "tff=1"}},
}


@pytest.fixture(scope="module", params=STREAMS)
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("stream") / request.param
    settings = STREAMS[request.param]
    encode(path, n=N, **settings | {"options": {"preset": "medium", **settings["options"]}})
    return path


def decoded(path: Path, skip: str = "DEFAULT") -> dict[int, np.ndarray]:
    """Frames by time as PyAV gives them, without those that FFmpeg's decoder can skip."""
    with av.open(str(path)) as file:
        context = file.streams.video[0].codec_context
        context.thread_count, context.skip_frame = 1, skip
        return {frame.pts: frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)}


def needed(path: Path) -> set[int]:
    """Times of the frames whose packets are found to be needed by others."""
    with av.open(str(path)) as file:
        syntax = H264Packets.of(file.streams.video[0].codec_context)
        return {packet.pts for packet in file.demux(video=0) if packet.size and not syntax.disposable(packet)}


def test_the_packets_left_out_are_those_that_the_decoder_can_skip(stream):
    assert needed(stream) == set(decoded(stream, "NONREF")) < set(decoded(stream))


@pytest.mark.parametrize("name", ["carphone_pristine.mp4", "bikes.mp4"])
def test_so_it_is_in_real_clips(clips, name):
    assert needed(clips[name]) == set(decoded(clips[name], "NONREF"))


def test_every_frame_comes_out_as_from_a_whole_pass(stream):
    reference = list(decoded(stream).values())
    with open_video(stream) as video:
        for wanted in (range(5, N, 11), [N - 1], [N - 2, N - 1], [1], range(30, 60), [47, 48, 49], range(N)):
            assert np.array_equal(video.read(wanted), np.stack([reference[i] for i in wanted])), wanted
        assert not video.damage
    with open_video(stream, limits=Limits(threads=3)) as video:
        assert np.array_equal(
            video.read([3, 40, 41, N - 1]), np.stack([reference[i] for i in (3, 40, 41, N - 1)])
        )


def test_fewer_frames_are_decoded(tmp_path):
    encode(tmp_path / "clip.mp4", n=N, options={"g": "96", "bf": "3"})
    with open_video(tmp_path / "clip.mp4") as video:
        assert video.frames_decoded == 1
        assert read_index(video.read([90])[0]) == 90
        needed_before = sum(pts < video._index.pts[92] for pts in needed(tmp_path / "clip.mp4"))
        assert video.frames_decoded - 1 <= needed_before + 1 < 60


def test_damage_in_a_frame_left_out_is_met_when_that_frame_is_wanted(tmp_path):
    """As a seek does, leaving out steps over damage unseen; what is read is right either way."""
    path, spoiled = tmp_path / "clip.mp4", []

    def spoil(i: int, packet: av.Packet) -> av.Packet:
        data = bytes(packet)
        if i > 20 and not spoiled and not data[4] & 96 and data[4] & 31 == 1:
            broken = av.Packet(data[:4] + bytes([data[4]]) + b"\xff" * (len(data) - 5))
            broken.pts, broken.dts, broken.time_base, broken.stream = (
                packet.pts,
                packet.dts,
                packet.time_base,
                packet.stream,
            )
            broken.duration = packet.duration
            spoiled.append(packet.pts)
            return broken
        return packet

    encode(path, n=N, options={"g": "96", "bf": "3", "b_strategy": "0"}, edit_packet=spoil)
    with open_video(path) as video:
        assert read_index(video.read([80])[0]) == 80 and not video.damage
        assert spoiled and video.info.frames == N
        video.read(range(40))
        assert video.damage


def test_a_file_is_opened_once_for_all_reads(clips, monkeypatch):
    opened = []

    class CountingDecoder(container.Decoder):
        def __init__(self, *arguments):
            opened.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(container, "Decoder", CountingDecoder)
    with open_video(clips["carphone_pristine.mp4"]) as video:
        frames = video.read(range(120))
        for wanted in ([50], [3, 90], [3]):
            assert np.array_equal(video.read(wanted), frames[wanted])
        assert len(opened) == 1
        halves = video.iterate([1, 2, 60]), video.iterate([61, 62])  # two at once need two
        assert all(np.array_equal(next(half), frames[i]) for half, i in zip(halves, (1, 61), strict=True))
    assert len(opened) == 2


def test_a_closed_video_holds_no_file_and_can_be_read_again(stream):
    def held() -> int:
        names = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return sum(os.path.realpath(name) == str(stream) for name in names)

    with open_video(stream) as video:
        video.read([5])
        copy = pickle.loads(pickle.dumps(video))
    assert held() == 0
    assert read_index(copy.read([7])[0]) == read_index(video.read([7])[0]) == 7
    video.close()
    copy.close()
