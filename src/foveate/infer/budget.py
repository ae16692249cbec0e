"""A budget for an engine's model: `BudgetDial(engine).set("0.3")`, before any prediction.

A budget in milliseconds needs to know what the settings take here, with this engine: that is measured once on
a clip of smooth noise and remembered, as the choice of an engine is (choice.py).
"""

from __future__ import annotations

import logging
import time
from statistics import median

import torch

from foveate.errors import UsageError
from foveate.infer.artefacts import ArtefactStore, facts_of
from foveate.infer.choice import a_clip
from foveate.infer.engine import Engine
from foveate.models.budget import Budget, Curve, parse_budget
from foveate.models.dials import Dial

log = logging.getLogger(__name__)

ROUNDS = 3  # of which the median counts


class BudgetDial:
    """Sets what an engine's model may cost.

    UsageError for a model that has nothing to set, or whose curve was not measured yet.
    """

    def __init__(self, engine: Engine) -> None:
        model = engine.model
        name = model.name or "the model"
        if model.dial is None:
            hint = "choose a model that answers early or chooses, or run it as it is"
            raise UsageError("--budget", f"{name} has nothing that could be set to cost less", hint)
        if model.curve is None:
            hint = "`foveate budget MODEL LIST` measures one on labelled videos and keeps it in the file"
            raise UsageError("--budget", f"{name} has no curve of accuracy against cost", hint)
        self.engine = engine
        self.dial: Dial = model.dial
        self.curve: Curve = model.curve
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
        share = self.curve.share_of(wanted, self.milliseconds() if wanted.unit == "ms" else ())
        self.engine.model.turn(self.curve.at(share, self.dial))
        return share

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
