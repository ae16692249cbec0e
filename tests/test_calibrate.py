"""int8 is calibrated on videos, keeps the answers, is found again, and is refused where it cannot be."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from foveate.cli import main
from foveate.errors import OutputError, UsageError
from foveate.infer import choice
from foveate.infer.calibrate import LEAST, calibrate
from foveate.infer.calibration import Calibration, recall
from foveate.infer.choice import open_fastest, relative_error
from foveate.infer.compiled import CompiledEngine
from foveate.infer.compilers.int8 import demand_nncf
from foveate.infer.engine import EagerEngine, open_engine
from foveate.infer.predict import Predictor
from foveate.models.base import VideoModel
from test_engine import frames_of, model_of

pytest.importorskip("openvino")
pytest.importorskip("nncf")
pytestmark = pytest.mark.usefixtures("one_thread")


def small() -> VideoModel:
    return model_of("tsm_r10_8", size=64, resize=64, width=0.5)


def clips_for(model: VideoModel, count: int = LEAST) -> list[NDArray[np.uint8]]:
    """Clips of coarse noise, each of another brightness, as videos in memory (T, S, S, 3)."""
    spec, rng = model.spec, np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, spec.frames, 4, 4, 3)) * rng.uniform(0.2, 1, (count, 1, 1, 1, 1))
    times = -(-spec.size // 4)
    fine = coarse.astype(np.uint8).repeat(times, 2).repeat(times, 3)
    return [*fine[:, :, : spec.size, : spec.size]]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoModel, Path, Calibration]:
    """A model whose frame network is quantised, the folder that keeps it, and what came of it."""
    model, folder = small(), tmp_path_factory.mktemp("engines")
    return model, folder, calibrate(model, clips_for(model), folder, ["frame_features"])


def test_int8_answers_nearly_the_same_and_is_found_again(
    kept: tuple[VideoModel, Path, Calibration],
) -> None:
    model, folder, found = kept
    assert found.used == found.checked == LEAST // 2
    assert found.agreement == 1 and 1e-4 < found.error < 0.1
    assert len(found.ways["frame_features"]) == 1 and not found.ways["classify"]
    engine = CompiledEngine(small(), "openvino", precision="int8", folder=folder)
    for batch in (1, 3):  # any batch runs on what was calibrated with one clip at a time
        frames = torch.from_numpy(np.stack(clips_for(model)[:batch]))
        error = relative_error(engine.run(frames).logits, EagerEngine(model).run(frames).logits)
        assert 1e-4 < error < 0.1
    assert engine.store.made <= 1  # the classifier in the plain precision
    assert recall(engine.store, engine.facts) == found
    exact = CompiledEngine(model, "openvino", "cpu", found.plain, folder)
    assert not torch.equal(exact.run(frames).logits, engine.run(frames).logits)


@pytest.mark.stress
def test_a_part_that_gains_nothing_or_is_small_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foveate.infer.calibrate.GAIN", 0.0)
    model = small()
    found = calibrate(model, clips_for(model), tmp_path)
    assert not any(found.ways.values()) and "no part" in found.line
    monkeypatch.setattr("foveate.infer.calibrate.GAIN", float("inf"))
    found = calibrate(model, clips_for(model), tmp_path)
    assert found.ways["frame_features"] and not found.ways["classify"]


def test_a_dynamic_model_decides_as_before(tmp_path: Path) -> None:
    """Its policy is small, so it stays; patches lie on a grid, which a quantised glance hardly moves."""
    model = model_of("adafocus_small")
    found = calibrate(model, clips_for(model), tmp_path, ["glance_at", "local_features"])
    engine = CompiledEngine(model, "openvino", precision="int8", folder=tmp_path)
    ours, plain = engine.run(frames_of(model)), EagerEngine(model).run(frames_of(model))
    assert found.agreement > 0.5 and ours.boxes is not None and ours.boxes.shape == plain.boxes.shape
    assert ours.macs is not None and torch.equal(ours.macs, plain.macs)  # type: ignore[arg-type]


def test_what_is_broken_is_not_run_in_float_without_a_word(
    kept: tuple[VideoModel, Path, Calibration], tmp_path: Path
) -> None:
    folder = shutil.copytree(kept[1], tmp_path / "engines")
    for path in folder.glob("*.blob"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"cannot be used \(give .* --calibrate again"):
        CompiledEngine(kept[0], "openvino", precision="int8", folder=folder).run(frames_of(kept[0]))


def test_a_model_of_other_weights_is_not_calibrated(kept: tuple[VideoModel, Path, Calibration]) -> None:
    other = small()
    with torch.no_grad():
        other.head.linear.weight.add_(0.01)
    with pytest.raises(UsageError, match=r"is not calibrated for it .*\(give a list of videos"):
        CompiledEngine(other, "openvino", precision="int8", folder=kept[1])


def test_answers_that_move_are_warned_of(
    kept: tuple[VideoModel, Path, Calibration],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, folder, _ = kept
    with caplog.at_level(logging.INFO, "foveate"):
        CompiledEngine(model, "openvino", precision="int8", folder=folder)
        monkeypatch.setattr("foveate.infer.calibration.WARN_BELOW", 1.1)
        CompiledEngine(model, "openvino", precision="int8", folder=folder)
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.WARNING]
    assert "in 100.0% of 8 clips" in caplog.messages[0] and "--precision bf16" in caplog.messages[1]


def test_auto_takes_a_calibrated_model_by_its_answers_to_videos(
    kept: tuple[VideoModel, Path, Calibration], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder, found = kept
    monkeypatch.setattr(choice, "CANDIDATES", ())
    monkeypatch.setattr(choice, "SURE", float("inf"))  # of anything that is measured
    engine = open_fastest(model, folder=folder)
    assert engine.about.startswith("auto: openvino int8, ") and f"{found.error:.1g}" in engine.about
    assert open_fastest(model, precision="fp32", folder=folder).about.startswith("auto: eager fp32")
    monkeypatch.setattr(choice, "KEPT_IN_INT8", 1.1)
    assert open_fastest(model, folder=folder).about.startswith("auto: eager fp32")


def test_a_predictor_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    model = small()
    clips = clips_for(model)
    calibrate(model, clips, parts=["frame_features"])
    ours = Predictor(model, engine="auto", precision="int8").predict(clips[0])
    plain = Predictor(model).predict(clips[0])
    assert ours.top[0].label == plain.top[0].label
    assert ours.top[0].score == pytest.approx(plain.top[0].score, abs=0.1)


# ---- what cannot be


def test_int8_of_another_engine_is_refused() -> None:
    model = small()
    with pytest.raises(UsageError, match="eager does not have it"):
        open_engine(model, "eager", precision="int8")
    for name in ("onnxruntime", "compile"):
        with pytest.raises(UsageError, match=f"{name} does not have it"):
            open_engine(model, name, precision="int8")


def test_too_few_videos_are_refused_and_bad_ones_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = small()
    clips = clips_for(model)
    for few in ([], clips[:1]):
        with pytest.raises(UsageError, match=f"{len(few)} videos are too few .*at least {LEAST}"):
            calibrate(model, few, tmp_path)
    with pytest.raises(UsageError, match=r"3 of 8 videos can be read, too few"):
        calibrate(model, [*clips[:6], *[tmp_path / "absent.mp4"] * 10], tmp_path)
    assert all("absent.mp4" in line and "left out of the calibration" in line for line in caplog.messages)
    assert len(caplog.messages) == 5


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = small()
    with pytest.raises(OutputError, match="cannot be written, so nothing"):
        calibrate(model, clips_for(model), tmp_path / "file" / "engines")


def test_a_missing_package_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.infer.compilers.int8.PACKAGE", "no-such-package-is-installed")
    with pytest.raises(UsageError, match=r"not installed .*pip install 'foveate\[int8\]'"):
        demand_nncf()


@pytest.mark.stress
def test_the_command_line_calibrates_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, clip in enumerate(clips_for(model_of("adafocus_small"))):
        np.save(folder / f"{number}.npy", clip)
    asked = ("predict", str(folder / "0.npy"), "--model", "adafocus_small", "--csv")

    def run(*options: str) -> tuple[int | str | None, str, str]:
        with pytest.raises(SystemExit) as left:
            main([*asked, *options])
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    code, _, said = run("--precision", "int8")
    assert code == 2 and "is not calibrated" in said and len(said.splitlines()) == 1
    code, _, said = run("--calibrate", str(folder))
    assert code == 2 and "add --precision int8" in said
    code, out, said = run("--precision", "int8", "--calibrate", str(folder))
    assert code == 0 and len(out.splitlines()) == 2 and "calibrated on 8 others" in said
    code, again, said = run("--precision", "int8")
    assert code == 0 and again == out and len(said.splitlines()) == 1
    code, _, said = run("--precision", "int8", "--engine", "eager", "--calibrate", str(folder))
    assert code == 2 and "eager does not have it" in said
