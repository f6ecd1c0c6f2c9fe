"""Other choices of the same size as a plan's: at random, and by the smallest weights. And how a choice is tried out."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.importance.observations import Observations
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.masks.ablation import Constants
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like, top_like
from hf_untangle.masks.unrouted import unrouted
from hf_untangle.pruning.plan import PrunePlan


def random_mask(plan: PrunePlan, seed: int) -> NeuronMask:
    """Draw a mask that removes as many units as a plan: neurons of every group, heads and experts of every layer, or layers.

    Args:
        plan: The plan.
        seed: For the draw.

    Returns:
        The mask.
    """
    choice, everything = plan.choice, _everything(plan)
    if choice.order is not None:
        generator = torch.Generator().manual_seed(seed)
        drawn = {group.name: torch.rand(group.size, generator=generator, dtype=torch.float64) for group in plan.groups}
        layers = torch.rand(len(choice.order.layers), generator=generator)
        return choice.order.like(drawn, layers).mask(choice.layouts[0].cut)
    if choice.units is None:
        return random_like(plan.mask, seed)
    return choice.units.without(everything, choice.units.random_like(choice.gone, seed))


def smallest_mask(plan: PrunePlan) -> NeuronMask:
    """Choose a mask of the size of a plan that removes the smallest weights.

    Args:
        plan: The plan.

    Returns:
        The mask.
    """
    sizes = {name: IMPORTANCE["magnitude"](Observations(weights=norms)) for name, norms in plan.weights.items()}
    choice = plan.choice
    if choice.order is not None:
        return choice.order.like(sizes, choice.order.layers.sums(sizes)).mask(choice.layouts[0].cut)
    if choice.units is None:
        return _smallest_neurons(plan.mask, sizes)
    return choice.units.without(_everything(plan), choice.units.lowest_like(choice.units.sums(sizes), choice.gone))


def tried_out(
    model: PreTrainedModel, plan: PrunePlan, mask: NeuronMask, constants: Constants | None
) -> AbstractContextManager[nn.Module]:
    """Let a model do inside a `with` block what it will do without what a mask removes.

    Args:
        model: The model.
        plan: The plan, which says what kind of unit goes.
        mask: Which neurons stay.
        constants: What removed neurons read.

    Returns:
        A context: neurons are silenced, or routers pass experts by.
    """
    if plan.config.unit == "experts":
        return unrouted(model, plan.groups, mask)
    return masked(model, mask, constants=constants)


def _everything(plan: PrunePlan) -> NeuronMask:
    """The mask that removes nothing."""
    return NeuronMask.keep_all(plan.groups, plan.mask.model, plan.mask.ablation, plan.mask.revision)


def _smallest_neurons(mask: NeuronMask, sizes: Mapping[str, Tensor]) -> NeuronMask:
    """The mask of equal size that removes the neurons of the smallest weights."""
    scores = {name: -sizes[name] if name in sizes else torch.zeros(len(kept)) for name, kept in mask.items()}
    return top_like(mask, scores)
