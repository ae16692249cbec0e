"""Lists and folders as people have them: each is read rightly, or refused by a line that says what to do."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import field_files as field
from foveate.cli import main
from foveate.data.check import check_videos, usable
from foveate.data.dataset import VideoDataset
from foveate.data.lists import VideoList, read_list, write_jsonl
from foveate.errors import DataError, FoveateError
from foveate.infer.predict import Predictor
from foveate.models.zoo import create_model
from foveate.video import open_video

FILES = ("day.mp4", "run0.mp4", "walk0.mp4", "my walk0.mp4", "sub/run1.mp4", "sub/walk1.mp4")


def listed(folder: Path, text: str | bytes, name: str = "list.csv") -> VideoList:
    field.empty(folder, *FILES)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return read_list(folder / name)


def facts(videos: VideoList, folder: Path) -> list[tuple]:
    """Path, class name and stretch of each entry."""
    rows = []
    for entry in videos.entries:
        names = " ".join(videos.class_names[label] for label in entry.labels)
        part = (entry.start, entry.end, entry.start_s, entry.end_s)
        rows.append(
            (os.path.relpath(entry.path, folder), names, *(edge for edge in part if edge is not None))
        )
    return rows


DAY = [("day.mp4", "run", 0.0, 1.5), ("day.mp4", "walk", 1.5, 2.0)]
PAIR = [("run0.mp4", "run"), ("walk0.mp4", "walk")]
READ = {  # a list, and path, class and stretch of each of its videos
    "seconds": ("path,label,start,end\nday.mp4,run,0.0,1.5\nday.mp4,walk,1.5,2.0\n", DAY),
    "seconds, named": ("path,label,start_s,end_s\nday.mp4,run,0,1.5\nday.mp4,walk,1.5,2\n", DAY),
    "clock": ("video,tag,start_time,end_time\nday.mp4,run,0:00,00:00:01.5\nday.mp4,walk,0:01.5,0:02\n", DAY),
    "milliseconds": ("file,tag,begin_ms,end_ms\nday.mp4,run,0,1500\nday.mp4,walk,1500,2000\n", DAY),
    "joined words": ("file,tag,starttime,stoptime\nday.mp4,run,0,1.5\nday.mp4,walk,1.5,2\n", DAY),
    "onset": ("file,behavior,onset,offset\nday.mp4,run,0.0,1.5\nday.mp4,walk,1.5,2\n", DAY),
    "German Excel": ("path;label;start_s;end_s\nday.mp4;run;0,0;1,5\nday.mp4;walk;1,5;2,0\n", DAY),
    "frames": (
        "path,label,start_frame,end_frame\nday.mp4,run,0,12\nday.mp4,walk,12,24\n",
        [("day.mp4", "run", 0, 12), ("day.mp4", "walk", 12, 24)],
    ),
    "both units": ("path,label,start_frame,end_frame,start_s,end_s\nday.mp4,run,0,18,0,1.5\n", DAY[:1]),
    "to the end": ("path,label,start_s,end_s\nday.mp4,run,1.5,\nday.mp4,walk,,1.5\n",
                   [("day.mp4", "run", 1.5), ("day.mp4", "walk", 1.5)]),
    "one label": ("path,label,start_s,end_s\nday.mp4,run,0,1\nday.mp4,run,2,3\n",
                  [("day.mp4", "run", 0.0, 1.0), ("day.mp4", "run", 2.0, 3.0)]),
    "file_name": ("file_name,label\nrun0.mp4,run\nwalk0.mp4,walk\n", PAIR),
    "index of pandas": (",video_name,tag\n0,run0.mp4,run\n1,walk0.mp4,walk\n", PAIR),
    "ids beside paths": ("id,video_path,label\n0,run0.mp4,run\n1,walk0.mp4,walk\n", PAIR),
    "capitals and blanks": (" File Name , className \nrun0.mp4 , run \nwalk0.mp4,walk\n", PAIR),
    "JSON lines": ('{"file_name": "run0.mp4", "tag": "run"}\n{"file_name": "walk0.mp4", "tag": "walk"}', PAIR),  # noqa: E501
    "JSON": ('[{"video": "run0.mp4", "class": "run"},\n {"video": "walk0.mp4", "class": "walk"}]', PAIR),
    "bars": ("path|label\nrun0.mp4|run\nwalk0.mp4|walk\n", PAIR),
    "blanks": ("path label\nmy walk0.mp4 walk\nrun0.mp4 run\n", [("my walk0.mp4", "walk"), PAIR[0]]),
    "a header again": ("path,label\nrun0.mp4,run\npath,label\nwalk0.mp4,walk\n", PAIR),
    "class first, header": ("label,path\nrun,run0.mp4\nwalk,walk0.mp4\n", PAIR),
    "class first": ("run,run0.mp4\nwalk,walk0.mp4\n", PAIR),
    "class first, tab": ("run\trun0.mp4\nwalk\twalk0.mp4\n", PAIR),
    "class first, blank": ("run run0.mp4\nwalk walk0.mp4\n", PAIR),
    "number first": ("0 run0.mp4\n1 walk0.mp4\n", [("run0.mp4", "0"), ("walk0.mp4", "1")]),
    "names": ("run0.mp4,run\nwalk0.mp4,walk\n", PAIR),
    "names with blanks": ("run0.mp4 high jump\nmy walk0.mp4 walk\n",
                          [("run0.mp4", "high jump"), ("my walk0.mp4", "walk")]),
    "several labels": ("my walk0.mp4 0 2\nrun0.mp4 1\n", [("my walk0.mp4", "0 2"), ("run0.mp4", "1")]),
    "IBM, blanks": ("my walk 1 30 0\nmy run 11 20 1\n", [("my walk", "0", 0, 30), ("my run", "1", 10, 20)]),
    "numbers beside names": ("path,label_id,label\nrun0.mp4,1,run\nwalk0.mp4,0,walk\n", PAIR),
    "dashes": ("path,label\n-run.mp4,run\n--walk_.mp4,walk\n",
               [("-run.mp4", "run"), ("--walk_.mp4", "walk")]),
    "dashes, plain": ("-run.mp4 0\n-_walk.mp4 1\n", [("-run.mp4", "0"), ("-_walk.mp4", "1")]),
    "backslashes": ("path,label\nsub\\run1.mp4,run\n.\\sub\\walk1.mp4,walk\n",
                    [("sub/run1.mp4", "run"), ("sub/walk1.mp4", "walk")]),
    "no labels": ("path,label\nrun0.mp4,\nwalk0.mp4,\n", [("run0.mp4", ""), ("walk0.mp4", "")]),
    "some labels": ("path,label\nrun0.mp4,0.0\nwalk0.mp4,1.0\nday.mp4,\n",
                    [("run0.mp4", "0"), ("walk0.mp4", "1"), ("day.mp4", "")]),
    "-1 for none": ("path,label\nrun0.mp4,-1\nwalk0.mp4,-1\n", [("run0.mp4", ""), ("walk0.mp4", "")]),
    "further down": ("filename,label\nrun1.mp4,run\nwalk1.mp4,walk\n",
                     [("sub/run1.mp4", "run"), ("sub/walk1.mp4", "walk")]),
    "ids": ("video_id,label\nrun1,run\nwalk0,walk\n", [("sub/run1.mp4", "run"), ("walk0.mp4", "walk")]),
    "companions": ("sub/run1.mp4 0\nsub/._run1.mp4 0\nwalk0.mp4 1\n",
                   [("sub/run1.mp4", "0"), ("walk0.mp4", "1")]),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_lists_of_many_kinds_are_read(case: str, tmp_path: Path) -> None:
    text, expected = READ[case]
    assert facts(listed(tmp_path, text), tmp_path) == expected


REFUSED = {
    "units": ("path,label,start,end\nday.mp4,run,0,1\n", "the columns start and end: seconds or frames?"),
    "two units": (
        "path,label,start_s,end_frame\nday.mp4,run,0,1\n",
        "start_s and end_frame differ in their units",
    ),
    "a span": ("path,label,segment\nday.mp4,run,0-12\n", "the column segment is not understood"),
    "t0": ("path,label,t0,t1\nday.mp4,run,0,12\n", "the column t0 is not understood"),
    "a date": ("path,label,start_date\nday.mp4,run,2020\n", "the column start_date is not understood"),
    "a length": (
        "path,label,start_s,duration\nday.mp4,run,0,12\n",
        "duration: of the stretch, or of the whole",
    ),
    "backwards": ("path,label,start_s,end_s\nday.mp4,run,3,2\n", "from 3 to 2 ends before it starts"),
    "no time": ("path,label,start_s,end_s\nday.mp4,run,soon,2\n", "start_s 'soon' is no time"),
    "unknown columns": (
        "clip_location,annotation\nrun0.mp4,run\nwalk0.mp4,walk\n",
        "clip_location, annotation (known",
    ),
    "unknown, numbers": (
        "location annotation\nrun0.mp4 0\nwalk0.mp4 1\n",
        "location, annotation (known are path",
    ),
    "unknown, folders": ("directory_x n cls\nx 30 0\ny 31 1\n", "directory_x, n, cls (known are path"),
    "unknown, JSON": ('{"clip_location": "a.mp4"}\n', "is not the header of a list of version 1"),
    "two labels": ("path,action,category\na.mp4,x,run\n", "action and category could both be the label"),
    "two paths": ("video,clip,label\na.mp4,b.mp4,run\n", "video and clip could both be the path"),
    "twice": ("path,label,label\na.mp4,x,run\n", "the column label stands twice"),
    "no header": ("day.mp4,run,0.0,1.0\nday.mp4,walk,1.0,2.0\n", "4 columns, and no line says what they are"),
    "no header, blanks": ("day.mp4 run 0.0 1.0\nday.mp4 walk 1.0 2.0\n", "and no line says what they are"),
    "no header, frames": ("day.mp4 0 12 1\nday.mp4 12 24 0\n", "labels, or a stretch and a label?"),
    "three names": ("run0.mp4,run,subject1\nwalk0.mp4,walk,subject2\n", "3 columns, and no line says"),
    "blanks": ("run xrun.mp4\nwalk xwalk.mp4\n", "a class and a video, or one name with blanks?"),
    "a drive": ("path,label\nC:\\v\\run1.mp4,run\n", "a path on a drive of Windows (write paths relative"),
    "lost ids": ("video_id,label\n77,run\n78,walk\n", "nor like any other row (give --root"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused_by_its_name(case: str, tmp_path: Path) -> None:
    text, cause = REFUSED[case]
    with pytest.raises(FoveateError) as refused:
        listed(tmp_path, text)
    assert cause in str(refused.value)
    assert len(str(refused.value)) - len(str(tmp_path)) < 220


PLAIN = "path,label\nsub/run1.mp4,r\u00e9ception\nwalk0.mp4,walk\n"


@pytest.mark.parametrize(
    "content",
    [
        *(PLAIN.encode(code) for code in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        *(gzip.compress(PLAIN.encode(code), mtime=0) for code in ("utf-8", "utf-16")),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace("\n", "\r\n").encode("utf-16"),
    ],
    ids=range(9),
)
def test_text_of_every_writing(content: bytes, tmp_path: Path) -> None:
    expected = [("sub/run1.mp4", "r\u00e9ception"), ("walk0.mp4", "walk")]
    assert facts(listed(tmp_path, content), tmp_path) == expected


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"PK\x03\x04" + bytes(50), "an Excel or zip file, not text (export it as CSV)"),
        (b"\xfd7zXZ\0" + bytes(50), "compressed by xz (unpack it, or compress it by gzip)"),
        (gzip.compress(PLAIN.encode(), mtime=0)[:-12], "a damaged gzip archive"),
        (b"\xff\xfea\0b\0c", "is not whole UTF-16 text (save it as UTF-8)"),
    ],
    ids=("zip", "xz", "gzip", "utf-16"),
)
def test_what_is_no_text_says_what_it_is(content: bytes, cause: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        listed(tmp_path, content)
    assert cause in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("day.mp4,run,0,2\nday.mp4,walk,2,4\n", [(0.0, 2.0), (2.0, 4.0)]),  # a video of 4 s, 48 frames
        ("day.mp4,run,0,24\nday.mp4,walk,24,48\n", None),
        ("gone.mp4,run,0,2\n", None),
    ],
)
def test_whole_numbers_are_seconds_where_the_videos_show_it(
    rows: str, expected: list[tuple[float, float]] | None, tmp_path: Path
) -> None:
    field.video(tmp_path / "day.mp4", range(48))
    (tmp_path / "list.csv").write_text(f"path,label,start,end\n{rows}")
    if expected is None:
        with pytest.raises(
            DataError, match=r"seconds or frames\? \(name them start_s and end_s, or start_fr"
        ):
            read_list(tmp_path / "list.csv")
        return
    videos = read_list(tmp_path / "list.csv")
    assert [(entry.start_s, entry.end_s) for entry in videos.entries] == expected
    assert "stretches by start and end, in seconds" in videos.notes


def test_kinetics_is_found_in_folders_of_classes(tmp_path: Path) -> None:
    table = field.kinetics(tmp_path)
    for found in (read_list(table), read_list(table, root=tmp_path / "train")):
        there = [entry for entry in found.entries if Path(entry.path).exists()]
        (lost,) = (entry for entry in found.entries if entry not in there)
        assert len(there) == 7 and Path(lost.path).parent.name == "abseiling"
        assert all(found.class_names[e.labels[0]] == Path(e.path).parent.name for e in there)
        assert any("7 videos found by their names further down" in note for note in found.notes)


def test_a_name_that_two_files_have_is_decided_by_its_class_or_refused(tmp_path: Path) -> None:
    field.empty(tmp_path, "run/1.mp4", "walk/1.mp4", "old/2.mp4", "new/2.mp4")
    (tmp_path / "list.csv").write_text("file,label\n1.mp4,run\n1.mp4,walk\n")
    assert facts(read_list(tmp_path / "list.csv"), tmp_path) == [("run/1.mp4", "run"), ("walk/1.mp4", "walk")]
    (tmp_path / "list.csv").write_text("file,label\n1.mp4,run\n2.mp4,walk\n")
    with pytest.raises(DataError, match=r"two videos fit 2\.mp4: new/2\.mp4, old/2\.mp4"):
        read_list(tmp_path / "list.csv")


def test_folders_named_by_numbers_after_a_blank(tmp_path: Path) -> None:
    field.empty(tmp_path, "clip 7/1.jpg", "clip 8/1.jpg")
    (tmp_path / "list.txt").write_text("clip 7 30 0\nclip 8 31 1\n")
    found = read_list(tmp_path / "list.txt")
    assert [(Path(e.path).name, e.frames) for e in found.entries] == [("clip 7", 30), ("clip 8", 31)]


@pytest.mark.parametrize("apart", [False, True])
def test_what_a_mac_leaves_beside_videos_is_none(apart: bool, tmp_path: Path) -> None:
    found = read_list(field.companions(tmp_path, apart))
    assert (len(found), found.class_names) == (6, ("run", "walk"))
    (left_out,) = (note for note in found.notes if "left out" in note)
    assert ("__MACOSX" if apart else "._ companions of macOS (6)") in left_out
    assert {row.status for row in check_videos(found)} == {"ok"}


def test_what_a_scan_left_out_is_said_by_its_suffix(tmp_path: Path) -> None:
    field.empty(tmp_path, "run/a.mp4", "run/b.mp5", "run/c.MP5", "walk/d.m4a", "walk/e")
    notes = read_list(tmp_path).notes
    assert "4 left out, no videos by their names: .mp5 (2), .m4a (1), no suffix (1)" in notes
    assert "a folder without videos is no class: walk" in notes


def test_pictures_with_companions_and_flow_are_one_video(tmp_path: Path) -> None:
    folder = tmp_path / "v0"
    folder.mkdir()
    for number in range(1, 5):
        Image.fromarray(field.frame(number)).save(folder / f"img_{number}.jpg", quality=95)
        (folder / f"._img_{number}.jpg").write_bytes(field.FINDER)
        if number < 4:
            Image.fromarray(field.frame(60)).save(folder / f"flow_x_{number}.jpg")
    with open_video(folder) as video:
        assert [field.number_of(picture) for picture in video.read([0, 1, 2, 3])] == [1, 2, 3, 4]


def test_a_file_whose_name_begins_with_a_dash_is_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("-Zk3.npy", np.zeros((3, 16, 24, 3), np.uint8))
    with pytest.raises(SystemExit) as ended:
        main(["data", "check", "-Zk3.npy", "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 3


def test_a_long_video_is_predicted_in_windows_and_that_is_said() -> None:
    model = create_model("tsn_r10_8", 2, size=32, resize=32, frames=2, width=0.125).eval()
    long = np.zeros((22 * 5, 32, 32, 3), np.uint8)
    said = Predictor(model, crops=3).predict(long, fps=5).to_dict()["protocol"]
    assert said == "4 windows of 5.5 s, 1 clip x 3 crops each"
    assert (
        Predictor(model, clips=2, window=0).predict(long, fps=5).protocol == "whole video, 2 clips x 1 crop"
    )


def test_check_and_training_agree_on_frames(tmp_path: Path) -> None:
    """Whatever the check refuses is bad in training, and the usable list is not."""
    field.video(tmp_path / "a.mp4", range(16))
    np.save(tmp_path / "b.npy", np.zeros((12, 32, 32, 3), np.uint8))
    lines = ["a.mp4 16 0", "a.mp4 9 0", "b.npy 12 1", "b.npy 34 1"]
    spec = create_model("tsn_r10_8", 2, size=32, resize=32, frames=4).spec
    verdicts = []
    for line in lines:
        (tmp_path / "list.txt").write_text(line + "\n")
        found = read_list(tmp_path / "list.txt", format="pyslowfast")
        (row,) = check_videos(found)
        bad = VideoDataset(found.entries, spec, 2)[0, 0].bad
        assert (row.status == "refused") == (bad is not None)
        assert bad is None or bad.cause == row.cause
        verdicts.append(row.cause)
        mended = usable(found, [row])
        assert VideoDataset(mended.entries, spec, 2)[0, 0].bad is None
    assert verdicts == ["", "", "", "the list says 34 frames, it has 12"]


def test_a_folder_of_splits_is_checked_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val"):
        field.video(tmp_path / split / "run" / f"{split}.mp4")
    (tmp_path / "val" / "run" / "broken.mp4").write_bytes(b"")
    with pytest.raises(SystemExit) as left:
        main(["data", "check", str(tmp_path), "--workers", "1", "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(Path(row["path"]).name, row["status"]) for row in rows] == [
        ("train.mp4", "ok"), ("broken.mp4", "refused"), ("val.mp4", "ok"),
    ]  # fmt: skip
    assert left.value.code == 3


def test_parts_that_a_video_has_not_are_found_by_the_check(tmp_path: Path) -> None:
    field.video(tmp_path / "day.mp4", range(24))
    text = "path,label,start_s,end_s\nday.mp4,run,0,1\nday.mp4,walk,1,2\nday.mp4,run,5,6\n"
    (tmp_path / "list.csv").write_text(text)
    found = read_list(tmp_path / "list.csv")
    (row,) = check_videos(found)
    assert (row.status, row.frames) == ("refused", 24)
    write_jsonl(usable(found, [row]), tmp_path / "usable.jsonl")
    assert [(e.start_s, e.end_s) for e in read_list(tmp_path / "usable.jsonl").entries] == [(0, 1), (1, 2)]
    spec = create_model("tsn_r10_8", 2, size=32, resize=32, frames=4).spec
    data = VideoDataset(found.entries, spec, 2)
    shown = [[field.number_of(f) for f in data[0, index].frames[0].numpy()] for index in (0, 1)]
    assert shown[0] == sorted(shown[0]) and max(shown[0]) < 12 <= min(shown[1])
    assert data[0, 2].bad is not None
