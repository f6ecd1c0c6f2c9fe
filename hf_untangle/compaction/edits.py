"""What becomes of a tensor: some rows and columns are set to zero, some stay. Which are zero can be read off the weights."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import Place, place_of
from hf_untangle.errors import CompactionError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import Index, zeros_of

Stays = tuple[int, Int[Tensor, "..."]]
"""An axis that shrinks, and the indices that stay on it, in increasing order: the same for all, or one row per expert."""


@dataclass(eq=False)
class Edit:
    """What becomes of one tensor."""

    zeros: list[Index] = field(default_factory=list)
    """What is set to zero, in the numbers of the old tensor."""
    stays: list[Stays] = field(default_factory=list)

    def apply(self, tensor: Tensor) -> Tensor:
        """Make the new tensor.

        Args:
            tensor: The old one, which is left as it is.

        Returns:
            A tensor of its own, with the zeros in it and without what went.
        """
        edited = tensor.detach().clone()
        for index in self.zeros:
            edited[index] = 0
        for axis, index in self.stays:
            edited = _select(edited, axis, index.to(tensor.device))
        return edited.contiguous()

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Tell the shape of the new tensor.

        Args:
            shape: That of the old one.

        Returns:
            One size an axis.
        """
        smaller = {axis: index.shape[-1] for axis, index in self.stays}
        return tuple(smaller.get(axis, size) for axis, size in enumerate(shape))


Edits = dict[str, Edit]
"""What becomes of the parameters that change, by name."""


def edits_of(model: nn.Module, groups: tuple[NeuronGroup, ...], mask: NeuronMask, stays: dict[str, list[Stays]]) -> Edits:
    """Put removal and cutting together.

    Args:
        model: The model, or its hollow twin.
        groups: Its neuron groups.
        mask: Which neurons stay.
        stays: By parameter: what stays on the axes that shrink.

    Returns:
        An edit for every parameter that changes.
    """
    edits: Edits = {}
    for name, index in zeros_of(model, mask, groups):
        edits.setdefault(name, Edit()).zeros.append(index)
    for name, slices in stays.items():
        edits.setdefault(name, Edit()).stays.extend(slices)
    return edits


def _select(tensor: Tensor, axis: int, index: Int[Tensor, "*expert index"]) -> Tensor:
    """Keep some indices of an axis, which may be others for each expert."""
    if index.ndim == 1:
        return tensor.index_select(axis, index)
    if len(tensor) != len(index):
        raise CompactionError(
            f"Every expert of a tensor must have neurons of its own to be cut, but of its {len(tensor)} experts {len(index)} "
            "have. Keep the neurons as zeros with `remove_`."
        )
    shape = [len(index)] + [1] * (tensor.ndim - 1)
    shape[axis] = index.shape[1]
    return torch.take_along_dim(tensor, index.view(shape), axis)


def removed_neurons(model: nn.Module, groups: tuple[NeuronGroup, ...]) -> NeuronMask:
    """Read off the weights which neurons are removed: those that nothing reads, as their columns are zero.

    Args:
        model: The model.
        groups: Its neuron groups.

    Returns:
        The mask.
    """
    places = {group.name: place_of(model, group.name) for group in groups}
    kept = {name: reads(model.get_parameter(place.weight), place) for name, place in places.items()}
    return NeuronMask.keep_all(groups, getattr(model, "name_or_path", type(model).__name__)).with_kept(kept)


def reads(weight: Tensor, place: Place) -> Bool[Tensor, " neuron"]:
    """Tell which neurons an output projection reads: those with a weight that is not zero.

    Args:
        weight: The weight of the projection, or of those of all experts.
        place: How it is laid out.

    Returns:
        One truth value per neuron, on the CPU.
    """
    return (weight != 0).any(-1 if place.is_transposed else -2).flatten().cpu()
