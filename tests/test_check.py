"""Checking a list decodes every file once and loses none: each is fine, or named with what is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from foveate.data.check import ROW_KEYS, cause_table, check_videos
from foveate.data.lists import VideoEntry, read_list
from foveate.data.manifest import write_manifest
from foveate.data.pool import Lost, map_in_processes
from foveate.errors import DataError, UsageError


@pytest.fixture
def videos(tmp_path: Path, clips: dict[str, Path], corpus: tuple[Path, dict]) -> Path:
    """A folder with one class of good files and one of others."""
    bad, manifest = corpus
    cut = next(entry["file"] for entry in manifest["files"] if entry["policy"] == "partial")
    folder = tmp_path / "videos"
    for name in ("good", "other"):
        (folder / name).mkdir(parents=True)
    shutil.copy(clips["carphone_pristine.mp4"], folder / "good/real.mp4")
    np.save(folder / "good/array.npy", np.zeros((3, 16, 24, 3), np.uint8))
    (folder / "good/images").mkdir()
    for number in (1, 2):
        Image.new("RGB", (24, 16)).save(folder / f"good/images/{number:05d}.jpg")
    shutil.copy(bad / cut, folder / f"other/cut{Path(cut).suffix}")
    (folder / "other/text.mp4").write_text("no video")
    (folder / "other/gone.mp4").symlink_to("nowhere")
    return folder


def test_rows_say_what_every_file_is(videos):
    listed = read_list(videos)
    rows = {os.path.relpath(row.path, videos): row for row in check_videos(listed)}
    assert len(rows) == len(listed) == 6
    real = rows["good/real.mp4"].to_dict()
    assert tuple(real) == ROW_KEYS
    assert (real["status"], real["cause"], real["frames"]) == ("ok", "", 120)
    assert (real["width"], real["height"], round(real["fps"], 2)) == (176, 144, 29.97)
    assert real["duration_s"] == pytest.approx(120 / 29.97, rel=1e-3)
    assert (rows["good/array.npy"].frames, rows["good/images"].frames) == (3, 2)
    assert [rows[f"other/{name}"].status for name in ("text.mp4", "gone.mp4")] == ["refused", "refused"]
    assert all(row.cause for name, row in rows.items() if name.startswith("other"))
    assert json.loads(json.dumps(real, allow_nan=False)) == real


def test_fingerprints_are_those_of_the_contents(videos):
    paths = [videos / "good/real.mp4", videos / "good/images", videos / "other/gone.mp4"]
    real, images, gone = check_videos(paths)
    assert real.fingerprint == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert (real.bytes, real.mtime) == (paths[0].stat().st_size, paths[0].stat().st_mtime)
    assert (gone.bytes, gone.mtime, gone.fingerprint) == (None, None, None)
    shutil.copytree(paths[1], videos / "copy")
    copied = next(check_videos([videos / "copy"]))
    assert (copied.fingerprint, copied.bytes) == (images.fingerprint, images.bytes)
    (videos / "copy/00001.jpg").rename(videos / "copy/00003.jpg")
    assert next(check_videos([videos / "copy"])).fingerprint != images.fingerprint


def test_every_source_is_decoded_once(videos):
    path = str(videos / "good/real.mp4")
    parts = [VideoEntry(path, (0,), start=0, end=9), VideoEntry(path, (1,), start=9, end=20)]
    listed = dataclasses.replace(read_list(videos), entries=tuple(parts))
    assert [row.path for row in check_videos(listed)] == [path]


def test_processes_give_the_same_rows_in_the_same_order(videos):
    listed = read_list(videos)
    assert list(check_videos(listed, workers=2)) == list(check_videos(listed))
    with pytest.raises(UsageError, match="at least 1"):
        check_videos(listed, workers=0)


def test_the_whole_corpus_is_checked_without_an_exception(corpus):
    folder, manifest = corpus
    accepted = {"accept": ("ok",), "partial": ("partial", "refused"), "refuse": ("refused",)}
    small = [entry for entry in manifest["files"] if entry["policy"] in ("partial", "refuse")]
    rows = list(check_videos([folder / entry["file"] for entry in small]))
    wrong = [
        (entry["kind"], row.status)
        for entry, row in zip(small, rows, strict=True)
        if row.status not in accepted[entry["policy"]] or not row.cause
    ]
    assert not wrong


@pytest.mark.parametrize("kills", [1, 2])
def test_a_file_that_kills_the_decoder_twice_is_refused_by_name(videos, clips, kills):
    paths = [videos / f"long{number}.ts" for number in range(2)]
    stream = as_transport_stream(clips["bigbuckbunny.mp4"], videos / "part.ts")
    for path in paths:
        path.write_bytes(stream * 4)  # long enough to be caught at work
    rows = []
    thread = threading.Thread(target=lambda: rows.extend(check_videos(paths, workers=2)))
    thread.start()
    victims = [wait_until_busy(thread, paths[0])]
    os.kill(victims[0], signal.SIGKILL)
    if kills == 2:
        victims.append(wait_until_busy(thread, paths[0], but=victims[0]))
        os.kill(victims[1], signal.SIGKILL)
    thread.join()
    assert [row.path for row in rows] == list(map(str, paths))
    killed = [row for row in rows if row.status == "refused"]
    assert [row.cause for row in killed] == ["decoding came to no end: killed by SIGKILL"] * (kills - 1)
    assert [row.path for row in killed] == [str(paths[0])] * (kills - 1)
    assert [row.bytes for row in rows] == [path.stat().st_size for path in paths]
    assert [row.frames for row in rows if row.status == "ok"] == [4 * 132] * (3 - kills)


def as_transport_stream(clip: Path, path: Path) -> bytes:
    """The packets of a clip in a container whose files can be joined."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        copied = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = copied
                target.mux(packet)
    return path.read_bytes()


