"""`foveate stream`: what it prints while a source goes on, and how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from benchmarks.servers import Broadcast, transport_stream

from foveate.cli import main
from foveate.infer.streaming import Tally
from foveate.models.zoo import create_model
from foveate.video import open_video
from foveate.weights.file import save_model

pytestmark = pytest.mark.usefixtures("one_thread")
EAGER = ("--engine", "eager")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 3 s, one with sound alone, words, and three models: one that steps, two of clips."""
    folder = tmp_path_factory.mktemp("stream")
    (folder / "film.ts").write_bytes(b"".join(transport_stream(75, 25, 96, 64)))
    torch.manual_seed(0)
    small = {"size": 32, "resize": 32, "width": 0.25}
    for name, model in {
        "online": create_model("tsm_r10_8", 3, temporal="past", **small),
        "clips": create_model("tsn_r10_8", 3, **small),
        "nameless": create_model("tsn_r10_8", 3, **small),
    }.items():
        model.labels = () if name == "nameless" else ("wave", "clap", "jump")
        save_model(model.eval(), folder / f"{name}.safetensors")
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (folder / "words.txt").write_text("no video at all\n" * 20)
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `foveate stream`."""
    with pytest.raises(SystemExit) as left:
        main(["stream", *map(str, words), *EAGER])
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def lines(text: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The labels and the summary."""
    *labels, last = map(json.loads, text.splitlines())
    return labels, last["summary"]


def test_json_has_every_label_and_a_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (folder / "film.ts", "--model", folder / "online.safetensors", "--every", 0.04, "--top", 2)
    code, out, _ = run(capsys, *words, "--json")
    labels, summary = lines(out)
    assert code == 0 and len(labels) == 75
    assert [each["time_s"] for each in labels] == pytest.approx(np.arange(75) / 25, abs=1e-3)
    first = labels[0]
    assert [each["rank"] for each in first["predictions"]] == [1, 2] and first["macs"] > 0
    assert first["latency_ms"] > 0 and (first["dropped"], first["reconnects"]) == (0, 0)
    assert first["wall"].startswith("20") and first["wall"].endswith("+00:00") and first["start_s"] == 0
    counted = {key: summary[key] for key in ("labels", "frames", "dropped", "damaged", "reconnects")}
    assert counted == {"labels": 75, "frames": 75, "dropped": 0, "damaged": 0, "reconnects": 0}
    delays = summary["latency_ms"]
    assert 0 < delays["p50"] <= delays["p90"] <= delays["p99"] and summary["fps"] > 0


def test_people_see_a_line_a_change(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (folder / "film.ts", "--model", folder / "online.safetensors", "--every", 0.2)
    labels, _ = lines(run(capsys, *words, "--json")[1])
    best = [each["predictions"][0]["label"] for each in labels]
    changes = 1 + sum(one != other for one, other in pairwise(best))
    code, out, _ = run(capsys, *words)
    *said, summary = out.splitlines()
    assert code == 0 and len(said) == changes and said[0].startswith("0:00:00.0 ") and best[0] in said[0]
    assert " ms)" in said[0] and summary.startswith("15 labels, 75 frames") and "0 dropped" in summary


def test_clips_answer_every_so_often(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (folder / "film.ts", "--model", folder / "clips.safetensors", "--window", 1, "--json")
    labels, _ = lines(run(capsys, *words)[1])
    assert [each["time_s"] for each in labels] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.5], abs=0.13)
    assert all(each["time_s"] - each["start_s"] <= 1 for each in labels)
    labels, summary = lines(run(capsys, *words, "--seconds", 1.3)[1])
    assert len(labels) == 2 and summary["seconds"] < 30


def test_a_model_without_names_says_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, folder / "film.ts", "--model", folder / "nameless.safetensors", "--window", 1)
    assert code == 0 and "class " in out


