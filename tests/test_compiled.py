"""Compiled engines answer and decide as the eager one, for every family, and keep what they compiled."""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foveate.cli import main
from foveate.errors import UsageError
from foveate.infer import choice
from foveate.infer.artefacts import facts_of_structure
from foveate.infer.choice import agrees, fastest, open_fastest, relative_error, same_decisions
from foveate.infer.compiled import MAX_WAYS, CompiledEngine, outline, restored
from foveate.infer.compilers import version_of
from foveate.infer.compilers.openvino import OpenVINOCompiler
from foveate.infer.engine import EagerEngine, Precision
from foveate.models.adafocus.v1 import Decision
from foveate.models.base import VideoModel
from test_engine import SMALL, frames_of, model_of

pytest.importorskip("openvino")
pytestmark = pytest.mark.usefixtures("one_thread")
FASTEST = "fullvideo_small"  # to compile


class Unusual(torch.nn.Module):
    """Features that OpenVINO has no operation for."""

    def forward(self, clip: Tensor) -> Tensor:
        return clip.mean((3, 4)).transpose(1, 2).repeat(1, 1, 86)[:, :, :256].cummax(1).values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "engines"


@pytest.fixture
def only_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is measured, which takes longer."""
    monkeypatch.setattr(choice, "CANDIDATES", (("openvino", "fp32"),))


def engine_of(model: VideoModel, folder: Path, precision: Precision = "fp32") -> CompiledEngine:
    return CompiledEngine(model, "openvino", "cpu", precision, folder)


@pytest.mark.parametrize("name", SMALL)
def test_any_batch_runs_on_what_was_compiled_once_and_kept(name: str, folder: Path) -> None:
    model = model_of(name)
    engine = engine_of(model, folder)
    for batch in (2, 1, 3):
        frames = frames_of(model, batch)
        ours, plain = engine.run(frames), EagerEngine(model).run(frames)
        assert relative_error(ours.logits, plain.logits) < 1e-4
        assert same_decisions(ours, plain)
        assert ours.macs is not None and plain.macs is not None and torch.equal(ours.macs, plain.macs)
    assert engine.store.made == len(model.parts)
    again = engine_of(model, folder)
    assert torch.equal(again.run(frames).logits, ours.logits)
    assert again.store.made == 0 and again.store.found == len(model.parts)


@pytest.mark.parametrize("name", ["adafocus_small", "adafocus_v2_small"])
def test_who_is_sure_exits_as_early(name: str, folder: Path) -> None:
    model = model_of(name)
    frames = frames_of(model, 3)
    sure = EagerEngine(model).run(frames).step_logits
    assert sure is not None
    confidence = sure.softmax(-1).amax(-1)  # (3, T)
    between = float(confidence[:, 1].sort().values[:2].mean())
    model.set_exits((1.01, between, *[0.0] * (model.spec.frames - 2)))
    engine = engine_of(model, folder)
    ours, plain = engine.run(frames), EagerEngine(model).run(frames)
    assert plain.steps is not None and len(plain.steps.unique()) == 2
    assert same_decisions(ours, plain) and relative_error(ours.logits, plain.logits) < 1e-4
    assert ours.macs is not None and plain.macs is not None and torch.equal(ours.macs, plain.macs)
    # policy and classifier with and without a state before them, whatever the step
    assert engine.store.made == len(model.parts) + 2


def test_a_part_is_not_compiled_for_ever_more_ways_of_calling_it(folder: Path) -> None:
    model = model_of("fullvideo_small", eval_mode="all")
    engine = engine_of(model, folder)
    for frames in range(4, 4 + MAX_WAYS + 2):
        clip = frames_of(model, 1)[:, :frames]
        assert relative_error(engine.run(clip).logits, EagerEngine(model).run(clip).logits) < 1e-4
    assert engine.store.made <= MAX_WAYS + 2  # ways of `late`; early and classify take any number of frames


@pytest.mark.skipif(not choice.has_bf16(), reason="a processor without bfloat16 computes in float32")
@pytest.mark.parametrize("name", ["slowfast_small", "arnet_small"])
def test_bfloat16_answers_nearly_the_same(name: str, folder: Path) -> None:
    model = model_of(name)
    frames = frames_of(model)
    error = relative_error(
        engine_of(model, folder, "bf16").run(frames).logits, EagerEngine(model).run(frames).logits
    )
    assert 1e-5 < error < 3e-2


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("compile", marks=pytest.mark.stress)])
def test_other_compilers_agree_too(engine: str, folder: Path) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    model = model_of("fullvideo_small")
    compiled = CompiledEngine(model, engine, "cpu", "fp32", folder)
    for batch in (2, 1):
        frames = frames_of(model, batch)
        ours, plain = compiled.run(frames), EagerEngine(model).run(frames)
        assert relative_error(ours.logits, plain.logits) < 1e-4 and same_decisions(ours, plain)
    again = CompiledEngine(model, engine, "cpu", "fp32", folder)
    assert torch.equal(again.run(frames).logits, ours.logits) and again.store.made == 0


# ---- what is kept


def spoil_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def spoil_record(path: Path) -> None:
    path.with_name(f"{path.name}.json").write_text("{")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("spoil", [spoil_byte, spoil_record, cut_short])
def test_a_broken_file_is_made_again(spoil: Any, folder: Path) -> None:
    model = model_of(FASTEST)
    frames = frames_of(model, 1)
    answer = engine_of(model, folder).run(frames).logits
    spoil(next(folder.glob("*.blob")))
    mending = engine_of(model, folder)
    assert torch.equal(mending.run(frames).logits, answer)
    assert mending.store.made == 1 and mending.store.found == len(model.parts) - 1
    mended = engine_of(model, folder)
    mended.run(frames)
    assert mended.store.made == 0


def test_other_weights_are_compiled_for_themselves(folder: Path) -> None:
    model = model_of(FASTEST)
    frames = frames_of(model, 1)
    engine_of(model, folder).run(frames)
    with torch.no_grad():
        model.head.linear.weight.add_(0.01)
    engine = engine_of(model, folder)
    assert relative_error(engine.run(frames).logits, EagerEngine(model).run(frames).logits) < 1e-4
    assert engine.store.found == 0


def test_a_folder_that_cannot_be_written_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    model = model_of(FASTEST)
    frames = frames_of(model, 1)
    with caplog.at_level(logging.WARNING):
        ours = engine_of(model, tmp_path / "file" / "engines").run(frames)
    assert relative_error(ours.logits, EagerEngine(model).run(frames).logits) < 1e-4
    assert all("cannot be written" in line and "\n" not in line for line in caplog.messages)
    assert len(caplog.messages) == len(model.parts)


# ---- what cannot be


def test_an_engine_that_is_not_installed_is_said_in_a_line() -> None:
    class Absent(OpenVINOCompiler):
        package = "no-such-package-is-installed"

    with pytest.raises(UsageError, match=r"not installed .*pip install 'foveate\[openvino\]'"):
        version_of(Absent())


def test_what_an_engine_lacks_is_refused() -> None:
    model = model_of(FASTEST)
    with pytest.raises(UsageError, match="onnxruntime does not have it"):
        CompiledEngine(model, "onnxruntime", "cpu", "bf16")
    with pytest.raises(UsageError, match="does not run on cuda"):
        CompiledEngine(model, "openvino", "cuda")


def test_a_part_that_cannot_be_compiled_is_named(folder: Path, only_openvino: None) -> None:
    model = model_of("tsm_r10_8")
    model.__dict__["frame_features"] = Unusual()
    refused = r"openvino cannot compile its frame_features: .*cummax.*eager"
    with pytest.raises(UsageError, match=refused) as hit:
        engine_of(model, folder).run(frames_of(model, 1))
    assert "\n" not in str(hit.value)
    found = fastest(model, "fp32", folder)
    assert found.engine == "eager" and "cannot compile its frame_features" in found.reason


# ---- auto


@pytest.fixture
def measured(only_openvino: None, folder: Path) -> Iterator[tuple[VideoModel, str]]:
    model = model_of(FASTEST)
    yield model, open_fastest(model, precision="fp32", folder=folder).about


def test_what_auto_found_is_remembered(
    measured: tuple[VideoModel, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, about = measured
    assert about.startswith(("auto: openvino fp32, ", "auto: eager fp32"))
    monkeypatch.setattr(choice, "fastest", None)  # to measure would be an error now
    engine = open_fastest(model, precision="fp32", folder=folder)
    assert engine.about == about
    frames = frames_of(model)
    assert agrees(engine.run(frames), EagerEngine(model).run(frames), "fp32")


def test_what_is_returned_is_known_to_the_next_process() -> None:
    """Without asking the model, for tuples of all kinds; what cannot be made again is not kept."""
    answer = (torch.ones(2), None, (3, "x"), Decision(torch.ones(1), torch.ones(1), torch.ones(1)))
    again = restored(json.loads(json.dumps(outline(answer))))
    assert again[1:3] == (None, (3, "x")) and type(again[3]) is Decision
    assert all(isinstance(x, Tensor) for x in (again[0], *again[3]))
    assert outline((torch.ones(1), object())) is None
    for broken in (None, {}, {"items": [{}]}, {"items": [], "type": ["no.module", "X"]}):
        with pytest.raises((LookupError, TypeError)):
            restored(broken)


def test_a_second_process_does_without_the_compiler_of_pytorch(videos: Path, tmp_path: Path) -> None:
    """It takes a second to load: multiply-adds and shapes are those that the first process found."""
    code = "import sys, foveate.cli as c\n"
    code += "try: c.main(sys.argv[1:])\nfinally: print('torch._dynamo' in sys.modules)"
    for engine in ("eager", "openvino"):
        asked = [
            "predict",
            str(videos.parent / "0.npy"),
            "--model",
            "adafocus_small",
            "--csv",
            "--engine",
            engine,
        ]
        said = [
            subprocess.run(
                [sys.executable, "-c", code, *asked],
                env={**os.environ, "FOVEATE_CACHE": str(tmp_path / engine), "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                check=False,
            ).stdout.splitlines()
            for _ in range(2)
        ]
        assert said[0][-1] == "True" and said[1][-1] == "False"
        assert said[0][:-1] == said[1][:-1]


def test_own_code_that_changes_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "own_part.py"
    source.write_text("import torch\nclass Own(torch.nn.Identity): pass\n")
    model = model_of(FASTEST)
    plain = facts_of_structure(model)
    model.own = importlib.import_module("own_part").Own()
    before = facts_of_structure(model)
    source.write_text(source.read_text() + "# changed\n")
    assert len({json.dumps(facts) for facts in (plain, before, facts_of_structure(model))}) == 3


def test_a_memory_that_cannot_be_read_is_measured_again(
    measured: tuple[VideoModel, str], folder: Path
) -> None:
    model, _ = measured
    memory = [path for path in folder.glob("*.json") if '"speed"' in path.read_text()]
    assert len(memory) == 1
    memory[0].write_text('{"value": {"engine": 3}}')
    assert open_fastest(model, precision="fp32", folder=folder).about.startswith("auto: ")
    assert '"speed"' in memory[0].read_text()


def test_auto_measures_nothing_for_a_few_videos(folder: Path) -> None:
    engine = open_fastest(model_of(FASTEST), measure=False, folder=folder)
    assert engine.about == "eager fp32"
    assert not folder.exists()


def test_answers_that_differ_are_not_taken() -> None:
    model = model_of("adafocus_small")
    output = EagerEngine(model).run(frames_of(model, 1))

    def with_(**fields: Any) -> Any:
        return type(output)(**{**vars(output), **fields})

    assert output.boxes is not None and output.looked is not None
    assert agrees(output, output, "fp32")
    assert not agrees(with_(logits=output.logits * float("nan")), output, "bf16")
    assert not agrees(with_(logits=output.logits * 1.001), output, "fp32")
    assert agrees(with_(logits=output.logits * 1.001), output, "bf16")
    assert not agrees(with_(boxes=output.boxes + 1), output, "fp32")
    assert not agrees(with_(looked=~output.looked), output, "fp32")


def test_the_command_line_names_what_it_chose(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    video, model = str(videos.parent / "0.npy"), ("--model", "adafocus_small")

    def run(*options: str) -> int | str | None:
        with pytest.raises(SystemExit) as left:
            main(["predict", video, *model, "--csv", *options])
        return left.value.code

    assert run() == 0
    plain = capsys.readouterr()
    assert not plain.err  # nothing was measured for one video
    assert run("--engine", "openvino") == 0
    ours = capsys.readouterr().out
    assert ours.splitlines()[1].split(",")[:7] == plain.out.splitlines()[1].split(",")[:7]  # to the label
    assert [*(tmp_path / "engines").glob("*.blob")]
    assert run("--engine", "warp") == 2
    assert "no engine of this name" in capsys.readouterr().err
