"""The framing of safetensors files: eight bytes with the length of a header, the header in JSON, then the tensors.

Where each tensor lies is checked against the bytes that are there, before any of them is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import torch

from hf_untangle.files.json_text import parse_json
from hf_untangle.files.regular import Expected, shown

HEADER = 1 << 25
"""Bytes of a header: enough for a hundred thousand tensors."""
DIMENSIONS = 8
DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "C64": torch.complex64,
}
"""What a header calls the dtypes that torch has."""


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """Its first byte, counted from the end of the header."""
    stop: int


@dataclass(frozen=True)
class Header:
    """What a file says of its tensors, all of which are there."""

    entries: dict[str, Entry]
    """In the order in which they lie in the file."""
    metadata: dict[str, str]
    begin: int
    """Where the first tensor begins."""


def read_header(file: BinaryIO, size: int, expected: Expected) -> Header:
    """Read the header of a safetensors file, and check it against the file.

    Args:
        file: The file, at its beginning.
        size: Its size in bytes.
        expected: Which file it is, and what it must hold.

    Returns:
        The header.

    Raises:
        UntangleError: The file is no safetensors file, or its tensors are not exactly the bytes behind the header.
    """
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, HEADER):
        raise expected.fault(f"{size:,} bytes that are no safetensors file")
    content = parse_json(file.read(length), expected, " in its header")
    if not isinstance(content, dict):
        raise expected.fault("a header that is no mapping")
    metadata = _metadata(content.pop("__metadata__", {}), expected)
    entries = {name: _entry(name, stated, expected) for name, stated in content.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)))
    end = 0
    for name, entry in ordered.items():
        if entry.start != end:
            raise expected.fault(f"a header that leaves a gap or an overlap before the tensor {shown(name)}")
        end = entry.stop
    if 8 + length + end != size:
        raise expected.fault(f"{size:,} bytes instead of the {8 + length + end:,} that its header states")
    return Header(ordered, metadata, 8 + length)


def _metadata(stated: Any, expected: Expected) -> dict[str, str]:
    """The text that a header carries along."""
    if not isinstance(stated, dict) or not all(isinstance(value, str) for value in stated.values()):
        raise expected.fault("a header whose metadata are no texts")
    return stated


def _entry(name: str, stated: Any, expected: Expected) -> Entry:
    """The place of one tensor, whose shape and dtype must give its length."""
    if not isinstance(stated, Mapping) or stated.keys() != {"dtype", "shape", "data_offsets"}:
        raise expected.fault(f"a header that does not describe the tensor {shown(name)}")
    dtype, shape, offsets = stated["dtype"], stated["shape"], stated["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise expected.fault(f"the dtype {shown(dtype)} for the tensor {shown(name)}")
    if not _are_sizes(shape) or len(shape) > DIMENSIONS or prod(max(one, 1) for one in shape) >= 2**60:
        raise expected.fault(f"the shape {shown(shape)} for the tensor {shown(name)}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise expected.fault(f"the offsets {shown(offsets)} for the tensor {shown(name)}")
    entry = Entry(DTYPES[dtype], tuple(shape), *offsets)
    if entry.stop - entry.start != prod(shape) * entry.dtype.itemsize:
        raise expected.fault(f"{entry.stop - entry.start:,} bytes for the tensor {shown(name)} of shape {shown(shape)}")
    return entry


def _are_sizes(value: Any) -> bool:
    """Whether something is a list of whole numbers from 0."""
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
