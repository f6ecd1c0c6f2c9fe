"""Whole experts taken out of a mixture: their weights, and their rows in the router, which then chooses among the others."""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import TypeVar, cast

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.meta_models import Shapes, skeleton
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.routers import routed_groups
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.wrappers import check_without_adapters
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.compaction.assemble import assemble
from hf_untangle.compaction.edits import Edit, Edits
from hf_untangle.compaction.target_widths import mask_of_all
from hf_untangle.compaction.verify import unrouted_matches
from hf_untangle.errors import CompactionError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_in_memory
from hf_untangle.masks.unrouted import experts_kept
from hf_untangle.models import name_and_revision

Model = TypeVar("Model", bound=nn.Module)
EXPERTS, CHOSEN = re.compile(r"expert|moe"), re.compile(r"experts?_per_tok|top_?k_experts|moe_top_?k|moe_k")
"""Settings that may say how many experts there are, and how many a token is sent to."""


@checked_arguments
@all_or_nothing
@torch.no_grad()
def cut_experts(model: Model | ModelName, mask: NeuronMask) -> Model:
    """Take the experts out all of whose neurons are removed, and let the routers choose among the others.

    This is another function than that of the masked model, where a token may still be sent to a removed expert, and gets
    nothing from it. Each layer keeps the same number of experts. Before the model is handed over, its outputs are compared with
    those of the given one whose routers cannot choose the experts that go.

    Args:
        model: A model from transformers, in floating point, whose experts lie in one tensor for each layer. It is left as it
            was, and shares its untouched tensors with the new one. A name or path is loaded.
        mask: Which neurons stay; an expert goes when none of its own do. Other removed neurons are not touched.

    Returns:
        The smaller model.

    Raises:
        MaskError: The mask is not this model's, or the weights are quantized or not loaded.
        CompactionError: No expert is removed, layers would differ in their number, or the routing depends on which there are.
    """
    model = opened(model)
    check_without_adapters(model)
    assert isinstance(model, PreTrainedModel)
    groups = neuron_groups(model)
    check_in_memory(model, groups)
    mask = mask_of_all(mask, groups, *name_and_revision(model))
    kept = _kept_experts(model, groups, mask)
    config, after = _config_with(model, kept)
    small = assemble(model, config, _edits(model, kept, after))
    if not unrouted_matches(model, groups, mask, small):
        raise CompactionError(
            f"The router of this {type(model).__name__} must choose among the experts that stay as it did among all, but it "
            "does not: it chooses in groups of experts, or by something that is not understood. Take neurons out of experts "
            "instead (unit='neurons')."
        )
    return cast(Model, small)


def _kept_experts(
    model: PreTrainedModel, groups: tuple[NeuronGroup, ...], mask: NeuronMask
) -> dict[str, Bool[Tensor, " expert"]]:
    """Which experts stay, by the path of their layer; as many in each."""
    routed = routed_groups(model, groups)
    if not routed:
        raise CompactionError(
            f"Experts can be taken out where those of a layer lie in one tensor, but this {type(model).__name__} has none that "
            "do."
        )
    kept = {f"{group.stack}.{group.layer}.": experts_kept(group, mask) for group in routed}
    counts = sorted({int(one.sum()) for one in kept.values()})
    total = routed[0].experts
    if len(counts) > 1 or counts[0] in (0, total):
        raise CompactionError(
            f"Each layer must keep the same number of its {total} experts, fewer than all and at least one, but the mask keeps "
            f"{' or '.join(map(str, counts))}. Remove all neurons of as many experts of every layer."
        )
    return kept


def _config_with(model: PreTrainedModel, kept: dict[str, Tensor]) -> tuple[PreTrainedConfig, Shapes]:
    """The configuration in which there are fewer experts, and the shapes that it makes."""
    one = next(iter(kept.values()))
    before, count = _shapes(model), int(one.sum())
    _check_enough(model, count)
    for config in _candidates(model.config, len(one), count):
        try:
            config.validate()
            made = skeleton(type(model), config)
            made.initialize_weights()
        except Exception:  # Constructors refuse in ways of their own, and any of them means no.
            continue
        after = _shapes(made)
        if after.keys() == before.keys() and _explained(before, after, kept):
            return config, after
    raise CompactionError(
        f"The configuration of this {type(model).__name__} must have a setting for {count} experts instead of {len(one)}, but "
        "none makes such a model. Take neurons out of experts instead (unit='neurons')."
    )


def _check_enough(model: PreTrainedModel, count: int) -> None:
    """Refuse to keep fewer experts than a token is sent to."""
    values = vars(model.config.get_text_config())
    each = {name: value for name, value in values.items() if type(value) is int and value > count and CHOSEN.search(name)}
    if each:
        name, value = next(iter(each.items()))
        raise CompactionError(
            f"A token is sent to {value} experts of a layer (`{name}`), so that as many must stay, but the mask keeps {count}. "
            "Keep more experts."
        )


def _candidates(config: PreTrainedConfig, before: int, after: int) -> Iterator[PreTrainedConfig]:
    """Configurations in which one of the settings that may be the number of experts is smaller, then all of them."""
    values = vars(config.get_text_config())
    names = [name for name, value in values.items() if type(value) is int and value == before and EXPERTS.search(name)]
    for some in [*([name] for name in names), names] if names else []:
        changed = deepcopy(config)
        for name in some:
            setattr(changed.get_text_config(), name, after)
        yield changed


def _shapes(model: nn.Module) -> Shapes:
    """Shapes of all parameters and buffers."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tuple(one.shape) for name, one in tensors}


def _layer(name: str, kept: dict[str, Tensor]) -> Tensor | None:
    """Which experts stay of the layer that a tensor is in."""
    return next((own for layer, own in kept.items() if name.startswith(layer)), None)


def _explained(before: Shapes, after: Shapes, kept: dict[str, Tensor]) -> bool:
    """Tell whether every tensor is as before, or has lost the first numbers of experts that go; some must have."""
    changed = [name for name in before if before[name] != after[name]]
    for name in changed:
        own = _layer(name, kept)
        if own is None or before[name][1:] != after[name][1:]:
            return False
        if (before[name][0], after[name][0]) != (len(own), int(own.sum())):
            return False
    return all(any(name.startswith(layer) for name in changed) for layer in kept)


def _edits(model: nn.Module, kept: dict[str, Tensor], after: Shapes) -> Edits:
    """What becomes of the experts, of the rows of the router, and of its biases."""
    edits: Edits = {}
    for name, shape in _shapes(model).items():
        own = _layer(name, kept)
        if own is not None and shape != after[name]:
            edits[name] = Edit(stays=[(0, own.nonzero().flatten())])
    return edits
