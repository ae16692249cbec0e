"""Every list format in use is read as the same thing, and a bad line is named with its number."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveate.data.class_names import KNOWN, read_class_names
from foveate.data.lists import VideoEntry, VideoList, read_list, write_jsonl
from foveate.data.lists.folder import find_videos
from foveate.errors import DataError, OutputError, UsageError
from foveate.io import atomic_write


def listed(folder: Path, text: str | bytes, name: str = "list.txt", **options) -> VideoList:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_list(path, **options)


def facts(videos: VideoList, root: Path) -> list[tuple]:
    """Everything about each entry, with paths as the list wrote them."""
    return [
        (os.path.relpath(e.path, root), e.labels, e.frames, *((e.start, e.end) if e.end is not None else ()))
        for e in videos.entries
    ]


PLAIN = {  # format: (file name, text, path, labels, frames[, start, end])
    "pyslowfast": ("a.csv", "v/a.mp4 0\nv/b c.mp4 2\n", [("v/a.mp4", (0,), None), ("v/b c.mp4", (2,), None)]),
    "pyslowfast, bare": ("a.csv", "a b.mp4\nb.mp4\n", [("a b.mp4", (), None), ("b.mp4", (), None)]),
    "pyslowfast, comma": ("a.csv", "a,b.mp4,1\nc.mp4,0\n", [("a,b.mp4", (1,), None), ("c.mp4", (0,), None)]),
    "mmaction2": ("a.txt", "a.mp4 0 3\nb.mp4 1\n", [("a.mp4", (0, 3), None), ("b.mp4", (1,), None)]),
    "tsm": ("a.txt", "air drum/x 30 0\ny 9 1\n", [("air drum/x", (0,), 30), ("y", (1,), 9)]),
    "tsm, tabs": ("a.txt", "x\t30\t0\ny\t9\t1\n", [("x", (0,), 30), ("y", (1,), 9)]),
    "adafocus": ("a.txt", "v_1,30,0,2\nv 2,9,1\n", [("v_1", (0, 2), 30), ("v 2", (1,), 9)]),
    "ibm": ("a.txt", "12 1 30 0\n13 11 20 1\n", [("12", (0,), None, 0, 30), ("13", (1,), None, 10, 20)]),
    "ibm, several": (
        "a.txt",
        "a b;1;30;0;1\nc;2;2;1\n",
        [("a b", (0, 1), None, 0, 30), ("c", (1,), None, 1, 2)],
    ),
    "ibm, test": ("a.txt", "v/12 1 30\nv/7 1 9\n", [("v/12", (), None, 0, 30), ("v/7", (), None, 0, 9)]),
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_formats_are_detected_and_give_the_same_when_named(case, tmp_path):
    name, text, expected = PLAIN[case]
    format = case.partition(",")[0]
    found = listed(tmp_path, text, name)
    assert facts(found, tmp_path) == expected
    assert found.format == format
    named = listed(tmp_path, text, name, format=format)
    assert named.entries == found.entries
    assert found.multi_label == any(len(labels) > 1 for _, labels, *_ in expected)


def test_formats_that_look_the_same_are_read_the_same(tmp_path):
    one_label = "a.mp4 0\nb.mp4 1\n"
    assert listed(tmp_path, one_label, format="mmaction2").entries == listed(tmp_path, one_label).entries
    text = "some/dir 30 0\nother 31 1\n"
    for format in ("mmaction2", "pyslowfast"):
        assert listed(tmp_path, text, format=format).entries == listed(tmp_path, text, format="tsm").entries
    several = listed(tmp_path, "d 30 0 1\ne 31 1\n", format="mmaction2")
    assert facts(several, tmp_path) == [("d", (0, 1), 30), ("e", (1,), 31)]


def test_adafocus_lists_with_blanks_are_read_too(tmp_path):
    found = listed(tmp_path, "air drumming/x 30 0\ny 9 1\n", format="adafocus")
    assert facts(found, tmp_path) == [("air drumming/x", (0,), 30), ("y", (1,), 9)]


@pytest.mark.parametrize("format", ["auto", "adafocus"])
def test_mini_kinetics_has_its_class_names_beside_the_list(tmp_path, format):
    (tmp_path / "minik_classInd.txt").write_text("air drumming\nclimbing\n")
    assert listed(tmp_path, "air drumming/x 30 0\ny 9 1\n", format=format).class_names == (
        "air drumming", "climbing",
    )  # fmt: skip


def test_template_of_either_style_goes_into_the_entries(tmp_path):
    for template in ("img_{:05d}.jpg", "img_%05d.jpg"):
        assert listed(tmp_path, "x 30 0\n", template=template).entries[0].template == "img_{:05d}.jpg"
    for wrong in ("img.jpg", "img_{name}.jpg", "img_{", "{}{}"):
        with pytest.raises(UsageError, match="template"):
            listed(tmp_path, "x 30 0\n", template=wrong)


FRAMES = (
    "original_vido_id video_id frame_id path labels\n"
    'A 0 0 A/A-000001.jpg ""\n'
    'A 0 1 A/A-000002.jpg "0,2"\n'
    'B 1 0 some where/B/B-000001.jpg "2,1"\n'
    'A 0 2 A/A-000003.jpg "2"\n'
    'C 2 0 C/1.jpg ""\n'
)


def test_a_list_of_frames_is_a_list_of_videos(tmp_path):
    found = listed(tmp_path, FRAMES, "val.csv")
    assert (found.format, found.multi_label) == ("charades", True)
    assert facts(found, tmp_path) == [("A", (0, 2), 3), ("some where/B", (2, 1), 1), ("C", (), 1)]
    assert listed(tmp_path, FRAMES, "val.csv", format="charades").entries == found.entries
    last = listed(tmp_path, FRAMES + 'D 3 0 D/1.jpg "156"\n', "val.csv")
    assert last.class_names == read_class_names("charades")
    (tmp_path / "Charades_v1_classes.txt").write_text("c000 Sit\nc001 Stand\nc002 Go\n")
    assert listed(tmp_path, FRAMES, "val.csv").class_names == ("Sit", "Stand", "Go")
    bare = listed(
        tmp_path, FRAMES.replace('"0,2"', '""').replace('"2,1"', '""').replace('"2"', '""'), "x.csv"
    )
    assert not bare.multi_label and {entry.labels for entry in bare.entries} == {()}


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("A 0 3 A/4.jpg", "7: has too few fields"),
        ('A 0 3 B/4.jpg "0"', "7: B/4.jpg is not in the folder of the other frames of A, 'A'"),
        ('D 0 3 4.jpg "0"', "7: 4.jpg is not in the folder"),
        ('D 0 3 D/4.jpg "x"', "7: D: label 'x' is not a whole number"),
    ],
)
def test_a_bad_line_of_a_list_of_frames_is_named(line, cause, tmp_path):
    with pytest.raises(DataError, match=cause):
        listed(tmp_path, f"{FRAMES}{line}\n", "val.csv")


def test_something_v2_takes_names_from_the_file_beside_it(tmp_path):
    (tmp_path / "labels.json").write_text('{"Holding something": "1", "Moving something up": "0"}')
    items = [
        {"id": "7", "label": "holding a cup", "template": "Holding [something]", "placeholders": ["a cup"]},
        {"id": "8", "label": "moving a pen up", "template": "Moving [something] up", "placeholders": []},
    ]
    found = listed(tmp_path, json.dumps(items, indent=1), "train.json")
    assert found.format == "something_v2"
    assert facts(found, tmp_path) == [("7.webm", (1,), None), ("8.webm", (0,), None)]
    assert found.class_names == ("Moving something up", "Holding something")
    frames = listed(tmp_path, json.dumps(items), "train.json", template="%06d.jpg")
    assert frames.entries[0] == VideoEntry(str(tmp_path / "7"), (1,), template="{:06d}.jpg")
    test = listed(tmp_path, '[{"id": "9"}]', "test.json")
    assert facts(test, tmp_path) == [("9.webm", (), None)]


@pytest.mark.parametrize(
    ("label", "data_set"), [("Holding something", "something_v1"), ("Swiping Left", "jester27")]
)
def test_semicolon_lists_fall_back_on_the_official_class_order(label, data_set, tmp_path):
    found = listed(tmp_path, f"123;{label}\n", "train.csv")
    names = read_class_names(data_set)
    assert (found.format, found.class_names) == ("something_v1", names)
    assert facts(found, tmp_path) == [("123", (names.index(label),), None)]
    assert f"class order of {data_set}" in found.notes


KINETICS = """label,youtube_id,time_start,time_end,split
"dancing ballet",-abc_DEF012,7,17,train
zumba,00000000000,100,110,val
"""


def test_kinetics_names_files_by_id_and_seconds(tmp_path):
    found = listed(tmp_path, KINETICS, "train.csv")
    names = read_class_names("kinetics400")
    assert (found.format, found.class_names) == ("kinetics", names)
    assert [os.path.basename(entry.path) for entry in found.entries] == [
        "-abc_DEF012_000007_000017.mp4",
        "00000000000_000100_000110.mp4",
    ]
    assert [names[entry.labels[0]] for entry in found.entries] == ["dancing ballet", "zumba"]
    assert len(listed(tmp_path, KINETICS, "train.csv", split="val")) == 1
    with pytest.raises(UsageError, match=r"no split 'test' \(there are train, val"):
        listed(tmp_path, KINETICS, "train.csv", split="test")


def test_tables_with_a_header_take_names_or_numbers(tmp_path):
    named = listed(tmp_path, 'label,path\nwalk,"a, b.mp4"\nrun,"two\nlines.mp4"\n', "x.csv")
    assert named.class_names == ("run", "walk")
    assert facts(named, tmp_path) == [("a, b.mp4", (1,), None), ("two\nlines.mp4", (0,), None)]
    numbered = listed(tmp_path, "path;label;note\na.mp4;1;x\nb.mp4;0;y\n", "x.csv")
    assert [entry.labels for entry in numbered.entries] == [(1,), (0,)]


UCF = "Archery/v_Archery_g01_c01.avi 1\nYoYo/v_YoYo_g01_c02.avi 3\n"


def test_ucf101_counts_from_one_and_checks_names_against_numbers(tmp_path):
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Biking\n3 YoYo\n")
    found = listed(tmp_path, UCF, "trainlist01.txt")
    assert (found.format, found.label_base) == ("ucf101", 1)
    assert [entry.labels for entry in found.entries] == [(0,), (2,)]
    test = listed(tmp_path, "YoYo/v_YoYo_g01_c02.avi\n", "testlist01.txt")
    assert facts(test, tmp_path) == [("YoYo/v_YoYo_g01_c02.avi", (2,), None)]
    with pytest.raises(DataError, match="class 2 is YoYo here"):
        listed(tmp_path, UCF.replace("3", "2"), "trainlist01.txt")
    (tmp_path / "classInd.txt").unlink()
    with pytest.raises(DataError, match=r"order of all classes \(put classInd.txt"):
        listed(tmp_path, UCF, "trainlist01.txt")


def test_a_list_of_ucf101_that_counts_from_zero_is_a_plain_one(tmp_path):
    found = listed(tmp_path, "Archery/v_Archery_g01_c01.avi 0\nYoYo/v_YoYo_g01_c02.avi 2\n")
    assert (found.format, [entry.labels for entry in found.entries]) == ("pyslowfast", [(0,), (2,)])


def test_hmdb51_splits(tmp_path):
    for name in ("wave", "clap"):
        marks = f"{name}_a.avi 1 \n{name} b.avi 2 \n{name}_c.avi 0 \n"
        (tmp_path / f"{name}_test_split1.txt").write_text(marks)
    train = read_list(tmp_path, split="train1")
    assert (train.format, train.class_names) == ("hmdb51", ("clap", "wave"))
    assert facts(train, tmp_path) == [("clap/clap_a.avi", (0,), None), ("wave/wave_a.avi", (1,), None)]
    test = read_list(tmp_path, split="test", root="/videos")
    assert [entry.path for entry in test.entries] == ["/videos/clap/clap b.avi", "/videos/wave/wave b.avi"]
    for split in (None, "train2", "all"):
        with pytest.raises(UsageError, match="split"):
            read_list(tmp_path, split=split)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folder_per_class_with_videos_and_folders_of_images(tmp_path):
    touch(tmp_path / "walk/b.MP4", tmp_path / "walk/deep/a.npy", tmp_path / "run/clip/img_00001.jpg")
    touch(tmp_path / "run/notes.txt", tmp_path / "run/thumb.jpg", tmp_path / ".trash/old.mp4")
    (tmp_path / "idle").mkdir()
    found = read_list(tmp_path)
    assert found.class_names == ("idle", "run", "walk")
    assert facts(found, tmp_path) == [
        ("run/clip", (1,), None),
        ("walk/b.MP4", (2,), None),
        ("walk/deep/a.npy", (2,), None),
    ]
    assert any("3 left out" in note and ".txt (1)" in note for note in found.notes)
    assert find_videos(tmp_path) == [entry.path for entry in found.entries]


def test_folder_with_splits_has_the_classes_of_all_splits(tmp_path):
    touch(tmp_path / "train/run/a.mp4", tmp_path / "train/walk/b.mp4", tmp_path / "val/walk/c.mp4")
    val = read_list(tmp_path, split="val")
    assert val.class_names == ("run", "walk")
    assert facts(val, tmp_path) == [("val/walk/c.mp4", (1,), None)]
    with pytest.raises(UsageError, match="holds the splits train, val"):
        read_list(tmp_path)
    with pytest.raises(UsageError, match="no single split 'test'"):
        read_list(tmp_path, split="test")


def test_folder_of_bare_videos_has_no_labels_and_an_empty_one_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no videos"):
        read_list(tmp_path)
    touch(tmp_path / "a.mp4")
    assert facts(read_list(tmp_path), tmp_path) == [("a.mp4", (), None)]
    touch(tmp_path / "run/b.mp4")
    with pytest.raises(DataError, match=r"a\.mp4: has no label"):
        read_list(tmp_path)


def test_links_in_folders_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path / "run/a.mp4")
    (tmp_path / "run/up").symlink_to(tmp_path / "run")
    (tmp_path / "run/self.mp4").symlink_to(tmp_path / "run/self.mp4")
    assert [os.path.basename(path) for path in find_videos(tmp_path)] == ["a.mp4", "self.mp4"]


def test_a_file_that_is_being_written_is_no_video_yet(tmp_path):
    touch(tmp_path / "a.mp4")
    with (
        pytest.raises(OutputError, match="an existing file is unchanged"),
        atomic_write(tmp_path / "b.mp4") as part,
    ):
        part.write_bytes(b"half")
        assert [os.path.basename(path) for path in find_videos(tmp_path)] == ["a.mp4"]
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == ["a.mp4"]


ODD_NAMES = [
    "new\nline.mp4",
    'quote".mp4',
    "comma, 3.mp4",
    "#x.mp4",
    "=1+1.mp4",
    "\udcff.mp4",
    "e\u0301\u2028.mp4",
]


def test_jsonl_gives_back_what_was_written(tmp_path):
    entries = [VideoEntry(str(tmp_path / "in" / name), (index % 2,)) for index, name in enumerate(ODD_NAMES)]
    entries += [
        VideoEntry("/far/x.mp4", (0, 1), 40, 3, 9, template="{:05d}.jpg"),
        VideoEntry("/far/x.mp4", (), start_s=1.25),
    ]
    videos = VideoList(tuple(entries), ("a", "b"), "jsonl", multi_label=True)
    path = tmp_path / "list.jsonl"
    write_jsonl(videos, path)
    back = read_list(path)
    assert (back.entries, back.class_names, back.multi_label) == (videos.entries, ("a", "b"), True)
    assert json.loads(path.read_text().splitlines()[1])["path"].startswith("in/")
    assert [child.name for child in tmp_path.iterdir()] == ["list.jsonl"]


def test_jsonl_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="no such file"):
        write_jsonl(VideoList((), (), "jsonl"), tmp_path / "none" / "x.jsonl")


HEADER = '{"foveate": 1, "classes": ["a", "b"]}\n'


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('{"path": "a.mp4", "labels": [2]}', "label 2 is out of range 0 to 1"),
        ('{"path": "a.mp4", "labels": [0.0]}', "label '0.0' is not a whole number"),
        ('{"path": "a.mp4", "labels": 0}', "labels is 0"),
        ('{"path": "", "labels": [0]}', "its path is ''"),
        ('{"labels": [0]}', "its path is None"),
        ('{"path": "a.mp4", "labels": [0], "start": 4, "end": 4}', "ends before it starts"),
        ('{"path": "a.mp4", "labels": [0], "frames": NaN}', "frames is nan"),
        ('{"path": "a.mp4", "labels": [0]', "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ("3", "not a JSON object"),
    ],
)
def test_jsonl_errors_name_the_line(line, cause, tmp_path):
    with pytest.raises(DataError) as error:
        listed(tmp_path, HEADER + line + "\n", "x.jsonl")
    assert error.value.subject == f"{tmp_path / 'x.jsonl'}:2"
    assert cause in error.value.cause


def test_jsonl_of_another_version_or_none(tmp_path):
    for first in ('{"foveate": 2}', '{"path": "a.mp4"}'):
        with pytest.raises(DataError, match=r"x\.jsonl:1: is not the header of a list of version 1"):
            listed(tmp_path, first + '\n{"path": "a.mp4"}\n', "x.jsonl")


BAD_LINES = [
    ("a.txt", "a.mp4 0\nb.mp4 -1\n", 2, "label -1 is negative"),
    ("a.txt", "a.mp4 0\nb.mp4 3.0\nc.mp4 1\n", 2, "label '3.0' is not a whole number"),
    ("a.txt", "a.mp4 0\nb.mp4\nc.mp4 1\n", 2, "1 of 2 fields"),
    ("a.txt", "a.mp4 0\nb.mp4 walking\n", 2, "label 'walking' is not a whole number"),
    ("a.txt", "a.mp4 0\nb.mp4 99999999\n", 2, "label 99999999 is not believable"),
    ("a.txt", "x 30 0\ny 30\nz 31 1\n", 2, "2 of 3 fields"),
    ("a.txt", "a.mp4 0\n" + "v 2.mp4 0\n" * 900 + "b.mp4 1 0\n", 902, "more numbers than expected"),
    ("a.txt", "x 30 0\nz 31 1\ny thirty 1\n", 3, "number of frames 'thirty' is not a whole number"),
    ("a.txt", "v,30,0\nw,30,\nx,3,1\n", 2, "a label is empty"),
    ("a.txt", "v,30,0\n,30,1\nx,3,1\n", 2, "the path is empty"),
    ("a.txt", "v 9 30 0\nw 30 9 1\nx 1 9 1\n", 2, "frames 30 to 9 are no range"),
    ("a.csv", "path,label\na.mp4,0\nb.mp4\n", 3, "1 columns where the header has 2"),
    ("a.csv", "path,label\na.mp4,0\nb.mp4,1,x\n", 3, "3 columns where the header has 2"),
    ("a.csv", 'path,label\na.mp4,0\n"b\n.mp4",-1\n', 3, "label -1 is negative"),
    ("a.csv", 'path,label\na.mp4,0\n"b.mp4,1\n', 3, "not readable as CSV"),
    ("a.csv", KINETICS + "zumba,11111111111,x,9,val\n", 4, "time_start 'x' is not a whole number"),
    ("a.csv", KINETICS + "zumbar,11111111111,1,9,val\n", 4, "unknown class name 'zumbar'"),
    ("a.txt", "a.mp4 0\na.mp4 1\n", 2, "label 1 conflicts"),
    ("a.txt", "v/a.mp4 0\nv/./a.mp4 1\n", 2, "label 1 conflicts"),
    ("a.txt", "a.mp4 0\nb\0.mp4 1\n", 2, "holds a NUL byte"),
    ("a.txt", b"\xef\xbb\xbfa.mp4 0\ncaf\xe9.mp4 1\n", 2, "byte 0xe9 is not UTF-8"),
]


@pytest.mark.parametrize(("name", "text", "line", "cause"), BAD_LINES)
def test_a_bad_line_is_named_with_its_number(name, text, line, cause, tmp_path):
    options = {"classes": "kinetics400"} if "zumba" in str(text) else {}
    with pytest.raises(DataError) as error:
        listed(tmp_path, text, name, **options)
    assert error.value.subject == f"{tmp_path / name}:{line}"
    assert cause in error.value.cause
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "\n \r\n", "\ufeff"])
def test_an_empty_list_is_an_error(text, tmp_path):
    with pytest.raises(DataError, match="the list is empty"):
        listed(tmp_path, text)


def test_a_header_alone_is_no_list(tmp_path):
    for name, text in (("a.csv", KINETICS.splitlines()[0]), ("b.csv", "path,label\n"), ("c.jsonl", HEADER)):
        with pytest.raises(DataError, match="holds no videos"):
            listed(tmp_path, text, name)


def test_a_missing_list_and_a_list_that_is_a_pipe(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_list(tmp_path / "none.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match="not a regular file"):
        read_list(tmp_path / "pipe.txt")


def test_byte_order_mark_and_carriage_returns_are_accepted(tmp_path):
    plain = listed(tmp_path, "a.mp4 0\nb.mp4 1\n")
    assert listed(tmp_path, b"\xef\xbb\xbfa.mp4 0\r\n\r\nb.mp4 1\r\n").entries == plain.entries


def test_labels_from_one_are_recognised_and_shifted(tmp_path):
    three = ("a", "b", "c")
    shifted = listed(tmp_path, "x.mp4 1\ny.mp4 3\n", classes=three)
    assert ([entry.labels for entry in shifted.entries], shifted.label_base) == ([(0,), (2,)], 1)
    assert "labels count from 1" in shifted.notes
    assert listed(tmp_path, "x.mp4 1\ny.mp4 2\nz.mp4 3\n").label_base == 1
    plain = listed(tmp_path, "x.mp4 1\ny.mp4 2\n", classes=three)
    assert ([entry.labels for entry in plain.entries], plain.label_base) == ([(1,), (2,)], 0)
    assert any("say label_base=1" in note for note in plain.notes)
    told = listed(tmp_path, "x.mp4 1\ny.mp4 2\n", classes=three, label_base=1)
    assert [entry.labels for entry in told.entries] == [(0,), (1,)]
    with pytest.raises(DataError, match=r"list.txt:2: y.mp4: label 3 is out of range 0 to 2"):
        listed(tmp_path, "x.mp4 0\ny.mp4 3\n", classes=three)


def test_a_validation_list_understands_the_classes_of_its_training_list(tmp_path):
    train = listed(tmp_path, "".join(f"{i}.mp4 {i}\n" for i in range(1, 6)))
    assert (train.label_base, train.class_names) == (1, ("1", "2", "3", "4", "5"))
    val = listed(tmp_path, "x.mp4 4\ny.mp4 2\n", classes=train.class_names)
    assert [entry.labels for entry in val.entries] == [(3,), (1,)]
    write_jsonl(val, tmp_path / "val.jsonl")
    assert read_list(tmp_path / "val.jsonl", classes=train.class_names).entries == val.entries


def test_class_names_work_as_labels_when_they_are_known(tmp_path):
    found = listed(tmp_path, "a.mp4 walk\nb.mp4 run\n", classes=["run", "walk"])
    assert [entry.labels for entry in found.entries] == [(1,), (0,)]
    with pytest.raises(DataError, match=r"list.txt:2: .*unknown class name 'wallk' \(did you mean walk\?\)"):
        listed(tmp_path, "a.mp4 run\nb.mp4 wallk\n", classes=["run", "walk"])


def test_a_list_of_one_class_is_noted(tmp_path):
    assert "all videos have the same labels" in listed(tmp_path, "a.mp4 1\nb.mp4 1\n").notes


def test_a_repeated_line_counts_once_and_is_noted(tmp_path):
    found = listed(tmp_path, "a.mp4 0\nb.mp4 1\na.mp4 0\n./b.mp4 1\n")
    assert len(found) == 2
    assert any("2 lines repeat" in note and "list.txt:3" in note for note in found.notes)


def test_parts_of_one_video_are_no_repetition(tmp_path):
    assert len(listed(tmp_path, "v 1 30 0\nv 31 60 1\n")) == 2


def test_relative_paths_start_at_the_list_or_at_the_root(tmp_path, monkeypatch):
    text = "../v/a.mp4 0\n/abs/b.mp4 1\n"
    assert [entry.path for entry in listed(tmp_path, text).entries] == [
        f"{tmp_path}/../v/a.mp4",
        "/abs/b.mp4",
    ]
    assert listed(tmp_path, "a.mp4 0\n", root="/data").entries[0].path == "/data/a.mp4"
    monkeypatch.chdir(tmp_path)
    assert read_list("list.txt", root="data").entries[0].path == "data/a.mp4"
    assert read_list("list.txt").entries[0].path == "a.mp4"


@pytest.mark.parametrize("path", ["../a.mp4", "/etc/a.mp4", "x/../../a.mp4", "/data/../a.mp4"])
def test_no_path_leaves_a_root_that_was_named(path, tmp_path):
    with pytest.raises(DataError, match="leaves the folder /data"):
        listed(tmp_path, f"b.mp4 0\n{path} 1\n", root="/data")


def test_wrong_arguments_are_usage_errors(tmp_path):
    for options in (
        {"format": "tsn"},
        {"format": "folder"},
        {"split": "val"},
        {"classes": "kinetics"},
        {"label_base": 2},
    ):
        with pytest.raises(UsageError):
            listed(tmp_path, "a.mp4 0\n", **options)
    with pytest.raises(UsageError, match="is a folder"):
        read_list(tmp_path, format="tsm")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "run\nwalk\n"),
        ("a.txt", "2 walk\n1 run\n"),
        ("a.txt", "0,run\n1,walk\n"),
        ("a.json", '["run", "walk"]'),
        ("a.json", '{"walk": 1, "run": 0}'),
        ("a.json", '{"\\"walk\\"": "2", "\\"run\\"": "1"}'),
        ("a.json", '{"1": "walk", "0": "run"}'),
    ],
)
def test_class_names_of_every_form(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert read_class_names(tmp_path / name) == ("run", "walk")


def test_class_names_that_only_begin_with_numbers(tmp_path):
    (tmp_path / "a.txt").write_text("100 m run\n200 m run\n")
    assert read_class_names(tmp_path / "a.txt") == ("100 m run", "200 m run")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('{"a": 0, "b": 2}', "gaps"),
        ("[]", "no class names"),
        ('["a", "a"]', "twice"),
        ('["a", ""]', "empty"),
        ("3", "neither"),
    ],
)
def test_class_names_without_a_clear_order(text, cause, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=cause):
        read_class_names(tmp_path / "a.json")


def test_known_class_names_have_the_published_numbers():
    sizes = {name: len(read_class_names(name)) for name in KNOWN}
    assert {name: size for name, size in sizes.items() if str(size) not in name} == {
        "charades": 157,
        "something_v1": 174,
        "something_v2": 174,
    }
    assert all(len(set(read_class_names(name))) == size for name, size in sizes.items())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z]{1,5}( [a-z]{1,3})?/[a-z0-9_]{1,8}", fullmatch=True), st.integers(3, 999)
        ),
        min_size=2,
        max_size=30,
        unique_by=lambda pair: pair[0],
    ),
    st.integers(2, 5),
)
def test_any_list_of_folders_survives_the_way_through_two_formats(tmp_path, videos, classes):
    text = "".join(f"{path} {frames} {i % classes}\n" for i, (path, frames) in enumerate(videos))
    found = listed(tmp_path, text, format="tsm")
    assert [(e.path, e.frames) for e in found.entries] == [(f"{tmp_path}/{p}", n) for p, n in videos]
    write_jsonl(found, tmp_path / "x.jsonl")
    assert read_list(tmp_path / "x.jsonl").entries == found.entries


def test_a_list_of_many_lines_is_read_in_time_that_grows_with_it(tmp_path):
    """A twentieth of a million lines stays far under a twentieth of a minute, even on a busy machine."""
    import time

    text = "".join(f"videos/class_{i % 400}/clip {i:07d}.mp4 {i % 400}\n" for i in range(50_000))
    start = time.process_time()
    assert len(listed(tmp_path, text)) == 50_000
    assert time.process_time() - start < 3
