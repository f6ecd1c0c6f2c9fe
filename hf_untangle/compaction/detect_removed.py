"""Which neurons are removed already, as the weights tell."""

from jaxtyping import Bool
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import Place, place_of
from hf_untangle.masks.mask import NeuronMask


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
