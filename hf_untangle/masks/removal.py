"""Making a mask permanent: a removed neuron is neither computed nor read any more."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import bias_of, input_axis, weight_of
from hf_untangle.errors import MaskError
from hf_untangle.masks.mask import NeuronMask

EDITABLE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Dtypes whose zeros mean zero; those of quantised weights depend on scales that lie elsewhere."""


@dataclass(frozen=True, eq=False)
class Slice:
    """The part of one weight or bias that belongs to removed neurons."""

    parameter: str
    """Name of the parameter in the model."""
    tensor: Tensor
    """The parameter itself."""
    axis: int
    index: Int[Tensor, " index"]
    """Which columns, rows or single biases along the axis, in increasing order, on the parameter's device."""


@torch.no_grad()
def remove_(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> nn.Module:
    """Zero the weights of every masked-out neuron: the columns that read it, and the rows and biases that compute it.

    The logits are those of the masked model. As both sides are zero, so is the gradient of everything that belonged to the
    neuron, and no fine-tuning can grow it back. The exception is an attention neuron under grouped queries whose value row
    serves a kept query head too: its column is zero, but its row stays (`NeuronGroup.shares_rows_with_kept` tells which).

    Args:
        model: The model, changed in place. All of it is checked before any of it is written to.
        mask: Which neurons stay.
        groups: The neuron groups of this model.

    Returns:
        The same model.

    Raises:
        MaskError: The mask is not this model's, or its weights cannot be edited.
    """
    mask.check_fits(groups, getattr(model, "name_or_path", type(model).__name__))
    check_removable(model, groups)
    for part in removed_slices(model, mask, groups):
        part.tensor.index_fill_(part.axis, part.index, 0)
    return model


def check_removable(model: nn.Module, groups: tuple[NeuronGroup, ...]) -> None:
    """Refuse a model whose neurons can be masked, but not removed.

    Args:
        model: The model.
        groups: Its neuron groups.

    Raises:
        MaskError: Some of the weights are quantised, or not loaded.
    """
    for group in groups:
        for path in (group.name, *(producer.name for producer in group.producers)):
            _check_editable(model.get_submodule(path), path)


def removed_parameters(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> int:
    """Count the weights and biases that `remove_` sets to zero.

    Args:
        model: The model.
        mask: Which neurons stay.
        groups: The neuron groups of the model.

    Returns:
        The number of single parameters.
    """
    slices = removed_slices(model, mask, groups)
    return sum(len(part.index) * (part.tensor.numel() // part.tensor.shape[part.axis]) for part in slices)


def removed_slices(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> Iterator[Slice]:
    """Find what belongs to removed neurons: columns that read them, and rows and biases that compute them and nothing else.

    Args:
        model: The model.
        mask: Which neurons stay.
        groups: The neuron groups of the model.

    Yields:
        Parts that do not overlap; a fused projection may have several.
    """
    by_name = {group.name: group for group in groups}
    for name, kept in mask.items():
        if not kept.all():
            projection = model.get_submodule(name)
            yield _slice(f"{name}.weight", weight_of(projection), input_axis(projection), (~kept).nonzero().flatten())
            for producer in by_name[name].producers:
                yield from _rows(producer.name, model.get_submodule(producer.name), producer.rows_needed_by_none(kept))


def _check_editable(projection: nn.Module, name: str) -> None:
    """Refuse weights that are quantised or not loaded."""
    weight = weight_of(projection)
    if weight.dtype not in EDITABLE or type(weight) not in (Tensor, nn.Parameter) or hasattr(weight, "quant_state"):
        raise MaskError(
            f"The weights of `{name}` must be in floating point to be removed, but they are quantised. Try the mask with "
            "`masked(model, mask)`, save it, and remove it from the full-precision checkpoint."
        )
    if weight.is_meta:
        raise MaskError(
            f"The weights of `{name}` must be loaded to be removed, but they are on the meta device (offloaded). Load the "
            "model without offload."
        )


def _rows(name: str, projection: nn.Module, rows: Int[Tensor, " row"]) -> Iterator[Slice]:
    """The weights and biases that compute some outputs."""
    yield _slice(f"{name}.weight", weight_of(projection), 1 - input_axis(projection), rows)
    if (bias := bias_of(projection)) is not None:
        yield _slice(f"{name}.bias", bias, 0, rows)


def _slice(parameter: str, tensor: Tensor, axis: int, index: Int[Tensor, " index"]) -> Slice:
    """A part of a parameter, its index on the same device."""
    return Slice(parameter, tensor, axis, index.to(tensor.device))
