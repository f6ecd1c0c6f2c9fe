"""Which units go, in which order, and how many of them a budget takes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.configs.prune import PruneConfig
from hf_untangle.errors import ConfigError
from hf_untangle.pruning.costs import Prefill, Reduction
from hf_untangle.pruning.influence import influence
from hf_untangle.pruning.routing import routed_norms
from hf_untangle.pruning.scored_model import ScoredModel
from hf_untangle.pruning.unit_sets import UnitSet

SHORTLIST = 10
"""Where units are judged by loss, only so many of the least influence are tried at a time."""


@dataclass(frozen=True, eq=False)
class RankedUnits:
    """Units of one kind, and what each was judged by."""

    units: UnitSet
    scores: Float[Tensor, " unit"]
    """The lowest go first; the influence of each where the loss decides."""
    rounds: Iterator[list[int]] = field(repr=False)
    """Units that go together, in order, each time it is asked for more; one of every pool."""
    losses: dict[int, float] = field(default_factory=dict)
    """By unit that went: the loss of the model without it and those before it, in nats; filled as rounds are asked for."""


def rank(scored: ScoredModel, units: UnitSet) -> RankedUnits:
    """Judge the units of a kind.

    Args:
        scored: The model and the text.
        units: The units.

    Returns:
        The units in the order in which they go. Losses are measured one round at a time, as rounds are asked for: of those
        units whose influence is lowest, the one without which the loss is lowest, given what went before.
    """
    judge = scored.config.judged_by
    if judge == "importance":
        scores = units.sums(scored.importance)
    elif judge == "routing":
        scores = routed_norms(scored.model, scored.groups, units, scored.blocks, **scored.how)
    else:
        scores = influence(scored.model, scored.groups, units, scored.everything, scored.few, **scored.how)
    if judge != "loss":
        return RankedUnits(units, scores, _lowest_first(units, scores))
    losses: dict[int, float] = {}
    return RankedUnits(units, scores, _greedily(scored, units, scores, losses), losses)


def taken(ranking: RankedUnits, config: PruneConfig, needed: int, prefill: Prefill | None) -> list[int]:
    """Take units out, in order, until the budget is spent.

    Args:
        ranking: The units in order.
        config: The settings, with the budget.
        needed: Parameters that have to go for the memory that is asked for.
        prefill: How long passes take, where a speed is asked for.

    Returns:
        Numbers of units, in the order in which they go.

    Raises:
        ConfigError: The budget takes nothing, or more than there is.
    """
    units, gone = ranking.units, list[int]()
    goal = None if prefill is None or config.speed is None else prefill.of(Reduction()) / config.speed
    for some in ranking.rounds:
        if _is_met(units, gone, needed, goal, prefill) or not _allows(units, [*gone, *some], config):
            break
        gone += some
    else:
        _check_met(units, gone, config, met=_is_met(units, gone, needed, goal, prefill))
    if not gone:
        raise ConfigError(
            f"The budget must remove at least one of {len(units):,} {units.kind}, but it rounds to 0, as each layer loses the "
            "same number of heads or experts, and keeps one. Raise it."
            if units.kind in ("heads", "experts")
            else f"The budget must remove at least one of {len(units):,} {units.kind}, but it rounds to 0. Raise it."
        )
    return gone


def _is_met(units: UnitSet, gone: list[int], needed: int, goal: float | None, prefill: Prefill | None) -> bool:
    """Tell whether as much went as has to; never where a budget only says how much may."""
    if prefill is not None and goal is not None:
        layers = len(gone) if units.kind == "layers" else 0
        heads = 0 if units.kind == "layers" else len(gone) // len(units.pools.unique())
        cut = Reduction(layers, heads)
        if heads:
            prefill.measure(cut)
        return prefill.of(cut) <= goal
    return bool(needed) and int(units.parameters[gone].sum()) >= needed


def _allows(units: UnitSet, gone: list[int], config: PruneConfig) -> bool:
    """Tell whether so much may go."""
    if config.memory is not None or config.target is not None:
        return True
    if config.parameters is not None:
        return int(units.parameters[gone].sum()) <= config.parameters
    return len(gone) <= config.ratio * len(units) + 1e-9


def _check_met(units: UnitSet, gone: list[int], config: PruneConfig, *, met: bool) -> None:
    """Refuse a budget for which all that can go is not enough."""
    if (config.memory is not None or config.target is not None) and not met:
        raise ConfigError(
            f"The budget must leave one of the {units.kind}, or one of each layer, but without the other {len(gone):,} the "
            f"model is still larger or slower than {config.memory or config.target}. Ask for less, or choose another unit."
        )


def _lowest_first(units: UnitSet, scores: Float[Tensor, " unit"]) -> Iterator[list[int]]:
    """One unit of every pool at a time, the lowest first, as long as every pool, and every layer, keeps one."""
    spared = {int(own[scores[own].argmax()]) for own in _apart(units)}
    orders = []
    for pool in units.pools.unique():
        inside = (units.pools == pool).nonzero().flatten()
        order = inside[scores[inside].argsort(stable=True)].tolist()
        orders.append([one for one in order if one not in spared])
    for number in range(min(map(len, orders))):
        yield [order[number] for order in orders]


def _apart(units: UnitSet) -> list[Tensor]:
    """The sets of units of which one has to stay each: those of every layer, or all."""
    if units.kind in ("blocks", "layers"):
        return [torch.arange(len(units))]
    return [own.unique() for own in units.of.values()]


def _greedily(
    scored: ScoredModel, units: UnitSet, scores: Float[Tensor, " unit"], losses: dict[int, float]
) -> Iterator[list[int]]:
    """One unit at a time: among those of the least influence, the one without which the loss is lowest."""
    left, gone = scores.argsort(stable=True).tolist(), list[int]()
    while len(left) > 1:
        found = {one: scored.loss(units.without(scored.everything, [*gone, one])) for one in left[:SHORTLIST]}
        best = min(found, key=lambda one: found[one])
        losses[best] = found[best]
        gone.append(best)
        left.remove(best)
        yield [best]
