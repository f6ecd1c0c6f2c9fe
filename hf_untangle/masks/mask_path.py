"""The masks of all steps of a run in one file: as every step removes more, a neuron needs only the step that took it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hf_untangle.errors import MaskError
from hf_untangle.files.names import public_name
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.mask_record import MaskPathRecord

FORMAT = "hf_untangle.mask_path/1"
MASK_PATH = "mask-path.safetensors"
"""The name of the file in the folder of a result."""


def save_mask_path(file: str | Path, masks: Sequence[NeuronMask]) -> None:
    """Write the masks of a run.

    Args:
        file: Where to write.
        masks: At least one, weakest first, each of which removes what the one before removes.

    Raises:
        MaskError: There is none, or one gives back what the one before removed.
        OutputError: The file cannot be written; what was there is untouched.
    """
    if not masks or any(before & after != after for before, after in zip(masks, masks[1:], strict=False)):
        raise MaskError(
            f"A mask path must have masks, each of which removes at least what the one before removes, but these {len(masks)} "
            "do not. Save them one by one."
        )
    first = masks[0]
    # The number of masks that keep a neuron: 0 when the first removes it, all of them when it stays.
    keepers = {name: torch.stack([mask[name] for mask in masks]).sum(0).short() for name in first}
    of_run = {"model": public_name(first.model), "revision": first.revision, "kinds": first.kinds, "ablation": first.ablation}
    record = of_run | {"steps": len(masks)}
    write_tensors(file, keepers, kind=FORMAT, record=record)


def load_mask_path(file: str | Path) -> tuple[NeuronMask, ...]:
    """Read what `save_mask_path` wrote.

    Args:
        file: A safetensors file.

    Returns:
        The masks, weakest first.

    Raises:
        MaskError: The file is missing, or was not written by this package.
    """
    content = read_tensors(file, kind=FORMAT, what="a mask path", error=MaskError, record=MaskPathRecord)
    record = content.record
    keepers = {name: content.take(name, (None,), (torch.int16,)) for name in record.kinds}
    content.check_names(keepers)
    levels = torch.cat(list(keepers.values())).unique()
    if len(levels) and not 0 <= levels.min() <= levels.max() <= record.steps:
        raise content.expected.fault(f"neurons that more than its {record.steps} masks keep, or fewer than none")
    return tuple(_masks(keepers, record, set(levels.tolist())))


def _masks(keepers: dict[str, Tensor], record: MaskPathRecord, levels: set[int]) -> Iterator[NeuronMask]:
    """The mask of each step; steps that remove nothing more share one, so that no count in a file asks for memory."""
    mask = None
    for step in range(record.steps):
        if mask is None or step in levels:
            kept = {name: some > step for name, some in keepers.items()}
            mask = NeuronMask(kept, record.kinds, record.model, record.ablation, record.revision)
        yield mask
