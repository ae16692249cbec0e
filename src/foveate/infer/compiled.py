"""Engines that compile: the static parts of a model run compiled, its decisions stay Python.

A part is compiled once for each way in which it is called. The first dimension of its tensors (clips, frames,
patches) may be of any size in each call; the other dimensions and the plain values make a way of calling.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from foveate.errors import FoveateError, UsageError
from foveate.infer.artefacts import ArtefactStore, facts_of
from foveate.infer.calibration import Calibration, recall
from foveate.infer.compilers import Compiler, Run, compiler_named, version_of
from foveate.infer.engine import EagerEngine, Precision, with_parts
from foveate.layers.macs import shapes_from_shapes
from foveate.models.base import Frames, ModelOutput, VideoModel

log = logging.getLogger(__name__)

MAX_WAYS = 16  # of calling a part that are compiled; further ones run as they stand


class CompiledEngine:
    """Runs a model whose parts are compiled when they are first called.

    The model must not change afterwards. precision: of the parts; what lies between them is fp32. folder:
    where compiled parts are kept; None: beside the downloads. calibration: for int8; None: what is kept.
    UsageError for a compiler that is not installed, a device that is not the CPU, int8 without calibration,
    and, at the first run, a part that cannot be compiled.
    """

    def __init__(
        self,
        model: VideoModel,
        name: str,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        folder: Path | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        compiler = compiler_named(name, precision)
        if torch.device(device).type != "cpu":
            raise UsageError(f"--engine {name}", f"does not run on {device}", "use --engine eager")
        self.model = model.to("cpu").eval()
        self.kind = self.about = f"{name} {precision}"
        self.store = ArtefactStore(folder)
        self.facts = facts_of(model) | facts_of_compiler(compiler)
        in_int8: Mapping[str, Collection[str]] = {}
        if precision == "int8":
            calibration = calibration or self._recalled()
            precision, in_int8 = calibration.plain, calibration.ways
        self.parts = {
            part: CompiledPart(
                model, part, compiler, precision, self.store, self.facts, in_int8.get(part, ())
            )
            for part in (*model.parts, *model.step_parts)
        }
        self._engine = EagerEngine(with_parts(model, self.parts), "cpu")
        self._own_threads = compiler.own_threads

    def _recalled(self) -> Calibration:
        found = recall(self.store, self.facts)
        if found is None:
            cause = f"{self.model.name or 'the model'} is not calibrated for it on this machine"
            raise UsageError("--precision int8", cause, "give a list of videos with --calibrate")
        line = f"{self.about}: {found.line}"
        if found.keeps_answers:
            log.info("%s", line)
        else:
            log.warning(
                "%s; --precision bf16 moves answers less, and so may --calibrate on other videos", line
            )
        return found

    def run(self, frames: Frames) -> ModelOutput:
        with self._threads():
            return self._engine.run(frames)

    def step(self, frames: Tensor, state: Any = None) -> tuple[ModelOutput, Any]:
        with self._threads():
            return self._engine.step(frames, state)

    def _threads(self) -> AbstractContextManager[None]:
        # PyTorch's threads wait for work in a loop after every operation, on processors that the parts need
        return torch_threads(1 if self._own_threads else torch.get_num_threads())

    def send(self, frames: Frames) -> Frames:
        return self._engine.send(frames)

    def warmup(self, views: int = 1) -> None:
        self._engine.warmup(views)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run PyTorch's operations of this thread in so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class CompiledPart:
    """A part of a model, called as the part itself.

    in_int8: keys of the ways of calling it that were quantised before; all others are compiled in `precision`
    when they are first met.
    """

    def __init__(
        self,
        model: VideoModel,
        part: str,
        compiler: Compiler,
        precision: Precision,
        store: ArtefactStore,
        facts: Mapping[str, str],
        in_int8: Collection[str] = (),
    ) -> None:
        self._model = model
        self._part = part
        self._compiler = compiler
        self._precision = precision
        self._store = store
        self._facts = facts
        self._in_int8 = in_int8
        self._ways: dict[str, Callable[[Sequence[Any]], Any]] = {}

    def __call__(self, *inputs: Any) -> Any:
        way, leaves = way_of(inputs)
        key = way.key
        if key not in self._ways:
            if len(self._ways) >= MAX_WAYS:
                return getattr(self._model, self._part)(*inputs)
            self._ways[key] = self._compiled(way, leaves)
        return self._ways[key](leaves)

    def run_of(self, way: Way, leaves: Sequence[Any], precision: Precision) -> Run:
        """What runs one way of calling it, from tensors to tensors; leaves: of a call."""
        make = partial(self._make, way, leaves, precision)
        read = partial(self._compiler.load, precision=precision)
        return self._store.load(self._facts_of(way, precision), self._compiler.suffix, make, read)

    def quantise(self, way: Way, calls: Sequence[Sequence[Tensor]]) -> None:
        """Keep one way of calling it in int8. calls: tensors of each, as `Way.stored` gives them."""
        make = partial(self._write, way, calls, "int8")
        self._store.keep(self._facts_of(way, "int8"), self._compiler.suffix, make)

    def _compiled(self, way: Way, leaves: Sequence[Any]) -> Callable[[Sequence[Any]], Any]:
        precision: Precision = "int8" if way.key in self._in_int8 else self._precision
        answer = self._answer(way, leaves, self._facts_of(way, precision))
        return partial(_call, self.run_of(way, leaves, precision), way, *tree_flatten(answer))

    def _facts_of(self, way: Way, precision: Precision) -> dict[str, str]:
        return {**self._facts, "precision": precision, "part": self._part, "way": way.key}

    def _answer(self, way: Way, leaves: Sequence[Any], facts: Mapping[str, str]) -> Any:
        """What the part returns, without values; the model may refuse the input here.

        It is kept for the next process, because finding it loads PyTorch's compiler, which takes a second.
        """
        known = self._store.recall(facts)
        with suppress(LookupError, TypeError):
            return restored(known)
        _, answer = self._example(way, leaves)
        if (kept := outline(answer)) is not None:
            self._store.remember(facts, kept, quiet=True)
        return answer

    def _example(self, way: Way, leaves: Sequence[Any]) -> tuple[list[Any], Any]:
        """Leaves of a call that is as small as the part takes, and what it returns, without values."""
        try:  # tracing takes as long as running
            examples = way.examples([1] * len(leaves))
            answer = shapes_from_shapes(self._model, self._part, way.inputs(examples))
        except RuntimeError:  # it wants the frames of a clip together
            examples = way.examples([len(leaf) if isinstance(leaf, Tensor) else 0 for leaf in leaves])
            answer = shapes_from_shapes(self._model, self._part, way.inputs(examples))
        return examples, answer

    def _make(self, way: Way, leaves: Sequence[Any], precision: Precision, path: Path) -> None:
        if precision == "int8":
            cause = f"what was kept of {self._model.name or 'the model'} cannot be used"
            raise UsageError("--precision int8", cause, "give a list of videos with --calibrate again")
        leaves, _ = self._example(way, leaves)
        self._write(way, [[way.stored(*pair) for pair in way.tensors(leaves)]], precision, path)

    def _write(self, way: Way, calls: Sequence[Sequence[Tensor]], precision: Precision, path: Path) -> None:
        try:
            self._compiler.compile(Graph(self._model, self._part, way), calls, precision, path)
        except (FoveateError, OSError):
            raise
        except Exception as error:  # of whatever kind a foreign library raises
            cause = f"{self._compiler.name} cannot compile its {self._part}: {first_line(error)}"
            raise UsageError(self._model.name or "model", cause, "use --engine eager") from error


class Kind(NamedTuple):
    """What a way of calling fixes of a tensor: all but the size of its first dimension.

    channels_last: it is stored with its second dimension last, and handed over so, which saves a copy.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]  # without the first dimension
    channels_last: bool


