"""Hostile model files, each made in a moment, and what the doors of the command line make of them.

    python tests/hostile_models.py [--json]

runs `foveate predict` and `foveate convert` on each of them within one process and prints the exit code, the
time, and the most memory taken beside what the process held, that of the process which reads checkpoints too.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import struct
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate import load_model
from foveate.cli import main as foveate
from foveate.models.zoo import create_model
from foveate.weights.file import save_model

Header = dict[str, Any]
Maker = Callable[[Path], None]
TRACE = "ran"  # a file that appears beside a hostile one if its code is run
NAME = "tsm_r10_8"
SETTINGS = ("width=0.125",)


# ---- Foveate's own files


def good_parts() -> tuple[Header, bytes]:
    """The header and the data of a good file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        save_model(load_model("adafocus_small", "figures"), path)
        content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def write(path: Path, header: Header | bytes, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


HEADER, DATA = good_parts()
WEIGHT = next(key for key, facts in HEADER.items() if key.endswith("weight") and facts["dtype"] == "F32")


def card(description: str | None = None, **fields: Any) -> Maker:
    """A file with other fields in its description; config__size for a field of the configuration."""
    described = json.loads(HEADER["__metadata__"]["foveate"])
    for name, value in fields.items():
        group, _, key = name.rpartition("__")
        (described[group] if group else described)[key] = value
    metadata = {"foveate": json.dumps(described) if description is None else description}
    return lambda path: write(path, HEADER | {"__metadata__": metadata}, DATA)


def tensor(**facts: Any) -> Maker:
    """A file that says something else of one of its tensors."""
    return lambda path: write(path, HEADER | {WEIGHT: HEADER[WEIGHT] | facts}, DATA)


def number(value: float) -> Maker:
    """A file in which one weight has this value."""
    start = HEADER[WEIGHT]["data_offsets"][0]
    return lambda path: write(path, HEADER, DATA[:start] + struct.pack("<f", value) + DATA[start + 4 :])


def twice(path: Path) -> None:
    text = json.dumps(HEADER).encode()
    write(path, text[:-1] + b", " + json.dumps({WEIGHT: HEADER[WEIGHT]}).encode()[1:], DATA)


def grown(path: Path) -> None:
    write(path, HEADER, DATA)
    os.truncate(path, 1 << 40)


def many_tensors(path: Path) -> None:
    entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    write(path, ("{" + ",".join(f'"t{i}":{entry}' for i in range(500_000)) + "}").encode(), b"")


def plain(content: bytes) -> Maker:
    return lambda path: Path.write_bytes(path, content) and None


OWN: dict[str, tuple[Maker, str]] = {
    "20 million classes": (card(config__num_classes=20_000_000, labels=[]), "wanted"),
    "10^4000 classes": (card(config__num_classes=10**4000, labels=[]), "its configuration does not fit"),
    "a width of 4000": (card(config__glance_width=4000.0), "wanted"),
    "10^9 frames": (card(config__frames=10**9), "frames' above"),
    "10^300 of width": (card(config__glance_width=1e300), "glance_width' above"),
    "endless depth": (
        card(name="x3d_xs", config={"depth": 1e6}, labels=[]),
        "more tensors than are wanted",
    ),
    "a clip of 10^9 frames": (card(spec__frames=10**9), "at most"),
    "frames of 10^6 pixels": (card(spec__size=10**6, spec__resize=10**6), "at most"),
    "a deviation of 0": (card(spec__std=[0.0, 1.0, 1.0]), "deviations are above 0"),
    "fewer labels": (card(labels=["a", "b"]), "names 2 classes and answers for 8"),
    "an unknown field": (card(config__hook="os.system"), "unknown key 'hook'"),
    "deep description": (card("[" * 100_000), "nests too deep"),
    "deep configuration": (card(config__frames=json.loads("[" * 300 + "]" * 300)), "frames' above"),
    "integers": (tensor(dtype="I32"), "is of type int32"),
    "complex numbers": (tensor(dtype="C64"), "is of type complex64"),
    "an unknown type": (tensor(dtype="F7"), "damaged"),
    "another shape": (tensor(shape=[1 << 40]), "wanted"),
    "a shape of words": (tensor(shape="x"), "damaged"),
    "tensors that overlap": (tensor(data_offsets=[0, 4]), "damaged"),
    "a tensor beyond the end": (tensor(data_offsets=[0, 1 << 50]), "cut short"),
    "one key twice": (twice, "duplicate key"),
    "not a number": (number(float("nan")), "not finite"),
    "an infinite weight": (number(float("inf")), "not finite"),
    "cut short": (lambda path: write(path, HEADER, DATA[:-1000]), "cut short by 1000 bytes"),
    "bytes too many": (lambda path: write(path, HEADER, DATA + b"more"), "4 bytes too many"),
    "a sparse terabyte": (grown, "bytes too many"),
    "500,000 tensors": (many_tensors, "header is larger than"),
    "a header of 2^63 bytes": (plain(struct.pack("<Q", 1 << 63) + b"{" * 9), "header is larger than"),
    "deep header": (lambda path: write(path, b'{"a":' * 100_000, b""), "header nests too deep"),
    "no description": (
        lambda path: write(path, {**HEADER, "__metadata__": {}}, DATA),
        "not a Foveate model .`foveate convert`",
    ),
    "nothing": (plain(b""), "not a safetensors file"),
    "a web page": (plain(b"<!doctype html>"), "not a safetensors file"),
    "a folder": (lambda path: path.mkdir(), "best.safetensors"),
    "a named pipe": (os.mkfifo, "not a regular file"),
    "a loop of links": (lambda path: path.symlink_to(path), "symbolic links"),
}


# ---- checkpoints of others


def weights(**changed: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return create_model(NAME, 5, width=0.125).state_dict() | changed


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *values: Any) -> None:
        self.call = function, values

    def __reduce__(self) -> Any:
        return self.call


def saved(content: Any, legacy: bool = False) -> Maker:
    return lambda path: torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def pickled(content: Any) -> Maker:
    return plain(pickle.dumps(content, 2))


def first(change: Callable[[torch.Tensor], torch.Tensor]) -> Maker:
    """A checkpoint in which one tensor is another one."""
    state = weights()
    return saved({"state_dict": state | {"head.linear.weight": change(state["head.linear.weight"])}})


def hashing() -> bytes:
    """A key that takes 2^40 steps to hash: a pair of a pair of a pair, each twice the same."""
    return b"\x80\x02)q\x000" + b"h\x00h\x00\x86q\x000" * 40 + b"}h\x00K\x01s."


def many_bytes() -> bytes:
    return b"\x80\x02]q\x00" + b"(" + b"c__builtin__\nbytearray\nJ\x00\x00\x00\x08\x85R" * 1000 + b"e."


def inside_itself(width: int) -> dict[str, Any]:
    content: dict[str, Any] = {}
    content.update((str(place), content) for place in range(width))
    return content


def unpacks(path: Path) -> None:
    """3 GB in 3 MB, as an archive of archives."""
    path.write_bytes(gzip.compress(pickle.dumps(b"", 2) + bytes(64 << 20), 6) * 48)


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}, 2))
        archive.writestr("m/data/0", bytes(256 << 20))


