"""Models that carry a peft adapter: the model below it, and the neurons of that model."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, cast

from torch import nn
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.errors import MaskError

WRAPPED = ".base_layer"
"""How peft names the projection that an adapter's layer took the place of."""


def model_below(model: nn.Module) -> PreTrainedModel:
    """Find the model that an adapter was put on.

    Args:
        model: A model, with an adapter of peft or without.

    Returns:
        The model below, whose layers the adapter's stand in; the model itself where there is no adapter.
    """
    return cast(Any, model).get_base_model() if hasattr(model, "get_base_model") else cast(PreTrainedModel, model)


def groups_below(model: nn.Module) -> tuple[NeuronGroup, ...]:
    """Find the neurons of a model that may carry an adapter, named as they are without it.

    Args:
        model: A model, with an adapter of peft or without.

    Returns:
        The neuron groups of the model below.
    """
    with ExitStack() as stack:
        if hasattr(model, "disable_adapter"):
            stack.enter_context(cast(Any, model).disable_adapter())
        return tuple(map(_named_as_without, neuron_groups(model_below(model))))


def _named_as_without(group: NeuronGroup) -> NeuronGroup:
    """Name a group and its producers by the places of their projections in the model below."""
    producers = tuple(replace(producer, name=producer.name.removesuffix(WRAPPED)) for producer in group.producers)
    return replace(group, name=group.name.removesuffix(WRAPPED), producers=producers)


def low_rank_factors(model: nn.Module, name: str, which: Literal["lora_A", "lora_B"]) -> list[nn.Module]:
    """List one factor of every low-rank adapter on a projection.

    Args:
        model: The model below the adapters.
        name: Path of the projection, or of a parameter that holds one an expert.
        which: The factor A, which reads, or B, which writes.

    Returns:
        The factors, which are projections themselves; none where there is no adapter.

    Raises:
        MaskError: There is an adapter, and it is no plain LoRA.
    """
    projection = getattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
    if not hasattr(projection, "base_layer"):
        return []
    # DoRA divides each row by its norm, and that of a removed row is zero.
    if not hasattr(projection, which) or len(getattr(projection, "lora_magnitude_vector", {})):
        raise MaskError(
            f"Removed neurons can be held at zero under LoRA adapters alone, but `{name}` carries a "
            f"{type(projection).__module__.split('.')[-2]} layer of another form. Use `LoraConfig` without DoRA."
        )
    return list(getattr(projection, which).values())
