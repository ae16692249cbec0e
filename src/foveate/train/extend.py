"""A run that goes on with more epochs, or at another rate or schedule, as `--extend` asks for.

What was changed and when stands in the run folder from then on (`changes.jsonl`). The schedule of the rate
is computed over the new number of epochs, as if it had been asked for at the start: after a cosine that had
come to its end the rate rises again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from foveate.errors import UsageError
from foveate.io import atomic_write

log = logging.getLogger(__name__)

EXTENDABLE = ("epochs", "rate", "schedule", "schedule_every", "milestones", "decay")
Changes = dict[str, tuple[Any, Any]]
"""What a run was made with and what it is to go on with, by the name of the setting."""


def check_identity(
    path: Path, saved: Mapping[str, Any], now: Mapping[str, Any], extend: bool = False
) -> Changes:
    """The settings in which a resumed run differs from the saved one; there are none unless `extend`.

    UsageError names the first difference that is not allowed. A setting that did not exist when the run was
    saved is not compared.
    """
    changes = {name: (before, now.get(name)) for name, before in saved.items() if before != now.get(name)}
    for name, (before, after) in changes.items():
        if extend and name in EXTENDABLE:
            continue
        other = "resume with the same settings, or start in a new folder"
        hint = f"add --extend to change it, or {other}" if name in EXTENDABLE else other
        raise UsageError(path, f"the run was made with {name} {before!r}, now it is {after!r}", hint)
    return changes


def check_epochs(path: Path, changes: Changes, done: int) -> None:
    """UsageError for fewer epochs than the run was made for, of which so many are done."""
    before, after = changes.get("epochs", (0, 0))
    if after < before:
        cause = f"{done} of {before} epochs are done, and {after} are asked for"
        raise UsageError(path, cause, f"--extend takes none away: ask for {before} or more")


def begin_anew(stages: Sequence[Path], changed: str) -> None:
    """Let the stages in these folders, whose start another one is going to change, begin from there."""
    begun = [path for path in stages if (path / "last.ckpt").exists()]
    for path in begun:
        (path / "last.ckpt").unlink()
    if begun:
        names = " and ".join(path.name for path in begun)
        log.warning("%s goes on, so %s, which started from it, will be trained anew", changed, names)


def rewrite_settings(folders: Sequence[Path], settings: Mapping[str, Any]) -> None:
    """The settings as they are now, in those folders that have a config.yaml."""
    for folder in folders:
        path = folder / "config.yaml"
        if path.exists():
            with atomic_write(path, durable=True) as part:
                part.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")
