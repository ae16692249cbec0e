"""Training on several processes of this machine by one command, which starts them again when one is lost.

torchrun starts them and, when one fails, ends them all. Its own restarts are not used: over Gloo, a group
that forms again where another one broke does not always come together. So every launch is a fresh one, which
resumes from the last checkpoint, and there is a next one as long as there are newer checkpoints.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from foveate.data.pool import ending, processors
from foveate.errors import FoveateError, UsageError
from foveate.train.stop import SIGNALS

log = logging.getLogger(__name__)

PATIENCE = 3  # launches in a row without a newer checkpoint
REFUSALS = {2, 3, 4, 5}  # exit codes of what another launch would refuse as well
STOPS = {129, 130, 131, 143}  # exit codes of what was told to stop, by SIGHUP, SIGINT, SIGQUIT or SIGTERM
LOOPBACK = {"linux": "lo", "darwin": "lo0"}  # the processes talk within the machine


def launch(processes: int, words: Sequence[str], out: Path, grace_s: float) -> int:
    """Run `foveate train WORDS` on so many processes until it is through; the exit code.

    out: the run folder that the words name. grace_s: seconds to finish a step after SIGTERM or Ctrl-C, which
    reach all processes. A refusal (exit codes 2 to 5) and a stop end it with their code. Raises FoveateError
    after three launches in a row without a newer checkpoint, UsageError inside torchrun.
    """
    if "RANK" in os.environ:
        raise UsageError("--nproc", "is given inside torchrun, which starts processes itself", "leave it out")
    _set_surroundings(processes)
    first = newest = _checkpoints(out)
    idle = 0
    while True:
        codes = _launch_once(processes, words, grace_s)
        found = {*codes.values()}
        if found <= STOPS or found & REFUSALS:
            return min(found & REFUSALS or found, default=0)
        said = ", ".join(f"process {rank}: {ending(code)}" for rank, code in sorted(codes.items()))
        before, newest = newest, _checkpoints(out)
        idle = 0 if newest != before else idle + 1
        if idle == PATIENCE:
            cause = f"{PATIENCE} launches in a row ended without a newer checkpoint; the last: {said}"
            raise FoveateError(out, cause, "mend what the errors above say, then --resume")
        log.warning("%s: %s; all start again from the last checkpoint", out, said)
        if newest != first and "--resume" not in words:  # a run from before is resumed on request alone
            words = [*words, "--resume"]


def _set_surroundings(processes: int) -> None:
    """What the processes inherit, as far as the user has not said it."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processors() // processes)))
    if sys.platform in LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK[sys.platform])


def _launch_once(processes: int, words: Sequence[str], grace_s: float) -> dict[int, int]:
    """The exit codes of the processes that failed, by rank; a stop is one of process 0."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what it says of failures is said here
    ours = ["--standalone", "--nproc-per-node", str(processes), "--max-restarts", "0"]
    ours += ["--shutdown-timeout", str(max(1, int(grace_s)))]
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        run.run(run.parse_args([*ours, "-m", "foveate", "train", *words]))
    except ChildFailedError as error:
        for failure in error.failures.values():
            with suppress(ProcessLookupError):  # what it has started may outlive it, and hold its locks
                os.killpg(failure.pid, signal.SIGKILL)
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    except SignalException as stop:
        return {0: 128 + stop.sigval}
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    return {}


def _checkpoints(out: Path) -> dict[Path, tuple[int, int]]:
    """The checkpoints of a run and its stages, each with what is another one after it is written again."""
    found = [path for path in (out / "last.ckpt", *sorted(out.glob("*/last.ckpt"))) if path.exists()]
    return {path: (stat.st_mtime_ns, stat.st_ino) for path in found for stat in (path.stat(),)}
