"""Layers of which nothing is left are taken out of a model, and the others move up.

A layer whose attention and FFN write nothing hands on what it was given, as long as both add to the residual stream. Where
their output projections have biases, it adds a constant, which then goes into the bias of the layer before it. Whether that is
so is not read off the class of a model: the shorter one is compared with the masked one before it is handed over.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.meta_models import shapes_of, skeleton
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import place_of
from hf_untangle.compaction.assemble import Rename, assemble
from hf_untangle.compaction.config_changes import layers_apart
from hf_untangle.compaction.verify import ends_match
from hf_untangle.masks.mask import NeuronMask

logger = logging.getLogger("hf_untangle")

COUNTS = re.compile(r"layers?$|blocks?$|depth$")
"""Settings that say how many layers there are."""
NUMBERS = re.compile(r"layers?$|layer_ids$|indices$|layers_idx$")
"""Settings that list the numbers of some layers, such as `mlp_only_layers`."""
FIRST = ("first_k_dense_replace", "num_dense_layers", "max_window_layers")
"""Settings that say of how many of the first layers something holds."""


@dataclass(frozen=True, eq=False)
class Shorter:
    """A model without the layers of which nothing was left."""

    model: PreTrainedModel
    groups: tuple[NeuronGroup, ...]
    mask: NeuronMask
    """Which neurons stay, of the layers that are left."""


def empty_layers(groups: tuple[NeuronGroup, ...], mask: NeuronMask) -> dict[str, list[int]]:
    """List the layers all of whose neurons are removed.

    Args:
        groups: The neuron groups of a model.
        mask: Which neurons stay, of every group.

    Returns:
        Numbers of layers, by the path of their stack, in increasing order; a stack keeps at least its first layer.
    """
    full = {(group.stack, group.layer) for group in groups if mask[group.name].any()}
    empty = sorted({(group.stack, group.layer) for group in groups} - full)
    stacks = {group.stack for group in groups}
    found = {stack: [layer for own, layer in empty if own == stack] for stack in stacks}
    sizes = {stack: len({group.layer for group in groups if group.stack == stack}) for stack in stacks}
    return {stack: layers[len(layers) == sizes[stack] :] for stack, layers in found.items() if layers}


def without_layers(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], mask: NeuronMask) -> Shorter:
    """Take the layers out of which all neurons are removed.

    Args:
        model: The model, which is left as it was, and shares its tensors with the shorter one.
        groups: Its neuron groups.
        mask: Which neurons stay, of every group.

    Returns:
        The shorter model. Where a stack cannot do without a layer (something else in it works on the hidden states, or no
        setting says how many layers there are), it keeps all of them, and a warning says so.
    """
    shorter = Shorter(model, groups, mask)
    for stack, layers in empty_layers(groups, mask).items():
        found = _without(shorter, stack, layers)
        if found is None:
            logger.warning(
                "Layers of `%s` from which everything was removed keep their place: without them this %s would compute "
                "something else, or no setting says how many there are.",
                stack,
                type(model).__name__,
            )
        else:
            shorter = found
    return shorter


def shorter_config(
    model_class: type[PreTrainedModel], config: PreTrainedConfig, stack: str, layers: Iterable[int]
) -> PreTrainedConfig | None:
    """Find the configuration of a model without some of its layers, by trying what may say how many there are.

    Args:
        model_class: The class of the model.
        config: Its configuration.
        stack: Path of the stack.
        layers: Numbers of the layers that go.

    Returns:
        The configuration; None where no setting makes such a model.
    """
    before = shapes_of(skeleton(model_class, config))
    kept = _kept(before, stack, layers)
    rename = renumbered(stack, kept)
    wanted = {new: shape for name, shape in before.items() if (new := rename(name)) is not None}
    for changed in _candidates(config, kept, len(kept) + len(set(layers))):
        try:
            changed.validate()
            made = skeleton(model_class, changed)
            made.initialize_weights()
        except Exception:  # Constructors refuse in ways of their own, and any of them means no.
            continue
        if shapes_of(made) == wanted:
            return changed
    return None


def renumbered(stack: str, kept: list[int]) -> Rename:
    """Say what tensors are called when some layers of a stack are gone.

    Args:
        stack: Path of the stack.
        kept: Numbers of the layers that stay.

    Returns:
        A function of a name, which gives None for those of layers that go.
    """
    new = {old: number for number, old in enumerate(kept)}
    start = f"{stack}."

    def rename(name: str) -> str | None:
        if not name.startswith(start):
            return name
        number, dot, rest = name.removeprefix(start).partition(".")
        if not number.isdigit():
            return name
        return f"{start}{new[int(number)]}{dot}{rest}" if int(number) in new else None

    return rename


def _without(whole: Shorter, stack: str, layers: list[int]) -> Shorter | None:
    """The model without some layers of a stack; None where that is another function than the masked one's."""
    model, groups, mask = whole.model, whole.groups, whole.mask
    config = shorter_config(type(model), model.config, stack, layers)
    if config is None:
        return None
    kept = _kept(shapes_of(model), stack, layers)
    rename = renumbered(stack, kept)
    small = assemble(model, config, {}, rename)
    if not _constants_moved_(small, model, groups, stack, layers):
        return None
    left = neuron_groups(small)
    own = {new: stays for name, stays in mask.items() if (new := rename(name)) is not None}
    everything = NeuronMask.keep_all(left, mask.model, mask.ablation, mask.revision)
    rest = everything.with_kept(everything.kept | own)
    return Shorter(small, left, rest) if ends_match(model, mask, small, rest) else None