def test_the_last_seconds_are_drawn(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "window.mp4"
    words = (folder / "film.ts", "--model", "adafocus_small", "--every", 0.2)
    code, _, said = run(capsys, *words, "--overlay", out, "--overlay-seconds", 1)
    assert code == 0 and f"6 labelled frames in {out}" in said
    with open_video(out) as video, open_video(folder / "film.ts") as film:
        assert video.info.frames == 6 and video.info.codec == "h264"
        assert (video.info.width, video.info.height) == (96, 64)
        assert video.times == pytest.approx(np.arange(6) / 5, abs=2e-3)
        drawn, plain = video.read([5])[0].astype(int), film.read([70])[0].astype(int)
    green = (drawn[..., 1] - drawn[..., 0] > 60) & (drawn[..., 1] - drawn[..., 2] > 60)
    assert green.sum() > 20 and (np.abs(drawn - plain).max(-1) > 40).mean() < 0.8
    assert not [each for each in tmp_path.iterdir() if each != out]


def test_a_server_that_hangs_up_ten_times(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("foveate.video.feed.LONGEST_BACKOFF_S", 0.05)
    with Broadcast(transport_stream(25, 25, 96, 64), 10, 0.3, 0.3) as server:
        words = (server.url, "--model", folder / "online.safetensors", "--every", 0.04, "--reconnect", 1)
        code, out, said = run(capsys, *words, "--json")
    labels, summary = lines(out)
    assert (
        code == 3 and summary["reconnects"] == 10 and [*said.splitlines()][-1].startswith("error: http://127")
    )
    assert said.count("warning: ") == 11 and {each["reconnects"] for each in labels} == set(range(11))
    assert (np.diff([each["time_s"] for each in labels]) > 0).all()


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """A job in the background of a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_summary(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    pipe, out, ended = tmp_path / "pipe", tmp_path / "window.mp4", threading.Event()
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb") as writer:  # which stays open: more may come
            writer.write((folder / "film.ts").read_bytes())
            writer.flush()
            while struct.unpack("i", fcntl.ioctl(writer, termios.FIONREAD, bytes(4)))[0]:
                ended.wait(0.1)  # it is read once the model is there
            ended.wait(1.5)
            os.kill(os.getpid(), number)
            ended.wait(10)

    other = threading.Thread(target=write)
    other.start()
    words = (pipe, "--model", folder / "online.safetensors", "--every", 0.04, "--overlay", out)
    found, said, remarks = run(capsys, *words, "--json")
    ended.set()
    other.join()
    labels, summary = lines(said)
    assert found == code and "Traceback" not in remarks
    assert summary["labels"] == len(labels) > 0 and out.exists()


def test_nobody_reads_any_more(folder: Path) -> None:
    words = [sys.executable, "-m", "foveate", "stream", str(folder / "film.ts"), "--json", *EAGER]
    words += ["--model", str(folder / "online.safetensors"), "--every", "0.04"]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.wait(timeout=30) == 0 and child.stderr.read() == ""


def test_an_mp4_with_its_index_at_the_end_cannot_come_bit_by_bit(
    clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    words = ("--model", folder / "online.safetensors")
    data, pipe = clips["bikes.mp4"].read_bytes(), tmp_path / "pipe"
    assert data.index(b"moov") > data.index(b"mdat")
    found, said, remarks = run(capsys, clips["bikes.mp4"], *words, "--follow", "--idle", 0.2)
    os.mkfifo(pipe)

    def write() -> None:
        with suppress(BrokenPipeError), pipe.open("wb") as writer:
            writer.write(data)

    threading.Thread(target=write, daemon=True).start()
    again, said_again, remarks_again = run(capsys, pipe, *words)
    for code, out, error in ((found, said, remarks), (again, said_again, remarks_again)):
        assert (code, out) == (3, "")
        assert "an MP4 with its index at the end" in error and "give the file itself" in error


def test_standard_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    kept = os.dup(0)
    os.dup2(reader, 0)
    os.close(reader)

    def write() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write((folder / "film.ts").read_bytes())

    other = threading.Thread(target=write)
    other.start()
    try:
        words = ("-", "--model", folder / "online.safetensors", "--every", 0.04, "--keep-all", "--json")
        code, out, _ = run(capsys, *words)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    other.join()
    assert code == 0 and lines(out)[1]["labels"] == 75


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (
            ["/dev/video9"],
            3,
            "error: /dev/video9: there is no such camera (ls /dev/video* shows which there are)",
        ),
        (
            ["http://127.0.0.1:9/a.m3u8"],
            3,
            "error: http://127.0.0.1:9/a.m3u8: connection refused (is it running",
        ),
        (["words.txt"], 3, "error: words.txt: a text file, not a video (give the video file itself)"),
        (["sound.mp4"], 3, "error: sound.mp4: no video stream (give"),
        (["none.ts"], 3, "error: none.ts: no such file (check the path)"),
        (["ftp://host/a.ts"], 2, "error: ftp://host/a.ts: no address of a stream (http, https"),
        (["film.ts", "--every", "0"], 2, "error: every: is 0.0 s (give"),
        (["film.ts", "--seconds", "-1"], 2, "error: --seconds: is -1 (give seconds above 0)"),
        (["film.ts", "--overlay", "a.avi"], 2, "error: --overlay: 'a.avi' does not end in .mp4"),
        (["film.ts", "--overlay", "nowhere/a.mp4"], 5, "error: nowhere/a.mp4: there is no folder"),
        (["-", "--realtime"], 2, "error: --realtime: is for files"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str], code: int, line: str
) -> None:
    monkeypatch.chdir(folder)
    found, out, said = run(capsys, *words, "--model", "online.safetensors")
    *before, last = said.splitlines()
    assert found == code and last.startswith(line) and not before
    assert not out or out.startswith("0 labels, 0 frames")


def test_percentiles_are_within_a_tenth_of_a_millisecond() -> None:
    tally, rng = Tally(), np.random.default_rng(0)
    delays = rng.gamma(2.0, 20.0, 5000)
    assert tally.percentile(50) is None
    for each in delays:
        tally.add(float(each))
    for percent in (50, 90, 99):
        expected = np.quantile(delays, percent / 100, method="inverted_cdf")
        assert tally.percentile(percent) == pytest.approx(expected, abs=0.11)
    tally.add(1e9)
    assert tally.percentile(100) == pytest.approx(10_000, rel=1e-3)
