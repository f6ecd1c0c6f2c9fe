"""Whole neurons of a decoder: the lowest scores are silenced by a mask, and no weight is written to."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.neurons import KINDS, NeuronGroup
from hf_untangle.architecture.projections import input_axis, weight_of
from hf_untangle.density.settings import SweepSettings
from hf_untangle.density.units import Removal, Units
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.importance.functions import root_mean_square
from hf_untangle.masks.apply import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import removed_parameters
from hf_untangle.masks.select import Scope, remove_top
from hf_untangle.statistics.hooks import observed
from hf_untangle.statistics.moments import MomentAccumulator

NeuronScores = Mapping[str, Float[Tensor, " neuron"]]
"""One score a neuron, by the name of its group."""


def neuron_units(model: nn.Module, settings: SweepSettings, scores: NeuronScores, groups: tuple[NeuronGroup, ...]) -> Units:
    """Take neurons as what may go, an equal share of FFN and of attention neurons.

    Args:
        model: A decoder.
        settings: The scope.
        scores: The ranking; the lowest of a kind, or of a group, go first.
        groups: The neuron groups of the model.

    Returns:
        The neurons. Their parameters are the weights and biases that belong to them alone.

    Raises:
        ConfigError: The scores are not this model's.
    """
    whole = NeuronMask.keep_all(groups, getattr(model, "name_or_path", type(model).__name__))
    if any(name not in scores or scores[name].shape != kept.shape for name, kept in whole.items()):
        sizes = {name: len(kept) for name, kept in whole.items()}
        raise ConfigError(f"scores must hold one number for each neuron of every group ({sizes}), but others came.")
    lowest_first = {name: -scores[name].cpu() for name in whole}
    scope: Scope = "layer" if settings.scope == "layer" else "global"

    @contextmanager
    def without(share: float) -> Iterator[Removal]:
        mask = remove_top(whole, lowest_first, groups, dict.fromkeys(KINDS, share), scope=scope)
        with masked(model, mask):
            yield Removal({name: int((~kept).sum()) for name, kept in mask.items()}, removed_parameters(model, mask, groups))

    nothing = whole.with_kept({name: torch.zeros_like(kept) for name, kept in whole.items()})
    sizes = {name: len(kept) for name, kept in whole.items()}
    return Units(sizes, removed_parameters(model, nothing, groups), {}, without)


def score_neurons(
    model: nn.Module, groups: tuple[NeuronGroup, ...], settings: SweepSettings, run: Callable[[nn.Module], object]
) -> NeuronScores:
    """Score every neuron by the weights that read it, by those times its activation, or by chance.

    `magnitude` is the norm of the neuron's column in the output projection; `wanda` is that times the root mean square
    of the neuron, which is the size of what it writes.

    Args:
        model: A decoder.
        groups: Its neuron groups.
        settings: The score and, for chance, the seed.
        run: Runs the model on what activations are taken from.

    Returns:
        The scores.
    """
    if settings.score == "random":
        generator = torch.Generator().manual_seed(settings.seed)
        return {group.name: torch.rand(group.size, generator=generator) for group in groups}
    norms = {group.name: _column_norms(model.get_submodule(group.name)) for group in groups}
    if settings.score == "magnitude":
        return norms
    sizes = _root_mean_squares(model, groups, run)
    return {name: norm * sizes[name] for name, norm in norms.items()}


def _column_norms(projection: nn.Module) -> Float[Tensor, " neuron"]:
    """The norm of all weights that read a neuron."""
    return weight_of(projection).detach().float().norm(dim=1 - input_axis(projection)).cpu()


def _root_mean_squares(
    model: nn.Module, groups: tuple[NeuronGroup, ...], run: Callable[[nn.Module], object]
) -> dict[str, Float[Tensor, " neuron"]]:
    """The root mean square of every neuron while the model runs."""
    sums: dict[str, MomentAccumulator] = {}

    def add(group: NeuronGroup, activations: Tensor) -> None:
        if group.name not in sums:
            sums[group.name] = MomentAccumulator(group.size, activations.device)
        sums[group.name].update(activations.flatten(0, -2))

    with observed(model, groups, add):
        run(model)
    if silent := [group.name for group in groups if group.name not in sums]:
        raise StatisticsError(
            f"Every neuron group must run to be scored by `wanda`, but `{silent[0]}` did not. Evaluate (or calibrate) by calls "
            "of the model itself."
        )
    moments = {name: accumulator.result() for name, accumulator in sums.items()}
    return {name: root_mean_square(moment).float() for name, moment in moments.items()}
