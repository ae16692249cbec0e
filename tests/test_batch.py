"""`foveate batch`: the same rows from every way of sharing out the work, and after every kill."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from benchmarks.record import Table, write

from foveate.batch.job import Job, Share
from foveate.batch.rows import COLUMNS, read_rows, row_of, write_rows
from foveate.cli import main
from foveate.data.lists import VideoEntry
from foveate.errors import OutputError, UsageError
from foveate.infer.output import Prediction

PARTS = ("--part-rows", "4", "--batch", "2", "--format", "jsonl", "--engine", "eager")


@pytest.fixture(autouse=True, scope="module")
def threads_of_a_process() -> Iterator[None]:
    """As many here as in the processes that tests start: eager adds up in another order with others."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, corpus: tuple[Path, dict[str, Any]], clips: dict[str, Path]
) -> Path:
    """Fourteen files: good ones of all lengths, one of several windows, damaged ones, hostile ones."""
    place = tmp_path_factory.mktemp("batch")
    shutil.copy(clips["bikes.mp4"], place / "a_bikes.mp4")
    names = sorted(
        path.name for path in corpus[0].iterdir() if path.suffix in (".mp4", ".mkv", ".avi", ".ts")
    )
    for name in names[:: max(1, len(names) // 13)][:13]:
        if (corpus[0] / name).is_file():
            shutil.copy(corpus[0] / name, place / name)
    return place


def batch(*words: object) -> int:
    """The exit code of `foveate batch --model adafocus_small`."""
    with pytest.raises(SystemExit) as end:
        main(["batch", *map(str, words), "--model", "adafocus_small", *PARTS])
    return int(end.value.code or 0)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "foveate", "batch", *map(str, words), "--model", "adafocus_small", *PARTS]


def rows_in(out: Path) -> bytes:
    """All rows, sorted, as they were written."""
    lines = [line for part in out.glob("part-*.jsonl") for line in part.read_bytes().splitlines()]
    return b"\n".join(sorted(lines, key=lambda line: int(json.loads(line)["index"])))


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job that was done by one process."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert batch(folder, "--out", out, "--window", 2) == 3
    return out


def test_there_is_a_row_for_every_video(folder: Path, done: Path) -> None:
    rows = [json.loads(line) for line in rows_in(done).splitlines()]
    assert [row["video"] for row in rows] == sorted(map(str, folder.iterdir()))
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert all(tuple(row) == COLUMNS for row in rows)
    refused = [row for row in rows if row["status"] == "refused"]
    assert refused and all(row["cause"] and row["label"] is None for row in refused)
    assert all(row["label"] for row in rows if row["status"] != "refused")
    counts = json.loads((done / "summary.json").read_text())
    assert counts["videos"] == len(rows) == counts["ok"] + counts["partial"] + counts["refused"]
    failures = (done / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in failures] == [
        row["index"] for row in rows if row["status"] != "ok"
    ]


def test_rows_say_what_predict_says(folder: Path, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(
            [
                "predict",
                str(folder),
                "--model",
                "adafocus_small",
                "--engine",
                "eager",
                "--json",
                "--window",
                "2",
            ]
        )
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [json.loads(line) for line in rows_in(done).splitlines()]
    for answer, row in zip(said, rows, strict=True):
        assert (row["video"], row["status"], row["cause"]) == (
            answer["video"],
            answer["status"],
            answer["cause"],
        )
        assert row["duration_s"] == answer["duration_s"]
        if row["label"] is not None:
            assert row["label"] == answer["predictions"][0]["label"]
            assert row["score"] == pytest.approx(answer["predictions"][0]["score"], abs=1e-5)
            assert len(row["segments"]) == len(answer["segments"])


def test_shares_together_give_the_same_rows(folder: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert batch(folder, "--out", out, "--window", 2, "--shard", "1/2") in (0, 3)
    assert 0 < len(rows_in(out)) < len(rows_in(done))
    assert batch(folder, "--out", out, "--window", 2, "--shard", "0/2") == 3
    assert rows_in(out) == rows_in(done)


def test_ranks_of_torchrun_give_the_same_rows(folder: Path, done: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = command(folder, "--out", tmp_path / "out", "--window", 2)[1:]
    found = subprocess.run([*launch, *words], capture_output=True, text=True, check=False, timeout=200)
    assert found.returncode == 0, found.stderr  # though videos are refused: it would end the other rank
    assert rows_in(tmp_path / "out") == rows_in(done)


@pytest.mark.stress
def test_ray_gives_the_same_rows(folder: Path, done: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="the extra ray is not installed")
    words = command(folder, "--out", tmp_path / "out", "--window", 2, "--ray", "local")
    found = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert found.returncode == 3, found.stderr
    assert rows_in(tmp_path / "out") == rows_in(done)
    again = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 3, again.stderr  # nothing is missing, and no cluster is started


def test_what_is_there_is_left_alone(folder: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    (out / "part-000001.jsonl").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert batch(folder, "--out", out, "--window", 2) == 3
    assert rows_in(out) == rows_in(done)
    assert all((out / name).stat().st_mtime_ns == time_ns for name, time_ns in before.items())


def test_a_killed_run_goes_on_to_the_same_rows(folder: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(command(folder, "--out", out, "--window", 2), stderr=subprocess.DEVNULL)
    while not list(out.glob("part-*")):
        time.sleep(0.01)
        assert process.poll() is None
    process.kill()
    process.wait()
    there = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert len(there) < len(list(done.glob("part-*")))
    assert batch(folder, "--out", out, "--window", 2) == 3
    assert rows_in(out) == rows_in(done)
    assert all(path.stat().st_mtime_ns == before for path, before in there.items())


def children_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that read for a run: below its fork server."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [
        child
        for child in below
        if not child.children() and "resource_tracker" not in " ".join(child.cmdline())
    ]


@pytest.mark.parametrize("sent", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.stress)])
def test_a_reader_that_dies_or_hangs_costs_one_row_at_most(
    sent: signal.Signals, folder: Path, done: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = command(folder, "--out", out, "--window", 2, "--workers", 1, "--timeout", 3)
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    while not list(out.glob("part-*")):
        time.sleep(0.005)
        assert process.poll() is None
    for child in children_of(process)[:1]:
        child.send_signal(sent)
    assert process.wait(300) == 3
    rows = [json.loads(line) for line in rows_in(out).splitlines()]
    before = [json.loads(line) for line in rows_in(done).splitlines()]
    changed = [row for row, other in zip(rows, before, strict=True) if row != other]
    if sent == signal.SIGKILL:
        assert not changed  # the file is read once more
    else:
        assert [row["cause"] for row in changed] in (
            [],
            ["reading it came to no end: not read within 3 s"],
        )


def test_another_job_in_the_folder_is_refused(
    folder: Path, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(folder, "--out", done, "--window", 3) == 2
    assert "window 2.0, not 3.0" in capsys.readouterr().err
    assert batch(folder, folder, "--out", done, "--window", 2, "--top", 2) == 2
    assert "top 5, not 2" in capsys.readouterr().err
    assert batch(folder / "a_bikes.mp4", "--out", done, "--window", 2) == 2
    assert "answers to another list" in capsys.readouterr().err


def test_a_list_that_grows_is_the_same_job(folder: Path, tmp_path: Path) -> None:
    names = sorted(map(str, folder.iterdir()))
    listed, out = tmp_path / "list.txt", tmp_path / "out"
    for count in (6, len(names)):
        listed.write_text("".join(f"{name} 0\n" for name in names[:count]))
        assert batch(listed, "--out", out) in (0, 3)
    assert len(rows_in(out).splitlines()) == len(names)
    whole = tmp_path / "whole"
    assert batch(listed, "--out", whole) == 3
    assert rows_in(out) == rows_in(whole)


def test_two_processes_do_not_take_one_share(tmp_path: Path) -> None:
    job = Job(tmp_path / "out", [VideoEntry("a.mp4")], "jsonl")
    with job.settling():
        job.settle({})
    with job.working(Share()), pytest.raises(UsageError, match="another process"), job.working(Share()):
        pass


def test_a_part_without_all_its_rows_is_named(tmp_path: Path) -> None:
    job = Job(tmp_path / "out", [VideoEntry("a.mp4"), VideoEntry("b.mp4")], "jsonl")
    with job.settling():
        job.settle({})
    row = {"index": 0, "video": "a.mp4", "status": "ok", "cause": None}
    for text in ("", json.dumps(row) + "\n"):
        job.path(0).write_text(text)
        with pytest.raises(OutputError, match="not those of 2 videos"):
            job.summary()


def test_processes_that_end_together_write_one_summary(tmp_path: Path) -> None:
    job = Job(tmp_path / "out", [VideoEntry("a.mp4")], "jsonl")
    with job.settling():
        job.settle({})
    with ThreadPoolExecutor(4) as pool:
        for counts in pool.map(lambda _: job.summary(), range(100)):
            assert counts["missing"] == 1


def test_a_cause_with_a_name_that_is_not_utf8_is_a_row(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    name = os.fsdecode(b"/tmp/\xff.mp4")
    write_rows(
        [row_of(0, Prediction(name, "m", status="refused", cause=f"no {name}"))], tmp_path / "r.parquet"
    )
    (row,) = read_rows(tmp_path / "r.parquet")
    assert row["cause"] == "no /tmp/\\udcff.mp4"


def test_a_pipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch("-", "--out", tmp_path / "out") == 2
    assert "save the video to a file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_shares_count_from_zero(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    for shard, cause in (
        ("2/2", "count from 0/2 to 1/2"),
        ("1", "write K/N"),
        ("²/4", "write K/N"),
        ("a/b", "write K/N"),
    ):
        assert batch(folder, "--out", tmp_path / "out", "--shard", shard) == 2
        assert cause in capsys.readouterr().err


def test_features_and_predictions_in_parquet(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    words = ["batch", folder / "a_bikes.mp4", "--model", "adafocus_small", "--out", out, "--write", "both"]
    with pytest.raises(SystemExit) as end:
        main([*map(str, words), "--engine", "eager", "--untrusted"])
    assert not end.value.code
    (row,) = read_rows(out / "part-000000.parquet")
    assert tuple(row) == COLUMNS and row["label"] and len(row["features"]) > 100
    (out / "part-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(OutputError, match="remove it"):
        read_rows(out / "part-000000.parquet")


def test_places_that_cannot_be_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert batch(folder, "--out", tmp_path / "file") == 5
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "job.json").write_text("[1")
    assert batch(folder, "--out", tmp_path / "other") == 5
    assert batch(tmp_path / "none*.mp4", "--out", tmp_path / "out") == 3
    assert "no file fits this pattern" in capsys.readouterr().err


def test_patterns_and_object_stores(
    folder: Path, tmp_path: Path, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for path in sorted(folder.iterdir()):
        store.pipe(f"/bucket/{path.name}", path.read_bytes())
    assert batch(f"{folder}/*", "--out", tmp_path / "pattern", "--window", 2) == 3
    assert rows_in(tmp_path / "pattern") == rows_in(done)
    from foveate.cli.inputs import videos_of

    for pattern in ("memory://bucket/*.mp4", "memory://bucket/"):
        found = [entry.path for entry in videos_of([pattern])]
        assert "memory:///bucket/a_bikes.mp4" in found or "memory://bucket/a_bikes.mp4" in found


STRESSED = ("--window", 2, "--workers", 2)


def ray_workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes of Ray's actors."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [child for child in below if "MapWorker" in " ".join(child.cmdline())]


def killed_once(words: list[str], out: Path, after: int, whom: str, chance: random.Random) -> bool:
    """Start a run, kill it or one of its workers when it has written `after` parts; whether there was one."""
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(list(out.glob("part-*"))) < after and process.poll() is None:
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.2))
    if process.poll() is not None:
        return False
    if whom == "driver":
        process.kill()
    else:
        with suppress(psutil.NoSuchProcess):
            found = ray_workers(process) if "--ray" in words else children_of(process)
            if not found:
                process.kill()
                process.wait()
                return False
            chance.choice(found).kill()
    process.wait(300)
    return True


@pytest.mark.stress
@pytest.mark.timeout(7200)
def test_kills_lose_no_row_and_double_none(folder: Path, tmp_path: Path) -> None:
    """Ten workers and ten drivers, of processes on this machine and of Ray."""
    listed = tmp_path / "list.txt"
    for number in range(4):  # a list names each video once
        (tmp_path / "videos" / str(number)).mkdir(parents=True)
        for path in folder.iterdir():
            (tmp_path / "videos" / str(number) / path.name).symlink_to(path)
    names = sorted(map(str, (tmp_path / "videos").glob("*/*")))
    listed.write_text("".join(json.dumps({"path": name}) + "\n" for name in names))
    assert batch(listed, "--out", tmp_path / "whole", *STRESSED) == 3
    whole, parts = rows_in(tmp_path / "whole"), len(list((tmp_path / "whole").glob("part-*")))
    chance, table = random.Random(0), []
    for runner in ("processes", "ray"):
        for whom in ("worker", "driver"):
            kills = same = again = 0
            while kills < 10:
                out = tmp_path / f"{runner}-{whom}-{kills}"
                words = command(listed, "--out", out, *STRESSED)
                words += ["--ray", "local"] if runner == "ray" else []
                if not killed_once(words, out, chance.randrange(parts - 2), whom, chance):
                    shutil.rmtree(out, ignore_errors=True)
                    continue
                kills += 1
                there = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
                subprocess.run(words, capture_output=True, check=False, timeout=300)
                same += rows_in(out) == whole
                again += sum(path.stat().st_mtime_ns != before for path, before in there.items())
            row = {"runner": runner, "killed": whom, "kills": kills, "same": same, "again": again}
            table.append(row)
    about = (
        f"SIGKILL at a random moment of a batch of {len(names)} videos in {parts} parts; then the same again"
    )
    columns = {"runner": "runner", "killed": "killed", "kills": "kills",
               "same": "with the rows of a run without kills, byte for byte",
               "again": "finished parts that were made again"}  # fmt: skip
    write("killed_batch", Table(about, columns, table), command="pytest -m stress tests/test_batch.py")
    assert all((row["same"], row["again"]) == (10, 0) for row in table)
