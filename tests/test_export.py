"""What is exported answers as the model does, without this package."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from foveate.cli import main
from foveate.errors import OutputError, UsageError
from foveate.export import write
from foveate.export.check import check_export, noise
from foveate.export.run import Exported, cut
from foveate.export.write import Graph, Target, export_model
from foveate.infer.choice import relative_error
from foveate.infer.compilers.trace import exported
from foveate.layers.patch import crop_patches, sample_patches
from foveate.models.base import VideoModel
from foveate.models.zoo import create_outline, list_models
from test_compiled import Unusual
from test_engine import SMALL, model_of

pytest.importorskip("openvino")
pytestmark = pytest.mark.usefixtures("one_thread")

REFUSED = {"arnet": "a resolution for each frame", "fullvideo": "clusters the frames"}
EXITS = {"exits": (1.01, 1.01, 0.0, *[0.0] * 5)}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in SMALL if name.split("_", maxsplit=1)[0] not in REFUSED),
    ("adafocus_small", {"skip": True}),
    ("adafocus_small", EXITS),
    ("adafocus_small", {"policy": "attention", **EXITS}),
    ("adafocus_small", {"policy": "centre", "classifier": "mean", **EXITS}),
    ("adafocus_v2_small", EXITS),
]


def error_of(model: VideoModel, card: Path, clips: Tensor) -> float:
    with torch.no_grad():
        wanted = model.output(clips).logits
    return relative_error(torch.from_numpy(Exported(card)(clips.numpy())), wanted)


@pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=str)
def test_files_answer_as_the_model_for_any_batch(name: str, fields: Any, tmp_path: Path) -> None:
    model = model_of(name, **fields)
    card = export_model(model, "openvino", tmp_path)
    clips = noise(model)
    assert error_of(model, card, clips) < 1e-4
    assert error_of(model, card, clips[:1]) < 1e-4


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("openvino", "adafocus_small"),
        ("onnx", "tsm_r10_8"),
        ("torch", "adafocus_v2_small"),
        pytest.param("onnx", "adafocus_small", marks=pytest.mark.stress),
        pytest.param("onnx", "x3d_xs", marks=pytest.mark.stress),
        pytest.param("torch", "slowfast_small", marks=pytest.mark.stress),
    ],
)
def test_a_process_without_this_package_gives_the_same(to: Target, name: str, tmp_path: Path) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    model = model_of(name)
    check = check_export(model, export_model(model, to, tmp_path), noise(model))
    assert check.error < 1e-4 and check.same == 1 and check.clips == 3
    weights = sum(weight.numel() for weight in model.parameters()) * 4e-6
    assert weights < 1.3 * check.megabytes < 1.6 * weights + 1.3


def test_the_driver_is_short_and_imports_nothing_of_this_package() -> None:
    code = write.DRIVER.read_text()
    lines = [
        line for line in code.splitlines() if line.strip() and not line.lstrip().startswith(("#", '"""'))
    ]
    imports = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert len(lines) < 70 and not any("foveate" in line for line in imports)


def test_skipped_frames_and_exits_are_not_computed(tmp_path: Path) -> None:
    model = model_of("adafocus_small", skip=True, exits=EXITS["exits"])
    clips = noise(model, 1)
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
    runner(clips.numpy())
    assert output.looked is not None and int(output.looked.sum()) == 2
    assert calls["glance"] == calls["classify"] == 3
    assert calls["local"] == 2


@pytest.mark.parametrize("corner", [(0, 0), (7, 3), (16, 16), (2.25, 9.75), (16.0, 0.5)])
def test_patches_are_those_of_the_model(corner: tuple[float, float]) -> None:
    frame = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    where = torch.tensor([corner])
    wanted = crop_patches(frame, where, 8) if where.dtype == torch.int64 else sample_patches(frame, where, 8)
    assert np.abs(cut(frame[0].numpy(), where[0].numpy(), 8) - wanted[0].numpy()).max() < 1e-5


def test_the_card_says_what_goes_in_and_comes_out(tmp_path: Path) -> None:
    model = model_of("tsm_r10_8")
    model.labels, model.independent = ("a", "b", "c", "d"), True
    card = json.loads(export_model(model, "openvino", tmp_path).read_text())
    assert card["labels"] == ["a", "b", "c", "d"] and card["scores"].startswith("sigmoid")
    assert card["input"]["shape"] == ["B", 3, 8, 112, 112] and card["output"]["shape"] == ["B", 4]
    assert card["input"]["clip"]["mean"] == [*model.spec.mean]
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.py",
        *(f"tsm_r10_8.{ending}" for ending in ("xml", "bin", "json")),
    }


@pytest.mark.parametrize("name", ["fullvideo_small", "arnet_small"])
def test_what_has_no_driver_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=REFUSED[name.split("_", maxsplit=1)[0]]) as hit:
        export_model(model_of(name), "openvino", tmp_path / "out")
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
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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


@pytest.mark.stress
@pytest.mark.parametrize("name", list_models())
def test_every_name_is_exported_in_outline_or_refused(name: str) -> None:
    """With shapes alone: the graphs can be made, of any number of clips."""
    model = create_outline(name).eval()
    if name.split("_", maxsplit=1)[0] in REFUSED:
        with pytest.raises(UsageError, match=REFUSED[name.split("_", maxsplit=1)[0]]):
            model.pieces()
        return
    for piece in model.pieces().graphs.values():
        program = exported(Graph(piece), [*piece.inputs.values()])
        inputs = [
            node.meta["val"]
            for node in program.graph.nodes
            if node.name in program.graph_signature.user_inputs
        ]
        assert len(inputs) == len(piece.inputs)
        assert all(isinstance(value.shape[0], torch.SymInt) for value in inputs)
