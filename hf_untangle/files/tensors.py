"""Safetensors files of our own: tensors, with what they are and a record in the header."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hf_untangle.errors import UntangleError
from hf_untangle.folders import whole_file


def write_tensors(file: str | Path, tensors: dict[str, Tensor], *, kind: str, record: dict[str, Any]) -> None:
    """Write one safetensors file, whole or not at all.

    Args:
        file: Where to write.
        tensors: The tensors by name.
        kind: What the file holds and its version, such as `hf_untangle.mask/1`.
        record: What else belongs to it, as values that JSON can hold.
    """
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with whole_file(file) as draft:
        save_file(whole, draft, metadata={"format": kind, "record": json.dumps(record)})


def read_tensors(
    file: str | Path, *, kind: str, what: str, error: type[UntangleError]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Args:
        file: A safetensors file.
        kind: What the file must hold.
        what: The same in words, for the message: `a mask`.
        error: What to raise when it is not.

    Returns:
        The tensors, in the file's own order, which is by name, and the record.
    """
    try:
        with safe_open(file, framework="pt") as content:
            metadata = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (no iterator)
    except (OSError, SafetensorError) as cause:
        raise error(f"`{file}` must be a safetensors file with {what}, but it cannot be read: {cause}.") from cause
    if metadata.get("format") != kind:
        raise error(f"`{file}` must hold {what} of this package ({kind}), but says {metadata.get('format')!r}.")
    return tensors, json.loads(metadata["record"])
