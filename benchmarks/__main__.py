"""`python -m benchmarks` runs every benchmark; with a name, one.

Results are kept in benchmarks/results/, one by one and together in all.json and all.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks import (
    against,
    agreement,
    allocator,
    batch,
    blvnet,
    decode,
    engines,
    exits,
    export,
    focus,
    folder,
    fullvideo_memory,
    growth,
    latency,
    loader,
    peers,
    reading,
    scan,
    serve,
    signals,
    stage2,
    stream,
)
from benchmarks.record import Table, collect, write

BENCHMARKS: dict[str, Callable[[], Table]] = {
    "against": against.run,
    "agreement": agreement.run,
    "allocator": allocator.run,
    "batch": batch.run,
    "blvnet": blvnet.run,
    "decode": decode.run,
    "engines": engines.run,
    "engine_costs": engines.run_costs,
    "exits": exits.run,
    "export": export.run,
    "focus": focus.run,
    "folder": folder.run,
    "fullvideo_memory": fullvideo_memory.run,
    "growth": growth.run,
    "latency": latency.run,
    "loader": loader.run,
    "peers": peers.run,
    "reading": reading.run,
    "scan": scan.run,
    "scan_lists": scan.run_lists,
    "serve": serve.run,
    "signals": signals.run,
    "stage2": stage2.run,
    "stream": stream.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=BENCHMARKS, help="one benchmark; all if not given")
    name = parser.parse_args().name
    for chosen in [name] if name else BENCHMARKS:
        print(write(chosen, BENCHMARKS[chosen]()).read_text())
    collect(BENCHMARKS)


if __name__ == "__main__":
    main()
