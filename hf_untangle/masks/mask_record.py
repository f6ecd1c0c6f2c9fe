"""What must be true of the parts of a mask, and what a file says of the masks in it besides the masks."""

from collections.abc import Mapping
from typing import get_args

from pydantic import AliasChoices, Field
from torch import Tensor

from hf_untangle.architecture.neurons import KINDS, Kind
from hf_untangle.errors import MaskError
from hf_untangle.files.records import FileRecord
from hf_untangle.masks.ablation import Ablation


class MaskRecord(FileRecord):
    """The record of a mask."""

    model: str
    """The name or path of the model that the mask was made for."""
    revision: str | None = None
    """The model's commit on the Hub."""
    kinds: dict[str, Kind] = Field(min_length=1)
    """The kind of each group, in the order in which they run."""
    ablation: Ablation = Field(default="zero", validation_alias=AliasChoices("ablation", "fill"))
    """What removed neurons read."""


class MaskPathRecord(MaskRecord):
    """The record of the masks of all steps of a run."""

    steps: int = Field(ge=1, le=2**15 - 1)
    """How many masks there are."""


class AdapterRecord(FileRecord):
    """The record of a mask that is an adapter."""

    format: str
    """What the folder holds, and its version."""
    model: str
    """The name or path of the model that the mask was made for."""
    kinds: dict[str, Kind] = Field(min_length=1)
    """The kind of each group, in the order in which they run."""


def check_parts(kept: Mapping[str, Tensor], kinds: Mapping[str, str], ablation: str) -> None:
    """Refuse a mask that is of nothing, of groups of no kind, or of an ablation that there is not.

    Args:
        kept: One vector per group.
        kinds: What each group is.
        ablation: What removed neurons read.

    Raises:
        MaskError: It is one of these.
    """
    if not kept:
        raise MaskError(
            "A mask must have a vector for at least one neuron group, got none. `NeuronMask.keep_all(neuron_groups(model), "
            "name)` makes one with all of them."
        )
    if strangers := kept.keys() - kinds.keys():
        raise MaskError(
            f"`kinds` of a mask must say of each group what it is, but `{min(strangers)}` is in `kept` alone. Add its kind, "
            "'ffn' or 'attention'."
        )
    if wrong := sorted(set(kinds.values()) - set(KINDS)):
        raise MaskError(f"The kind of a neuron group must be 'ffn' or 'attention', got {wrong[0]!r}. Take it from the group.")
    if ablation not in get_args(Ablation):
        raise MaskError(
            f"The ablation of a mask must be {' or '.join(map(repr, get_args(Ablation)))}, got {ablation!r}. Name one of them."
        )