def _kept(names: Iterable[str], stack: str, gone: Iterable[int]) -> list[int]:
    """The numbers of the layers of a stack that stay."""
    inside = (name.removeprefix(f"{stack}.").partition(".")[0] for name in names if name.startswith(f"{stack}."))
    return sorted({int(number) for number in inside if number.isdigit()} - set(gone))


def _candidates(config: PreTrainedConfig, kept: list[int], before: int) -> Iterator[PreTrainedConfig]:
    """Configurations with fewer layers: one for each setting that may be their number, and one for all of these together."""
    values = vars(config.get_text_config())
    counts = [name for name, value in values.items() if type(value) is int and value == before and COUNTS.search(name)]
    for names in [*([name] for name in counts), counts] if counts else []:
        changed = deepcopy(config)
        text = changed.get_text_config()
        own = layers_apart(config)
        for name, value in (_of_kept_layers(values, kept, before) | dict.fromkeys(names, len(kept))).items():
            setattr(text, name, value)
        if own:
            text.per_layer_config = {number: own[old] for number, old in enumerate(kept) if old in own}
        yield changed


def _of_kept_layers(values: dict[str, Any], kept: list[int], before: int) -> dict[str, Any]:
    """What settings say of the layers that stay: lists of one value per layer, numbers of layers, and how many of the first."""
    new = {old: number for number, old in enumerate(kept)}
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, (list, tuple)) and len(value) == before:
            changed[name] = type(value)(value[old] for old in kept)
        elif isinstance(value, list) and NUMBERS.search(name) and all(type(one) is int and 0 <= one < before for one in value):
            changed[name] = [new[one] for one in value if one in new]
        elif name in FIRST and type(value) is int:
            changed[name] = sum(old < value for old in kept) + max(0, value - before)
    return changed


def _constants_moved_(
    small: PreTrainedModel, model: PreTrainedModel, groups: tuple[NeuronGroup, ...], stack: str, gone: list[int]
) -> bool:
    """Add the biases of layers that go to the bias of the last layer before them that stays; False where there is none."""
    own = [group for group in groups if group.stack == stack]
    biases = {group.name: place_of(model, group.name).bias for group in own}
    moved: dict[str, Tensor] = {}
    kept = _kept(shapes_of(model), stack, gone)
    for group in own:
        name = biases[group.name]
        if group.layer not in gone or name is None or not model.get_parameter(name).any():
            continue
        before = [one for one in own if one.layer in kept and one.layer < group.layer and biases[one.name] is not None]
        if not before or group.experts is not None or before[-1].experts is not None:
            return False
        last = biases[before[-1].name]
        assert last is not None
        moved[last] = moved.get(last, model.get_parameter(last).detach()) + model.get_parameter(name).detach()
    rename = renumbered(stack, kept)
    with torch.no_grad():
        for name, bias in moved.items():
            path, _, leaf = str(rename(name)).rpartition(".")
            setattr(small.get_submodule(path), leaf, nn.Parameter(bias, model.get_parameter(name).requires_grad))
    return True
