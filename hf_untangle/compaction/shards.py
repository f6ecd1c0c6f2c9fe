"""Writing a shard of a checkpoint again, one tensor at a time.

A safetensors file is eight bytes with the length of a header, the header in JSON, and the tensors one after another. Libraries
write it from all of its tensors at once, and map the old one into memory whole; here, one tensor is in memory, if it changes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from hf_untangle.compaction.edits import Edit
from hf_untangle.errors import CheckpointError

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""What the header calls the dtypes in which weights can be edited."""
CHUNK = 1 << 20
"""Bytes that are copied at a time."""


@dataclass(frozen=True)
class Size:
    """What a file holds."""

    before: int
    """Numbers in its tensors, before they were edited."""
    after: int
    bytes: int
    """Of the tensors, after."""


@torch.no_grad()
def rewrite_shard(source: Path, target: Path, edits: Mapping[str, Edit]) -> Size:
    """Write a safetensors file anew, some of its tensors edited.

    Args:
        source: The file to read.
        target: The file to write.
        edits: What becomes of the tensors that change, by their names in the file.

    Returns:
        How much there is.

    Raises:
        CheckpointError: A tensor that changes is not in floating point.
    """
    with source.open("rb") as old, target.open("xb") as new:
        header = json.loads(old.read(int.from_bytes(old.read(8), "little")))
        begin = old.tell()
        metadata = {"__metadata__": header.pop("__metadata__")} if "__metadata__" in header else {}
        changed = _changed(header, edits)
        text = json.dumps(metadata | changed, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        new.write(len(text).to_bytes(8, "little") + text)
        for name in changed:
            old.seek(begin + header[name]["data_offsets"][0])
            if name in edits:
                edited = edits[name].apply(_read(old, name, header[name]))
                new.write(edited.flatten().view(torch.uint8).numpy().data)
            else:
                _copy(old, new, _bytes(header[name]))
    return Size(_numbers(header), _numbers(changed), sum(map(_bytes, changed.values())))


def _numbers(header: dict[str, Any]) -> int:
    """How many numbers there are in all tensors."""
    return sum(prod(entry["shape"]) for entry in header.values())


def _changed(header: dict[str, Any], edits: Mapping[str, Edit]) -> dict[str, Any]:
    """The entries of the new header, in the order in which the tensors lie in the file."""
    changed: dict[str, Any] = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        shape = edits[name].shape(tuple(entry["shape"])) if name in edits else entry["shape"]
        start, end = end, end + _bytes(entry) * prod(shape) // max(prod(entry["shape"]), 1)
        changed[name] = {"dtype": entry["dtype"], "shape": list(shape), "data_offsets": [start, end]}
    return changed


def _bytes(entry: dict[str, Any]) -> int:
    """How long a tensor is in the file."""
    start, end = entry["data_offsets"]
    return end - start


def _read(file: BinaryIO, name: str, entry: dict[str, Any]) -> Tensor:
    """Read the tensor that a file has come to."""
    if entry["dtype"] not in DTYPES:
        raise CheckpointError(
            f"The tensor `{name}` must be in floating point to be changed, but it is in {entry['dtype']}. Cut the "
            "full-precision checkpoint."
        )
    content = bytearray(_bytes(entry))
    file.readinto(content)  # pyright: ignore[reportAttributeAccessIssue]
    return torch.frombuffer(content, dtype=DTYPES[entry["dtype"]]).view(entry["shape"])


def _copy(old: BinaryIO, new: BinaryIO, length: int) -> None:
    """Copy the bytes that a file has come to."""
    for start in range(0, length, CHUNK):
        new.write(old.read(min(CHUNK, length - start)))
