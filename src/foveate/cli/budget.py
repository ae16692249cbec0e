"""`foveate budget`: what a model is worth at a part of its cost, kept in its file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from foveate.cli.inputs import demand, demand_writable
from foveate.cli.options import AS_IT_LOOKS, AUTO, EngineOptions, ListOptions
from foveate.cli.show import print_json, print_line, print_table, progress_bar
from foveate.errors import UsageError

if TYPE_CHECKING:  # a verb imports what it uses, so that its list of options does not wait for PyTorch
    from foveate.infer.engine import Engine
    from foveate.models.budget import Curve

NEARLY = 0.01  # of accuracy less than at full cost, which the proposed budget may lose


def budget(
    model: tyro.conf.Positional[str],
    videos: tyro.conf.Positional[Path],
    points: int = 8,
    out: Path | None = None,
    weights: str | None = None,
    batch: int = 16,
    workers: int = 2,
    reading: ListOptions = AS_IT_LOOKS,
    engine: EngineOptions = AUTO,
    json: bool = False,
) -> int:
    """Measure accuracy against cost of a model that can answer for less, and keep the curve in its file.

    `--budget` of predict, eval and batch then sets the model to any cost on the curve. Nothing is trained;
    give videos that the model was not trained on.

    Args:
        model: A model file, such as best.safetensors of a run, or a name with published weights.
        videos: Labelled videos: the list, or a folder with one sub-folder a class.
        points: How many budgets to measure, from the least to the full cost.
        out: The model file to write; the model's own file if not given.
        weights: Of a name: what it was trained on, such as kinetics400; downloaded once.
        batch: Videos at once.
        workers: Processes that decode.
        json: Print one JSON object.
    """
    from foveate.data.dataset import make_loader
    from foveate.models.zoo import MODELS
    from foveate.train.budget import solve_curve
    from foveate.train.job import test_data
    from foveate.weights.file import read_card, save_model
    from foveate.weights.load import trained_model

    demand(1, batch=batch)
    demand(0, workers=workers)
    demand(2, points=points)
    named = model in MODELS and not Path(model).exists()
    if named and out is None:
        raise UsageError("--out", f"{model} is a name, not a file to keep the curve in", "give --out FILE")
    net = trained_model(model, weights)
    own = Path(model) / "best.safetensors" if Path(model).is_dir() else Path(model)
    place = out or own
    if place.suffix != ".safetensors":
        raise UsageError(place, "does not end in .safetensors", "it is written as a model file")
    demand_writable(place)
    training = {} if named else read_card(own).training
    listed = reading.read(videos, net)
    runner = engine.open(net, len(listed.entries), reading.template)
    data = test_data(listed, net, 1, 1)

    with progress_bar("measuring") as report:
        curve = solve_curve(
            runner,
            lambda: make_loader(data, batch, 0, 0, False, workers, 0),
            points,
            listed.multi_label,
            report,
        )
    net.curve = runner.model.curve = curve  # which may be a copy with compiled parts
    save_model(net, place, training)
    _print(curve, runner, place, json)
    return 0


def _print(curve: Curve, engine: Engine, place: Path, json: bool) -> None:
    """The points with what a clip takes here, and how to use them."""
    from foveate.infer.budget import BudgetDial

    times = BudgetDial(engine).milliseconds()
    rows = [
        {"budget": point.share, "gmacs": point.gmacs, "ms": taken, curve.measure: point.accuracy}
        for point, taken in zip(curve.points, times, strict=True)
    ]
    if json:
        print_json({"out": str(place), "dial": curve.dial, "videos": curve.videos, "points": rows})
        return
    print_table(("budget#", "GMACs#", "ms#", f"{curve.measure}#"), [list(row.values()) for row in rows])
    print_line(f"{curve.videos} videos, {curve.dial}; ms: of {engine.kind} here, without reading the video")
    least = curve.points[-1].accuracy - NEARLY
    enough = next(point.share for point in curve.points if point.accuracy >= least)
    print_line(f"Use it: foveate predict VIDEO --model {shlex.quote(str(place))} --budget {enough:.4g}")
