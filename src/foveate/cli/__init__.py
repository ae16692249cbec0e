"""`foveate VERB`: a thin skin over the library. Each verb is one function; its arguments are its options."""

from __future__ import annotations

import functools
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import tyro

from foveate import __version__
from foveate.cli.show import library_remarks, plain
from foveate.config import nearest
from foveate.errors import FoveateError, OutputError, UsageError
from foveate.infer.allocator import keep_freed_memory


class Verb(NamedTuple):
    """Where a verb lives, below foveate.cli, and what it does."""

    module: str
    function: str
    summary: str


VERBS = {  # imported when used: the list of verbs then does not wait for PyTorch
    "demo": Verb("demo", "demo", "make videos, train on them, evaluate, predict: the whole road in minutes"),
    "train": Verb("training", "train_command", "train or fine-tune on a list of videos or a folder"),
    "eval": Verb("use", "evaluate", "score a model on a list, cost beside accuracy"),
    "predict": Verb("use", "predict", "name what videos show"),
    "stream": Verb("stream", "stream", "name what a camera, a stream or a pipe shows, as it comes"),
    "report": Verb("report", "report", "write the report of a training, or compare several on one page"),
    "budget": Verb(
        "budget", "budget", "measure what a model is worth at a part of its cost, and keep it in the file"
    ),
    "features": Verb("use", "features", "write pooled features of many videos to one file"),
    "batch": Verb(
        "batch", "batch", "answer any number of videos into a folder; goes on where it was stopped"
    ),
    "models": Verb("catalogue", "models", "list the models, with input, cost and published accuracy"),
    "profile": Verb("models", "profile", "measure multiply-adds, latency and memory of a model"),
    "export": Verb("export", "export", "write a model as files for ONNX Runtime, OpenVINO or torch.export"),
    "convert": Verb("models", "convert", "turn an official checkpoint into a Foveate file"),
    "push": Verb("hub", "push", "put a model file into a repository of the Hugging Face Hub"),
    "data check": Verb("data", "check", "decode every video once; say what is damaged and why"),
    "data make": Verb("data", "make", "make a labelled data set"),
    "data list": Verb("data", "convert_list", "turn any list format into Foveate's own"),
    "data cache": Verb("data", "cache", "shrink videos once, to train without decoding"),
    "serve": Verb("serve", "serve", "open a web page and an HTTP API that name what videos show"),
    "doctor": Verb("doctor", "doctor", "say what is installed and what this machine offers"),
}
ABOUT = "Recognise human actions in video, spending computation only where the information is."
BOX = "─│╭╮╰╯├┤ "  # what the messages of the option parser are framed with
ALIASES = {  # names of other trainers for options of ours
    "--lr": "--rate",
    "--learning-rate": "--rate",
    "--batch-size": "--batch",
    "--num-workers": "--workers",
}
PLAIN = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)  # options in their simplest form


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and leave with its exit code.

    0 fine, 1 a bug, 2 usage, 3 input data, 4 model file, 5 output, 130 after Ctrl-C, 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    signal.signal(signal.SIGTERM, _terminated)
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        with library_remarks():
            code = _run([word for word in words if word != "--debug"])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except Exception as error:
        code = _report(error, debug)
    sys.exit(code)


def _run(words: list[str]) -> int:
    if words == ["--version"]:
        sys.stdout.write(f"foveate {__version__}\n")
        return 0
    name = " ".join(words[: 2 if words[:1] == ["data"] else 1])
    if name not in VERBS:
        return _help(words)
    verb = VERBS[name]
    function: Callable[..., Any] = getattr(import_module(f"foveate.cli.{verb.module}"), verb.function)
    options = [_usual_name(_not_an_option(word)) for word in words[len(name.split()) :]]
    if name == "train":  # whose options depend on the model
        return _parse(function(options), name, options)()
    return _parse(function, name, options, PLAIN)()


def _not_an_option(word: str) -> str:
    """A file whose name begins with a dash, as the ids of YouTube may, as a path that is no option."""
    dashed = word.startswith("-") and Path(word).suffix != "" and os.path.lexists(word)
    return f".{os.sep}{word}" if dashed else word


def _parse(
    function: Callable[..., int], name: str, options: list[str], config: tuple[Any, ...] = ()
) -> Callable[[], int]:
    """The call that the options ask for, not yet made; options that cannot be raise UsageError."""

    @functools.wraps(function)
    def bound(*values: Any, **named: Any) -> Callable[[], int]:
        return functools.partial(function, *values, **named)

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            call: Callable[[], int] = tyro.cli(bound, args=options, prog=f"foveate {name}", config=config)
    except SystemExit as end:
        if end.code:
            raise UsageError(f"foveate {name}", _cause(said.getvalue()), f"foveate {name} --help") from None
        raise
    return call


def _cause(box: str) -> str:
    """What the option parser says in a box of several lines, in one that names the nearest options."""
    lines = (line.strip(BOX) for line in box.splitlines())
    title, *rest = (line for line in lines if any(sign.isalpha() for sign in line))
    text = f"{title.lower()}: {' '.join(rest)}".partition(" For full helptext")[0]
    wrong = text.removeprefix("unrecognized options: Unrecognized options: ")
    if wrong == text:
        return text
    given, _, meant = wrong.partition(" Perhaps you meant: ")
    options = [word for word in given.split() if word.startswith("-")]
    near = dict.fromkeys(word.strip(",") for word in meant.split() if word.startswith("--"))
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no option {', '.join(options).replace(',', '') or given}{hint}"


def _usual_name(word: str) -> str:
    """An option under our name where it was given under that of another trainer."""
    option, equals, value = word.partition("=")
    return f"{ALIASES.get(option, option)}{equals}{value}"


def _help(words: list[str]) -> int:
    """The verbs, all of them or those about data; an unknown one raises UsageError with the nearest."""
    group = "data" if words[:1] == ["data"] else ""
    rest = words[1:] if group else words
    if rest and rest[0] not in ("-h", "--help"):
        known = [name.removeprefix("data ") for name in VERBS if name.startswith(group)]
        raise UsageError(rest[0], f"no verb of foveate {group}".rstrip(), nearest(rest[0], known))
    lines = [f"  {name:<12}{verb.summary}" for name, verb in VERBS.items() if name.startswith(group)]
    sys.stdout.write(f"usage: foveate {group or 'VERB'} {'VERB ' if group else ''}[OPTIONS]\n\n{ABOUT}\n\n")
    sys.stdout.write("\n".join(lines) + "\n\n`foveate VERB --help` lists the options of a verb.\n")
    sys.stdout.write("--debug anywhere shows where an error arose; `foveate --version` prints the version.\n")
    return 0


def _report(error: Exception, debug: bool) -> int:
    """One line for any error, and the traceback on request; the exit code."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, OSError):
        error = OutputError(error.filename or "system", (error.strerror or str(error)).lower())
    if not isinstance(error, FoveateError):
        hint = "a bug of Foveate; --debug shows where"
        error = FoveateError("bug", f"{type(error).__name__}: {error}", hint)
    sys.stderr.write(f"error: {plain(str(error))}\n")
    return error.exit_code


def _terminated(signum: int, frame: Any) -> NoReturn:
    """End as after an error, so that nothing half-written stays."""
    sys.exit(128 + signum)
