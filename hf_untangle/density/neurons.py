"""Whole neurons of a decoder: the lowest scores are silenced by a mask, and no weight is written to."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import KINDS, NeuronGroup
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.density.units import Removal, Units
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.importance.observations import Observations
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import removed_parameters
from hf_untangle.masks.select import Scope, remove_top
from hf_untangle.statistics.accumulators import observed
from hf_untangle.statistics.collect import rows_that_count
from hf_untangle.statistics.moments import MomentAccumulator, Moments
from hf_untangle.statistics.weight_norms import weight_norms

NeuronScores = Mapping[str, Float[Tensor, " neuron"]]
"""One score per neuron, by the name of its group."""


def neuron_units(model: nn.Module, settings: SweepConfig, scores: NeuronScores, groups: tuple[NeuronGroup, ...]) -> Units:
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
        raise ConfigError(f"scores must hold one number for each neuron of every group ({sizes}), got others.")
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
    model: nn.Module, groups: tuple[NeuronGroup, ...], settings: SweepConfig, run: Callable[[nn.Module], object]
) -> NeuronScores:
    """Score every neuron by an importance: its `magnitude`, its weights times its activation (`wanda`), or by chance.

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
    norms = weight_norms(model, groups)
    moments = _moments(model, groups, run) if settings.score == "wanda" else {}
    importance = IMPORTANCE[settings.score]
    return {name: importance(Observations(moments.get(name), weights=norm)).float() for name, norm in norms.items()}


def _moments(model: nn.Module, groups: tuple[NeuronGroup, ...], run: Callable[[nn.Module], object]) -> dict[str, Moments]:
    """The moments of every neuron while the model runs."""
    sums, tokens = moments_while(model, groups, run)
    if silent := [group.name for group in groups if group.name not in sums]:
        raise StatisticsError(
            f"Every neuron group must run to be scored by `wanda`, but `{silent[0]}` did not. Evaluate (or calibrate) by calls "
            "of the model itself."
        )
    return {name: accumulator.result(tokens) for name, accumulator in sums.items()}


def moments_while(
    model: nn.Module, groups: tuple[NeuronGroup, ...], run: Callable[[nn.Module], object]
) -> tuple[dict[str, MomentAccumulator], int]:
    """Sum up what neurons do while a model runs, whatever runs it.

    Args:
        model: A decoder.
        groups: The neuron groups to watch.
        run: Runs the model.

    Returns:
        The sums of each group that ran, and how many tokens there were, which experts see only a part of.
    """
    sums: dict[str, MomentAccumulator] = {}
    tokens: Counter[str] = Counter()

    def add(group: NeuronGroup, reading: Reading) -> None:
        rows = rows_that_count(reading, None)
        if group.name not in sums:
            sums[group.name] = MomentAccumulator(group.size, rows.device, experts=group.experts)
        sums[group.name].update(rows, reading.neurons)
        tokens[group.name] += len(rows) if reading.tokens is None else 0

    with observed(model, groups, add):
        run(model)
    return sums, max(tokens.values(), default=0)
