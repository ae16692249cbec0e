"""`python -m experiments` runs every experiment; with a name, one; finished cells are kept."""

from __future__ import annotations

import argparse
import sys

from experiments import finetune
from experiments.runner import Experiment, run_all, run_cell, write_table

EXPERIMENTS: dict[str, Experiment] = {e.name: e for e in (finetune.EXPERIMENT,)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("name", nargs="?", choices=EXPERIMENTS, help="one experiment; all if not given")
    parser.add_argument("--only", default="*", help="shell pattern of variants to run")
    parser.add_argument("--cell", nargs=2, metavar=("VARIANT", "SEED"), help="run one cell in this process")
    parser.add_argument("--table", action="store_true", help="only write tables and plots from what is there")
    arguments = parser.parse_args()
    chosen = [EXPERIMENTS[arguments.name]] if arguments.name else list(EXPERIMENTS.values())
    if arguments.cell:
        run_cell(chosen[0], arguments.cell[0], int(arguments.cell[1]))
        return 0
    if arguments.table:
        for experiment in chosen:
            write_table(experiment)
        return 0
    return min(1, sum(run_all(experiment, arguments.only) for experiment in chosen))


if __name__ == "__main__":
    sys.exit(main())