@dataclass(frozen=True)
class Way:
    """A way of calling a part: a kind for each tensor, plain values, and how both are nested."""

    leaves: tuple[Any, ...]
    structure: TreeSpec

    @property
    def key(self) -> str:
        return f"{self.leaves} {self.structure}"

    def examples(self, sizes: Sequence[int]) -> list[Any]:
        """Leaves of a call: zeros for each tensor, with these first dimensions."""
        return [
            torch.zeros(size, *leaf.shape, dtype=leaf.dtype) if isinstance(leaf, Kind) else leaf
            for leaf, size in zip(self.leaves, sizes, strict=True)
        ]

    def tensors(self, leaves: Sequence[Any]) -> list[tuple[Tensor, Kind]]:
        """The tensors among the leaves of a call, with their kinds."""
        pairs = zip(leaves, self.leaves, strict=True)
        return [(value, kind) for value, kind in pairs if isinstance(kind, Kind)]

    def stored(self, tensor: Tensor, kind: Kind) -> Tensor:
        """A tensor as it is handed over, contiguous."""
        return (tensor.movedim(1, -1) if kind.channels_last else tensor).contiguous()

    def inputs(self, leaves: Sequence[Any]) -> Any:
        """The arguments of a call from its leaves."""
        return tree_unflatten(list(leaves), self.structure)


