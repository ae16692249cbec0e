"""Sources that are looked at as they come: every frame of a file, the newest of anything live."""

from __future__ import annotations

import functools
import io
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from benchmarks.servers import Broadcast, transport_stream

from foveate.errors import UsageError
from foveate.video import DecodeError, open_video
from foveate.video.feed import Arrived, Feed, Timeline
from foveate.video.footage import Camera, PlainFile, open_footage
from rtsp_server import RTSPServer, units_of_frames

FRAMES, FPS = 50, 25


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames as a transport stream, as MP4 and as HLS of one second a segment."""
    folder = tmp_path_factory.mktemp("films")
    data = b"".join(transport_stream(FRAMES, FPS, 96, 64))
    (folder / "film.ts").write_bytes(data)
    for name, options in (("film.mp4", {}), ("film.m3u8", {"hls_time": "0.9", "hls_list_size": "0"})):
        with av.open(io.BytesIO(data)) as given, av.open(str(folder / name), "w", options=options) as out:
            stream = out.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    (folder / "words.txt").write_text("no video at all\n" * 20)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[str]:
    """The address of that folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def all_of(
    source: Path | str, follow: bool = False, idle: float = 0.5, **how: Any
) -> tuple[Feed, list[Arrived]]:
    with Feed(open_footage(str(source), follow, idle), **how) as feed:
        return feed, list(feed)


def times(arrived: list[Arrived]) -> list[float]:
    return [each.time_s for each in arrived]


EVERY = pytest.approx([place / FPS for place in range(FRAMES)], abs=1e-3)


@pytest.mark.parametrize("name", ["film.mp4", "film.ts", "film.m3u8"])
def test_a_file_loses_nothing_however_slow_its_reader(folder: Path, name: str) -> None:
    with Feed(open_footage(str(folder / name))) as feed:
        found = []
        for arrived in feed:
            time.sleep(0.002)
            found.append(arrived)
    assert times(found) == EVERY and (feed.frames, feed.dropped, feed.reconnects) == (FRAMES, 0, 0)
    with open_video(folder / "film.mp4") as video:
        same = video.read([7])[0]
    assert np.abs(found[7].rgb().astype(int) - same).max() <= 3


def test_only_so_many_frames_a_second_are_handed_on(folder: Path) -> None:
    feed, found = all_of(folder / "film.mp4", fps=5.0)
    assert times(found) == pytest.approx(np.arange(10) / 5, abs=1e-3) and feed.frames == FRAMES
    assert feed.dropped == 0


