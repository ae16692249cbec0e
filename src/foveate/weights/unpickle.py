"""Read a pickle without running anything that it asks for.

Arrays, tensors and plain containers are built. An object of another class, such as the argparse.Namespace of
a run, becomes a placeholder that ignores what it is given; a function is never called, it ends the reading.
"""

from __future__ import annotations

import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from foveate.weights.stored import STORAGES, Block, Stored

PLAIN_MODULES = {  # of the standard library, whose classes hold values
    *("argparse", "collections", "copyreg", "datetime", "decimal", "enum", "fractions", "functools"),
    *("logging", "pathlib", "random", "types", "uuid"),
}
LOWER_CASE_CLASSES = {
    *("date", "datetime", "time", "timedelta", "timezone", "deque", "defaultdict", "partial", "mappingproxy"),
    *("device",),  # torch's
}


class Placeholder:
    """Stands for an object of a class that is not read. state: what the object would have been given."""

    state: Any = None

    def __new__(cls, *_: Any, **__: Any) -> Placeholder:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Placeholder:
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Ignored, as all content is."""

    def extend(self, values: Any) -> None:
        """Ignored, as all content is."""

    def add(self, value: Any) -> None:
        """Ignored, as all content is."""

    @property
    def is_module(self) -> bool:
        """Whether the object was a torch.nn.Module."""
        return isinstance(self.state, dict) and {"_parameters", "_modules"} <= self.state.keys()


class StorageType:
    """Stands for a class of PyTorch's storages, which files name. kind: the type of its numbers."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Unpickler(pickle.Unpickler):
    """Builds tensors, arrays and plain values, and placeholders of everything else.

    storage: gives the block of numbers that a torch file refers to; other files have none.
    """

    def __init__(
        self, file: IO[bytes], storage: Callable[[Any], Block] | None = None, **options: Any
    ) -> None:
        super().__init__(file, **options)
        self.storage = storage

    def persistent_load(self, pid: Any) -> Block:
        """The storage that a torch file refers to; UnpicklingError in other files."""
        if self.storage is None:
            raise pickle.UnpicklingError("refers to what is not in the file")
        return self.storage(pid)

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or a function; UnpicklingError when a function is then called."""
        module, name = NAME_MAPPING.get(
            (module, name), (IMPORT_MAPPING.get(module, module), name)
        )  # Python 2's
        own = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        known = BUILDERS.get((own, name))
        if known is not None:
            return known
        root, last = module.partition(".")[0], name.rpartition(".")[2]
        if root == "torch" and last in STORAGES:
            return StorageType(STORAGES[last])
        if module == "numpy.dtypes" and name.endswith("DType"):
            return getattr(np.dtypes, name)
        foreign = root not in sys.stdlib_module_names or root in PLAIN_MODULES
        random = module.startswith("numpy.random.")  # whose objects are made by functions
        if random or (foreign and (last[:1].isupper() or last in LOWER_CASE_CLASSES)):
            return type(last, (Placeholder,), {"__module__": module})
        return _Function(f"{module}.{name}")


class _Function:
    """A function that a pickle names, harmless as long as it is not called."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise pickle.UnpicklingError(f"would call {self.name}")


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


def _reconstructor(kind: Any, base: Any, state: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, Placeholder):
        return kind()
    raise pickle.UnpicklingError(f"would build a {getattr(kind, '__name__', kind)}")


def _tensor(block: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Stored:
    if not isinstance(block, Block):
        raise pickle.UnpicklingError("has a tensor without a storage")
    return Stored(block, tuple(shape), offset, tuple(stride))


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _with_type(function: Any, kind: Any, values: Any, state: Any) -> Any:
    """What PyTorch saves of a tensor with attributes of its own, which are left out."""
    if function not in (_tensor, _parameter):
        raise pickle.UnpicklingError(f"would call {getattr(function, 'name', function)}")
    return function(*values)


BUILDERS: dict[tuple[str, str], Any] = {
    ("multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("multiarray", "scalar"): np.float32(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,  # used by Python 3 for bytes in protocol 2
    ("copyreg", "_reconstructor"): _reconstructor,
    ("collections", "OrderedDict"): OrderedDict,
    **{("builtins", kind.__name__): kind for kind in (set, frozenset, complex, slice, bytes, bytearray)},
    **{("builtins", kind.__name__): kind for kind in (dict, list, tuple, int, float, str, bool)},
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _with_type,
}