class Graph(nn.Module):
    """One way of calling a part: a module from tensors, as `Way.stored` gives them, to a tuple of tensors."""

    def __init__(self, model: VideoModel, part: str, way: Way) -> None:
        super().__init__()
        self.model = model
        self.part = part
        self.way = way

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        leaves = [
            self._given(next(given), leaf) if isinstance(leaf, Kind) else leaf for leaf in self.way.leaves
        ]
        answer = getattr(self.model, self.part)(*self.way.inputs(leaves))
        return tuple(leaf for leaf in tree_flatten(answer)[0] if isinstance(leaf, Tensor))

    def _given(self, tensor: Tensor, kind: Kind) -> Tensor:
        return tensor.movedim(tensor.dim() - 1, 1) if kind.channels_last else tensor


def facts_of_compiler(compiler: Compiler) -> dict[str, str]:
    """What a compiled part depends on of its compiler."""
    return {"compiler": f"{compiler.name} {version_of(compiler)}"}


def way_of(inputs: Any) -> tuple[Way, list[Any]]:
    """The way of a call with these arguments, and its leaves."""
    leaves, structure = tree_flatten(inputs)
    return Way(tuple(map(_kind, leaves)), structure), leaves


def _kind(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    last = leaf.dim() > 3 and not leaf.is_contiguous() and leaf.movedim(1, -1).is_contiguous()
    return Kind(leaf.dtype, tuple(leaf.shape[1:]), last)


def _call(run: Run, way: Way, answer: list[Any], structure: TreeSpec, leaves: Sequence[Any]) -> Any:
    """Run a compiled way on the leaves of a call. answer: leaves of the result, empty where tensors go."""
    found = iter(run([way.stored(*pair) for pair in way.tensors(leaves)]))
    return tree_unflatten([next(found) if isinstance(leaf, Tensor) else leaf for leaf in answer], structure)


def outline(answer: Any) -> Any:
    """What JSON can hold of an answer, without its values; None for what `restored` could not make again."""
    if isinstance(answer, Tensor):
        return {"tensor": True}
    if isinstance(answer, tuple):
        items = [outline(item) for item in answer]
        kind = type(answer)
        named = {} if kind is tuple else {"type": [kind.__module__, kind.__qualname__]}
        return None if None in items else {"items": items, **named}
    return {"value": answer} if answer is None or isinstance(answer, bool | int | float | str) else None


def restored(kept: Any) -> Any:
    """The answer, empty in place of tensors, of an `outline`; LookupError or TypeError for anything else."""
    if "tensor" in kept:
        return torch.empty(0)
    if "items" not in kept:
        return kept["value"]
    items = [restored(item) for item in kept["items"]]
    if "type" not in kept:
        return tuple(items)
    module, name = kept["type"]
    return vars(sys.modules[module])[name](*items)  # of a module that the model has loaded


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