def test_in_real_time_a_slow_reader_loses_frames_and_no_time(folder: Path) -> None:
    begun, late = time.perf_counter(), []
    with Feed(open_footage(str(folder / "film.mp4")), realtime=True) as feed:
        for arrived in feed:
            late.append(time.perf_counter() - arrived.arrived)
            time.sleep(0.15)
    assert time.perf_counter() - begun > 1.9 and feed.frames == FRAMES
    assert feed.dropped > 20 and len(late) + feed.dropped == FRAMES and sorted(late)[len(late) // 2] < 0.15


@pytest.mark.parametrize("name", ["film.ts", "film.mp4"])
def test_a_named_pipe_that_another_process_fills(folder: Path, tmp_path: Path, name: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(["sh", "-c", f"sleep 0.3; cat '{folder / name}' > '{pipe}'"])
    feed, found = all_of(pipe, keep_all=True)
    assert times(found) == EVERY and feed.dropped == 0 and writer.wait() == 0


def test_a_pipe_nobody_writes_to_can_be_left(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Feed(open_footage(str(tmp_path / "pipe"))) as feed:
        assert feed.take(time.perf_counter() + 0.2) is None
    assert not feed._thread.is_alive()


def test_a_pipe_is_live(folder: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(["sh", "-c", f"cat '{folder / 'film.ts'}' > '{pipe}'"])
    with Feed(open_footage(str(pipe))) as feed:
        first = feed.take()
        assert writer.wait(timeout=10) == 0  # though nothing more was taken
        time.sleep(0.5)
        newest = list(feed)[-1]
    assert first is not None and newest.time_s == EVERY.expected[-1] and feed.dropped > 30


def test_a_growing_file_is_read_to_where_it_stops(folder: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "growing.ts", (folder / "film.ts").read_bytes()
    path.write_bytes(data[: len(data) // 2])

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            for start in range(len(data) // 2, len(data), 3000):
                time.sleep(0.05)
                file.write(data[start : start + 3000])

    writer = threading.Thread(target=write)
    writer.start()
    feed, found = all_of(path, follow=True, idle=1.0)
    writer.join()
    assert feed.frames == FRAMES and times(found)[-1] == EVERY.expected[-1]
    assert len(found) + feed.dropped == FRAMES and feed.dropped <= FRAMES // 2  # none that was there already


@pytest.mark.parametrize("name", ["film.m3u8", "film.ts", "film.mp4"])
def test_over_http(served: str, name: str) -> None:
    feed, found = all_of(f"{served}/{name}", keep_all=True)
    assert times(found) == EVERY and feed.reconnects == 0


def test_a_live_playlist_gets_its_own_speed_back(folder: Path, served: str) -> None:
    """Its segments come whole, a second at once, and only the last frame of each would be left."""
    lines = (folder / "film.m3u8").read_text().splitlines()
    ends = [place for place, line in enumerate(lines) if line.endswith(".ts")]
    live = folder / "live.m3u8"
    live.write_text("\n".join(lines[: ends[0] + 1]) + "\n")

    def publish() -> None:
        for end in ends[1:]:
            time.sleep(0.8)
            live.write_text("\n".join(lines[: end + 1]) + "\n")
        live.write_text("\n".join(lines) + "\n")

    publisher = threading.Thread(target=publish)
    publisher.start()
    begun = time.perf_counter()
    feed, found = all_of(f"{served}/live.m3u8")
    publisher.join()
    assert feed.frames == FRAMES and len(found) > 0.6 * FRAMES and feed.reconnects == 0
    assert time.perf_counter() - begun > 1.5


def test_rtsp() -> None:
    with (
        RTSPServer(units_of_frames(FRAMES, 320, 240)) as server,
        Feed(open_footage(server.url), reconnect=0) as feed,
    ):
        found = []
        with pytest.raises(DecodeError, match="broke off"):
            for arrived in feed:
                found.append(arrived)
    assert feed.frames == FRAMES and len(found) + feed.dropped == FRAMES and feed.damaged == 0
    assert times(found)[-1] == pytest.approx((FRAMES - 1) / FPS, abs=0.05)
    assert found[0].rgb().shape == (240, 320, 3)
    levels = [int(each.rgb().mean()) for each in found]
    assert levels == pytest.approx([4 * round(each.time_s * FPS) for each in found], abs=6)


def test_a_source_that_drops_ten_times_goes_on() -> None:
    found = []
    with (
        Broadcast(transport_stream(FRAMES, FPS, 96, 64), 10, 0.4, 0.4) as server,
        Feed(open_footage(server.url), reconnect=2, backoff_s=0.05) as feed,
        pytest.raises(DecodeError, match=r"server returned 5.*opened again 2 times"),
    ):
        for arrived in feed:
            found.append(arrived)
    assert feed.reconnects == 10 and server.connections == 13
    steps = np.diff(times(found))
    assert (steps > 0).all() and steps.max() < 1.5
    took = found[-1].arrived - found[0].arrived
    assert times(found)[-1] == pytest.approx(took, rel=0.15)  # pauses are in the time
    assert found[-1].wall - found[0].wall == pytest.approx(took, rel=0.05)


def test_a_server_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr("foveate.video.footage.TIMEOUT_S", 0.6)
    head, data = b"HTTP/1.1 200 OK\r\n\r\n", b"".join(transport_stream(FRAMES, FPS, 96, 64))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            silent = server.accept()[0]
            silent.sendall(head + data)  # and nothing more, though the connection stays
            second = server.accept()[0]
            second.sendall(head + data)
            second.close()
            server.close()
            silent.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/live"
        with Feed(open_footage(url), keep_all=True, reconnect=1, backoff_s=0.05) as feed:
            found = []
            with pytest.raises(DecodeError, match="connection refused"):
                for arrived in feed:
                    found.append(arrived)
    assert feed.reconnects == 1 and len(found) > FRAMES and "nothing came for 0.6 s" in caplog.text


def test_a_file_on_a_server_that_breaks_off_is_not_begun_again(folder: Path) -> None:
    data = (folder / "film.ts").read_bytes()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection = server.accept()[0]
            connection.recv(4096)
            connection.sendall(head + data[: 2 * len(data) // 3])
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/film.ts"
        with Feed(open_footage(url), keep_all=True) as feed, pytest.raises(DecodeError, match="broke off"):
            list(feed)
    assert 0 < feed.frames < FRAMES and feed.reconnects == 0


def test_who_never_was_there_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DecodeError, match="connection refused"):
        all_of("http://user:secret@127.0.0.1:9/live")
    assert not caplog.messages


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("7", "/dev/video7: there is no such camera"),
        ("/dev/video7", "there is no such camera"),
        ("rtsp://user:secret@127.0.0.1:9/a", "^rtsp://127.0.0.1:9/a: connection refused"),
        ("{folder}/none.mp4", "no such file"),
        ("{folder}/words.txt", "a text file, not a video"),
        ("{folder}", "a folder, not a file"),
        ("/dev/null", "a device, not a file"),
        ("{served}/none.ts", "404"),
        ("{served}/words.txt", "not a video"),
        ("{served}/sneaking.m3u8", "not a video"),
        ("{folder}/calling.m3u8", "not a video"),
    ],
)
def test_what_cannot_be_looked_at_is_named(folder: Path, served: str, source: str, cause: str) -> None:
    sneaking = f"#EXTM3U\n#EXTINF:1,\nfile://{folder / 'film.ts'}\n#EXT-X-ENDLIST\n"
    (folder / "sneaking.m3u8").write_text(sneaking)  # an address may open no file
    calling = f"#EXTM3U\n#EXTINF:1,\n{served}/film.ts\n#EXT-X-ENDLIST\n"
    (folder / "calling.m3u8").write_text(calling)  # nor a file an address
    with pytest.raises(DecodeError, match=cause) as refused:
        all_of(source.format(folder=folder, served=served))
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)


def test_addresses_that_are_no_streams() -> None:
    for source in ("s3://bucket/film.mp4", "ftp://host/film.mp4", "concat://a|b"):
        with pytest.raises(UsageError, match="no address of a stream"):
            open_footage(source)


def test_a_file_named_like_a_camera_is_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "0").write_bytes((folder / "film.mp4").read_bytes())
    assert isinstance(open_footage("0"), PlainFile) and isinstance(open_footage("1"), Camera)


def test_times_go_forward_whatever_clocks_say() -> None:
    def line(live: bool, *clocks: float | None) -> list[float]:
        timeline = Timeline(live)
        timeline.connect(10)
        return [timeline.next(clock, 0.1 * place) for place, clock in enumerate(clocks)]

    assert line(False, 5.0, 5.1, 5.3) == pytest.approx([0, 0.1, 0.3])
    assert line(False, 5.0, 5.1, 1.0, 1.1) == pytest.approx([0, 0.1, 0.2, 0.3])  # joined files
    assert line(False, None, None, None) == pytest.approx([0, 0.1, 0.2])
    assert line(False, 0.0, 900.0) == pytest.approx([0, 900])  # a picture that stood for long
    assert line(True, 0.0, 90_000.0, 90_000.1) == pytest.approx([0, 0.1, 0.2])  # a clock that was set
    again = Timeline(True)
    again.connect(10)
    assert again.next(3.0, 0.0) == 0
    again.connect(10)
    assert again.next(0.0, 7.5) == 7.5 and again.next(0.1, 7.6) == pytest.approx(7.6)
