"""`python -m benchmarks` runs every benchmark; with a name, one. Results are kept in benchmarks/results/."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks import (
    against,
    blvnet,
    decode,
    engines,
    exits,
    focus,
    folder,
    fullvideo_memory,
    latency,
    loader,
    stage2,
)
from benchmarks.record import Table, write

BENCHMARKS: dict[str, Callable[[], Table]] = {
    "against": against.run,
    "blvnet": blvnet.run,
    "decode": decode.run,
    "engines": engines.run,
    "engine_costs": engines.run_costs,
    "exits": exits.run,
    "focus": focus.run,
    "folder": folder.run,
    "fullvideo_memory": fullvideo_memory.run,
    "latency": latency.run,
    "loader": loader.run,
    "stage2": stage2.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=BENCHMARKS, help="one benchmark; all if not given")
    name = parser.parse_args().name
    for chosen in [name] if name else BENCHMARKS:
        print(write(chosen, BENCHMARKS[chosen]()).read_text())


if __name__ == "__main__":
    main()
