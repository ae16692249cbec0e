"""The tensors of a checkpoint file where they lie, described in NumPy: nothing is copied."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

SIZES = {  # bytes of a number, by the names that safetensors gives to types
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1},
    **{"C64": 8, "C128": 16},
}
STORAGES = {  # PyTorch's classes of storages, which its files name
    **{"DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16"},
    **{"LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8"},
    **{"ByteStorage": "U8", "BoolStorage": "BOOL"},
    **{"ComplexFloatStorage": "C64", "ComplexDoubleStorage": "C128"},
}
ARRAYS = {  # NumPy's types without their byte order
    **{"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8"},
    **{"u1": "U8", "b1": "BOOL", "c8": "C64", "c16": "C128"},
}


class Block:
    """The numbers of a storage, which several tensors may share. data: bytes, None until they are found."""

    def __init__(self, kind: str, data: Any = None) -> None:
        self.kind = kind
        self.data = data


class Stored(NamedTuple):
    """A tensor in a block: its shape, where it begins, and the steps between neighbours, both in numbers."""

    block: Block
    shape: tuple[int, ...]
    offset: int
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers, each written once; ValueError for a shape that is none."""
        if not all(isinstance(size, int) and size >= 0 for size in self.shape):
            raise ValueError("the shape of a tensor is none")
        return math.prod(self.shape) * SIZES[self.block.kind]

    def array(self) -> np.ndarray:
        """A view of its numbers as raw bytes; ValueError or TypeError if it reaches beyond its block."""
        size = SIZES[self.block.kind]
        if self.block.data is None:
            raise ValueError("a tensor has no numbers")
        steps = [step * size for step in self.stride]
        return np.ndarray(self.shape, f"V{size}", self.block.data, self.offset * size, steps)


def whole(kind: str, shape: tuple[int, ...], data: Any) -> Stored:
    """A tensor that fills its block, row by row."""
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return Stored(Block(kind, data), shape, 0, tuple(steps))


def stored_array(array: np.ndarray) -> Stored | None:
    """A NumPy array as a tensor; None if it does not hold numbers that a tensor can have."""
    kind = ARRAYS.get(array.dtype.str[1:])
    if kind is None:
        return None
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return whole(kind, array.shape, plain.reshape(-1).view("u1"))
