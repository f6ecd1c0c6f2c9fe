"""Compaction: a smaller model with the logits of the masked one."""

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import Place, place_of
from hf_untangle.compaction.assemble import assemble
from hf_untangle.compaction.law import compact_lawfully
from hf_untangle.compaction.stays import Layout, mask_of_all
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_removable


@torch.no_grad()
def compact(
    model: PreTrainedModel,
    mask: NeuronMask | None = None,
    *,
    layout: Layout = "ragged",
    round_to: int | None = None,
) -> PreTrainedModel:
    """Take removed neurons out of the tensors of a model, so that it is smaller and faster, with the same logits.

    FFN neurons go one by one, attention neurons in whole key-value groups with all of their query heads. A whole FFN that was
    removed gets the width 0 in the ragged layout. What has to keep its place holds zeros, and a warning says so. Before the
    model is handed over, its outputs are compared with those of the masked model on a few tokens.

    Args:
        model: A model from transformers, in floating point. It is left as it was, and shares its untouched tensors with the
            new one.
        mask: Which neurons stay. When None, those that are removed are read off the weights, whose columns are zero.
        layout: `ragged`: every layer is as narrow as it can be; such a checkpoint loads with plain `from_pretrained` once
            `hf_untangle` is imported. `uniform`: all layers get the width of the widest; such a checkpoint needs nothing of
            this package.
        round_to: FFN widths are rounded up to a multiple of this, which fast kernels like: 64, 128 or 256.

    Returns:
        The smaller model.

    Raises:
        MaskError: The mask is not this model's, or the weights are quantised or not loaded.
        CompactionError: The configuration of the model has no setting for such widths, or the layout is impossible.
    """
    groups = neuron_groups(model)
    check_removable(model, groups)
    mask = removed_neurons(model, groups) if mask is None else mask_of_all(mask, groups, str(model.name_or_path))
    return compact_lawfully(model, groups, mask, assemble, layout=layout, round_to=round_to)[0]


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
        One truth value a neuron, on the CPU.
    """
    return (weight != 0).any(-1 if place.is_transposed else -2).flatten().cpu()