def sparse(path: Path) -> None:
    torch.save({"state_dict": weights()}, path)
    os.truncate(path, 8 << 30)


def cut(path: Path) -> None:
    torch.save({"state_dict": weights()}, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def beyond(path: Path) -> None:
    """The legacy format, its last storage said to hold 2^60 numbers."""
    torch.save({"x": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[: -12 - 8] + struct.pack("<q", 1 << 60) + content[-12:])


def scripted(path: Path) -> None:
    with contextlib.suppress(DeprecationWarning):
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)


def shared(path: Path) -> None:
    """70,000 tensors of one number."""
    one = torch.zeros(1)
    torch.save({"state_dict": {f"t{i}": one.view(1) for i in range(70_000)}}, path)


def whispers(path: Path) -> list[str]:
    return ["touch", str(path.with_name(TRACE))]


def safetensors(header: Header | bytes) -> Maker:
    return lambda path: write(path, header, b"\0" * 16)


def running(kind: str) -> Maker:
    """A file that asks for a command, as one of the formats."""
    import subprocess

    def make(path: Path) -> None:
        call = Call(subprocess.check_call, whispers(path))
        {
            "pickle": pickled({"x": call}),
            "zip": saved({"state_dict": weights(), "x": call}),
            "legacy": saved({"state_dict": weights(), "x": call}, legacy=True),
            "gzip": plain(gzip.compress(pickle.dumps({"x": call}, 2))),
            "text": plain(f"(dS'x'\ncos\nsystem\n(S'{' '.join(whispers(path))}'\ntRs.".encode()),
        }[kind](path)

    return make


OFFICIAL: dict[str, tuple[Maker, str]] = {
    **{f"a command in a {kind}": (running(kind), "would call") for kind in ("pickle", "zip", "legacy")},
    **{f"a command in a {kind} file": (running(kind), "would call") for kind in ("gzip", "text")},
    "3 GB in a gzip archive of 3 MB": (unpacks, "unpacks to more than 64 MB"),
    "a gzip archive in one": (plain(gzip.compress(gzip.compress(b"x"))), "in a gzip archive"),
    "a compressed zip archive": (compressed, "compressed archive"),
    "a key that takes years to hash": (plain(hashing()), "far more time"),
    "134 GB of bytes": (plain(many_bytes()), "far more memory"),
    "an array of 10^11 numbers": (pickled({"x": Call(np.ndarray, 10**11)}), "far more memory"),
    "a dict in itself": (pickled(inside_itself(1)), "holds no tensors"),
    "a dict a thousand times in itself": (pickled(inside_itself(1000)), "more than 65536"),
    "a million lists in lists": (
        plain(b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b"."),
        "holds a list",
    ),
    "a tensor repeated without end": (first(lambda x: x[:1, :1].expand(10**10, 128)), "as much room"),
    "integer weights": (first(lambda x: x.int()), "is of type int32"),
    "complex weights": (first(lambda x: x.to(torch.complex64)), "is of type complex64"),
    "weights that are not numbers": (first(lambda x: x * float("nan")), "not finite"),
    "20 million classes of nothing": (first(lambda x: x.new_empty(20_000_000, 0)), "wanted"),
    "70,000 tensors": (shared, "more than 65536"),
    "a module": (saved({"model": torch.nn.Linear(2, 2)}), "whole module"),
    "TorchScript": (scripted, "which is code"),
    "a sparse file of 8 GB": (sparse, "sparse"),
    "half a file": (cut, "damaged|not of PyTorch|no checkpoint"),
    "2^60 numbers in the legacy format": (beyond, "damaged: it ends early"),
    "a reference in a plain pickle": (plain(b"\x80\x02}X\x01\x00\x00\x00aK\x01Qs."), "not in the file"),
    "safetensors, 500,000 tensors": (many_tensors, "header is too long"),
    "safetensors, a shape of 2^40": (
        safetensors({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 16]}}),
        "does not lie in the file",
    ),
    "safetensors, beyond the end": (
        safetensors({"x": {"dtype": "F32", "shape": [400], "data_offsets": [0, 1600]}}),
        "does not lie in the file",
    ),
    "safetensors, deep": (lambda path: write(path, b'{"a":' * 100_000, b""), "nests too deep"),
    "pickle named safetensors": (pickled([1, 2]), "holds a list"),
    "no checkpoint": (plain(b"<!doctype html>"), "a web page"),
    "a pipe": (os.mkfifo, "not a regular file"),
}


