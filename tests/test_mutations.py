"""Thousands of small changes to real files, read in child processes: none crashes or holds up the parent."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from benchmarks.record import Table, write

from foveate.clip import ClipSpec
from foveate.errors import DataError
from foveate.infer.isolated import UNTRUSTED, IsolatedReader
from foveate.infer.read import ClipReader

SEEDS = {  # file: codec and pixel format
    "h264.mp4": ("libx264", "yuv420p"),
    "h264.mkv": ("libx264", "yuv420p"),
    "h264.ts": ("libx264", "yuv420p"),
    "hevc.mp4": ("libx265", "yuv420p"),
    "vp9.webm": ("libvpx-vp9", "yuv420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "mpeg2.mpg": ("mpeg2video", "yuv420p"),
    "mjpeg.mov": ("mjpeg", "yuvj420p"),
}
SECONDS = 5.0  # for one file
MEMORY = 500 << 20  # bytes of a child, all in all
SPEC = ClipSpec(frames=8, size=32, resize=32)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Eight files of one second, one for each pair of container and codec."""
    folder, rng = tmp_path_factory.mktemp("seeds"), np.random.default_rng(0)
    pictures = rng.integers(0, 256, (12, 6, 8, 3), dtype=np.uint8).repeat(12, 1).repeat(12, 2)
    for name, (codec, pixels) in SEEDS.items():
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=Fraction(12))
            stream.width, stream.height, stream.pix_fmt = 96, 72, pixels
            stream.codec_context.gop_size = 6
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    return {name: (folder / name).read_bytes() for name in SEEDS}


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A copy with one to eight changes: flipped bits, other bytes, cuts, holes, insertions, repeats."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        # the head of a file, which says what everything is, is small and gets half of the changes
        place = chance.randrange(min(len(changed), chance.choice((64, 1024, 1 << 30))) or 1)
        length = min(chance.choice((1, 2, 4, 16, 256, 4096)), len(changed) - place)
        match chance.randrange(7):
            case 0:
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                changed[place : place + length] = chance.randbytes(length)
            case 2:
                changed[place : place + length] = bytes(length)
            case 3:
                changed[place : place + length] = b"\xff" * length
            case 4:
                del changed[place : place + length]
            case 5:
                changed[place:place] = changed[place : place + length]
            case _:
                del changed[place + length :]
        if not changed:
            return b""
    return bytes(changed)


def answers(seeds: dict[str, bytes], count: int, folder: Path) -> Iterator[tuple[str, float, int]]:
    """What each mutation is taken for, the seconds that took, and the peak of memory of the children."""
    chance, path, peaks = random.Random(0), folder / "mutated", dict[int, int]()
    with IsolatedReader(ClipReader(SPEC, limits=UNTRUSTED), 1, SECONDS, MEMORY - (220 << 20)) as reader:
        for number in range(count):
            name = list(seeds)[number % len(seeds)]
            path.write_bytes(mutated(seeds[name], chance))
            begun = time.monotonic()
            try:
                with reader.open(path) as video:
                    video.map(lambda _, frames: frames.sum())
                    answer = "partial" if video.facts().damage else "ok"
            except DataError as error:
                died = "came to no end" in error.cause or "takes more than" in error.cause
                answer = error.cause.rsplit(": ", 1)[-1] if died else "refused"
            took, child = time.monotonic() - begun, reader._children[0].process.pid
            if number % 20 == 0 and psutil.pid_exists(child):
                peaks[child] = psutil.Process(child).memory_info().rss
            yield answer, took, max(peaks.values(), default=0)


def test_some_hundred_mutations(seeds: dict[str, bytes], tmp_path: Path) -> None:
    found = list(answers(seeds, 320, tmp_path))
    said = Counter(answer for answer, _, _ in found)
    assert said["ok"] and said["refused"]
    assert max(took for _, took, _ in found) < SECONDS + 3  # with the start of another child
    assert found[-1][2] < MEMORY


@pytest.mark.stress
@pytest.mark.timeout(7200)
def test_twenty_thousand_mutations(seeds: dict[str, bytes], tmp_path: Path) -> None:
    said, slowest, memory = Counter[str](), 0.0, 0
    for answer, took, peak in answers(seeds, 20_000, tmp_path):
        said[answer] += 1
        slowest, memory = max(slowest, took), max(memory, peak)
    deaths = {answer: count for answer, count in said.items() if answer not in ("ok", "partial", "refused")}
    about = (
        f"20,000 seeded changes of {len(seeds)} files ({', '.join(seeds)}), each read in a child process "
        f"with {SECONDS:g} s and {MEMORY >> 20} MB. A child that ended gave its place to another."
    )
    columns = {
        **{name: name for name in ("files", "ok", "partial", "refused")},
        "ended": "child ended",
        "causes": "causes",
        "slowest": "slowest, s",
        "memory": "memory of a child, MB",
    }
    row = {name: said[name] for name in ("ok", "partial", "refused")}
    row |= {"files": said.total(), "ended": sum(deaths.values()), "slowest": slowest, "memory": memory / 1e6}
    row |= {"causes": "; ".join(f"{cause} ({count})" for cause, count in deaths.items()) or "-"}
    write("mutations", Table(about, columns, [row]), command="pytest -m stress tests/test_mutations.py")
    assert slowest < SECONDS + 3 and memory < MEMORY
