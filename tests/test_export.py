"""What is exported answers as the model does, without this package."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from benchmarks.export import choose_all
from torch import Tensor

from foveate.choices import ExportTarget
from foveate.cli import main
from foveate.cli.inputs import resize_input
from foveate.clip import Sampling, ShortPolicy
from foveate.errors import OutputError, UsageError
from foveate.export import write
from foveate.export.card import FRAMES, SHORT
from foveate.export.check import check_export
from foveate.export.drivers.adafocus import cut
from foveate.export.drivers.fullvideo import cluster
from foveate.export.drivers.run import Exported
from foveate.export.write import export_model
from foveate.infer.choice import a_clip, relative_error
from foveate.layers.cluster import TemporalClustering
from foveate.layers.patch import crop_patches, sample_patches
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model, list_models
from test_compiled import Unusual
from test_engine import SMALL, frames_of, model_of

pytest.importorskip("openvino")
pytestmark = pytest.mark.usefixtures("one_thread")

EXITS = {"exits": (1.01, 1.01, 0.0, *[0.0] * 5)}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in SMALL if name != "x3d_xs"),
    ("adafocus_small", EXITS),
    ("fullvideo_small", {"eval_mode": "uniform"}),
]
MORE: list[tuple[str, dict[str, Any]]] = [
    ("fullvideo_small", {"eval_mode": "all"}),
    ("x3d_xs", {}),
    ("adafocus_small", {"skip": True}),
    ("adafocus_small", {"policy": "attention", **EXITS}),
    ("adafocus_small", {"policy": "centre", "classifier": "mean", **EXITS}),
    ("adafocus_v2_small", EXITS),
    ("arnet_small", {"remember_skipped": True, "shrink": "average"}),
    ("fullvideo_small", {"sampling": "all", "aggregate": "sum"}),
]


def error_of(model: VideoModel, card: Path, *batches: Tensor) -> float:
    exported = Exported(card)
    with torch.no_grad():
        wanted = [model.output(model.prepare(frames)).logits for frames in batches]
    found = [torch.from_numpy(exported(frames.numpy())) for frames in batches]
    assert all(bool(logits.any()) for logits in wanted)  # not those of a clip whose frames are all skipped
    return max(map(relative_error, found, wanted))


@pytest.mark.parametrize(
    ("name", "fields"),
    [*VARIANTS, *(pytest.param(*each, marks=pytest.mark.stress) for each in MORE)],
    ids=str,
)
def test_files_answer_as_the_model_for_any_batch(name: str, fields: Any, tmp_path: Path) -> None:
    model = model_of(name, **fields)
    frames = frames_of(model)
    assert error_of(model, export_model(model, "openvino", tmp_path), frames, frames[:1]) < 1e-4


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("onnx", "slow_small"),
        pytest.param("onnx", "tsm_r10_8", marks=pytest.mark.stress),
        pytest.param("torch", "adafocus_v2_small", marks=pytest.mark.stress),
        pytest.param("onnx", "adafocus_small", marks=pytest.mark.stress),
        pytest.param("onnx", "x3d_xs", marks=pytest.mark.stress),
        pytest.param("torch", "slowfast_small", marks=pytest.mark.stress),
    ],
)
def test_a_process_without_this_package_gives_the_same(to: ExportTarget, name: str, tmp_path: Path) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    model = model_of(name)
    check = check_export(model, export_model(model, to, tmp_path), [*a_clip(model, 3)])
    assert check.error < 1e-4 and check.same == 1 and check.clips == 3
    weights = sum(weight.numel() for weight in model.parameters()) * 4e-6
    assert weights < 1.3 * check.megabytes < 1.6 * weights + 1.3


@pytest.mark.parametrize(
    "name", ["fullvideo_small", *(pytest.param(name, marks=pytest.mark.stress) for name in SMALL)]
)
def test_programs_of_torch_export_give_the_same(name: str, tmp_path: Path) -> None:
    """They refuse numbers of clips and frames for which they are not made."""
    model = model_of(name)
    assert error_of(model, export_model(model, "torch", tmp_path), a_clip(model, 3), a_clip(model)) < 1e-4


@pytest.mark.parametrize("driver", ["run", "adafocus", "uni_adafocus", "arnet", "fullvideo"])
def test_drivers_are_short_and_import_nothing_of_this_package(driver: str) -> None:
    code = (write.DRIVERS / f"{driver}.py").read_text()
    imports = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [n.name for n in node.names]
        )
    }
    assert sum(bool(line.strip()) for line in code.splitlines()) < 60
    assert imports - {"numpy"} <= sys.stdlib_module_names | {"onnxruntime", "openvino", "torch"}


def test_the_driver_runs_as_a_script(tmp_path: Path) -> None:
    model = model_of("fullvideo_small")
    card, frames = export_model(model, "openvino", tmp_path / "out"), a_clip(model)
    given, found = tmp_path / "frames.npy", tmp_path / "logits.npy"
    np.save(given, frames.numpy())
    command = [sys.executable, str(card.with_name("run.py")), str(card), str(given), str(found)]
    done = subprocess.run(command, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        wanted = model.output(model.prepare(frames)).logits
    assert relative_error(torch.from_numpy(np.load(found)), wanted) < 1e-4


def test_skipped_frames_and_exits_are_not_computed(tmp_path: Path) -> None:
    model = model_of("adafocus_small", skip=True, exits=EXITS["exits"])
    frames = a_clip(model)
    clips = model.prepare(frames)
    with torch.no_grad():
        chances = model.skip_policy(model.glance_at(clips[:, :, :3]).maps).logits.sigmoid().flatten().sort()
        model.config = replace(model.config, skip_threshold=float(chances.values[:2].mean()))
        output = model.output(clips)
    runner = Exported(export_model(model, "openvino", tmp_path))
    calls: dict[str, int] = {}

    def counted(part: str) -> Any:
        inner = runner.parts[part]

        def run(arrays: list[Any]) -> list[Any]:
            calls[part] = calls.get(part, 0) + len(arrays[0])
            return inner(arrays)

        return run

    runner.parts = {part: counted(part) for part in runner.parts}
    runner(frames.numpy())
    assert output.looked is not None and int(output.looked.sum()) == 2
    assert calls["glance"] == calls["classify"] == 3
    assert calls["local"] == 2


@pytest.mark.parametrize("corner", [(0, 0), (7, 3), (16, 16), (2.25, 9.75), (16.0, 0.5)])
def test_patches_are_those_of_the_model(corner: tuple[float, float]) -> None:
    frame = torch.randint(0, 256, (1, 3, 24, 24), generator=torch.Generator().manual_seed(0))
    where = torch.tensor([corner])
    wanted = crop_patches(frame, where, 8) if where.dtype == torch.int64 else sample_patches(frame, where, 8)
    patch = cut(frame[0].permute(1, 2, 0).numpy(), where[0].numpy(), 8)
    assert np.abs(patch - wanted[0].permute(1, 2, 0).numpy()).max() < 1e-3


RULES: list[dict[str, Any]] = [
    {"rule": "cumulative"},
    {"rule": "cumulative", "lasting": True},
    {"rule": "cumulative", "floor": True},
    {"rule": "cumulative", "lasting": True, "floor": True},
    {"rule": "slope"},
    {"rule": "slope", "lasting": True},
    {"rule": "even"},
]


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 24])
@pytest.mark.parametrize("fields", RULES, ids=str)
def test_clusters_are_those_of_the_model(fields: dict[str, Any], frames: int) -> None:
    generator = torch.Generator().manual_seed(frames)
    maps = torch.randn(frames, 2, 3, 3, generator=generator).repeat_interleave(2, 0)[:frames]
    facts = {"clusters": 5, "lasting": False, "floor": False, **fields}
    for video in (maps, torch.ones(frames, 2, 3, 3)):  # which moves, which does not
        wanted = TemporalClustering(**facts).eval()(video, [frames]).grouping.assignment[0]
        assert cluster(video.numpy(), facts).tolist() == wanted.tolist()


@pytest.mark.parametrize("fields", [{"lose_last": True}, {"rule": "slope", "lasting": True}], ids=str)
def test_clips_of_any_length(fields: dict[str, Any], tmp_path: Path) -> None:
    model = model_of("fullvideo_small", sampling="all", **fields)
    clips = a_clip(model, 2)
    assert error_of(model, export_model(model, "openvino", tmp_path), clips[:, :37], clips[:, :3]) < 1e-4


@pytest.mark.parametrize("remember", [False, pytest.param(True, marks=pytest.mark.stress)])
def test_frames_that_are_skipped_reach_no_network(remember: bool, tmp_path: Path) -> None:
    model = model_of("arnet_small", remember_skipped=remember)
    frames = frames_of(model, 4)
    choose_all(model, frames)
    with torch.no_grad():
        output = model.output(model.prepare(frames))
    card = export_model(model, "openvino", tmp_path)
    runner, calls = Exported(card), Counter[str]()
    parts = dict(runner.parts)

    def counted(part: str, arrays: list[Any]) -> list[Any]:
        calls[part] += len(arrays[0])
        return parts[part](arrays)

    runner.parts = {part: partial(counted, part) for part in parts}
    logits = torch.from_numpy(runner(frames.numpy()))
    assert output.sizes is not None and len(output.sizes.unique()) > 2 and bool((output.sizes == 0).any())
    assert relative_error(logits, output.logits) < 1e-4
    assert calls["decide"] == int(output.frames_read.sum())
    for number, size in enumerate(model.config.sizes):
        assert calls[f"network{number}"] == int((output.sizes == size).sum())


def test_cards_have_words_for_every_rule() -> None:
    assert {*FRAMES} == {*get_args(Sampling)} and {*SHORT} == {*get_args(ShortPolicy)}


def test_the_card_says_what_goes_in_and_comes_out(tmp_path: Path) -> None:
    model = model_of("tsm_r10_8")
    model.labels, model.independent = ("a", "b", "c", "d"), True
    resize_input(model, 64, None)
    card = json.loads(export_model(model, "openvino", tmp_path).read_text())
    assert card["labels"] == ["a", "b", "c", "d"] and card["scores"].startswith("sigmoid")
    assert card["input"]["shape"] == ["B", 8, 64, 64, 3] and card["output"]["shape"] == ["B", 4]
    assert card["input"]["clip"]["size"] == 64 and card["input"]["clip"]["mean"] == [*model.spec.mean]
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.py",
        *(f"tsm_r10_8.{ending}" for ending in ("xml", "bin", "json")),
    }


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("fullvideo_small", {"rule": "random"}, "cuts its clusters at random"),
        ("fullvideo_small", {"eval_mode": "all", "sampling": "all"}, "every frame of videos of any length"),
        ("adafocus_small", {"policy": "random"}, "its patches lie anywhere"),
    ],
)
def test_what_has_no_driver_is_refused_with_the_reason(
    name: str, fields: Any, why: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=why) as hit:
        export_model(model_of(name, **fields), "openvino", tmp_path / "out")
    assert "\n" not in str(hit.value) and not (tmp_path / "out").exists()


def test_an_operation_that_a_form_lacks_is_named(tmp_path: Path) -> None:
    model = model_of("tsm_r10_8")
    model.__dict__["frame_features"] = Unusual()
    with pytest.raises(UsageError, match=r"openvino cannot hold its tsm_r10_8: .*cummax.*try --to") as hit:
        export_model(model, "openvino", tmp_path)
    assert "\n" not in str(hit.value) and not [*tmp_path.iterdir()]


def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = write.FORMS["openvino"]._replace(packages=("no-such-package-is-installed",))
    monkeypatch.setattr(write, "FORMS", {"openvino": form})
    with pytest.raises(UsageError, match=r"not installed .*pip install 'foveate\[openvino\]'"):
        export_model(model_of("tsm_r10_8"), "openvino", tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        export_model(model_of("tsm_r10_8"), "openvino", tmp_path / "file" / "out")


def test_the_verb_writes_and_compares(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*options: str) -> int | str | None:
        with pytest.raises(SystemExit) as left:
            main(["export", "adafocus_small", "--to", "openvino", "--out", str(tmp_path / "out"), *options])
        return left.value.code

    assert run("--check", "--videos", str(videos), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["error"] < 1e-4 and said["clips"] == 8 and Path(said["card"]).exists()
    assert run("--videos", str(videos)) == 2
    assert "add --check" in capsys.readouterr().err
    shutil.copytree(write.DRIVERS, tmp_path / "drivers")
    wrong = (tmp_path / "drivers" / "adafocus.py").read_text().replace("logits = values", "logits = -values")
    (tmp_path / "drivers" / "adafocus.py").write_text(wrong)
    monkeypatch.setattr(write, "DRIVERS", tmp_path / "drivers")
    assert run("--check") == 4
    assert "answers differ" in capsys.readouterr().err


@pytest.mark.stress
@pytest.mark.parametrize("name", list_models())
def test_every_name_answers_as_the_model(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(name).eval()
    if "sizes" in model.reports:
        choose_all(model, a_clip(model))
    error = error_of(model, export_model(model, "openvino", tmp_path), a_clip(model))
    shutil.rmtree(tmp_path)  # all names together take more than ten gigabytes
    assert error < 1e-4