def wait_until_busy(thread: threading.Thread, path: Path, but: int = 0) -> int:
    """Process id of a child of ours that has opened a video, other than `but`."""
    while thread.is_alive():
        for child in multiprocessing.active_children():
            try:
                files = os.listdir(f"/proc/{child.pid}/fd")
                opened = [os.readlink(f"/proc/{child.pid}/fd/{number}") for number in files]
            except OSError:
                continue
            if str(path) in opened and child.pid != but:
                return child.pid
        time.sleep(0.005)
    raise AssertionError("no child was seen at work")


def test_processes_that_are_killed_while_they_idle_cost_no_item():
    items = list(range(-8, 0))
    results = map_in_processes(abs, items, 2)
    found = [next(results)]
    time.sleep(0.5)  # in which both do what they were given, and wait for more
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert found + list(results) == [8, 7, 6, 5, 4, 3, 2, 1]


def test_items_and_results_larger_than_a_pipe_go_through():
    items = [bytes([number]) * (1 << 20) for number in range(6)]
    assert list(map_in_processes(bytes, items, 2)) == items


def fate(item: str) -> str:
    if item == "abort":
        os.abort()
    if item == "leave":
        os._exit(3)
    if item == "hang":
        time.sleep(600)
    if item == "raise":
        raise DataError("x.mp4", "broken", "mend it")
    return item.upper()


def test_children_that_die_cost_their_own_item_only():
    items = ["a", "abort", "b", "leave", "hang", "c"]
    a, abort, b, leave, hang, c = map_in_processes(fate, items, 2, timeout_s=2)
    assert (a, b, c) == ("A", "B", "C")
    assert [abort, leave] == [Lost("killed by SIGABRT"), Lost("exit code 3")]
    assert hang == Lost("no result within 2 s")


def killed_at_once(item: int) -> int:
    if item % 3 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def killed_the_first_time(folder: Path) -> bool:
    if not (folder / "seen").exists():
        (folder / "seen").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def test_an_item_is_tried_again_in_a_new_process_before_it_is_blamed(tmp_path):
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    assert list(map_in_processes(killed_the_first_time, folders, 2)) == [True] * 3


def test_processes_that_die_the_moment_they_have_an_item_break_nothing():
    found = list(map_in_processes(killed_at_once, range(9), 3))
    assert found == [Lost("killed by SIGKILL") if item % 3 == 0 else item for item in range(9)]


def test_an_exception_in_a_child_is_raised_here_and_ends_the_children():
    with pytest.raises(DataError, match=r"x\.mp4: broken \(mend it\)"):
        list(map_in_processes(fate, ["a", "raise", "b"], 2, timeout_s=60))
    assert not multiprocessing.active_children()


