"""Holding removed neurons at zero while weights change, those of an adapter included."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.parameters import Index
from hf_untangle.architecture.recomputed import check_not_recomputed
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import zeros_of


@dataclass(frozen=True, eq=False)
class Held:
    """Those entries of one parameter that belong to removed neurons."""

    parameter: Tensor
    """The parameter itself."""
    entries: Index
    """What to index it with."""


def held_parameters(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> list[Held]:
    """List everything that belongs to removed neurons: in the weights, and in a low-rank adapter on them, see `zeros_of`.

    Args:
        model: The model, with an adapter of peft or without.
        mask: Which neurons stay.
        groups: The neuron groups of the model below the adapter.

    Returns:
        The entries, with the parameters themselves.

    Raises:
        MaskError: The mask is not this model's, or an adapter is of another kind than LoRA.
        ArchitectureError: Some weights are computed again whenever the model runs.
    """
    below = model_below(model)
    mask.check_fits(groups, str(getattr(below, "name_or_path", type(below).__name__)))
    check_not_recomputed(below)
    return [Held(below.get_parameter(name), index) for name, index in zeros_of(below, mask, groups)]


class RemovedNeurons:
    """The removed neurons of a model that is being trained, which stay at zero while more of them are removed."""

    def __init__(self, model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> None:
        """Find what belongs to removed neurons, and set it to zero.

        Args:
            model: The model, with an adapter of peft or without, changed in place.
            mask: Which neurons stay.
            groups: The neuron groups of the model below the adapter.

        Raises:
            MaskError: The mask is not this model's, or an adapter is of another kind than LoRA.
        """
        self._model, self._groups = model, groups
        self._originals: list[tuple[Held, Tensor]] = []
        self._held: list[Held] = []
        self.remove_(mask)

    @torch.no_grad()
    def remove_(self, mask: NeuronMask) -> None:
        """Remove what a mask removes, from now on.

        Args:
            mask: Which neurons stay, of those that stayed so far.
        """
        self._held = held_parameters(self._model, mask, self._groups)
        frozen = [each for each in self._held if not each.parameter.requires_grad]
        self._originals += [(each, each.parameter[each.entries].clone()) for each in frozen]
        zero_weights_(self._held)

    @torch.no_grad()
    def return_to_(self, mask: NeuronMask) -> None:
        """Go back to an earlier mask, after a checkpoint of that time was loaded.

        A checkpoint of an adapter does not contain the weights below it, so frozen weights get their own values back.

        Args:
            mask: Which neurons stayed then.
        """
        for each, values in reversed(self._originals):
            each.parameter[each.entries] = values
        self._originals = []
        self.remove_(mask)

    def zero_gradients_(self) -> None:
        """Set the gradients of everything that belongs to removed neurons to zero."""
        zero_gradients_(self._held)

    def zero_weights_(self) -> None:
        """Set everything that belongs to removed neurons to zero."""
        zero_weights_(self._held)


@torch.no_grad()
def zero_weights_(held: Sequence[Held]) -> None:
    """Set some entries to zero.

    Args:
        held: The entries, whose parameters are changed in place.
    """
    for each in held:
        each.parameter[each.entries] = 0


@torch.no_grad()
def zero_gradients_(held: Sequence[Held]) -> None:
    """Set the gradients of some entries to zero, where there are any.

    Args:
        held: The entries, the gradients of whose parameters are changed in place.
    """
    for each in held:
        if each.parameter.grad is not None:
            each.parameter.grad[each.entries] = 0


def all_zero(held: Sequence[Held]) -> bool:
    """Tell whether some entries are exactly zero.

    Args:
        held: The entries.

    Returns:
        True when every one is.
    """
    return not any(bool(each.parameter[each.entries].any()) for each in held)
