"""Files of `torch.save`, read without running any code in them and without trusting a size in them.

Such a file is a zip archive with a pickle and the bytes of each tensor. `torch.load(weights_only=True)` runs no code of the
file, but it believes the sizes that the pickle states. Here the pickle may name tensors, dictionaries and given modules only,
each of which becomes a plain stand-in, and a tensor must lie within the bytes that the archive has for it.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Collection
from math import prod
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor

from hf_untangle.files.regular import Expected, open_regular

SIZE = 1 << 40
PICKLE = 1 << 20
"""Bytes of the pickle, which names tensors and does not hold them."""
OPCODES = (
    "PROTO STOP MARK GLOBAL REDUCE BUILD NEWOBJ APPEND APPENDS SETITEM SETITEMS TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "NONE NEWTRUE NEWFALSE EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET BININT BININT1 BININT2 LONG1 "
    "BINFLOAT BINUNICODE BINPERSID BINGET LONG_BINGET BINPUT LONG_BINPUT"
)
"""What torch.save writes. Others could ask for memory that the file does not have."""
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class PickledModule:
    """What a pickle says of a module: a stand-in with its attributes, which computes nothing."""

    kind: ClassVar[str]
    """The name of its class."""


def _stand_in(name: str) -> type[PickledModule]:
    """The class of what stands for modules of one class."""
    return type(name, (PickledModule,), {"kind": name})


class _Array(NamedTuple):
    """A tensor in a pickle."""

    tensor: Tensor


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]  # The one in C can be made to ask for any amount of memory.
    """Builds dictionaries, tensors and stand-ins."""

    dispatch: ClassVar = {
        ord(getattr(pickle, name)): pickle._Unpickler.dispatch[ord(getattr(pickle, name))]  # type: ignore[attr-defined]
        for name in OPCODES.split()
    }

    def __init__(self, archive: zipfile.ZipFile, root: str, modules: Collection[type[torch.nn.Module]]) -> None:
        """Start at the beginning of an archive's pickle."""
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive, self._root = archive, root
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("__builtin__", "set"): set,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }
        self._known |= {("torch", name): dtype for name, dtype in STORAGES.items()}
        self._known |= {(kind.__module__, kind.__name__): _stand_in(kind.__name__) for kind in modules}

    def find_class(self, module: str, name: str) -> Any:
        """Find one of a few names."""
        if (module, name) not in self._known:
            raise pickle.UnpicklingError(f"{module}.{name}, which cannot be read safely")
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        """Read the bytes of a storage, as many as the pickle says that there are."""
        _, dtype, key, _, numel = pid
        content = bytearray(self._archive.read(f"{self._root}/data/{key}"))
        if not isinstance(dtype, torch.dtype) or len(content) != numel * dtype.itemsize:
            raise pickle.UnpicklingError("a tensor that is larger or smaller than its bytes")
        return torch.frombuffer(content, dtype=torch.uint8).view(dtype) if content else torch.empty(0, dtype=dtype)


def read_pickled(expected: Expected, modules: Collection[type[torch.nn.Module]] = ()) -> Any:
    """Read a file of torch.save.

    Args:
        expected: Which file, and what it must hold.
        modules: Classes of modules that it may hold as objects.

    Returns:
        Plain values, tensors and, for modules, `PickledModule`s; dictionaries are those of the file.

    Raises:
        UntangleError: It is no file of torch.save, it is damaged, or it holds anything else.
    """
    with open_regular(expected, SIZE) as (file, size):
        try:
            with zipfile.ZipFile(file) as archive:
                root = _root(archive, size)
                return unwrapped(_Unpickler(archive, root, modules).load())
        except Exception as error:  # A damaged pickle can raise anything, and runs nothing but the stand-ins above.
            raise expected.fault(f"a file of torch.save that cannot be read ({error})") from error


def unwrapped(value: Any) -> Any:
    """Take a tensor, or the tensors of a dictionary, out of what stands for them while a pickle is read.

    Args:
        value: A value of a pickle, or of an attribute of a `PickledModule`.

    Returns:
        The same with tensors.
    """
    if isinstance(value, _Array):
        return value.tensor
    if isinstance(value, dict):
        return {key: one.tensor if isinstance(one, _Array) else one for key, one in value.items()}
    return value


def _root(archive: zipfile.ZipFile, size: int) -> str:
    """The folder of the archive, in which nothing is compressed, so that nothing is larger than the file."""
    entries = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED for one in entries) or sum(one.file_size for one in entries) > size:
        raise zipfile.BadZipFile("it is compressed")
    pickles = [one for one in entries if one.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > PICKLE:
        raise zipfile.BadZipFile("it has not one pickle of a usual size")
    root = pickles[0].filename.removesuffix("/data.pkl")
    order = f"{root}/byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise zipfile.BadZipFile("its numbers are not little-endian")
    return root


def _rebuilt(storage: Tensor, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Array:
    """A tensor of a part of a storage, each number of which is its own."""
    sizes = (offset, *shape, *stride)
    if len(shape) != len(stride) or not all(type(one) is int and one >= 0 for one in sizes):
        raise pickle.UnpicklingError("a tensor without a shape")
    last = offset + sum((one - 1) * step for one, step in zip(shape, stride, strict=True))
    if prod(shape) > len(storage) or (prod(shape) and last >= len(storage)):
        raise pickle.UnpicklingError("a tensor beyond its bytes")
    return _Array(cast(Tensor, storage).as_strided(shape, stride, offset) if prod(shape) else storage.new_empty(shape))
