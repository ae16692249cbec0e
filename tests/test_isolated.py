"""Child processes that read: whatever one of them sends or does, the parent has an error of one file."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveate.clip import ClipSpec
from foveate.data.pool import ending
from foveate.errors import DataError, UsageError
from foveate.infer import child as children
from foveate.infer.ahead import ahead
from foveate.infer.isolated import IsolatedReader
from foveate.infer.read import ClipReader

SPEC = ClipSpec(frames=2, size=8, resize=8)
PIXELS = bytes(2 * 8 * 8 * 3)
WINDOW = {"first": 0, "end": 2, "start_s": 0, "end_s": 1, "clips": [[0, 1]], "times": [0, 0.5]}
WINDOW |= {"crops": 1, "keyframes": False}
CLIPS = {"kind": "frames", "window": WINDOW}
FRAMES = CLIPS | {"shape": [1, 2, 8, 8, 3]}
FACTS = {"duration_s": 1, "fps": 2, "width": 8, "height": 8, "damage": [], "frames_decoded": 2}
END = {"kind": "end", "windows": 1, "facts": FACTS, "timing": {"decode": 1.0}}
GOOD = [FRAMES, PIXELS, END]
LIES: dict[str, list[Any]] = {
    "no JSON": [b"\xff{"],
    "deep": [b"[" * 100_000],
    "a list": [[]],
    "no kind": [{}],
    "unknown kind": [{"kind": "pickle"}],
    "no shape": [CLIPS],
    "huge": [CLIPS | {"shape": [1 << 40, 2, 8, 8, 3]}, PIXELS],
    "negative": [CLIPS | {"shape": [1, -2, 8, 8, -3]}, PIXELS],
    "empty": [CLIPS | {"shape": [0, 2, 8, 8, 3]}, b""],
    "another": [CLIPS | {"shape": [1, 8, 2, 8, 3]}, PIXELS],
    "one number": [CLIPS | {"shape": [384]}, PIXELS],
    "too few": [FRAMES, PIXELS[:-1]],
    "too many": [FRAMES, PIXELS + b"\0"],
    "chunks": [CLIPS | {"kind": "chunks"}],
    "no window": [{"kind": "frames", "shape": [1, 2, 8, 8, 3]}, PIXELS, END],
    "half a window": [FRAMES | {"window": {"first": 0}}, PIXELS, END],
    "no facts": [FRAMES, PIXELS, {"kind": "end", "windows": 1, "timing": {}}],
    "no windows": [FRAMES, PIXELS, END | {"windows": 0}],
    "more windows": [FRAMES, PIXELS, END | {"windows": 2}],
    "infinite": [FRAMES, PIXELS, END | {"facts": FACTS | {"fps": float("inf")}}],
    "a word": [FRAMES, PIXELS, END | {"facts": FACTS | {"duration_s": "long"}}],
    "too large": [FRAMES, PIXELS, END | {"facts": FACTS | {"frames_decoded": 1 << 80}}],
    "no hint": [{"kind": "error", "subject": "", "cause": ""}],
}


def lie(connection: Connection, seconds: float, memory: int) -> None:
    """In place of `_serve`: sends what the name of the video says, without looking at it."""
    connection.send_bytes(b"ready")
    while True:
        _, name, _ = connection.recv()
        if name == "half":  # of a message; the rest never comes
            os.write(connection.fileno(), b"\0\0\1\0half")
            time.sleep(60)
        if name == "closed":
            connection.close()
            time.sleep(60)
        for message in GOOD if name == "good" else LIES[name]:
            connection.send_bytes(message if isinstance(message, bytes) else json.dumps(message).encode())


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Callable[..., IsolatedReader]:
    monkeypatch.setattr(children, "serve", lie)
    monkeypatch.setattr(children, "ENDING_S", 0.5)
    return lambda seconds=20.0: IsolatedReader(ClipReader(SPEC), 1, seconds)


def shapes(reader: IsolatedReader, source: Any) -> list[tuple[int, ...]]:
    with reader.open(source) as video:
        return [tuple(frames.shape) for _, frames in video.map(lambda _, frames: frames)]


def test_what_is_no_answer_costs_one_video(liar: Callable[..., IsolatedReader]) -> None:
    with liar() as reader:
        for name in LIES:
            with pytest.raises(DataError, match=f"^{name}: reading it came to no end"):
                shapes(reader, name)
            assert shapes(reader, "good") == [(1, 2, 8, 8, 3)]  # of another child


@pytest.mark.parametrize("name", ["half", "closed"])
def test_a_child_that_goes_silent_is_waited_for_as_long_as_was_said(
    name: str, liar: Callable[..., IsolatedReader]
) -> None:
    with liar(5.0) as reader:
        begun = time.monotonic()
        with pytest.raises(DataError, match="came to no end"):
            shapes(reader, name)
        assert time.monotonic() - begun < 30
        assert shapes(reader, "good")


def test_a_stopped_child_that_is_sent_a_large_video() -> None:
    with IsolatedReader(ClipReader(SPEC), 1, 2.0) as reader:
        os.kill(reader._children[0].process.pid, signal.SIGSTOP)
        with pytest.raises(DataError, match="not read within 2 s"):
            shapes(reader, np.zeros((64, 64, 64, 3), np.uint8))


def test_the_video_that_was_asked_for_first_has_the_first_free_child(clips: dict[str, Path]) -> None:
    """Of many that wait; else reading ahead could stand still."""
    free = children.Free()
    order: list[int] = []

    def take(number: int) -> None:
        child = free.get()
        order.append(number)
        free.put(child)

    threads = []
    for number in range(20):
        threads.append(threading.Thread(target=take, args=(number,)))
        threads[-1].start()
        while len(free._waiting) <= number:
            time.sleep(0.001)
    free.put(object())  # type: ignore[arg-type]
    for thread in threads:
        thread.join(10)
    assert order == [*range(20)]
    with IsolatedReader(ClipReader(SPEC), 2) as reader:
        sources = [clips["bikes.mp4"]] * 12
        for _, video_of in ahead(lambda source: reader.open(source).begin(), sources, reader.ahead):
            with video_of() as video:
                assert video.map(lambda *_: None)


def test_a_closed_reader_starts_no_child(clips: dict[str, Path]) -> None:
    reader = IsolatedReader(ClipReader(SPEC), 1)
    reader.close()
    with pytest.raises((UsageError, DataError), match="closed"):
        shapes(reader, clips["bikes.mp4"])
    assert not reader._children[0].process.is_alive()


def test_where_no_process_can_start_no_video_is_blamed(clips: dict[str, Path]) -> None:
    resource = pytest.importorskip("resource")
    with IsolatedReader(ClipReader(SPEC), 1) as reader:
        reader._children[0].stop()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            with pytest.raises(UsageError, match="cannot start: too many open files"):
                shapes(reader, clips["bikes.mp4"])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert shapes(reader, clips["bikes.mp4"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the parent of a process in /proc")
def test_the_death_of_what_starts_children_costs_no_video(clips: dict[str, Path]) -> None:
    with IsolatedReader(ClipReader(SPEC), 1) as reader:
        pid = reader._children[0].process.pid
        stat = Path(f"/proc/{pid}/stat").read_text()
        parent = int(stat.rpartition(")")[2].split()[1])
        assert parent != os.getpid()
        os.kill(parent, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        assert shapes(reader, clips["bikes.mp4"]) == shapes(reader, clips["bikes.mp4"])


def test_a_signal_without_a_name() -> None:
    assert ending(-signal.SIGKILL) == "killed by SIGKILL"
    assert ending(-40) == "killed by signal 40"