# ---- the doors


def files(folder: Path) -> Iterator[tuple[str, str, Path, str]]:
    """(door, kind, path, words of the refusal) of every file, each made when it is asked for."""
    for door, table, suffix in (("predict", OWN, "safetensors"), ("convert", OFFICIAL, "pth")):
        for place, (kind, (make, words)) in enumerate(table.items()):
            path = folder / door / f"{place}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            make(path)
            yield door, kind, path, words
            if path.is_file():
                path.unlink()


def door_words(door: str, path: Path, folder: Path) -> list[str]:
    """The command line that opens a file."""
    if door == "predict":
        return ["predict", str(folder / "v.npy"), "--model", str(path), "--engine", "eager"]
    return [
        "convert",
        str(path),
        "--name",
        NAME,
        "--settings",
        *SETTINGS,
        "--out",
        str(folder / "o.safetensors"),
    ]


def memory(what: str) -> float:
    """VmRSS or VmHWM of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) / 1024


@contextlib.contextmanager
def largest_child() -> Iterator[Callable[[], float]]:
    """The most memory of a process that this one starts, in MB, looked at every 2 ms."""
    most, done = [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            for task in Path("/proc/self/task").iterdir():
                for child in (task / "children").read_text().split():
                    with contextlib.suppress(OSError, IndexError):
                        status = Path(f"/proc/{child}/status").read_text()
                        command = Path(f"/proc/{child}/cmdline").read_bytes()
                        if b"foveate.weights.child" in command:  # before, it shows the memory of this process
                            most[0] = max(most[0], int(status.partition("VmHWM:")[2].split()[0]) / 1024)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield lambda: most[0]
    finally:
        done.set()
        watch.join()


def run(words: list[str]) -> dict[str, Any]:
    """Exit code, what was said, seconds and megabytes of a command within this process."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before, start, said = memory("VmRSS"), time.perf_counter(), io.StringIO()
    code: Any = None
    with (
        largest_child() as child,
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            foveate(words)
        except SystemExit as end:
            code = end.code or 0
    took = time.perf_counter() - start
    grown = memory("VmHWM") - before
    return {"code": code, "said": said.getvalue(), "seconds": took, "mb": grown, "child_mb": child()}


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.save(folder / "v.npy", np.zeros((8, 32, 32, 3), np.uint8))
        save_model(load_model("adafocus_small", "figures"), folder / "good.safetensors")
        good = run(door_words("predict", folder / "good.safetensors", folder))  # imports all that is needed
        rows = [{"door": "predict", "kind": "a good file", "words": "", "ran": False} | good]
        for door, kind, path, words in files(folder):
            row = run(door_words(door, path, folder))
            ran = (path.parent / TRACE).exists()
            rows.append({"door": door, "kind": kind, "words": words, "ran": ran, "file": path.name} | row)
        if (folder / "o.safetensors").exists():
            raise SystemExit("a hostile file was converted")
    if sys.argv[1:] == ["--json"]:
        sys.stdout.write("".join(f"{json.dumps(row)}\n" for row in rows))
        return
    for row in rows:
        cost = f"{row['seconds']:6.3f} s {row['mb'] + row['child_mb']:4.0f} MB"
        sys.stdout.write(f"{row['door']} {row['code']} {cost}  {row['kind']}\n")
    bad = rows[1:]
    sys.stdout.write(
        f"{len(bad)} hostile files, {sum(row['code'] == 4 for row in bad)} refused with exit code 4, "
        f"{sum(row['ran'] for row in bad)} executed; the slowest {max(row['seconds'] for row in bad):.2f} s, "
        f"the most memory {max(row['mb'] for row in bad):.0f} MB, of a child "
        f"{max(row['child_mb'] for row in bad):.0f} MB\n"
    )


if __name__ == "__main__":
    main()
