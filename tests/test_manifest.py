"""A check goes on where one was stopped, and decodes again only what is new or has changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from foveate.data.check import Checked, check_videos
from foveate.data.lists import VideoEntry, VideoList, read_list
from foveate.data.manifest import KeptRows, may_be_kept, write_manifest
from foveate.errors import OutputError
from make_bad_videos import encode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four small files, of which the last is no video."""
    inside = tmp_path / "videos"
    inside.mkdir()
    for number in range(3):
        encode(inside / f"{number}.mp4", n=6, start=number)
    (inside / "text.mp4").write_text("no video")
    return inside


def check(folder: Path, out: Path, **options) -> tuple[list[Checked], int]:
    """All rows, as the command line makes them, and how many of them are of an earlier check."""
    listed, kept = read_list(folder), KeptRows(out, options.pop("afresh", False))
    rows = list(check_videos(listed, kept=kept, **options))
    write_manifest(rows, out, listed)
    kept.finish()
    return rows, kept.used


def test_a_second_check_decodes_only_what_is_new_or_changed(folder, tmp_path):
    out = tmp_path / "manifest.jsonl"
    first, used = check(folder, out)
    assert used == 0
    written = out.read_bytes()
    assert check(folder, out) == (first, 4)
    assert out.read_bytes() == written and not (tmp_path / "manifest.jsonl.rows").exists()
    encode(folder / "1.mp4", n=7)
    encode(folder / "new.mp4", n=5)
    changed, used = check(folder, out)
    assert used == 3
    assert {Path(row.path).name: row.frames for row in changed} == {
        **{"0.mp4": 6, "1.mp4": 7, "2.mp4": 6, "new.mp4": 5, "text.mp4": 0}
    }
    assert changed == list(check_videos(read_list(folder)))
    assert check(folder, out, afresh=True) == (changed, 0)


def test_rows_are_those_of_the_question(folder, tmp_path):
    """The same file, of which another list asks for another part, is decoded again."""
    out = tmp_path / "manifest.jsonl"
    check(folder, out)
    path = str(folder / "0.mp4")
    for entry, status, used in (
        (VideoEntry(path), "ok", 1),
        (VideoEntry(path, (3,)), "ok", 1),  # a label asks nothing
        (VideoEntry(path, frames=9), "refused", 0),
        (VideoEntry(path, start=2, end=8), "refused", 0),
    ):
        kept = KeptRows(out)
        (row,) = check_videos(VideoList((entry,), (), "paths"), kept=kept)
        assert (row.status, kept.used) == (status, used), entry


def test_a_full_check_answers_a_quick_one_and_not_the_other_way_round(folder, tmp_path):
    out = tmp_path / "manifest.jsonl"
    assert check(folder, out, quick=True)[1] == 0
    assert check(folder, out, quick=True)[1] == 3  # all but what was refused, which may have been unreadable
    full, used = check(folder, out)
    assert used == 0
    assert check(folder, out, quick=True) == (full, 4)


def test_what_may_change_without_the_file_is_made_again(folder, tmp_path):
    listed = VideoList((VideoEntry(str(folder / "0.mp4"), start=2, end=8),), (), "paths")
    (lost,) = check_videos(listed)
    assert lost.lost and not may_be_kept(lost)
    write_manifest([lost], tmp_path / "m.jsonl", listed)
    kept = KeptRows(tmp_path / "m.jsonl")
    assert next(check_videos(listed, kept=kept)) == lost and kept.used == 0
    ok = next(check_videos([folder / "0.mp4"]))
    assert may_be_kept(ok)
    for row in (replace(ok, bytes=None), replace(ok, status="refused", fingerprint=None)):
        assert not may_be_kept(row)  # not there; not readable, or a process died of it


def test_torn_and_strange_lines_are_no_rows(folder, tmp_path):
    out, rows = tmp_path / "manifest.jsonl", tmp_path / "manifest.jsonl.rows"
    first, _ = check(folder, out)
    out.unlink()
    listed, kept = read_list(folder), KeptRows(out)
    results = check_videos(listed, kept=kept)
    next(results), next(results)
    results.close()  # as Ctrl-C does
    whole = rows.read_text().splitlines()
    assert len(whole) == 2 and all(json.loads(line)["status"] == "ok" for line in whole)
    rows.write_text(f'{{"path": 3}}\n[]\nnull\n{whole[0]}\n{whole[1][:40]}')
    assert check(folder, out) == (first, 1)
    assert check(folder, out) == (first, 4)


CHILD = """
import sys
from pathlib import Path
from foveate.cli import main
if __name__ == "__main__":
    sys.exit(main(["data", "check", sys.argv[1], "--out", sys.argv[2], "--json"]))
"""


def test_a_check_that_is_killed_goes_on_where_it_was(tmp_path, clips):
    videos, out, rows = tmp_path / "videos", tmp_path / "m.jsonl", tmp_path / "m.jsonl.rows"
    videos.mkdir()
    for number in range(40):
        shutil.copy(clips["bikes.mp4"], videos / f"{number:02}.mp4")
    (tmp_path / "check.py").write_text(CHILD)
    command = [sys.executable, str(tmp_path / "check.py"), str(videos), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not (rows.exists() and rows.read_bytes().count(b"\n") >= 4):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = rows.read_bytes().count(b"\n")
    assert 4 <= done < 40 and not out.exists()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"{done} rows are of an earlier check" in again.stderr
    assert len(again.stdout.splitlines()) == 40 and not rows.exists()
    assert [entry.frames for entry in read_list(out).entries] == [250] * 40


def test_a_place_that_cannot_be_written_is_an_error_in_one_line(folder, tmp_path):
    (tmp_path / "m.jsonl.rows").mkdir()
    with pytest.raises(OutputError, match=r"m\.jsonl\.rows: cannot be written: is a directory"):
        list(check_videos(read_list(folder), kept=KeptRows(tmp_path / "m.jsonl")))
