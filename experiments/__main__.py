"""`python -m experiments` runs every experiment; with a name, one; finished cells are kept."""

from __future__ import annotations

import argparse
import sys

from experiments import blvnet, bursts, dial, finetune, focus, fullvideo, looking, signals, slowfast, systems
from experiments.runner import Experiment, run_all, write_table
from foveate.errors import FoveateError
from foveate.infer.allocator import keep_freed_memory

EXPERIMENTS: dict[str, Experiment] = {
    "blvnet": blvnet.EXPERIMENT,
    "bursts": bursts.EXPERIMENT,
    "dial": dial.EXPERIMENT,
    "finetune": finetune.EXPERIMENT,
    "focus": focus.EXPERIMENT,
    "fullvideo": fullvideo.EXPERIMENT,
    "looking": looking.EXPERIMENT,
    "signals": signals.EXPERIMENT,
    "slowfast": slowfast.EXPERIMENT,
    "systems": systems.EXPERIMENT,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("name", nargs="?", choices=EXPERIMENTS, help="one experiment; all if not given")
    parser.add_argument("--only", default="*", help="shell pattern of the variants to run")
    parser.add_argument("--seed", type=int, help="one seed; all if not given")
    parser.add_argument("--table", action="store_true", help="only write tables and plots from what is there")
    arguments = parser.parse_args()
    chosen = [EXPERIMENTS[arguments.name]] if arguments.name else list(EXPERIMENTS.values())
    failed = 0
    keep_freed_memory()
    try:
        for experiment in chosen:
            if arguments.table:
                write_table(experiment)
            else:
                failed += run_all(experiment, arguments.only, arguments.seed)
    except FoveateError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # the cell under way has heard it too, and saves what it has
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
