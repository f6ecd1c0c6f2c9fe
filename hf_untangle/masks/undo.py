"""Undoing a removal: the removed values are kept, so that the original comes back bit for bit."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.errors import MaskError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import Slice, check_removable, remove_, removed_slices
from hf_untangle.tensor_files import read_tensors, write_tensors

FORMAT = "hf_untangle.removed/1"
INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""An integer dtype for every size of an element, in bytes."""


@dataclass(frozen=True, eq=False)
class RemovedWeights:
    """What a removal took from a model, and how to tell that the rest is still as it was left.

    Whoever holds this can undo the removal: keep it apart from the model that is given away.
    """

    slices: tuple[Slice, ...]
    """Where something was removed."""
    values: tuple[Tensor, ...]
    """What was there: for each slice one row a number, on the CPU, in the model's own dtype."""
    model: str
    """Name or path of the original model."""
    checksum: int
    """Of all weights of the model after the removal: see `bit_sum`."""

    def save(self, file: str | Path) -> None:
        """Write one safetensors file.

        Args:
            file: Where to write.

        Raises:
            OutputError: The file cannot be written; what was there is untouched.
        """
        tensors = {f"{place}/numbers": part.numbers for place, part in enumerate(self.slices)}
        tensors |= {f"{place}/values": values for place, values in enumerate(self.values)}
        slices = [(part.projection, part.part, part.axis) for part in self.slices]
        record = {"model": self.model, "checksum": self.checksum, "slices": slices}
        write_tensors(file, tensors, kind=FORMAT, record=record)

    @classmethod
    def load(cls, file: str | Path) -> "RemovedWeights":
        """Read what `save` wrote.

        Args:
            file: A safetensors file.

        Returns:
            The removed values.

        Raises:
            MaskError: The file is missing, or not one of ours.
        """
        tensors, record = read_tensors(file, kind=FORMAT, what="removed weights", error=MaskError)
        slices = tuple(Slice(*where, tensors[f"{place}/numbers"]) for place, where in enumerate(record["slices"]))
        values = tuple(tensors[f"{place}/values"] for place in range(len(slices)))
        return cls(slices, values, record["model"], record["checksum"])


@torch.no_grad()
def cut_out_(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> RemovedWeights:
    """Remove neurons as `remove_` does, and keep what was removed.

    Args:
        model: The model, changed in place. All of it is checked before any of it is written to.
        mask: Which neurons stay.
        groups: The neuron groups of the model.

    Returns:
        The removed values, which `put_back_` takes.

    Raises:
        MaskError: The mask is not this model's, or its weights cannot be edited.
    """
    mask.check_fits(groups, str(getattr(model, "name_or_path", type(model).__name__)))
    check_removable(model, groups)
    slices = tuple(removed_slices(model, mask, groups))
    values = tuple(_values(part, model).cpu() for part in slices)
    remove_(model, mask, groups)
    return RemovedWeights(slices, values, mask.model, bit_sum(model))


@torch.no_grad()
def put_back_(model: nn.Module, removed: RemovedWeights) -> nn.Module:
    """Give a model its removed weights back, so that it is bit for bit what it was.

    Args:
        model: The model after the removal, or a checkpoint of it, changed in place. All of it is checked before any of it is
            written to.
        removed: What `cut_out_` gave.

    Returns:
        The same model.

    Raises:
        MaskError: The model is another one, or was changed after the removal, so that the original cannot come back.
    """
    for part, values in zip(removed.slices, removed.values, strict=True):
        _check_place(model, part, values, removed.model)
    if bit_sum(model) != removed.checksum:
        raise MaskError(
            f"The model must be as the removal from `{removed.model}` left it, but some of its weights have changed since: it "
            "was trained, restored already, or pruned further. Nothing was put back: load the checkpoint that the result saved."
        )
    for part, values in zip(removed.slices, removed.values, strict=True):
        view = part.view(model)
        view[part.place(view)] = values.to(view.device)
    return model


@torch.no_grad()
def bit_sum(model: nn.Module) -> int:
    """Add up all weights of a model, read as integers: a checksum that is the same on every device and in every order.

    Args:
        model: Any model; weights that are not loaded do not count.

    Returns:
        The sum modulo 2^64, as a signed number.
    """
    return _wrapped(sum(_bits(one) for one in model.parameters() if not one.is_meta))


def _values(part: Slice, model: nn.Module) -> Tensor:
    """What a slice holds, copied: one row for each of its numbers."""
    view = part.view(model)
    return view[part.place(view)]


def _check_place(model: nn.Module, part: Slice, values: Tensor, made_for: str) -> None:
    """Refuse a model whose part the values did not come from."""
    name = f"{part.projection}.{part.part}"
    try:
        view = part.view(model)
    except AttributeError as error:
        raise MaskError(
            f"The weights were removed from `{made_for}`, but this model has no `{name}`. Restore that one."
        ) from error
    if view.dtype != values.dtype:
        raise MaskError(
            f"The removed values of `{name}` are {values.dtype}, but the model is {view.dtype}, which does not give the "
            f"original back exactly. Load the model with dtype={values.dtype}."
        )
    others = [size for axis, size in enumerate(view.shape) if axis not in (0, part.axis)]
    places = view.shape[0] * view.shape[part.axis]
    if others != list(values.shape[1:]) or bool((part.numbers >= places).any()):
        raise MaskError(
            f"The removed values of `{name}` do not fit its shape {list(view.shape)}: the model is another one, or was "
            "compacted. Restore the checkpoint that the result saved."
        )


def _bits(tensor: Tensor) -> int:
    """The sum of a tensor's elements, each read as an integer of its size."""
    return int(tensor.contiguous().view(INTEGER[tensor.element_size()]).sum(dtype=torch.int64))


def _wrapped(total: int) -> int:
    """A number modulo 2^64, as a signed one, which is how tensors of int64 overflow."""
    return (total + 2**63) % 2**64 - 2**63
