"""Engines on a GPU: what can be told without one, and what is to hold where there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.gpu import main as gpu_benchmark

from foveate.data.dataset import Batch
from foveate.errors import UsageError
from foveate.infer.choice import TOLERANCE, relative_error, same_decisions
from foveate.infer.copies import Copies
from foveate.infer.cuda import TorchCompileEngine
from foveate.infer.engine import EagerEngine, Precision, open_engine
from foveate.infer.predict import Predictor
from foveate.models.base import Frames, ModelOutput, VideoModel
from foveate.train.evaluate import score
from test_engine import SMALL, frames_of, model_of

pytestmark = pytest.mark.usefixtures("one_thread")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Recorder(EagerEngine):
    """Says in which order clips were sent and run."""

    def __init__(self, model: VideoModel) -> None:
        super().__init__(model)
        self.calls: list[str] = []

    def send(self, frames: Frames) -> Frames:
        self.calls.append("send")
        return super().send(frames)

    def run(self, frames: Frames) -> ModelOutput:
        self.calls.append("run")
        return super().run(frames)


@pytest.fixture
def compiler() -> Iterator[None]:
    """What other tests have compiled does not count towards the limits of PyTorch's compiler."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("engine", ["eager", "auto", "compile", "openvino"])
def test_fp16_is_refused_on_a_cpu(engine: str) -> None:
    with pytest.raises(UsageError, match=r"^--precision fp16: is for GPUs \(use bf16 or fp32"):
        open_engine(model_of("tsm_r10_8"), engine, "cpu", "fp16")


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_of_cpus_are_refused_on_a_gpu(engine: str) -> None:
    pytest.importorskip(engine)
    with pytest.raises(UsageError, match=f"^--engine {engine}: does not run on cuda"):
        open_engine(model_of("tsm_r10_8"), engine, "cuda")


@pytest.mark.parametrize("name", SMALL)
def test_fp16_fits_together_in_every_model(name: str) -> None:
    """Autocast has it on a CPU too, where it is slow."""
    model = model_of(name)
    clip = model.prepare(frames_of(model))
    with torch.inference_mode(), torch.autocast("cpu", torch.float16):
        half = model.output(clip).logits
    assert relative_error(half, EagerEngine(model).run(frames_of(model)).logits) < TOLERANCE["fp16"]


