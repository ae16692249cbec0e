"""The runner of experiments: finished cells stay, killed ones go on, numbers of other settings never mix."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from experiments.__main__ import EXPERIMENTS
from experiments.frontier import Point, draw, frontier, savings
from experiments.runner import Column, Experiment, Numbers, read_cell, rows, run_all, run_cell, write_table

from foveate.errors import UsageError

ROOT = Path(__file__).parents[1]


def measure(folder: Path, variant: str, seed: int) -> Numbers:
    """A cell that notes each time it is run; `killed` gets half way the first time."""
    with (folder / "ran.txt").open("a") as file:
        file.write(f"{variant}-{seed}\n")
    if variant == "killed":
        half = folder / "work" / "toy" / f"killed-seed{seed}" / "half.txt"
        if not half.exists():
            half.write_text("done")
            os.kill(os.getpid(), signal.SIGKILL)
    return {"top1": 0.5 + 0.1 * seed, "macs": 1e9 if variant == "small" else 2e9}


def make(folder: Path, **fields: object) -> Experiment:
    toy = Experiment(
        name="toy",
        claim="Twice the work, the same result.",
        variants=("small", "large"),
        columns=(Column("top1", "top-1, %", 100), Column("macs", "GMACs", 1e-9, 2)),
        run=partial(measure, folder),
        settings={"videos": 8, "scales": (1, 2)},
        seeds=(0, 1),
        results=folder / "results",
        work=folder / "work",
    )
    return replace(toy, **fields)


def ran(folder: Path) -> list[str]:
    return (folder / "ran.txt").read_text().split()


def test_finished_cells_never_run_again(tmp_path: Path) -> None:
    toy = make(tmp_path, seeds=(0,))
    run_cell(toy, "small", 0)
    before = toy.cell("small", 0).read_bytes()
    assert run_all(toy, only="s*") == 0
    assert ran(tmp_path) == ["small-0"]
    assert run_all(toy) == 0
    assert run_all(toy) == 0
    assert ran(tmp_path) == ["small-0", "large-0"]
    assert toy.cell("small", 0).read_bytes() == before


def test_a_killed_cell_costs_only_itself_and_goes_on(tmp_path: Path) -> None:
    toy = make(tmp_path, variants=("killed", "large"), seeds=(0,))
    assert run_all(toy) == 1
    assert read_cell(toy, "killed", 0) is None
    assert read_cell(toy, "large", 0) is not None
    assert (toy.scratch("killed", 0) / "half.txt").exists()
    assert run_all(toy) == 0
    assert ran(tmp_path) == ["killed-0", "large-0", "killed-0"]
    cell = read_cell(toy, "killed", 0)
    assert cell is not None and cell["resumed"] is True
    assert not toy.scratch("killed", 0).exists()


def test_other_settings_are_refused_before_anything_runs(tmp_path: Path) -> None:
    toy = make(tmp_path, seeds=(0,))
    run_cell(toy, "small", 0)
    other = replace(toy, settings={"videos": 9, "scales": (1, 2)})
    with pytest.raises(UsageError, match="was made with another videos"):
        run_all(other)
    with pytest.raises(UsageError, match="another epochs"):
        write_table(replace(toy, settings={**toy.settings, "epochs": 3}))
    assert ran(tmp_path) == ["small-0"]


def test_a_cell_says_where_its_numbers_come_from(tmp_path: Path) -> None:
    toy = make(tmp_path)
    run_cell(toy, "large", 1)
    cell = json.loads(toy.cell("large", 1).read_text())
    assert cell["numbers"] == {"top1": 0.6, "macs": 2e9}
    assert (cell["variant"], cell["seed"], cell["resumed"]) == ("large", 1, False)
    assert cell["command"] == "python -m experiments toy"
    assert {"foveate", "torch", "python"} <= cell["versions"].keys()
    assert cell["machine"]["cores"] == os.cpu_count()


def test_the_spread_is_over_the_seeds_that_are_there(tmp_path: Path) -> None:
    toy = make(tmp_path)
    for variant, seed in (("small", 0), ("small", 1), ("large", 1)):
        run_cell(toy, variant, seed)
    small, large = rows(toy)
    assert (small.seeds, large.seeds) == (2, 1)
    assert small.numbers["top1"] == pytest.approx((0.55, 0.05 * 2**0.5))
    assert large.numbers["top1"] == pytest.approx((0.6, 0.0))


def test_table_and_plot_are_made_from_what_is_there(tmp_path: Path) -> None:
    toy = make(tmp_path, plot=("macs", "top1"), after="It holds.")
    write_table(toy)
    assert not toy.folder.exists()  # nothing is there
    run_cell(toy, "large", 1)
    write_table(toy)
    text = (toy.folder / "README.md").read_text()
    assert "| large | 1 | 60.0 ± 0.0 | 2.00 ± 0.00 |" in text
    assert "small" not in text
    assert "It holds." in text and toy.claim in text and toy.command in text
    assert (toy.folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    toy.cell("large", 1).unlink()
    run_cell(toy, "small", 0)
    write_table(toy)
    assert "| large |" not in (toy.folder / "README.md").read_text()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_whole(name: str) -> None:
    experiment = EXPERIMENTS[name]
    assert experiment.name == name
    assert len(experiment.seeds) >= 3
    assert len(set(experiment.variants)) == len(experiment.variants) >= 2
    assert json.loads(json.dumps(dict(experiment.settings)))
    assert set(experiment.plot or ()) <= {column.key for column in experiment.columns}
    rows(experiment)  # the kept cells are of the settings that stand in the code


def test_the_command_says_what_it_offers() -> None:
    words = [sys.executable, "-m", "experiments", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(EXPERIMENTS) <= set(re.findall(r"\w+", done.stdout))


# ---- frontiers


def point(name: str, top1: float, cost: float) -> Point:
    return Point(name, (top1, top1), {"mmacs": cost})


def test_a_frontier_holds_what_nothing_cheaper_equals() -> None:
    some = [
        point("tsm_a", 50, 100),
        point("tsm_b", 70, 400),
        point("tsm_c", 60, 500),
        point("tsm_d", 70, 300),
    ]
    assert [p.name for p in frontier(some, "mmacs")] == ["tsm_a", "tsm_d"]
    assert frontier(some, "ms_1") == []  # not measured


def test_a_saving_is_what_the_cheapest_that_is_as_good_leaves_out() -> None:
    theirs = [point("tsm_a", 50, 100), point("tsm_b", 70, 400), point("tsm_c", 90, 800)]
    ours = [point("uni_4", 60, 50), point("v2_8", 70, 80), point("uni_8", 75, 160)]
    found = [
        (saving.theirs.name, saving.ours.name, saving.times) for saving in savings(theirs + ours, "mmacs")
    ]
    assert found == [("tsm_a", "uni_4", 2.0), ("tsm_b", "v2_8", 5.0)]  # none is as good as the third


def test_a_plot_of_frontiers_shows_every_seed() -> None:
    figure = draw([Point("tsm_224_8", (60.0, 62.0), {"mmacs": 100}), point("uni_4", 70, 50)], "mmacs")
    (axes,) = figure.axes
    seeds = [segment[0, 1] for lines in axes.collections for segment in lines.get_segments()]
    assert {60.0, 62.0, 70.0} <= {*seeds}
    assert {text.get_text() for text in axes.texts} == {"224 8", "4"}
