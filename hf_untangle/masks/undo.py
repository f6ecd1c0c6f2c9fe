"""Undoing a removal: the removed values are kept, so that the original comes back bit for bit."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.errors import MaskError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import Slice, check_removable, removed_slices
from hf_untangle.tensor_files import read_tensors, write_tensors

FORMAT = "hf_untangle.removed/1"
INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""An integer dtype for every size of an element, in bytes."""


@dataclass(frozen=True, eq=False)
class Piece:
    """The removed values of one weight or bias."""

    axis: int
    index: Int[Tensor, " index"]
    """Where they were along the axis, on the CPU."""
    values: Float[Tensor, "..."]
    """What was there, on the CPU, in the parameter's own dtype."""


@dataclass(frozen=True, eq=False)
class RemovedWeights:
    """What `remove_` sets to zero, and how to tell that the rest is still as it was.

    Whoever holds this can undo the removal: keep it apart from the model that is given away.
    """

    pieces: dict[str, Piece]
    """By the name of the parameter."""
    model: str
    """Name or path of the original model."""
    checksum: int
    """Of all weights of the original model: see `bit_sum`."""

    def save(self, file: str | Path) -> None:
        """Write one safetensors file.

        Args:
            file: Where to write.

        Raises:
            OutputError: The file cannot be written; what was there is untouched.
        """
        tensors = {f"{name}/index": piece.index for name, piece in self.pieces.items()}
        tensors |= {f"{name}/values": piece.values for name, piece in self.pieces.items()}
        axes = {name: piece.axis for name, piece in self.pieces.items()}
        write_tensors(file, tensors, kind=FORMAT, record={"model": self.model, "checksum": self.checksum, "axes": axes})

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
        pieces = {
            name: Piece(axis, tensors[f"{name}/index"], tensors[f"{name}/values"]) for name, axis in record["axes"].items()
        }
        return cls(pieces, record["model"], record["checksum"])


@torch.no_grad()
def removed_weights(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> RemovedWeights:
    """Copy what `remove_(model, mask, groups)` is about to set to zero.

    Args:
        model: The model, before the removal.
        mask: Which neurons stay.
        groups: The neuron groups of the model.

    Returns:
        The values, which `put_back_` takes.

    Raises:
        MaskError: The mask is not this model's, or its weights cannot be edited.
    """
    name = str(getattr(model, "name_or_path", type(model).__name__))
    mask.check_fits(groups, name)
    check_removable(model, groups)
    slices: dict[str, list[Slice]] = defaultdict(list)
    for part in removed_slices(model, mask, groups):
        slices[part.parameter].append(part)
    return RemovedWeights({parameter: _piece(parts) for parameter, parts in slices.items()}, name, bit_sum(model))


@torch.no_grad()
def put_back_(model: nn.Module, removed: RemovedWeights) -> nn.Module:
    """Give a model its removed weights back, so that it is bit for bit what it was.

    Args:
        model: The model after the removal, or a checkpoint of it, changed in place. All of it is checked before any of it is
            written to.
        removed: What `removed_weights` copied.

    Returns:
        The same model.

    Raises:
        MaskError: The model is another one, or was changed after the removal, so that the original cannot come back.
    """
    parameters = dict(model.named_parameters())
    for name, piece in removed.pieces.items():
        _check_place(parameters.get(name), name, piece, removed.model)
    # Where a weight was removed it is zero, whose bits are zero: what is there and what was taken add up to the original.
    if _wrapped(bit_sum(model) + sum(_bits(piece.values) for piece in removed.pieces.values())) != removed.checksum:
        raise MaskError(
            f"The model must be as the removal from `{removed.model}` left it, but some of its weights have changed since: it "
            "was trained, restored already, or pruned further. Nothing was put back: load the checkpoint that the result saved."
        )
    for name, piece in removed.pieces.items():
        target = parameters[name]
        target.index_copy_(piece.axis, piece.index.to(target.device), piece.values.to(target.device))
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


def _piece(parts: list[Slice]) -> Piece:
    """The values of the slices of one parameter, copied to the CPU."""
    axis, tensor = parts[0].axis, parts[0].tensor
    index = torch.cat([part.index for part in parts])
    return Piece(axis, index.cpu(), tensor.index_select(axis, index).cpu())


def _check_place(parameter: Tensor | None, name: str, piece: Piece, made_for: str) -> None:
    """Refuse a parameter that the values did not come from."""
    if parameter is None:
        raise MaskError(f"The weights were removed from `{made_for}`, but this model has no `{name}`. Restore the same model.")
    if parameter.dtype != piece.values.dtype:
        raise MaskError(
            f"The removed values of `{name}` are {piece.values.dtype}, but the model is {parameter.dtype}, which does not give "
            f"the original back exactly. Load the model with dtype={piece.values.dtype}."
        )
    others, shape = list(parameter.shape), list(piece.values.shape)
    others[piece.axis] = len(piece.index)
    if others != shape or parameter.shape[piece.axis] <= _last(piece.index):
        raise MaskError(
            f"The removed values of `{name}` have the shape {shape}, which does not fit {list(parameter.shape)}: the model is "
            "another one, or was compacted. Restore the checkpoint that the result saved."
        )


def _last(index: Int[Tensor, " index"]) -> int:
    """The largest place; -1 where there is none."""
    return int(index.max()) if len(index) else -1


def _bits(tensor: Tensor) -> int:
    """The sum of a tensor's elements, each read as an integer of its size."""
    return int(tensor.contiguous().view(INTEGER[tensor.element_size()]).sum(dtype=torch.int64))


def _wrapped(total: int) -> int:
    """A number modulo 2^64, as a signed one, which is how tensors of int64 overflow."""
    return (total + 2**63) % 2**64 - 2**63
