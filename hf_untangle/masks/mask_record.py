"""What a file says of the masks in it, besides the masks."""

from pydantic import AliasChoices, Field

from hf_untangle.architecture.neurons import Kind
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
