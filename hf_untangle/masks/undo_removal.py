"""Undoing a removal: the removed values are kept, so that the original comes back bit for bit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.commit import commit
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.parameters import Edit, Index, parameter_names, read_parameter, write_parameters_
from hf_untangle.architecture.projections import place_of
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import MaskError
from hf_untangle.files.names import public_name
from hf_untangle.files.records import FileRecord
from hf_untangle.files.regular import shown
from hf_untangle.files.tensors import Content, read_tensors, write_tensors
from hf_untangle.masks.ablation import Constants, Weights
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_removable, remove_, zeros_of
from hf_untangle.models import name_and_revision

FORMAT = "hf_untangle.removed/1"
INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""An integer dtype for every size of an element, in bytes."""


@checked_calls
@dataclass(frozen=True, eq=False)
class Piece:
    """What some rows or columns of one parameter held."""

    parameter: str
    """Its name in the model."""
    index: Index
    """Where they are."""
    values: Tensor
    """What was there, on the CPU, in the model's own dtype."""
    __repr__ = fields_repr


@checked_calls
@dataclass(frozen=True, eq=False)
class RemovedWeights:
    """What a removal took from a model, and how to tell that the rest is still as it was left.

    This can undo the removal: keep it apart from the model that is given away.
    """

    pieces: tuple[Piece, ...]
    """Weights that became zero, projections that were refitted, and biases that were shifted."""
    added: tuple[str, ...]
    """Biases that were made, as a constant had to go somewhere."""
    switches: dict[str, Any]
    """Settings of the model's configuration that did not mention these biases before."""
    model: str
    """Name or path of the original model."""
    checksum: int
    """Of all weights of the model after the removal: see `bit_sum`."""
    __repr__ = fields_repr

    def save(self, file: str | Path) -> None:
        """Write one safetensors file.

        Args:
            file: Where to write.

        Raises:
            OutputError: The file cannot be written; what was there is untouched.
        """
        tensors = {f"{number}/values": piece.values for number, piece in enumerate(self.pieces)}
        for number, piece in enumerate(self.pieces):
            # The rows of a weight and of its bias are one tensor here, which safetensors would refuse.
            tensors |= {f"{number}/{axis}": each.clone() for axis, each in enumerate(piece.index) if isinstance(each, Tensor)}
        record = {
            "model": public_name(self.model),
            "checksum": self.checksum,
            "pieces": [(piece.parameter, len(piece.index)) for piece in self.pieces],
            "added": self.added,
            "switches": self.switches,
        }
        write_tensors(file, tensors, kind=FORMAT, record=record)

    @classmethod
    def load(cls, file: str | Path) -> "RemovedWeights":
        """Read what `save` wrote.

        Args:
            file: A safetensors file.

        Returns:
            The removed values.

        Raises:
            MaskError: The file is missing, or was not written by this package.
        """
        content = read_tensors(file, kind=FORMAT, what="removed weights", error=MaskError, record=_RemovedRecord)
        record = content.record
        pieces = tuple(_piece(content, number, name, axes) for number, (name, axes) in enumerate(record.pieces))
        content.check_names(f"{number}/{part}" for number in range(len(pieces)) for part in ("values", 0, 1, 2))
        return cls(pieces, record.added, record.switches, record.model, record.checksum)


class _RemovedRecord(FileRecord):
    """What a file of removed weights says of them."""

    model: str
    checksum: int = Field(ge=-(2**63), lt=2**63)
    pieces: tuple[tuple[str, Annotated[int, Field(ge=1, le=3)]], ...]
    """The parameter of each piece, and over how many of its axes it is indexed."""
    added: tuple[str, ...]
    switches: dict[str, Literal[False]]
    """Switches for biases that were off; nothing else of a configuration is ever set from a file."""


def _piece(content: Content[_RemovedRecord], number: int, name: str, axes: int) -> Piece:
    """One piece of a file, whose rows and columns are counted from 0."""
    index: list[slice | Tensor] = []
    for axis in (f"{number}/{axis}" for axis in range(axes)):
        places = content.take(axis, (None,), (torch.int64,)) if axis in content.tensors else slice(None)
        if isinstance(places, Tensor) and len(places) and places.min() < 0:
            raise content.expected.fault(f"a negative index in {shown(axis)}")
        index.append(places)
    values = content.tensors.get(f"{number}/values")
    if values is None:
        raise content.expected.fault(f"no values for {shown(name)}")
    return Piece(name, tuple(index), values)


