"""Find the neurons of a model: every FFN down projection and attention output projection, with what computes them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from hf_untangle.architecture.by_hand import groups_by_hand
from hf_untangle.architecture.compiled import eagerly
from hf_untangle.architecture.config_hints import stated_heads
from hf_untangle.architecture.dataflow import Lineage, lineages, output_projections
from hf_untangle.architecture.dummy_inputs import dummy_inputs
from hf_untangle.architecture.inference_mode import check_ordinary, evaluation_mode
from hf_untangle.architecture.meta_models import twin_of
from hf_untangle.architecture.moe import experts_of
from hf_untangle.architecture.neurons import Kind, NeuronGroup, NeuronGroups
from hf_untangle.architecture.offload import check_loaded
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
from hf_untangle.architecture.sharding import check_whole, comes_and_goes
from hf_untangle.architecture.towers import Tower, check_tower, image_towers, is_inside, named_from_outside
from hf_untangle.architecture.trace import Call, Trace, find_blocks, trace
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.unvisited_experts import with_unvisited_experts
from hf_untangle.architecture.wrappers import WRAPPED, adapters_disabled, model_below
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.errors import ArchitectureError, ConfigError

BY_HAND = (
    'Name the output projections by hand: `neuron_groups(model, named={"model.layers.*.mlp.down_proj": "ffn", '
    '"model.layers.*.attn.o_proj": "attention"})`.'
)


@checked_arguments
@all_or_nothing
def neuron_groups(
    model: nn.Module | ModelName, *, named: Mapping[str, Kind] | None = None, tower: Tower | None = None
) -> NeuronGroups:
    """Find every neuron of a model.

    A projection inside a layer is an output projection exactly when it can be added to the residual stream and reads only
    what other projections computed, never the residual stream itself. It belongs to attention when what it reads at one
    position depends on other positions, and to an FFN otherwise. Experts whose weights lie in one tensor are one group. All
    of it is read off forward passes on dummy inputs (see `trace`), so that next to nothing is known here about particular
    models: encoders, decoders, images and sound go the same way.

    Args:
        model: A model from transformers, with adapters of peft or without: neurons have the names that they have without. Of
            one that is offloaded or sharded, a twin without weights is traced. A name or path is loaded.
        named: The output projections of a model that is not understood, by the pattern of their paths: such as
            `{"model.layers.*.mlp.down_proj": "ffn", "model.layers.*.attn.o_proj": "attention"}`. Nothing is looked for
            then, and what computes the neurons is not known: they can be silenced, and `remove_` zeroes the columns that
            read them.
        tower: Of a model that reads images and text, the layers of `text`, of `vision`, or `all`. When None, those that its
            main input runs through: of LLaVA those of text, of CLIP both.

    Returns:
        The neuron groups in the order in which they run, or are named.

    Raises:
        ConfigError: `tower` is none that there is, or stands beside `named`.
        ArchitectureError: The model has no weights yet (meta device), was taken apart by ZeRO-3, or cannot be run; no
            neurons were found in it or in the tower; or a pattern fits no projection.
    """
    model = opened(model)
    check_whole(model)
    check_loaded(model)
    check_ordinary(model)
    check_tower(tower)
    if tower is not None and named is not None:
        raise ConfigError(f"`named` says which groups are meant, so that `tower` must be left out, got {tower!r}.")
    if named is not None:
        return NeuronGroups(groups_by_hand(model_below(model), named))
    below = model_below(model)
    traced = twin_of(below) if comes_and_goes(below) else below
    # Gradients are what everything is read off, also where the caller has switched them off.
    with eagerly(), adapters_disabled(traced), evaluation_mode(traced), torch.inference_mode(False), torch.enable_grad():
        groups = NeuronGroups(map(_named_as_without_adapter, _groups_of(traced, tower)) if find_blocks(traced) else ())
    if tower and not groups:
        reads = "images" if tower == "vision" else "text"
        raise ArchitectureError(
            f"No layer of {type(below).__name__} reads {reads}, but tower={tower!r} asks for such layers. Leave `tower` out."
        )
    if not groups:
        raise ArchitectureError(
            f"No neurons were found in {type(below).__name__}: no stack of layers in it{_first_layer(below)} has a projection "
            f"back to the residual stream that reads what other projections of its layer computed. {BY_HAND}"
        )
    return groups


def _groups_of(model: nn.Module, tower: Tower | None) -> Iterator[NeuronGroup]:
    """Find the groups of a tower, in the order in which towers run: images first."""
    towers = image_towers(model) if tower else []
    found = _traced_groups(model)
    for path in towers if tower != "text" else ():
        here = [group for group in found if is_inside(group, [path])]
        yield from here or (named_from_outside(group, path) for group in _traced_groups(model.get_submodule(path)))
    yield from (group for group in found if tower != "vision" and not is_inside(group, towers))


def _named_as_without_adapter(group: NeuronGroup) -> NeuronGroup:
    """Name a group and its producers by the places of their projections, where a layer of an adapter may stand now."""
    producers = tuple(replace(producer, name=producer.name.removesuffix(WRAPPED)) for producer in group.producers)
    return replace(group, name=group.name.removesuffix(WRAPPED), producers=producers)


def _first_layer(model: nn.Module) -> str:
    """Name the first layer that something was looked for in."""
    blocks = find_blocks(model)
    return f", such as `{blocks[0].stack}` of {type(model.get_submodule(blocks[0].name)).__name__}," if blocks else ""


def _traced_groups(model: nn.Module) -> tuple[NeuronGroup, ...]:
    """Find the groups from three kinds of passes: roles, which value row arrives where, and whether that is right."""
    neutral = _first_pass(model)
    everyone = lineages(neutral)
    projections = output_projections(model, everyone)
    coded = _coded_passes(model, projections)
    found = [_group(model, one, [calls[one.call.name] for calls in coded]) for one in projections]
    groups = [_without_shared_rows(group, everyone) for group in found if group is not None]
    write, silent = half_silenced(groups)
    with torch.no_grad():
        halved = trace(model, dummy_inputs(model, 1), write).named()
    calls = neutral.named()
    sure = (
        group
        if group.experts or confirmed(group, silent[group.name], calls[group.name], halved[group.name])
        else replace(group, producers=())
        for group in groups
    )
    return with_unvisited_experts(model, sure, calls)


def _first_pass(model: nn.Module) -> Trace:
    """Run the neutral pass, and say what is wrong with a model that does not run."""
    try:
        return trace(model, dummy_inputs(model, 1), write_neutral)
    except ArchitectureError:
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
        raise ArchitectureError(
            f"{type(model).__name__} must run on dummy inputs for its neurons to be found{_first_layer(model)} but it does "
            f"not: {str(error).partition(chr(10))[0]} {BY_HAND}"
        ) from error


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
    if not (producers or projection.attends or projection.averages_evenly):
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
