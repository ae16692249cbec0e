"""A model as files for other programs: graphs for ONNX Runtime, OpenVINO or PyTorch, a card, a driver."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from foveate.choices import ExportTarget
from foveate.errors import OutputError, UsageError
from foveate.export.card import card_of
from foveate.infer.compiled import first_line
from foveate.models.base import VideoModel
from foveate.models.pieces import Piece

DRIVERS = Path(__file__).with_name("drivers")


class Graph(nn.Module):
    """A piece of a model as a module from tensors to a tuple of tensors."""

    def __init__(self, piece: Piece) -> None:
        super().__init__()
        self.holders = nn.ModuleList(piece.modules)
        self.run = piece.run

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tree_leaves(self.run(*tensors)))


class Form(NamedTuple):
    """How a graph becomes a file: its suffix, the packages needed, and what writes it."""

    suffix: str
    packages: tuple[str, ...]
    extra: str  # of this package, which installs them and what runs the file
    write: Callable[[nn.Module, Piece, Path], None]


def _write_onnx(graph: nn.Module, piece: Piece, path: Path) -> None:
    from foveate.infer.compilers.onnxruntime import onnx_program

    onnx_program(graph, [*piece.inputs.values()], [*piece.inputs], piece.outputs).save(path)


def _write_openvino(graph: nn.Module, piece: Piece, path: Path) -> None:
    import openvino

    from foveate.infer.compilers.openvino import converted

    made = converted(graph, [*piece.inputs.values()])
    for port, name in zip([*made.inputs, *made.outputs], [*piece.inputs, *piece.outputs], strict=True):
        port.get_tensor().set_names({name})
    openvino.save_model(made, path, compress_to_fp16=False)


def _write_torch(graph: nn.Module, piece: Piece, path: Path) -> None:
    from foveate.infer.compilers.trace import exported

    program = exported(graph, [*piece.inputs.values()])
    program.example_inputs = None  # a clip of zeros is larger than many a network
    torch.export.save(program, path)


FORMS: Mapping[ExportTarget, Form] = {
    "onnx": Form(".onnx", ("onnx", "onnxscript"), "export", _write_onnx),
    "openvino": Form(".xml", ("openvino",), "openvino", _write_openvino),
    "torch": Form(".pt2", ("torch",), "export", _write_torch),
}


def export_model(model: VideoModel, to: ExportTarget, folder: Path) -> Path:
    """Write a model into a folder, which is made; the path of its card, a JSON file about the others.

    A model that does the same for every clip becomes one graph, any other one for each piece, with a driver;
    run.py runs either. Files of the same names are replaced once all are written. UsageError for a model that
    cannot be exported, and for packages that are not installed; OutputError for a folder that cannot be
    written.
    """
    form = FORMS[to]
    demand_packages(to, form.packages)
    model = model.to("cpu").eval()
    name, pieces = model.name or "model", model.pieces()
    files = {part: f"{part if pieces.driver else name}{form.suffix}" for part in pieces.graphs}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".part") as made:
            for part, piece in pieces.graphs.items():
                _write(model, piece, to, Path(made, files[part]))
            card = json.dumps(card_of(model, pieces, files, to), indent=1, ensure_ascii=False)
            Path(made, f"{name}.json").write_text(f"{card}\n", "utf-8")
            for driver in ("run", pieces.driver):
                if driver:
                    shutil.copy(DRIVERS / f"{driver}.py", made)
            for path in Path(made).iterdir():
                path.replace(folder / path.name)
    except OSError as error:
        cause = f"cannot be written: {(error.strerror or str(error)).lower()}"
        raise OutputError(folder, cause, "choose another place") from error
    return folder / f"{name}.json"


def demand_packages(to: ExportTarget, packages: Sequence[str]) -> None:
    """UsageError for the first of some packages that is not installed."""
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError as error:
            hint = f"pip install 'foveate[{FORMS[to].extra}]'"
            raise UsageError(f"--to {to}", f"{package} is not installed", hint) from error


def _write(model: VideoModel, piece: Piece, to: ExportTarget, path: Path) -> None:
    try:
        FORMS[to].write(Graph(piece), piece, path)
    except OSError:
        raise
    except Exception as error:  # of whatever kind a foreign library raises
        cause = f"{to} cannot hold its {path.stem}: {operation_of(error)}"
        others = " or ".join(form for form in FORMS if form != to)
        raise UsageError(model.name or "model", cause, f"try --to {others}") from error


def operation_of(error: BaseException) -> str:
    """The operation that an error of a converter names, or its first line."""
    link: BaseException | None = error
    while link is not None:
        found: Any = re.search(r"aten(::|\.)\w+", str(link))
        if found:
            return f"no operation for {found[0]}"
        link = link.__cause__
    return first_line(error if isinstance(error, Exception) else Exception(str(error)))
