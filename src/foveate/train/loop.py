"""The training loop: epochs of optimizer steps, each epoch judged, all of it resumable.

It knows nothing of video. `batches` gives the data of an epoch from any batch on, `objective` turns a model
and a batch into a loss, `evaluate` turns a model into measures. So the same loop trains a classifier and each
stage of AdaFocus, whose frozen parts are simply parameters without gradient.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Generic

import torch
from rich.console import Console
from torch import nn

from foveate.config import nearest
from foveate.errors import DataError, UsageError
from foveate.layers.order import set_order
from foveate.measure.cost import peak_memory_mb
from foveate.train.checkpoint import load_checkpoint, save_checkpoint
from foveate.train.config import TrainConfig
from foveate.train.distributed import ALONE, ProcessGroup
from foveate.train.extend import check_epochs, check_identity
from foveate.train.numerics import Numerics, fastest
from foveate.train.optim import ParamGroup, check_group_rates, learn_mode, rate_at
from foveate.train.precise_bn import in_modes_of, precise_bn
from foveate.train.progress import Displays, Steps, open_displays
from foveate.train.run import Run
from foveate.train.state import Tally, TrainState, make_state, surroundings, warn_of_changes
from foveate.train.step import B, Objective, step_seed, train_step, try_step
from foveate.train.stop import LostProcess, Stopped, StopSignals

log = logging.getLogger(__name__)

Batches = Callable[[int, int], Iterable[B]]
"""(epoch, start_batch) -> the batches of this process in that epoch, from number `start_batch` on."""

Evaluate = Callable[[nn.Module], Mapping[str, float]]
SaveBest = Callable[[nn.Module, Path], None]


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    model: nn.Module  # the one that was judged: averaged weights if there are any, else the trained model
    steps: int
    best: float | None  # highest value of the monitored measure, whose weights were kept; None if none were
    scores: dict[str, float]  # the last evaluation


def fit(
    model: nn.Module,
    batches: Batches[B],
    objective: Objective[B],
    config: TrainConfig,
    run: Run,
    *,
    batches_per_epoch: int,
    param_groups: Sequence[ParamGroup] | None = None,
    evaluate: Evaluate | None = None,
    save_best: SaveBest | None = None,
    after_epoch: Callable[[], None] | None = None,
    extend: Callable[[], None] | None = None,
    later_steps: int = 0,
    before: Callable[[], None] | None = None,
    fingerprint: str = "",
    decides: Mapping[str, Any] | None = None,
    chance: float = 0.0,
    world: ProcessGroup = ALONE,
    console: Console | None = None,
) -> Outcome:
    """Train `model` in place, from the start or, if the run resumes, from its last checkpoint.

    batches_per_epoch: batches that one process is given in a whole epoch.
    param_groups: what learns and how fast; by default the learning parameters in the configured style.
    save_best: called by the main process when the monitored measure rises (each epoch without `evaluate`).
    after_epoch: called by the main process when an epoch is recorded and saved.
    extend: lets a resumed run have more epochs, another rate or schedule; called by the main process, with
    the change recorded, before the run goes on.
    later_steps: optimizer steps that follow this training, for the time left.
    before: called before the first step, unless all epochs are done; a signal ends it at once.
    fingerprint: of the data. decides: plain data of what else has a part in the weights, by name. A resumed
    run must repeat both and the settings, or UsageError names the change.
    chance: the share of single labels that guessing gets right; 0: unknown. What looks like a training that
    goes wrong is said in one warning line each (`Doubts`).

    Raises Stopped after SIGTERM or SIGINT, with everything saved; DataError if too many files are bad;
    UsageError if the loss is not finite, the last good checkpoint being kept; OutputError on a full disk.
    """
    if batches_per_epoch < 1:
        raise DataError("training list", "gives no batch", "are there fewer videos than one batch holds?")
    state = make_state(model, config, param_groups)
    training = _Training(
        state,
        batches,
        objective,
        config,
        run,
        batches_per_epoch,
        evaluate,
        save_best,
        after_epoch,
        extend,
        later_steps,
        world,
        Doubts(chance),
    )
    if world.main:
        for line in check_group_rates(param_groups or (), config):
            log.warning("%s", line)
    training.begin(dict(decides or {}) | {"data": fingerprint})
    with StopSignals() as training.stop:
        if before and state.epoch < config.epochs:
            training.run_before(before)
        if state.numerics is None:
            training.choose_numerics()
        with training.open_displays(console) as training.displays:  # whose clock times steps alone
            training.run_epochs()
    set_order(model, channels_last=False)
    return Outcome(state.judged, state.step, state.best, state.scores)


@dataclass
class Doubts:
    """Signs that a training goes wrong, each said once: a loss that grows, answers that are guesses."""

    chance: float = 0.0  # share of single labels that guessing gets right; 0: unknown
    patience: int = 3  # epochs in a row
    losses: list[float] = field(default_factory=list)
    guesses: int = 0  # epochs in a row that were judged and no better than chance
    said: set[str] = field(default_factory=set)

    def after_epoch(self, means: Mapping[str, float], scores: Mapping[str, float]) -> list[str]:
        """The lines to say. means: of the objective over the epoch. scores: of the evaluation, if any."""
        lines = {}
        if "loss" in means and "reward" not in means:  # the loss of a policy says nothing by itself
            self.losses.append(means["loss"])
        last = self.losses[-self.patience - 1 :]
        if len(last) > self.patience and all(a < b for a, b in pairwise(last)):
            lines["loss"] = (
                f"the loss has grown for {self.patience} epochs, to {last[-1]:.4g} (lower the rate)"
            )
        if self.chance and "top1" in scores:
            self.guesses = self.guesses + 1 if scores["top1"] <= 1.1 * self.chance else 0
        if self.guesses >= self.patience:
            cause = f"top-1 is that of guessing, {self.chance:.4g}, for {self.guesses} epochs"
            lines["chance"] = f"{cause} (lower the rate or its factors, or check the labels)"
        new = [line for name, line in lines.items() if name not in self.said]
        self.said |= lines.keys()
        return new


@dataclass
class _Training(Generic[B]):
    """What `fit` was given, and the loop over it."""

    state: TrainState
    batches: Batches[B]
    objective: Objective[B]
    config: TrainConfig
    run: Run
    batches_per_epoch: int
    evaluate: Evaluate | None
    save_best: SaveBest | None
    after_epoch: Callable[[], None] | None
    extend: Callable[[], None] | None
    later_steps: int
    world: ProcessGroup
    doubts: Doubts
    identity: dict[str, Any] = field(default_factory=dict)  # what a resumed run must repeat
    stop: StopSignals = field(default_factory=StopSignals)
    displays: Displays = field(default_factory=Displays)
    recent: Tally = field(default_factory=Tally)  # since the last record of a step

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.batches_per_epoch / self.config.accumulate)

    @property
    def device(self) -> torch.device:
        return next(self.state.model.parameters()).device

    def begin(self, decides: dict[str, Any]) -> None:
        """Take up the last checkpoint, or write the first one and so learn early if that is possible."""
        size = {"processes": self.world.size, "batches_per_epoch": self.batches_per_epoch}
        self.identity = self.config.identity() | size | decides
        if self.world.gather(self.run.resumes)[0]:
            self.take_up(load_checkpoint(self.run.last))
        else:
            self.world.share_state(self.state.model)
            if self.state.ema:
                self.world.share_state(self.state.ema.model)
            self.save()
        if self.world.main:
            facts = {"device": str(self.device), "epochs": self.config.epochs}
            self.run.record_start(surroundings() | facts | size)

    def take_up(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint, with what was changed since then on record if the run is extended."""
        last = self.run.last
        changes = check_identity(last, saved["identity"], self.identity, extend=self.extend is not None)
        check_epochs(last, changes, saved["state"]["epoch"])
        warn_of_changes(saved["surroundings"])
        self.state.restore(saved["state"], last)
        if not self.world.main:
            return
        self.run.rewind(saved["written"])
        done, epochs = self.state.epoch, self.config.epochs
        log.info("%s: goes on, %d of %d epochs are done", self.run.folder, done, epochs)
        if changes and self.extend:
            self.run.record_changes(self.place(), changes)
            self.extend()
            self.save()

    def open_displays(self, console: Console | None) -> Displays:
        """Only the main process shows anything; on standard error, unless another console is given."""
        if not self.world.main:
            return Displays()
        total = self.config.epochs * self.steps_per_epoch
        console = console or Console(stderr=True)
        steps = Steps(total, self.state.step, self.later_steps)
        return open_displays(self.run.folder, steps, self.config, self.device, console)

    def run_before(self, before: Callable[[], None]) -> None:
        """Do what comes before the first step, and record its seconds, also of one that was broken off."""
        clock = time.perf_counter()
        try:
            with self.stop.at_once():
                before()
        finally:
            self.note({"kind": "before", **self.place(), "seconds": time.perf_counter() - clock})
            self.save()

    def choose_numerics(self) -> None:
        """Measure how the first batch with a readable clip is learnt from fastest, for all processes."""
        state, found = self.state, Numerics()
        learn_mode(state.model)
        with self.stop.at_once():
            if self.world.main:
                batches = self.batches(state.epoch, state.batch)
                readable = next((batch for batch in batches if len(batch.labels)), None)
                if readable is not None:
                    found, why = fastest(state.model, partial(try_step, state, readable, self.objective))
                    log.info("precision auto: %s", why)
                    self.note({"kind": "precision", **self.place(), "chosen": why})
            state.numerics = self.world.gather(found)[0]
        set_order(state.model, state.numerics.channels_last)
        self.save()

    def run_epochs(self) -> None:
        try:
            while self.state.epoch < self.config.epochs:
                self.train_epoch()
                self.close_epoch()
        except Stopped as stopped:
            self.save()
            raise self.stopped(stopped.signum) from None
        except LostProcess:
            # One that was told to stop while it judged is missed in the first step after that. This one is
            # told too, and what it has done was saved before the step, half of which is to be forgotten.
            if self.state.batch or not self.state.epoch or not self.stop.told():
                raise
            raise self.stopped(self.stop.received) from None

    def stopped(self, signum: int) -> Stopped:
        """What a training says that a signal has ended; only the process that saves can speak of that."""
        cause = f"stopped by {signal.Signals(signum).name} after step {self.state.step}"
        cause += "; everything is saved" if self.world.main else ""
        return Stopped(signum, self.run.last, cause, "continue with --resume")

    def train_epoch(self) -> None:
        state, config = self.state, self.config
        learn_mode(state.model)
        clock = time.perf_counter()
        for parts, waited in self.steps():
            rate = rate_at(config, state.epoch + state.batch / self.batches_per_epoch)
            sums, clips = train_step(state, parts, self.objective, config, self.world, rate)
            state.batch += len(parts)
            bad, signum = self.exchange(parts)
            seconds = time.perf_counter() - clock
            clock += seconds
            for tally in (state.tally, self.recent):
                tally.add(sums, clips, bad, seconds, waited)
            self.check_readable(config.batch * self.steps_per_epoch)
            self.after_step({name: total / clips for name, total in sums.items()}, rate)
            if signum:
                raise Stopped(signum)

    def steps(self) -> Iterator[tuple[list[B], float]]:
        """The batches of each remaining step of the epoch, and the seconds of waiting for them."""
        if self.state.batch >= self.batches_per_epoch:  # stopped between the last step and the evaluation
            return
        source = iter(self.batches(self.state.epoch, self.state.batch))
        while True:
            start = time.perf_counter()
            parts = list(islice(source, self.config.accumulate))
            if not parts:
                return
            yield parts, time.perf_counter() - start

    def exchange(self, parts: Sequence[B]) -> tuple[int, int]:
        """Number of bad files of all processes, which are listed, and a signal that any of them received."""
        mine = [file for part in parts for file in part.bad]
        shares = self.world.gather((mine, self.stop.received))
        files = [file for share, _ in shares for file in share]
        if files and self.world.main:
            self.run.report_bad(files)
        return len(files), max(signum for _, signum in shares)

    def after_step(self, values: dict[str, float], rate: float) -> None:
        state, config = self.state, self.config
        if state.step % config.log_every == 0:
            bad = {"bad": state.tally.bad}
            self.note({"kind": "step", **self.place(), "lr": rate, **values, **self.recent.speed(), **bad})
            self.recent = Tally()
        if state.step % config.save_every == 0:
            self.save()
        self.displays.advance(state.step)

    def close_epoch(self) -> None:
        """Judge the epoch, record it, keep the model if it is the best, and save."""
        state, tally = self.state, self.state.tally
        self.check_readable(tally.samples + tally.bad)
        clock = time.perf_counter()
        scores = self.evaluate_epoch()
        counts = {"samples": tally.samples, "bad": tally.bad, "seconds": tally.seconds}
        if scores:
            counts["eval_seconds"] = time.perf_counter() - clock
        counts["memory_mb"] = peak_memory_mb(self.device)
        values = {**tally.means(), **tally.speed(), **counts}
        judged = {f"val_{name}": value for name, value in scores.items()}
        self.note({"kind": "epoch", **self.place(), **values, **judged})
        for line in self.doubts.after_epoch(tally.means(), scores) if self.world.main else ():
            log.warning("epoch %d: %s", state.epoch, line)
        if self.is_best(scores) and self.save_best and self.world.main:
            self.save_best(state.judged, self.run.best)
        state.epoch, state.batch, state.tally = state.epoch + 1, 0, Tally()
        self.save()
        if self.after_epoch and self.world.main:
            self.after_epoch()

    def evaluate_epoch(self) -> dict[str, float]:
        """The measures of this epoch, or none if it is not its turn."""
        epochs = self.state.epoch + 1
        if epochs % self.config.eval_every and epochs < self.config.epochs:
            return {}
        with self.stop.at_once():
            self.renew_statistics()
            if not self.evaluate:
                return {}
            scores = dict(self.evaluate(self.state.judged))
        if self.config.monitor not in scores:
            raise UsageError(
                "monitor", f"{self.config.monitor} is not measured", nearest(self.config.monitor, scores)
            )
        self.state.scores = scores
        return scores

    def renew_statistics(self) -> None:
        """Batch-norm statistics of the judged weights, from the first batches of this epoch.

        They depend on these weights alone and no training step reads them, so a run that was stopped here
        repeats them to the same bits. Frozen norms keep theirs.
        """
        if not self.config.precise_bn:
            return
        state, world = self.state, self.world
        torch.manual_seed(step_seed(self.config.seed, state.step, world.rank))
        readable = (batch for batch in self.batches(state.epoch, 0) if len(batch.labels))
        with in_modes_of(state.model, state.judged):
            precise_bn(state.judged, islice(readable, self.config.precise_bn), self.objective)
            world.mean_statistics(state.judged)

    def is_best(self, scores: Mapping[str, float]) -> bool:
        if not scores:
            return self.evaluate is None
        value, best = scores[self.config.monitor], self.state.best
        if math.isnan(value) or (best is not None and value <= best):
            return False
        self.state.best = value
        return True

    def check_readable(self, videos: int) -> None:
        """DataError if more of the epoch's `videos` are bad than the configuration allows, or all."""
        bad, allowed = self.state.tally.bad, self.config.bad_files_allowed(videos)
        if bad > allowed or bad == videos:
            cause = (
                f"{bad} of {videos} videos of epoch {self.state.epoch} cannot be read, more than {allowed}"
            )
            raise DataError(self.run.bad_files, cause, "mend or remove them, or raise max_bad_fraction")

    def place(self) -> dict[str, int]:
        return {"epoch": self.state.epoch, "step": self.state.step}

    def note(self, record: dict[str, Any]) -> None:
        if self.world.main:
            self.run.record(record)
            self.displays.show(record)

    def save(self) -> None:
        """Write the last checkpoint; UsageError, and the one before is kept, if the weights are spoilt."""
        if not self.world.main:
            return
        broken = self.state.broken()
        if broken:
            place = f"step {self.state.step} (epoch {self.state.epoch})"
            raise UsageError(place, f"{broken} is not finite", "lower the rate, warm up or clip")
        content = {
            "state": self.state.to_dict(),
            "identity": self.identity,
            "surroundings": surroundings(),
            "written": self.run.written(),
        }
        save_checkpoint(self.run.last, content)
