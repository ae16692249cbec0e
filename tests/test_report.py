"""The report: one file that shows what happened, asks nothing of the network, and words that are true."""

from __future__ import annotations

import csv
import json
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from foveate.cli import main
from foveate.clip import ClipSpec
from foveate.data.lists import VideoEntry
from foveate.data.synthetic import make_figures
from foveate.errors import DataError, UsageError
from foveate.report import results
from foveate.report.folder import read_run
from foveate.report.page import LiveReport, write_comparison, write_evaluation_report, write_report
from foveate.report.plots import STYLE
from foveate.report.summary import Baseline, baseline_of, describe_training
from foveate.train.config import TrainConfig
from foveate.train.evaluation import Evaluation, load_evaluation
from foveate.train.job import TrainJob
from foveate.train.stages import train_model

pytestmark = pytest.mark.usefixtures("one_thread")
SECTIONS = [
    "Curves", "Confusion", "Classes", "Worst mistakes", "Reliability of the scores", "Cost and choices",
    "Files that could not be read", "How it was made",
]  # fmt: skip
CHANCE = Baseline(0.1, 0.12)


class Page(HTMLParser):
    """What a test asks of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.headings: list[str] = []
        self.source = path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "style":
            return
        self.texts.append(data)
        if self.tags and self.tags[-1][0] == "h2" and data.strip():
            self.headings.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_page(page: Page) -> None:
    """Self-contained and readable without eyes or a mouse."""
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "poster"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:")), address
    assert "http" not in page.source.replace("&#x27;", "'").lower()
    assert not re.search(r"@import|url\((?!#)", page.source)
    assert not page.all("script")
    for image in page.all("img"):
        assert image["alt"]
    for figure in page.all("figure"):
        assert figure.get("role") != "img" or figure["aria-label"]
    assert all(svg["aria-hidden"] == "true" for svg in page.all("svg"))
    assert all(header["scope"] in ("col", "row") for header in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert "prefers-color-scheme: dark" in page.source and "@media print" in page.source
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'(?:url\(#|href="#)([\w-]+)', page.source):
        assert reference in ids


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    make_figures(folder, 16, 12, 0, workers=0)
    with (folder / "val.jsonl").open("a") as file:
        file.write('{"path": "lost.mp4", "labels": [1]}\n')
    return folder


def job(videos: Path, out: Path, **changes: Any) -> TrainJob:
    config = TrainConfig(epochs=2, batch=8, optimizer="adamw", rate=1e-3, reference_batch=None, log_every=1)
    settings = ("size=32", "resize=32")
    default = TrainJob(
        videos / "train.jsonl",
        out,
        "tsn_r10_8",
        videos / "val.jsonl",
        settings=settings,
        workers=0,
        train=config,
    )
    return replace(default, **changes)


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "first"
    train_model(job(videos, out))
    return out


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    """Run the program in this process."""

    def call(*words: object) -> SimpleNamespace:
        capsys.readouterr()
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        signal.signal(signal.SIGTERM, handler)
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=left.value.code or 0, stdout=out, stderr=err)

    return call


# the page of a run


def test_the_report_of_a_run_holds_every_section(run: Path) -> None:
    page = Page(write_report(run))
    check_page(page)
    assert page.headings == SECTIONS
    assert page.texts[0] is not None and "Best: epoch" in page.text
    assert "lost.mp4" in page.text and "no such file" in page.text
    assert "12 of 13" in page.text
    assert "data:image/jpeg;base64," in page.source  # frames of its mistakes
    assert "reference_batch" in page.text and "None" in page.text  # a setting that is not the default
    assert "peak memory of the main process" in page.text and "time spent training" in page.text
    assert "torch" in page.text and "seed" in page.text
    assert len(page.all("svg")) >= 7
    assert len(page.source) < 3_000_000


def test_the_table_of_predictions(run: Path) -> None:
    write_report(run)
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    assert len(rows) == 13
    assert {row["status"] for row in rows} == {"ok", "refused"}
    assert rows[-1]["cause"] == "no such file" and rows[-1]["video"].endswith("lost.mp4")
    evaluation = load_evaluation(run / "evaluation.npz")
    assert rows[-1]["true_label"] == evaluation.classes[1] and rows[-1]["predicted_label"] == ""
    right = sum(row["true_label"] == row["predicted_label"] for row in rows[:-1])
    assert right / 12 == pytest.approx(evaluation.measures["top1"])
    for row in rows[:-1]:
        assert (row["true_rank"] == "1") == (row["true_label"] == row["predicted_label"])
        assert f"/{row['true_label']}/" in row["video"]
        assert 0 < float(row["true_score"]) <= float(row["score"]) < 1


def test_an_evaluation_is_that_of_the_kept_weights(run: Path) -> None:
    record = read_run(run)
    assert record.evaluation is not None
    assert record.evaluation.measures["top1"] == record.best
    assert record.evaluation.details["time_answer"].shape == (12, 8)


def test_a_finished_folder_of_an_earlier_version_gives_what_it_has(run: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for name in ("config.yaml", "metrics.jsonl"):
        (old / name).write_bytes((run / name).read_bytes())
    lines = (old / "metrics.jsonl").read_text().splitlines()
    new = ("memory_mb", "eval_seconds")
    kept = [json.dumps({k: v for k, v in json.loads(line).items() if k not in new}) for line in lines]
    (old / "metrics.jsonl").write_text("\n".join(kept) + '\n{"kind": "st')  # a line that is being written
    page = Page(write_report(old))
    check_page(page)
    assert page.headings == SECTIONS
    assert "Best: epoch" in page.text


def test_a_run_that_has_hardly_begun(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: tsn_r10_8\n")
    page = Page(write_report(tmp_path))
    check_page(page)
    assert page.headings == SECTIONS
    assert "No epoch was finished" in page.text


def test_no_run_no_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run folder"):
        write_report(tmp_path)
    assert LiveReport(tmp_path).write() is None


def test_a_live_report_costs_a_small_share_of_the_time(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = [100.0], []

    def write(folder: Path) -> Path:
        written.append(clock[0])
        clock[0] += 2
        return folder

    monkeypatch.setattr("foveate.report.page.write_report", write)
    monkeypatch.setattr("foveate.report.page.time.monotonic", lambda: clock[0])
    live = LiveReport(run)
    for _ in range(100):
        clock[0] += 1
        live.after_epoch()
    assert written == [101.0, 143.0, 185.0]  # 2 s of 42


def test_a_report_that_fails_ends_no_training(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(folder: Path) -> Path:
        raise ValueError("no ink")

    monkeypatch.setattr("foveate.report.page.write_report", fail)
    assert LiveReport(run).write() is None
    assert "report.html: not written: no ink" in caplog.text


# at the prompt


def test_training_ends_with_words_and_a_report(
    videos: Path, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    out = tmp_path / "run"
    done = run_cli(
        "train", "--videos", videos / "train.jsonl", "--val", videos / "val.jsonl", "--out", out,
        "--model", "tsn_r10_8", "--epochs", "1", "--batch", "8", "--workers", "0",
        "--settings", "size=32", "resize=32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Best: epoch 1 of 1, validation top-1" in done.stdout
    assert "chance 10 %" in done.stdout
    assert "peak memory" in done.stderr
    page = Page(out / "report.html")
    check_page(page)
    assert "peak memory" in page.text
    assert (out / "predictions.csv").exists()


def test_report_of_one_and_of_several(
    videos: Path, run: Path, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    other = tmp_path / "other"
    train_model(job(videos, other, train=replace(job(videos, other).train, rate=3e-3)))
    done = run_cli("report", run, "--out", tmp_path / "one.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Best: epoch")
    assert Page(tmp_path / "one.html").headings == SECTIONS
    done = run_cli("report", run, other, "--out", tmp_path / "two.html", "--json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["summaries"]) == {str(run), str(other)}
    page = Page(tmp_path / "two.html")
    check_page(page)
    assert page.headings[:4] == ["What happened", "Curves", "Settings that differ", "Classes"]
    assert "rate" in page.text and "0.003" in page.text
    assert "optimizer" not in page.text  # which is the same
    done = run_cli("report", tmp_path / "nothing")
    assert done.returncode == 2 and "is no run folder" in done.stderr


def test_a_comparison_of_runs_that_share_a_name(run: Path, tmp_path: Path) -> None:
    twin = tmp_path / run.name
    twin.mkdir()
    for name in ("config.yaml", "metrics.jsonl"):
        (twin / name).write_bytes((run / name).read_bytes())
    page = Page(write_comparison([run, twin], tmp_path / "page.html"))
    check_page(page)
    assert str(twin) in page.text
    assert "not evaluated on the same videos" in page.text


def test_the_report_of_any_model_and_list(
    videos: Path, run: Path, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    out = tmp_path / "eval.html"
    words = ("eval", videos / "val.jsonl", "--model", run / "best.safetensors", "--workers", "0")
    done = run_cli(*words, "--report", out, "--json")
    assert done.returncode == 3  # a file is lost
    page = Page(out)
    check_page(page)
    assert page.headings == SECTIONS[1:]
    assert json.loads(done.stdout)["predictions"] == str(tmp_path / "predictions.csv")
    assert (tmp_path / "predictions.csv").exists()
    done = run_cli(*words, "--report", tmp_path / "eval.txt")
    assert done.returncode == 2 and "name an .html file" in done.stderr


# evaluations made up


def evaluation(**changes: Any) -> Evaluation:
    """Four videos of three classes, one of them taken for another, by a model that looks at patches."""
    steps = np.array([[0.4, 0.5, 0.8]] * 4)
    details = {
        "frames_read": np.array([[1, 1, 0]] * 4),
        "boxes": np.zeros((4, 3, 4), np.int32),
        "looked": np.ones((4, 3), bool),
        "time_class": np.zeros((4, 3), np.int32),
        "time_answer": steps,
        "time_label": 1 - steps,
    }
    default = Evaluation(
        model="adafocus_small",
        spec=ClipSpec(frames=3, size=32, resize=32),
        views="1x1",
        classes=("a $x^", "b <i>", "c \u4e2d"),
        multi_label=False,
        entries=tuple(VideoEntry(f"gone{n}\udcff.mp4", (n % 3,)) for n in range(4)),
        folder="/nowhere",
        bad=(("broken.mp4", "cut off"),),
        measures={
            "top1": 0.75,
            "top5": 1.0,
            "mean_class": 0.83,
            "n_ok": 4.0,
            "n_total": 5.0,
            "gmacs_per_view": 1.0,
            "top1_after_1": 0.5,
            "top1_after_2": 0.5,
            "top1_after_3": 0.75,
        },
        probabilities=np.array(
            [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.1, 0.7, 0.2]], np.float32
        ),
        labels=np.array([0, 1, 2, 0]),
        macs=np.array([0.5e9, 1e9, 1e9, 1.5e9]),
        details=details,
    )
    return replace(default, **changes)


def test_an_evaluation_survives_its_file(tmp_path: Path) -> None:
    one = evaluation()
    one.save(tmp_path / "e.npz")
    other = load_evaluation(tmp_path / "e.npz")
    for name in ("model", "spec", "classes", "entries", "bad", "bad_labels", "measures", "folder"):
        assert getattr(one, name) == getattr(other, name)
    assert np.array_equal(one.probabilities, other.probabilities)
    assert one.details.keys() == other.details.keys()
    (tmp_path / "e.npz").write_bytes((tmp_path / "e.npz").read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read as an evaluation"):
        load_evaluation(tmp_path / "e.npz")


def test_names_are_shown_as_they_are_and_lost_videos_named(tmp_path: Path) -> None:
    page = Page(write_evaluation_report(evaluation(), tmp_path / "e.html", "foveate eval"))
    check_page(page)
    assert "b <i>" in page.text and "a $x^" in page.text and "c \u4e2d" in page.text
    assert "cannot be shown: no such file" in page.text
    assert "From 0.5 to 1.5".lower() in page.text.lower()  # what the videos cost
    assert "frames read" in page.source  # accuracy against frames
    assert "a $x^ taken for b <i> , 70 %; the truth came 3rd with 10 %" in page.text


def test_what_an_evaluation_says() -> None:
    one = evaluation()
    assert results.worst(one) == [3]
    assert results.frequent_mistakes(results.confusion(one), one.classes) == [("a $x^", "b <i>", 1, 2)]
    rows = results.by_class(one)
    assert (rows[0].name, rows[0].videos, rows[0].share) == ("a $x^", 2, 0.5)
    assert baseline_of(one) == Baseline(pytest.approx(1 / 3), 0.5)
    assert baseline_of(one, "mean_class").majority is None


def test_several_labels(tmp_path: Path) -> None:
    labels = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    measures = {"mAP": 0.9, "top1": 0.75, "n_ok": 4.0, "n_total": 4.0, "gmacs_per_view": 1.0}
    one = evaluation(multi_label=True, labels=labels, measures=measures, bad=())
    page = Page(write_evaluation_report(one, tmp_path / "e.html"))
    check_page(page)
    assert "several labels each" in page.text and "mAP 90 %" in page.text
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert rows[0]["true_label"] == "a $x^ | b <i>" and rows[0]["true_rank"] == "1 | 2"


def test_many_classes_need_no_matrix(tmp_path: Path) -> None:
    classes = tuple(f"class {n}" for n in range(100))
    scores = np.full((4, 100), 0.001, np.float32)
    scores[:, 7] = 0.9
    one = evaluation(classes=classes, probabilities=scores, details={})
    page = Page(write_evaluation_report(one, tmp_path / "e.html"))
    check_page(page)
    assert "too fine to read" in page.text
    assert "gives one answer a video" in page.text


def test_plots_leave_matplotlib_as_it_is(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = {name: mpl.rcParams[name] for name in STYLE}
    write_evaluation_report(evaluation(), tmp_path / "e.html")
    assert {name: mpl.rcParams[name] for name in STYLE} == before


# words


def history(
    val: list[float | None], learnt: list[float] | None = None, loss: list[float | None] | None = None
) -> list[dict[str, Any]]:
    """Epoch records with these measures; by default the loss falls."""
    count = len(val)
    losses = loss or [2.0 - 1.5 * n / count for n in range(count)]
    records = []
    for number in range(count):
        record = {"kind": "epoch", "epoch": number, "step": 10 * (number + 1), "loss": losses[number]}
        if learnt:
            record["top1"] = learnt[number]
        if val[number] is not None:
            record |= {"val_top1": val[number], "val_n_ok": 400.0}
        records.append(record)
    return records


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (history([0.3, 0.4, 0.5, 0.6, 0.7, 0.8]), "still improving"),
        (history([0.3, 0.33, 0.33, 0.33, 0.33, 0.33], [0.4, 0.7, 0.9, 1, 1, 1]), "over-fitted"),
        (history([0.3, 0.6, 0.7, 0.71, 0.7, 0.71, 0.7, 0.7, 0.7]), "levelled off"),
        (history([0.3, 0.7, 0.6, 0.5, 0.45, 0.4]), "got worse after its best epoch"),
        (history([0.1, 0.11, 0.1, 0.12, 0.1]), "never left chance"),
        (history([0.1, 0.11, 0.1, 0.12, 0.1], [0.2, 0.5, 0.8, 1, 1]), "by heart"),
        (history([0.3, 0.2, 0.1], loss=[2.0, 3.0, 9.0]), "diverged"),
        (history([0.3, 0.2, 0.1], loss=[2.0, 1.0, None]), "diverged"),
        (history([0.3, 0.4]), "too few times"),
    ],
)  # fmt: skip
def test_what_happened_in_words(records: list[dict[str, Any]], words: str) -> None:
    lines = describe_training(records, "top1", CHANCE)
    assert lines[0].startswith("Best: epoch")
    assert words in " ".join(lines)
    others = {
        "still improving",
        "over-fitted",
        "levelled off",
        "got worse",
        "never left",
        "by heart",
        "diverged",
    }
    assert sum(word in " ".join(lines) for word in others) <= 1


def test_the_best_epoch_comes_first_beside_guessing() -> None:
    lines = describe_training(history([0.3, 0.567, 0.5]), "top1", CHANCE)
    assert lines[0] == (
        "Best: epoch 2 of 3, validation top-1 56.7 % (chance 10 %, always the most frequent class 12 %)."
    )
    assert (
        "Best: epoch 2" in describe_training(history([0.3, 0.5, 0.5]))[0]
    )  # the earlier of two, which is kept


def test_over_fitting_shows_both_numbers() -> None:
    said = " ".join(describe_training(history([0.33] * 5, [0.5, 0.9, 1, 1, 1]), "top1", CHANCE))
    assert "100 % on the training videos, 33 % on the validation videos" in said
    assert "--weights imagenet" in said


def test_weights_that_are_in_use_are_not_advised() -> None:
    for measured, learnt in (([0.33] * 5, [0.5, 0.9, 1, 1, 1]), ([0.1] * 5, None), ([0.1] * 5, [1] * 5)):
        said = " ".join(describe_training(history(measured, learnt), "top1", CHANCE, from_scratch=False))
        assert "weights to start from" not in said


def test_a_run_that_was_stopped_or_not_evaluated() -> None:
    lines = describe_training(history([0.3, 0.4, 0.5]), planned=10)
    assert lines[0].startswith("Best so far: epoch 3 of 10, ")
    assert lines[-1].startswith("3 of 10 epochs are done") and "improving" not in " ".join(lines)
    lines = describe_training(history([None, None]))
    assert "Nothing was scored" in lines[0] and "from 2 to 1.25" in lines[0]
    assert "No epoch was finished" in describe_training([])[0]


def test_luck_is_named() -> None:
    few = [record | {"val_n_ok": 20.0} for record in history([0.3, 0.4, 0.5, 0.5])]
    assert "may be luck" in " ".join(describe_training(few, "top1", CHANCE))
    assert "may be luck" not in " ".join(describe_training(history([0.97] * 4), "top1", CHANCE))


def test_stages_in_the_order_of_training_and_their_own_option(tmp_path: Path) -> None:
    """By time, not by name; advice names the option that sets the epochs of that stage."""
    epoch = {"kind": "epoch", "epoch": 5, "step": 6, "loss": 1.5}
    for name, minute, scores in (("attend", 1, {}), ("answer", 2, {"val_top1": 0.9, "val_n_ok": 400.0})):
        stage = tmp_path / name
        stage.mkdir()
        (stage / "config.yaml").write_text("val: val.jsonl\nplan: {attend_epochs: 6, answer_epochs: 6}\n")
        (stage / "metrics.jsonl").write_text(json.dumps(epoch | scores) + "\n")
        (stage / "starts.jsonl").write_text(f'{{"started": "2026-01-01T00:0{minute}:00", "epochs": 6}}\n')
        said = read_run(tmp_path).summary()
        assert said[0].startswith("Nothing was scored yet") == (name == "attend")
        assert ("loss in attend went" in said[0]) == (name == "attend") and "--val," not in said[0]
    run = read_run(tmp_path)
    assert [log.name for log in run.stages] == ["attend", "answer"]
    assert "--eval-every" in " ".join(run.summary())
    said = describe_training(history([0.3, 0.4, 0.5, 0.6, 0.7]), "top1", CHANCE, option="--answer-epochs")
    assert "--answer-epochs 10" in " ".join(said)
