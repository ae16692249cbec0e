"""`foveate VERB`: a thin skin over the library. Each verb is one function; its arguments are its options."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import tyro

from foveate.cli import data, models, training, use
from foveate.errors import FoveateError, OutputError

VERBS: dict[str, Callable[..., int]] = {
    "demo": training.demo,
    "train": training.train,
    "eval": use.evaluate,
    "predict": use.predict,
    "profile": models.profile,
    "models": models.models,
    "convert": models.convert,
    "doctor": models.doctor,
}
DATA_VERBS: dict[str, Callable[..., int]] = {
    "check": data.check,
    "make": data.make,
    "list": data.convert_list,
    "cache": data.cache,
}
ABOUT = "Recognise human actions in video, spending computation only where the information is."


def main(arguments: list[str] | None = None) -> None:
    """Run one verb and leave with its exit code: 0 fine, 1 bug, 2 usage, 3 data, 4 model file, 5 output."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except FoveateError as error:
        code = _report(error, error.exit_code, debug)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except OSError as error:
        code = _report(OutputError(error.filename or "system", error.strerror or str(error)), 5, debug)
    except Exception as error:  # a bug: say so in one line, and how to see more
        code = _report(
            FoveateError("bug", f"{type(error).__name__}: {error}", "--debug shows where"), 1, debug
        )
    sys.exit(code)


def _dispatch(words: list[str]) -> int:
    table: dict[str, Callable[..., Any]] = {**VERBS, "data": _data_help}
    if words[:1] == ["data"]:
        return _run(DATA_VERBS, words[1:], "foveate data", "Check, make, convert and shrink data.")
    return _run(table, words, "foveate", ABOUT)


def _run(table: dict[str, Callable[..., Any]], words: list[str], program: str, about: str) -> int:
    return int(
        tyro.extras.subcommand_cli_from_dict(
            table, args=words or ["--help"], prog=program, description=about, sort_subcommands=False
        )
    )


def _data_help() -> int:
    """Check, make, convert and shrink data: `foveate data --help`."""
    return 0


def _report(error: FoveateError, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"error: {error}\n")
    return code
