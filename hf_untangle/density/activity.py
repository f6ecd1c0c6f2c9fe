"""How much of a network's neurons is in use while it runs: dead ones, sparsity, and effective rank."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.density.weight_scores import channel_axis
from hf_untangle.errors import ArchitectureError, StatisticsError
from hf_untangle.statistics.moments import MomentAccumulator, Moments

DEAD = 0.01
"""A neuron is dead when its root mean square is at most this share of its layer's mean."""
ROWS = 512
"""Tokens, images or positions that the effective rank of a layer is computed from, the first ones, so that it costs little."""


@dataclass(frozen=True)
class Activity:
    """What the neurons of a network do, as means over its layers."""

    dead: float
    """Share of neurons that (almost) never do anything."""
    sparsity: float
    """Share of activations that are not above zero."""
    effective_rank: float
    """exp of the entropy of the singular values of a layer's activations, normalized to sum to 1: from 1 to its width."""


def activity(model: nn.Module, run: Callable[[nn.Module], object]) -> Activity:
    """Watch a network while it runs.

    Neurons are those of `neuron_groups` where the model has any: the inputs of output projections. In every other model they
    are what linear and convolutional layers read, except for the first one, which reads the data.

    Args:
        model: The network.
        run: Runs it.

    Returns:
        Means over its layers.

    Raises:
        StatisticsError: Nothing that could be watched ran.
    """
    layers: dict[str, _Layer] = {}

    def watch(name: str, rows: Tensor) -> None:
        layers.setdefault(name, _Layer(rows)).sums.update(rows)

    names = _output_projections(model)
    with _watched(model, names, watch), torch.no_grad():
        run(model)
    # In other models than decoders the first layer that ran reads the data, which is no neuron.
    ran = list(layers.values())[0 if names else 1 :]
    if not ran:
        raise StatisticsError(
            f"Neurons must run to be watched, but no neuron of this {type(model).__name__} did. Let `evaluate` call it."
        )
    moments = [layer.sums.result() for layer in ran]
    return Activity(
        dead=fmean(_dead(one) for one in moments),
        sparsity=fmean(float(1 - (one.positive / one.count).mean()) for one in moments),
        effective_rank=fmean(effective_rank(layer.sample) for layer in ran),
    )


class _Layer:
    """The sums of one layer, and its first rows."""

    def __init__(self, rows: Float[Tensor, "row neuron"]) -> None:
        self.sums = MomentAccumulator(rows.shape[-1], rows.device)
        self.sample = rows[:ROWS].float().clone()


def effective_rank(rows: Float[Tensor, "row neuron"]) -> float:
    """How many dimensions rows use: exp(-sum p log p), with p the singular values over their sum (Roy and Vetterli 2007).

    Args:
        rows: Activations.

    Returns:
        From 1, all rows lie on a line, to the smaller side of the matrix; 0 for nothing but zeros.
    """
    values = torch.linalg.svdvals(rows.double().cpu())
    if not values.sum():
        return 0.0
    return float(torch.special.entr(values / values.sum()).sum().exp())


def _dead(moments: Moments) -> float:
    """The share of neurons that hardly ever move."""
    size = (moments.square / moments.count).sqrt()
    return float((size <= DEAD * size.mean()).double().mean())


def _output_projections(model: nn.Module) -> set[str]:
    """The modules that read the neurons of a decoder; nothing for any other model. Fused experts are left out."""
    if not isinstance(model, PreTrainedModel):
        return set()
    try:
        return {group.name for group in neuron_groups(model) if group.experts is None}
    except ArchitectureError:
        return set()


@contextmanager
def _watched(model: nn.Module, names: set[str], watch: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Show what the named layers read, or all linear and convolutional ones, as rows of channels."""

    def observe(name: str, axis: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, args: watch(name, args[0].detach().movedim(axis, -1).flatten(0, -2))

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if (axis := channel_axis(module)) is not None and (not names or name in names):
                hooks.callback(module.register_forward_pre_hook(observe(name, axis)).remove)
        yield
