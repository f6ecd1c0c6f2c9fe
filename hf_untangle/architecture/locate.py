"""Find the neurons of a model: every FFN down projection and attention output projection, with what computes them."""

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from hf_untangle.architecture.ancestry import Lineage, lineages, output_projections
from hf_untangle.architecture.experts import experts_of
from hf_untangle.architecture.heads import stated_heads
from hf_untangle.architecture.inputs import dummy_inputs
from hf_untangle.architecture.modes import evaluation_mode
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.producers import (
    SEQUENCES,
    attention_producers,
    confirmed,
    elementwise_producers,
    expert_producers,
    half_silenced,
    value_codes,
    write_neutral,
)
from hf_untangle.architecture.projections import neurons_read
from hf_untangle.architecture.trace import Call, find_blocks, trace
from hf_untangle.errors import ArchitectureError


def neuron_groups(model: nn.Module) -> tuple[NeuronGroup, ...]:
    """Find every neuron of a model.

    A projection inside a block is an output projection exactly when it writes the width of the residual stream and reads
    only what other projections of its block computed, never the residual stream itself. It belongs to attention when what
    it reads at one position depends on other positions, and to an FFN otherwise. Both are read off one forward pass on
    dummy inputs (see `trace`), so that nothing is known here about particular models.

    Args:
        model: A model from transformers, on a real device.

    Returns:
        The neuron groups in the order in which they run.

    Raises:
        ArchitectureError: The model has no weights yet (meta device), or no neurons were found in it.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ArchitectureError(
            "The model must have its weights loaded, but some of them are on the meta device. Load it whole with "
            "`from_pretrained`, without offloading, or call `to_empty` and `load_state_dict` first."
        )
    groups: tuple[NeuronGroup, ...] = ()
    # Gradients are what everything is read off, also where the caller has switched them off.
    if find_blocks(model):
        with evaluation_mode(model), torch.inference_mode(False), torch.enable_grad():
            groups = _traced_groups(model)
    if not groups:
        raise ArchitectureError(
            f"No neurons were found in {type(model).__name__}: no stack of layers in it has a projection back to the "
            "residual stream that reads what other projections of its layer computed."
        )
    return groups


def _traced_groups(model: nn.Module) -> tuple[NeuronGroup, ...]:
    """Find the groups from three kinds of passes: who is who, which value row arrives where, and whether that is right."""
    neutral = trace(model, dummy_inputs(model, 1), write_neutral)
    everyone = lineages(neutral)
    projections = output_projections(everyone)
    coded = _coded_passes(model, projections)
    found = [_group(model, one, [calls[one.call.name] for calls in coded]) for one in projections]
    groups = [_without_shared_rows(group, everyone) for group in found if group is not None]
    write, silent = half_silenced(groups)
    with torch.no_grad():
        halved = trace(model, dummy_inputs(model, 1), write).named()
    calls = neutral.named()
    return tuple(
        group
        if group.experts or confirmed(group, silent[group.name], calls[group.name], halved[group.name])
        else replace(group, producers=())
        for group in groups
    )


def _coded_passes(model: nn.Module, projections: list[Lineage]) -> list[dict[str, Call]]:
    """Run the passes in which values are codes, one for each projection of a layer that may be the values."""
    turns = max((len(one.averaged) for one in projections if one.ancestors), default=0)
    with torch.no_grad():
        return [trace(model, dummy_inputs(model, SEQUENCES), value_codes(projections, turn)).named() for turn in range(turns)]


def _group(model: nn.Module, projection: Lineage, coded: list[Call]) -> NeuronGroup | None:
    """Put a group together; None for a way of mixing positions that has no neurons of its own."""
    call, size = projection.call, projection.call.neurons.shape[-1]
    make = partial(NeuronGroup, name=call.name, layer=call.block.layer, stack=call.block.stack)
    experts = experts_of(model, call.name)
    if experts is not None:
        number, producers = expert_producers(model, call.name, experts)
        return make(kind="ffn", size=neurons_read(model, call.name), producers=producers, experts=number)
    if not projection.averaged:
        leaves = {one.name: one.output for one in projection.ancestors}
        return make(kind="ffn", size=size, producers=elementwise_producers(call.neurons_at(-1)[0], leaves))
    producers = attention_producers(projection, coded)
    if not producers and not projection.averages_evenly:
        return None
    heads = stated_heads(model, call.name)
    _check_heads(call.name, size, heads)
    return make(kind="attention", size=size, producers=producers, heads=heads)


def _check_heads(name: str, size: int, heads: int | None) -> None:
    """Check that attention neurons divide into heads."""
    if heads is not None and size % heads:
        raise ArchitectureError(
            f"The {size} attention neurons of `{name}` must divide into the {heads} heads that the "
            "configuration states, but they do not. Is the configuration this model's own?"
        )


def _without_shared_rows(group: NeuronGroup, everyone: list[Lineage]) -> NeuronGroup:
    """Leave rows out that other projections read too, such as values that a later layer reads again."""
    others = [one for one in everyone if one.call.name != group.name]
    shared = any(one.reads(producer.name, producer.rows) for one in others for producer in group.producers)
    return replace(group, producers=()) if shared else group
