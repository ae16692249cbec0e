"""PyTorch's two file formats, read in NumPy: the zip archive, and what torch before 1.6 wrote."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any, BinaryIO

from foveate.weights.stored import SIZES, Block
from foveate.weights.unpickle import StorageType, Unpickler

SAVE = "where its code is: torch.save(model.state_dict(), FILE)"
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # first bytes of files from torch before 1.6


class TorchFileError(ValueError):
    """A torch file that is sound and not read. hint: what to do."""

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(cause)
        self.hint = hint


def read_zip(file: BinaryIO, data: memoryview) -> Any:
    """The object in a zip archive; its tensors are `Stored` views of `data`, the content of the file."""
    members = _members(file, data)
    pickled = next((name for name in members if name.endswith("/data.pkl")), None)
    if pickled is None:
        raise TorchFileError("a zip archive, not of PyTorch", "unpack it first")
    folder = pickled.removesuffix("data.pkl")
    if bytes(members.get(f"{folder}byteorder", b"little")) != b"little":
        raise TorchFileError("of a machine with the other order of bytes", SAVE)
    blocks: dict[str, Block] = {}

    def storage(pid: Any) -> Block:
        kind, key = _kind(pid), str(pid[2])
        return blocks.setdefault(key, Block(kind, members[f"{folder}data/{key}"]))

    return Unpickler(io.BytesIO(members[pickled]), storage).load()


def _members(file: BinaryIO, data: memoryview) -> dict[str, memoryview]:
    """The files in an archive, each as a view: PyTorch does not compress them."""
    found = {}
    with zipfile.ZipFile(file) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise TorchFileError("a TorchScript archive, which is code; not loaded", SAVE)
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise TorchFileError("a compressed archive, which PyTorch does not write; not unpacked")
            name, extra = struct.unpack_from("<HH", data, member.header_offset + 26)
            start = member.header_offset + 30 + name + extra
            if start + member.file_size > len(data):
                raise ValueError("it ends early")
            found[member.filename] = data[start : start + member.file_size]
    return found


def read_legacy(file: BinaryIO, data: memoryview) -> Any:
    """The object in a file of several pickles, which the numbers follow; see `read_zip`."""
    blocks: dict[str, Block] = {}

    def storage(pid: Any) -> Block:
        view = pid[5] if len(pid) > 5 else None
        if view is not None and view[1] != 0:
            raise TorchFileError("a file of storages that overlap, as PyTorch before 0.4 wrote", SAVE)
        return blocks.setdefault(str(pid[2]), Block(_kind(pid)))

    for _ in range(3):  # what marks the format, its version, the machine
        Unpickler(file).load()
    content = Unpickler(file, storage).load()
    for key in Unpickler(file).load():
        block = blocks[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        start, end = file.tell(), file.tell() + count * SIZES[block.kind]
        if count < 0 or end > len(data):
            raise ValueError("it ends early")
        block.data = data[start:end]
        file.seek(end)
    return content


def _kind(pid: Any) -> str:
    if not (isinstance(pid, tuple) and len(pid) >= 5 and isinstance(pid[1], StorageType)):
        raise ValueError("refers to what is no storage")
    return pid[1].kind
