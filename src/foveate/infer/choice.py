"""The fastest engine for a model on this machine: measured once, remembered.

An engine counts only if its answers to a clip of noise agree with those of PyTorch in float32: logits within
`TOLERANCE` of the largest one, and in float32 the same decisions. int8 counts only once it is calibrated, by
its answers to real videos then, as noise says nothing of ranges. `compile` does not take part: it takes
minutes.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from foveate.errors import UsageError
from foveate.infer.artefacts import ArtefactStore, facts_of
from foveate.infer.calibration import Calibration, recall
from foveate.infer.compiled import CompiledEngine, facts_of_compiler, first_line
from foveate.infer.compilers import compiler_named, version_of
from foveate.infer.engine import EagerEngine, Engine, Precision, clip_shape
from foveate.models.base import ModelOutput, VideoModel

log = logging.getLogger(__name__)

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 3e-2, "fp16": 3e-2}  # of the largest logit
KEPT_IN_INT8 = 0.995  # of the best classes on the videos that a calibration was compared on
BUDGET_S = 30.0  # after which no further engine is tried
ROUNDS = 3  # of which the median counts
SURE = 0.95  # of eager's time: what is hardly faster is not worth another package
CANDIDATES: tuple[tuple[str, Precision], ...] = (
    ("openvino", "bf16"),  # by how much they usually bring, as the time may not suffice for all
    ("openvino", "fp32"),
    ("eager", "bf16"),
    ("onnxruntime", "fp32"),
)
INT8: tuple[str, Precision] = ("openvino", "int8")
DECISIONS = ("frames_read", "steps", "looked", "sizes", "clusters")


@dataclass(frozen=True)
class Choice:
    """An engine and why. speed: times eager fp32. error: of its logits, relative. notes: on the others."""

    engine: str = "eager"
    precision: Precision = "fp32"
    speed: float = 1.0
    error: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """One line for the user."""
        own = f"{self.engine} {self.precision}"
        if (self.engine, self.precision) != ("eager", "fp32"):
            own += f", {self.speed:.1f} times as fast as eager fp32, logits within {self.error:.1g}"
        return "; ".join([own, *self.notes])


def open_fastest(
    model: VideoModel,
    device: str | torch.device = "cpu",
    precision: Precision | None = None,
    measure: bool = True,
    folder: Path | None = None,
) -> Engine:
    """The fastest engine for a model; `about` says why if there was a choice.

    precision: to choose among engines of this one only. measure: whether to measure if nothing is remembered;
    otherwise eager, as on a GPU. folder: of compiled parts and memory; None: beside the downloads.
    """
    plain = precision or "fp32"
    if torch.device(device).type != "cpu":
        return EagerEngine(model, device, plain)  # the others need the CPU
    store = ArtefactStore(folder)
    facts = facts_of(model)
    int8 = _calibrated(store, facts) if precision is None else None
    facts |= {"engines": _installed(), "asked": str(precision), "int8": int8.line if int8 else ""}
    facts["threads"] = str(torch.get_num_threads())
    choice = _choice_of(store.recall(facts))
    if choice is None and not measure:
        return EagerEngine(model, device, plain)
    if choice is None:
        log.info("%s: measuring engines", model.name)
        choice = fastest(model, precision, folder, int8)
        store.remember(facts, asdict(choice))
    engine = _open(model, choice.engine, choice.precision, folder)
    engine.about = f"auto: {choice.reason}"
    return engine


def fastest(
    model: VideoModel,
    precision: Precision | None = None,
    folder: Path | None = None,
    int8: Calibration | None = None,
) -> Choice:
    """Measure the engines of a precision, or of all, within about `BUDGET_S`. int8: which may be taken."""
    frames = a_clip(model)
    eager = EagerEngine(model, "cpu")
    reference = eager.run(frames)
    # of eager in another precision nothing is known yet
    best = Choice(precision=precision or "fp32", speed=0.0 if precision == "bf16" else 1.0)
    notes, measured, end = [], set(), time.perf_counter() + BUDGET_S
    for name, kind in (*([INT8] if int8 else []), *_candidates(precision)):
        if name == "onnxruntime" and "openvino" in measured:
            continue  # its export takes longer than all else, for hardly more
        if time.perf_counter() > end:
            notes.append(f"{name} {kind} not measured: {BUDGET_S:.0f} s are over")
            continue
        try:
            found = _measured(_open(model, name, kind, folder), eager, frames, reference)
        except UsageError as error:
            notes.append(f"{error.subject}: {error.cause}")
            continue
        except Exception as error:  # of whatever kind a foreign library raises; the next one may do
            notes.append(f"{name} {kind} fails: {first_line(error)}")
            continue
        measured.add(name)
        speed, output = found
        if kind == "int8" and int8 is not None:
            differs, agreed = int8.error, True
        else:
            differs = relative_error(output.logits, reference.logits)
            agreed = agrees(output, reference, kind)
        if not agreed:
            notes.append(f"{name} {kind} not taken: its answers differ by {differs:.1g}")
        elif speed * SURE > best.speed:
            best = Choice(name, kind, speed, differs)
    return replace(best, notes=tuple(notes))


def agrees(output: ModelOutput, reference: ModelOutput, precision: Precision) -> bool:
    """Whether an answer is within tolerance of the reference, and in fp32 comes of the same decisions."""
    error = relative_error(output.logits, reference.logits)
    if not error <= TOLERANCE[precision]:  # NaN is not
        return False
    return precision != "fp32" or same_decisions(output, reference)


def same_decisions(output: ModelOutput, reference: ModelOutput) -> bool:
    """Whether both read, skipped and looked at the same frames; patches may differ by a tenth of a pixel."""
    pairs = [(getattr(output, name), getattr(reference, name)) for name in DECISIONS]
    if any(a is not None and not torch.equal(a, b) for a, b in pairs):
        return False
    return output.boxes is None or torch.allclose(output.boxes, reference.boxes, rtol=0, atol=0.1)  # type: ignore[arg-type]


def relative_error(logits: Tensor, reference: Tensor) -> float:
    """The largest difference of two tensors, relative to the largest value of the second."""
    return float((logits.float() - reference).abs().max() / reference.abs().max().clamp(min=1e-30))


def a_clip(model: VideoModel, views: int = 1) -> Tensor:
    """uint8 clips (views, T, S, S, C) of smooth noise, always the same."""
    views, frames, side, _, channels = clip_shape(model, views)
    numbers = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (views * frames, channels, 8, 8), generator=numbers).float()
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).to(torch.uint8).unflatten(0, (views, frames))


def has_bf16() -> bool:
    """Whether the processor multiplies in bfloat16 itself; emulation is slower than fp32."""
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # which came after 2.10
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def _candidates(precision: Precision | None) -> Iterator[tuple[str, Precision]]:
    for name, kind in CANDIDATES:
        if precision in (None, kind) and (kind == "fp32" or has_bf16()):
            yield name, kind


def _calibrated(store: ArtefactStore, facts: Mapping[str, str]) -> Calibration | None:
    """What is kept of a calibration, if it keeps enough answers and some part gains by it."""
    try:
        found = recall(store, {**facts, **facts_of_compiler(compiler_named(*INT8))})
    except UsageError:  # OpenVINO is not installed
        return None
    takes = found is not None and found.agreement >= KEPT_IN_INT8 and any(found.ways.values())
    return found if takes else None


def _measured(
    engine: Engine, eager: Engine, frames: Tensor, reference: ModelOutput
) -> tuple[float, ModelOutput]:
    """How many times as fast as eager, in turns, as a machine may be busy at times; and the answer."""
    output = engine.run(frames)
    ratios = [_seconds(eager, frames) / _seconds(engine, frames) for _ in range(ROUNDS)]
    return statistics.median(ratios), output


def _seconds(engine: Engine, frames: Tensor) -> float:
    start = time.perf_counter()
    engine.run(frames)
    return time.perf_counter() - start


def _open(model: VideoModel, name: str, precision: Precision, folder: Path | None) -> Engine:
    if name == "eager":
        return EagerEngine(model, "cpu", precision)
    return CompiledEngine(model, name, "cpu", precision, folder)


def _installed() -> str:
    """The engines that can be tried, with versions: a new one is measured."""
    found = []
    for name in sorted({name for name, _ in CANDIDATES if name != "eager"}):
        try:
            found.append(f"{name} {version_of(compiler_named(name, 'fp32'))}")
        except UsageError:
            continue
    return ", ".join(found)


def _choice_of(value: object) -> Choice | None:
    """A remembered choice; None for anything else."""
    try:
        choice = Choice(**value)  # type: ignore[arg-type]
        choice = replace(choice, notes=tuple(map(str, choice.notes)))
    except TypeError:
        return None
    known = (("eager", "fp32"), *CANDIDATES, INT8)
    return choice if (choice.engine, choice.precision) in known else None
