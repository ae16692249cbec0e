"""A budget for an engine's model: `BudgetDial(engine).set("0.3")`, before any prediction.

A budget in milliseconds needs to know what the settings take here, with this engine: that is measured once on
a clip of smooth noise and remembered, as the choice of an engine is (choice.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from statistics import median

import torch

from foveate.errors import UsageError
from foveate.infer.artefacts import ArtefactStore, facts_of
from foveate.infer.choice import a_clip
from foveate.infer.engine import Engine
from foveate.models.base import VideoModel
from foveate.models.budget import Budget, Curve, parse_budget
from foveate.models.dials import Dial

log = logging.getLogger(__name__)

ROUNDS = 3  # of which the median counts


def curve_of(model: VideoModel) -> tuple[Dial, Curve]:
    """What sets a model's cost; UsageError if it has nothing to set, or no curve yet."""
    name = model.name or "the model"
    if model.dial is None:
        hint = "choose a model that answers early or chooses, or run it as it is"
        raise UsageError("--budget", f"{name} has nothing that could be set to cost less", hint)
    if model.curve is None:
        hint = "`foveate budget MODEL LIST` measures one on labelled videos and keeps it in the file"
        raise UsageError("--budget", f"{name} has no curve of accuracy against cost", hint)
    return model.dial, model.curve


def check_budget(model: VideoModel, budget: Budget | str | float) -> Budget:
    """A budget for a model; UsageError for one that cannot be, as far as no time has to be measured."""
    (_, curve), wanted = curve_of(model), parse_budget(budget)
    if wanted.unit != "ms":
        curve.share_of(wanted)
    return wanted


def turn_to(model: VideoModel, budget: Budget, milliseconds: Sequence[float] = ()) -> float:
    """Set a model to a budget; its share of the full cost. milliseconds: of each point of the curve."""
    dial, curve = curve_of(model)
    share = curve.share_of(budget, milliseconds)
    model.turn(curve.at(share, dial))
    return share


class BudgetDial:
    """Sets what an engine's model may cost; UsageError for a model without a dial or a curve."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dial, self.curve = curve_of(engine.model)
        self._milliseconds: list[float] | None = None

    def set(self, budget: Budget | str | float | None) -> float | None:
        """Set the model to a budget, and say its share of the full cost; None: as it was trained.

        budget: as `parse_budget` takes it. Cheap after the first budget in milliseconds, so it may precede
        every prediction, in the thread that predicts: an engine has one setting at a time. UsageError for a
        budget below the cheapest point of the curve.
        """
        if budget is None:
            self.engine.model.turn(None)
            return None
        wanted = parse_budget(budget)
        return turn_to(self.engine.model, wanted, self.milliseconds() if wanted.unit == "ms" else ())

    def milliseconds(self) -> list[float]:
        """Milliseconds that the model takes for a clip at each point of the curve, without reading it.

        Measured here if nothing is remembered of this model, engine, machine and number of threads.
        """
        if self._milliseconds is None:
            self._milliseconds = self._recalled()
        return self._milliseconds

    def _recalled(self) -> list[float]:
        model, store = self.engine.model, ArtefactStore()
        facts = facts_of(model) | {"kept": "milliseconds", "curve": repr(self.curve)}
        facts |= {"engine": self.engine.kind, "threads": str(torch.get_num_threads())}
        facts |= {"device": str(next(model.parameters()).device)}
        found = store.recall(facts)
        if isinstance(found, list) and len(found) == len(self.curve.points):
            return [float(value) for value in found]
        log.info("%s: measuring what a clip takes at %d budgets", model.name, len(self.curve.points))
        found = self._measured()
        store.remember(facts, found)
        return found

    def _measured(self) -> list[float]:
        """The points in turns, as a machine may be busy at times.

        Noise may cost something else than videos do on average; the time is taken in proportion.
        """
        model, clip = self.engine.model, a_clip(self.engine.model)
        before = model.setting
        taken: list[list[float]] = [[] for _ in self.curve.points]
        try:
            for turn in range(ROUNDS + 1):
                for point, times in zip(self.curve.points, taken, strict=True):
                    model.turn(self.dial.steady(point.setting, point.share))
                    start = time.perf_counter()
                    macs = self.engine.run(clip).macs  # on the CPU, so it is over
                    assert macs is not None
                    if turn:  # the first compiles
                        seconds = time.perf_counter() - start
                        times.append(1000 * seconds * point.gmacs * 1e9 / float(macs.double().mean()))
        finally:
            model.turn(before)
        return [median(times) for times in taken]