@all_or_nothing
@torch.no_grad()
def cut_out_(
    model: nn.Module,
    mask: NeuronMask,
    groups: tuple[NeuronGroup, ...],
    *,
    constants: Constants | None = None,
    weights: Weights | None = None,
) -> RemovedWeights:
    """Remove neurons as `remove_` does, and keep what was removed.

    Args:
        model: The model, changed in place. All of it is checked before any of it is written to.
        mask: Which neurons stay.
        groups: The neuron groups of the model.
        constants: The value at which each removed neuron is held, by group; zero when None.
        weights: New weights of output projections, by group; their own when None.

    Returns:
        What was there, which `put_back_` takes.

    Raises:
        MaskError: The mask is not this model's, or its weights cannot be edited.
        ArchitectureError: A bias is needed, and cannot be there.
    """
    mask.check_fits(groups, *name_and_revision(model))
    check_removable(model, groups)
    refitted = [place_of(model, name).weight for name in weights or {}]
    places: list[tuple[str, Index]] = [(name, (slice(None),)) for name in refitted]
    places += [place for place in zeros_of(model, mask, groups) if place[0] not in refitted]
    if constants is not None:
        places += [(bias, (slice(None),)) for bias in _biases(model, mask)]
    pieces = tuple(Piece(name, index, read_parameter(model, name)[index].cpu().clone()) for name, index in places)
    parameters, settings = set(dict(model.named_parameters())), _settings(model)
    with commit():
        remove_(model, mask, groups, constants=constants, weights=weights)
        added = sorted(set(dict(model.named_parameters())) - parameters)
        switches = {name: settings[name] for name, value in _settings(model).items() if value != settings[name]}
        return RemovedWeights(pieces, tuple(added), switches, mask.model, bit_sum(model))


@all_or_nothing
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
    for piece in removed.pieces:
        _check_place(model, piece, removed.model)
    if bit_sum(model) != removed.checksum:
        raise MaskError(
            f"The model must be as the removal from `{removed.model}` left it, but some of its weights have changed since: it "
            "was trained, restored already, or pruned further. Nothing was put back: load the checkpoint that the result saved."
        )
    _check_biases(model, removed)
    with commit() as undo:
        write_parameters_(model, (Edit(piece.parameter, piece.index, piece.values) for piece in removed.pieces))
        for bias in removed.added:
            projection = model.get_submodule(bias.rpartition(".")[0])
            undo.callback(setattr, projection, "bias", projection.bias)
            projection.register_parameter("bias", None)
        for name, value in removed.switches.items():
            undo.callback(setattr, model.config, name, getattr(model.config, name))
            setattr(model.config, name, value)
        return model


@torch.no_grad()
def bit_sum(model: nn.Module) -> int:
    """Add up all weights of a model, read as integers: a checksum that is the same on every device and in every order.

    Args:
        model: Any model; weights that are not loaded do not count.

    Returns:
        The sum modulo 2^64, as a signed number.
    """
    weights = (read_parameter(model, name) for name in parameter_names(model))
    return _wrapped(sum(_bits(one) for one in weights if not one.is_meta))


def _biases(model: nn.Module, mask: NeuronMask) -> list[str]:
    """Names of the biases that a constant goes into, where there are such already."""
    places = [place_of(model, name) for name, kept in mask.items() if not kept.all()]
    return [place.bias for place in places if place.bias is not None]


def _settings(model: nn.Module) -> dict[str, Any]:
    """The settings of a model's configuration, where it has one."""
    return model.config.to_dict() if isinstance(model, PreTrainedModel) else {}


def _check_place(model: nn.Module, piece: Piece, made_for: str) -> None:
    """Refuse a model that the values did not come from."""
    name, values = piece.parameter, piece.values
    try:
        parameter = read_parameter(model, name)
    except AttributeError as error:
        raise MaskError(
            f"The weights were removed from `{made_for}`, but this model has no `{name}`. Restore that one."
        ) from error
    if parameter.dtype != values.dtype:
        raise MaskError(
            f"The removed values of `{name}` are {values.dtype}, but the model is {parameter.dtype}, which does not give the "
            f"original back exactly. Load the model with dtype={values.dtype}."
        )
    if not _fits(parameter, piece):
        raise MaskError(
            f"The removed values of `{name}` do not fit its shape {list(parameter.shape)}: the model is another one, or was "
            "compacted. Restore the checkpoint that the result saved."
        )


def _check_biases(model: nn.Module, removed: RemovedWeights) -> None:
    """Refuse to take away what is no bias that the removal has made, or to switch anything but biases off."""
    settings, own = _settings(model), dict(model.named_parameters())
    strange = [name for name in removed.added if name not in own or not name.endswith(".bias")]
    strange += [name for name in removed.switches if "bias" not in name or settings.get(name) is not True]
    if strange:
        raise MaskError(
            f"The removal must have made the bias or switched on the setting {shown(strange[0])} of `{removed.model}`, "
            "which this model has not. Nothing was put back: load the checkpoint that the result saved."
        )


def _fits(parameter: Tensor, piece: Piece) -> bool:
    """Tell whether a parameter has the places that values came from, and as many values there."""
    try:
        return parameter[piece.index].shape == piece.values.shape
    except IndexError:
        return False


def _bits(tensor: Tensor) -> int:
    """The sum of a tensor's elements, each read as an integer of its size."""
    return int(tensor.contiguous().view(INTEGER[tensor.element_size()]).sum(dtype=torch.int64))


def _wrapped(total: int) -> int:
    """A number modulo 2^64, as a signed one, which is how tensors of int64 overflow."""
    return (total + 2**63) % 2**64 - 2**63
