"""Safetensors files of this package: tensors, with what they are and a record in the header."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from hf_untangle.errors import UntangleError
from hf_untangle.files.header import Entry, read_header
from hf_untangle.files.json_text import parse_json
from hf_untangle.files.records import Schema, checked_record
from hf_untangle.files.regular import Expected, open_regular, shown
from hf_untangle.folders import whole_file

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""The dtypes of weights and sums."""
FLAGS = (torch.uint8, torch.bool)
"""The dtypes of masks."""
LARGEST = torch.finfo(torch.float32).max
"""The largest number that a setting of a module may have, as kernels take it in float32."""
BYTES = 1 << 40
"""Bytes of a file of tensors."""

Record = TypeVar("Record")


@dataclass(frozen=True, eq=False)
class Content(Generic[Record]):
    """What is in a file."""

    expected: Expected
    tensors: dict[str, Tensor]
    """By name, in the order in which they lie in the file; each owns its memory."""
    record: Record

    def take(self, name: str, shape: tuple[int | None, ...], dtypes: Collection[torch.dtype]) -> Tensor:
        """Find a tensor that must be there.

        Args:
            name: Its name.
            shape: Its shape; None where any size will do.
            dtypes: The dtypes that it may have.

        Returns:
            The tensor.

        Raises:
            UntangleError: There is none, or it has another shape or dtype.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            raise self.expected.fault(f"a file without the tensor {shown(name)}")
        fits = len(shape) == tensor.ndim and all(a in (None, b) for a, b in zip(shape, tensor.shape, strict=True))
        if not fits or tensor.dtype not in dtypes:
            wanted = "x".join("?" if size is None else str(size) for size in shape) or "one number"
            raise self.expected.fault(
                f"{_kind(tensor)} for {shown(name)}, which must be {wanted} of {' or '.join(map(_name, dtypes))}"
            )
        return tensor

    def finite(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        """Find a tensor of finite numbers that must be there.

        Args:
            name: Its name.
            shape: As in `take`.

        Returns:
            The tensor, in floating point.

        Raises:
            UntangleError: There is none, it has another shape, or a number is infinite or NaN.
        """
        tensor = self.take(name, shape, FLOATS)
        if not tensor.isfinite().all():
            raise self.expected.fault(f"infinity or NaN in {shown(name)}")
        return tensor

    def flags(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        """Find a tensor of 0 and 1 that must be there.

        Args:
            name: Its name.
            shape: As in `take`.

        Returns:
            The tensor, as booleans.

        Raises:
            UntangleError: There is none, it has another shape, or a value is neither 0 nor 1.
        """
        tensor = self.take(name, shape, FLAGS)
        if tensor.view(torch.uint8).max() > 1 if tensor.numel() else False:
            raise self.expected.fault(f"a value in {shown(name)} that is neither 0 nor 1")
        return tensor.view(torch.bool)

    def check_names(self, names: Iterable[str]) -> None:
        """Refuse a file with other tensors than these.

        Args:
            names: All that it may have.

        Raises:
            UntangleError: There is another one.
        """
        if strangers := sorted(self.tensors.keys() - set(names)):
            raise self.expected.fault(f"the tensor {shown(strangers[0])}, which belongs to nothing in its record")


def write_tensors(file: str | Path, tensors: dict[str, Tensor], *, kind: str, record: dict[str, Any]) -> None:
    """Write one safetensors file, whole or not at all.

    Args:
        file: Where to write.
        tensors: The tensors by name.
        kind: What the file holds and its version, such as `hf_untangle.mask/1`.
        record: What else belongs to it, as values that JSON can hold.
    """
    whole: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        # safetensors refuses tensors that share memory.
        storage = tensor.untyped_storage().data_ptr()
        whole[name] = tensor.clone().contiguous() if storage in storages else tensor.contiguous()
        storages.add(storage)
    with whole_file(file) as draft:
        save_file(whole, draft, metadata={"format": kind, "record": json.dumps(record)})


def read_tensors(
    file: str | Path, *, kind: str, what: str, error: type[UntangleError], record: type[Schema]
) -> Content[Schema]:
    """Read what `write_tensors` wrote, and check all that can be checked without knowing what it is for.

    Args:
        file: A safetensors file.
        kind: What the file must hold.
        what: The same in words, for the message: `a mask`.
        error: What to raise when it does not.
        record: The schema of its record.

    Returns:
        What is in it.

    Raises:
        UntangleError: The file is damaged, or of another kind; of the class `error`.
    """
    expected = Expected(Path(file), what, error)
    metadata, tensors = read_any_tensors(expected)
    if metadata.get("format") != kind:
        raise expected.fault(f"a file whose format is {shown(metadata.get('format'))} and not {kind}")
    if "record" not in metadata:
        raise expected.fault("a file without a record")
    stated = parse_json(metadata["record"].encode("utf-8"), expected, " in its record")
    return Content(expected, tensors, checked_record(stated, record, expected))


def read_any_tensors(expected: Expected) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read any safetensors file.

    Args:
        expected: Which file, and what it must hold.

    Returns:
        Its metadata, and its tensors in the order in which they lie in the file.

    Raises:
        UntangleError: It is no safetensors file, or it is damaged.
    """
    with open_regular(expected, BYTES) as (file, size):
        header = read_header(file, size, expected)
        tensors: dict[str, Tensor] = {}
        for name, entry in header.entries.items():
            content = bytearray(entry.stop - entry.start)
            if file.readinto(content) != len(content):  # pyright: ignore[reportAttributeAccessIssue]
                raise expected.fault(f"a file that ends within the tensor {shown(name)}")
            tensors[name] = _tensor(content, entry)
    return header.metadata, tensors


def format_of(file: str | Path, what: str, error: type[UntangleError]) -> str | None:
    """Tell what a safetensors file says that it holds.

    Args:
        file: Any file.
        what: What it should hold, in words.
        error: What to raise when it is none.

    Returns:
        The format; None when it names none.

    Raises:
        UntangleError: It is no safetensors file.
    """
    expected = Expected(Path(file), what, error)
    with open_regular(expected, BYTES) as (content, size):
        return read_header(content, size, expected).metadata.get("format")


def _tensor(content: bytearray, entry: Entry) -> Tensor:
    """A tensor of bytes."""
    if not content:
        return torch.empty(entry.shape, dtype=entry.dtype)
    return torch.frombuffer(content, dtype=torch.uint8).view(entry.dtype).view(entry.shape)


def _kind(tensor: Tensor) -> str:
    """A tensor's shape and dtype in words."""
    return f"{'x'.join(map(str, tensor.shape)) or 'one number'} of {_name(tensor.dtype)}"


def _name(dtype: torch.dtype) -> str:
    """A dtype without its package."""
    return str(dtype).removeprefix("torch.")