@pytest.mark.parametrize("name", ["tsm_r10_8", "fullvideo_small", "adafocus_small"])
def test_parts_are_compiled_for_one_and_for_any_number(name: str, compiler: None) -> None:
    """By a compiler that keeps the operations as they are."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = model_of(name)
    engine = TorchCompileEngine(model, "cpu", backend=keep)
    assert not graphs
    made = []
    for batch in (2, 1, 3):
        frames = frames_of(model, batch)
        ours, plain = engine.run(frames), EagerEngine(model).run(frames)
        assert relative_error(ours.logits, plain.logits) < 1e-5
        assert same_decisions(ours, plain)
        assert ours.macs is not None and plain.macs is not None and torch.equal(ours.macs, plain.macs)
        made.append(len(graphs))
    assert 0 < made[0] < made[1] == made[2]


def test_a_part_that_cannot_be_compiled_is_named(compiler: None) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("no kernels\nfor this")

    engine = TorchCompileEngine(model_of("tsm_r10_8"), "cpu", backend=refuse)
    with pytest.raises(UsageError) as caught:
        engine.warmup()
    assert str(caught.value) == (
        "tsm_r10_8: torch.compile cannot compile its frame_features: no kernels (use --engine eager)"
    )


def test_nothing_is_copied_to_where_it_is() -> None:
    clips = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)
    copies = Copies(torch.device("cpu"))
    assert copies.send(clips) is clips and copies.receive(clips) is clips


def test_evaluation_sends_a_batch_before_it_runs_the_one_before() -> None:
    model = model_of("adafocus_small")
    frames = frames_of(model, 5).unsqueeze(1)
    parts = zip(frames.split(2), torch.arange(5).split(2), strict=True)
    batches = [Batch(part, indices % 4, indices) for part, indices in parts]
    engine = Recorder(model)
    scored = score(engine, batches, clips_at_once=2)
    assert engine.calls == ["send", "send", "run", "send", "run", "run"]
    whole = score(engine, [Batch(frames, torch.arange(5) % 4, torch.arange(5))])
    assert torch.allclose(scored.scores, whole.scores, atol=1e-5)
    assert torch.equal(scored.indices, torch.arange(5)) and torch.equal(scored.labels, whole.labels)


def test_the_videos_of_a_list_are_sent_while_they_are_read(videos: Path) -> None:
    paths = sorted(videos.parent.glob("*.npy"))
    assert len(paths) == 8
    predictor = Predictor(model_of("adafocus_small"))
    engine = predictor.engine = Recorder(model_of("adafocus_small"))
    predictions = list(predictor.predict_all(paths))
    assert [each.status for each in predictions] == ["ok"] * len(paths)
    assert engine.calls.count("send") == engine.calls.count("run") == len(paths)


@gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("engine", ["eager", "compile"])
@pytest.mark.parametrize("name", SMALL)
def test_a_gpu_answers_as_the_cpu(
    name: str, engine: str, precision: Precision, compiler: None, no_tf32: None
) -> None:
    frames = frames_of(model_of(name))
    plain = EagerEngine(model_of(name)).run(frames)
    ours = open_engine(model_of(name), engine, "cuda", precision).run(frames)
    assert relative_error(ours.logits.cpu(), plain.logits) < TOLERANCE[precision]
    assert precision != "fp32" or same_decisions(ours, plain)
    assert ours.macs is not None and ours.macs.device.type == "cpu"


@gpu
def test_what_is_sent_ahead_arrives_whole() -> None:
    model = model_of("tsm_r10_8")
    engine = open_engine(model, "eager", "cuda")
    clips = list(frames_of(model, 24).split(3))
    plain = [engine.run(clip.cuda()).logits for clip in clips]
    for _ in range(4):
        sent = engine.send(clips[0])
        for place, expected in enumerate(plain):
            now, sent = sent, engine.send(clips[(place + 1) % len(clips)])
            assert torch.equal(engine.run(now).logits, expected)


@gpu
def test_auto_is_eager_on_a_gpu_with_kernels_in_the_order_of_clips() -> None:
    engine = open_engine(model_of("slowfast_small"), "auto", "cuda")
    assert engine.about == "eager fp32"
    kernels = [kernel for kernel in engine.model.parameters() if kernel.dim() == 5]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last_3d) for kernel in kernels)


def test_the_benchmark_writes_what_it_had_time_for(tmp_path: Path, compiler: None) -> None:
    trial = ["--device", "cpu", "--models", "adafocus_small", "--batches", "2", "--repeats", "2"]
    assert gpu_benchmark(["--minutes", "0", "--out", str(tmp_path), *trial]) == 2
    assert not list(tmp_path.iterdir())
    assert gpu_benchmark(["--minutes", "0.9", "--out", str(tmp_path), *trial]) == 0
    record = json.loads((tmp_path / "gpu.json").read_text())
    rows = {row["engine"]: row for row in record["rows"]}
    assert list(rows) == ["eager fp32", "eager fp16", "eager bf16"]
    assert rows["eager fp32"]["answers"] == "agree" and rows["eager fp32"]["error"] < 1e-6
    assert rows["eager bf16"]["step"]["median"] > 0 and rows["eager bf16"]["rate_2"]["median"] > 0
    assert rows["eager fp16"]["answers"].startswith("fails: --precision fp16")
    assert "adafocus_small compile fp16" in record["about"]  # which was not begun
    assert "--minutes 0.9" in record["command"]
