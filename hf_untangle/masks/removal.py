"""Making a mask permanent: a removed neuron is neither computed nor read any more."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import matrix_of
from hf_untangle.errors import MaskError
from hf_untangle.masks.mask import NeuronMask

EDITABLE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Dtypes whose zeros mean zero; those of quantised weights depend on scales that lie elsewhere."""


@dataclass(frozen=True, eq=False)
class Slice:
    """What belongs to removed neurons in one projection: columns that read them, or rows or biases that compute them."""

    projection: str
    """Its path, or that of the parameter that holds those of all experts."""
    part: Literal["weight", "bias"]
    axis: Literal[1, 2]
    """Of `Matrix`: 1 for outputs, which are rows and biases, and 2 for inputs, which are columns."""
    numbers: Int[Tensor, " number"]
    """Which of them, counted through all experts, on the CPU."""

    def view(self, model: nn.Module) -> Shaped[Tensor, "expert ..."]:
        """The whole part of a model that the slice is cut from.

        Args:
            model: The model.

        Returns:
            A view, so that writing to it writes to the model.

        Raises:
            AttributeError: The model has no such part.
        """
        matrix = matrix_of(model, self.projection)
        found = matrix.weight if self.part == "weight" else matrix.bias
        if found is None:
            raise AttributeError(f"`{self.projection}` has no bias")
        return found

    def place(self, view: Shaped[Tensor, "expert ..."]) -> tuple[Tensor | slice, ...]:
        """Where the slice lies in its part.

        Args:
            view: What `view` gave.

        Returns:
            An index of it, by which values are read and written with one row for each number.
        """
        numbers, width = self.numbers.to(view.device), view.shape[self.axis]
        return (numbers // width, *[slice(None)] * (self.axis - 1), numbers % width)


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
        view = part.view(model)
        view[part.place(view)] = 0
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
            _check_editable(matrix_of(model, path).parameter, path)


def removed_parameters(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> int:
    """Count the weights and biases that `remove_` sets to zero.

    Args:
        model: The model.
        mask: Which neurons stay.
        groups: The neuron groups of the model.

    Returns:
        The number of single parameters.
    """
    slices = [(part, part.view(model)) for part in removed_slices(model, mask, groups)]
    return sum(len(part.numbers) * view[0].numel() // view.shape[part.axis] for part, view in slices)


def removed_slices(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> Iterator[Slice]:
    """Find what belongs to removed neurons: what reads them, and what computes them and nothing else.

    Args:
        model: The model.
        mask: Which neurons stay.
        groups: The neuron groups of the model.

    Yields:
        The slices; a fused projection may have several.
    """
    by_name = {group.name: group for group in groups}
    for name, kept in mask.items():
        if not kept.all():
            yield Slice(name, "weight", 2, (~kept).nonzero().flatten())
            for producer in by_name[name].producers:
                rows = producer.rows_needed_by_none(kept)
                yield Slice(producer.name, "weight", 1, rows)
                if matrix_of(model, producer.name).bias is not None:
                    yield Slice(producer.name, "bias", 1, rows)


def _check_editable(weight: Tensor, name: str) -> None:
    """Refuse weights that are quantised or not loaded."""
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