UNGUARDED = """
import multiprocessing, sys
import torch
from foveate.data.pool import map_in_processes
from foveate.data.workers import WatchedLoader
from foveate.errors import FoveateError

if __name__ != "__main__":
    print("imported again", file=sys.stderr)
multiprocessing.set_start_method(sys.argv[2], force=True)
try:
    if sys.argv[1] == "pool":
        print(list(map_in_processes(abs, [-1, 2], 2)))
    else:
        numbers = torch.utils.data.TensorDataset(torch.arange(4))
        print(list(WatchedLoader(numbers, ["a"] * 4, [(0, i) for i in range(4)], len, workers=2)))
except FoveateError as error:
    print(f"error: {error}", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("path", "method"), [("pool", "fork"), ("loader", "spawn"), ("loader", "forkserver")]
)
def test_a_script_without_a_guard_is_told_so_in_one_line(path, method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    command = [sys.executable, script, path, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    lines = [line for line in done.stderr.splitlines() if line != "imported again"]
    assert len(lines) == 1 and done.stdout == "", done.stderr
    assert lines[0].startswith("error: workers: each worker process would run script.py again")
    assert 'if __name__ == "__main__":' in lines[0]


def test_many_items_go_through_a_few_processes_in_order():
    assert list(map_in_processes(abs, range(-500, 0), 2)) == list(range(500, 0, -1))
    assert list(map_in_processes(abs, [], 2)) == []
    first = map_in_processes(abs, range(-500, 0), 2)
    assert next(first) == 500
    first.close()  # a caller that stops leaves no process behind
    assert not multiprocessing.active_children()


def test_cause_table_counts_like_with_like(videos):
    rows = list(
        check_videos([videos / "good/real.mp4", videos / "other/text.mp4", videos / "other/gone.mp4"])
    )
    first, second = (dataclasses.replace(rows[1], cause=f"{n} of 24 frames") for n in (22, 23))
    table = cause_table([*rows, first, second])
    assert table[0] == ("refused", "N of N frames", 2)
    assert {count for _, _, count in table[1:]} == {1}
    assert sum(count for *_, count in table) == 5


def test_a_manifest_is_a_list_to_train_from(videos, tmp_path):
    listed = read_list(videos)
    rows = list(check_videos(listed))
    write_manifest(rows, tmp_path / "manifest.jsonl", listed)
    again = read_list(tmp_path / "manifest.jsonl")
    assert [(e.path, e.labels) for e in again.entries] == [(e.path, e.labels) for e in listed.entries]
    assert again.class_names == listed.class_names
    assert {e.path: e.frames for e in again.entries} == {row.path: row.frames for row in rows}
    records = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()[1:]]
    assert [(record["status"], record["cause"]) for record in records] == [
        (row.status, row.cause) for row in rows
    ]


def test_a_manifest_keeps_what_the_list_said(videos, tmp_path):
    (videos / "list.txt").write_text("good/images 9 0\ngood/array.npy 3 1\n")
    listed = read_list(videos / "list.txt")
    write_manifest(check_videos(listed), tmp_path / "m.jsonl", listed)
    records = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()[1:]]
    assert [(record["frames"], record.get("listed_frames")) for record in records] == [(2, 9), (3, None)]


def test_a_manifest_of_paths_and_an_incomplete_one(videos, tmp_path):
    rows = list(check_videos([videos / "good/real.mp4"]))
    write_manifest(rows, tmp_path / "m.jsonl")
    assert [entry.path for entry in read_list(tmp_path / "m.jsonl").entries] == [
        str(videos / "good/real.mp4")
    ]
    with pytest.raises(UsageError, match="was not checked"):
        write_manifest(rows, tmp_path / "m.jsonl", read_list(videos))


def test_names_that_are_not_utf8_are_checked_and_kept(videos, clips, tmp_path):
    path = os.fsdecode(os.fsencode(videos) + b"/good/\xff.mp4")
    shutil.copy(clips["carphone_pristine.mp4"], path)
    rows = list(check_videos([path], workers=2))
    assert (rows[0].path, rows[0].status) == (path, "ok")
    assert rows[0].to_dict()["path"].endswith("good/\\udcff.mp4")
    write_manifest(rows, tmp_path / "m.jsonl")
    assert read_list(tmp_path / "m.jsonl").entries[0].path == path
