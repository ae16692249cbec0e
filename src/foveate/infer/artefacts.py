"""Compiled parts on disk: found again by a key of everything that they depend on.

A file is used only if its record has its SHA-256 and it can be loaded; otherwise it is made again. Where
nothing can be written, files are temporary.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

import foveate
from foveate.errors import OutputError
from foveate.io import atomic_write
from foveate.models.base import VideoModel
from foveate.weights.fetch import cache_folder

log = logging.getLogger(__name__)
T = TypeVar("T")


class ArtefactStore:
    """Files in a folder, `engines` in the folder of downloads if none is given.

    made, found: how many files were compiled, and read as they were.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "engines"
        self.made = 0
        self.found = 0

    def load(
        self, facts: Mapping[str, str], suffix: str, make: Callable[[Path], None], read: Callable[[Path], T]
    ) -> T:
        """`read` of the file for these facts, which `make` writes if there is none that can be used."""
        path = self.folder / (digest(facts) + suffix)
        try:
            result = _read_checked(path, read)
        except FileNotFoundError:
            pass
        except Exception as error:  # of whatever kind a foreign library raises
            log.info("%s: %s; compiled again", path, error)
        else:
            self.found += 1
            return result
        try:
            path = self.keep(facts, suffix, make)
        except (OSError, OutputError) as error:
            log.warning("%s: cannot be written (%s); compiled for this run only", self.folder, _reason(error))
            return _made_once(suffix, make, read)
        return read(path)

    def keep(self, facts: Mapping[str, str], suffix: str, make: Callable[[Path], None]) -> Path:
        """Write the file for these facts, in place of one that is there. OSError, OutputError."""
        self.made += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / (digest(facts) + suffix)
        with atomic_write(path) as part:
            make(part)
            record = dict(facts) | {"sha256": _sha256(part)}
        with atomic_write(_record_of(path)) as part:
            part.write_text(json.dumps(record, indent=1) + "\n")
        return path

    def recall(self, facts: Mapping[str, str]) -> Any:
        """What was remembered for these facts; None if nothing that can be read."""
        try:
            return json.loads((self.folder / f"{digest(facts)}.json").read_text())["value"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, facts: Mapping[str, str], value: Any, quiet: bool = False) -> None:
        """Keep a value that JSON can hold for `recall`; where nothing can be written, nothing is kept.

        quiet: without a warning then.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.folder / f"{digest(facts)}.json") as part:
                part.write_text(json.dumps(dict(facts) | {"value": value}, indent=1) + "\n")
        except (OSError, OutputError) as error:
            level = logging.DEBUG if quiet else logging.WARNING
            log.log(level, "%s: cannot be written (%s); nothing is remembered", self.folder, _reason(error))


def digest(facts: Mapping[str, str]) -> str:
    """A file name for facts."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:32]


class KnownMacs:
    """Multiply-adds of a model's parts, kept for the next process.

    Counting them loads PyTorch's compiler, which takes a second.
    """

    def __init__(self, model: VideoModel) -> None:
        self._store = ArtefactStore()
        self._facts = facts_of_structure(model) | {"kept": "multiply-adds"}
        self._known = model.known_macs
        found = self._store.recall(self._facts)
        if isinstance(found, dict):
            self._known.update({key: macs for key, macs in found.items() if isinstance(macs, int)})
        self._kept = len(self._known)

    def keep(self) -> None:
        """Write what has been counted since."""
        if len(self._known) > self._kept:
            self._kept = len(self._known)
            self._store.remember(self._facts, self._known, quiet=True)


def facts_of(model: VideoModel) -> dict[str, str]:
    """What a compiled part of a model depends on, apart from compiler and call: the model, code, machine."""
    weights = hashlib.sha256()
    for _, tensor in _tensors(model):
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return facts_of_structure(model) | {"weights": weights.hexdigest(), "processor": processor()}


def facts_of_structure(model: VideoModel) -> dict[str, str]:
    """What the operations of a model and their shapes depend on."""
    shapes = [f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in _tensors(model)]
    return {
        "model": f"{type(model).__name__} {model.name} {getattr(model, 'config', None)!r} {model.spec!r}",
        "shapes": hashlib.sha256("\n".join(shapes).encode()).hexdigest(),
        "code": _code(),
        "own code": _own_code(model),
        "torch": version("torch"),
    }


def _tensors(model: VideoModel) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


@cache
def processor() -> str:
    """Name and abilities of the processor, so that another one compiles for itself."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    first = {line.partition("\t")[0].strip(): line.partition(":")[2].strip() for line in reversed(lines)}
    name = first.get("model name") or platform.processor() or platform.machine()
    abilities = first.get("flags") or first.get("Features") or torch.backends.cpu.get_cpu_capability()
    return f"{platform.system()} {name} {digest({'abilities': abilities})}"


@cache
def _code() -> str:
    """Digest of the code that a part may consist of."""
    root = Path(foveate.__file__).parent
    found = hashlib.sha256()
    for folder in ("layers", "backbones", "models", "infer"):
        for path in sorted((root / folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def _own_code(model: VideoModel) -> str:
    """Digest of the files of all modules that are neither ours nor PyTorch's; without a file, a new one."""
    names = {type(module).__module__ for module in model.modules()}
    own = sorted(name for name in names if name.partition(".")[0] not in ("foveate", "torch"))
    found = hashlib.sha256()
    for name in own:
        file = getattr(sys.modules.get(name), "__file__", None)
        found.update(Path(file).read_bytes() if file else os.urandom(16))
    return found.hexdigest() if own else ""


def _read_checked(path: Path, read: Callable[[Path], T]) -> T:
    record = json.loads(_record_of(path).read_text())
    if record["sha256"] != _sha256(path):
        raise ValueError("is not the file that was written")
    return read(path)


def _made_once(suffix: str, make: Callable[[Path], None], read: Callable[[Path], T]) -> T:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"part{suffix}"
        make(path)
        return read(path)


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: OSError | OutputError) -> str:
    return error.cause if isinstance(error, OutputError) else error.strerror or str(error)
