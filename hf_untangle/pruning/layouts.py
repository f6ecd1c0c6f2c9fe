"""The best of several layouts under one budget: so many layers fewer, so many heads, and neurons for the rest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.arguments import checked_calls
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError
from hf_untangle.importance.observations import Neurons
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import removed_parameters
from hf_untangle.pruning.costs import Prefill, Reduction, Sizes
from hf_untangle.pruning.scored_model import ScoredModel
from hf_untangle.pruning.unit_choice import rank
from hf_untangle.pruning.unit_sets import UnitSet, units_of

DEPTHS = 4
"""Numbers of whole layers that are tried, from none to as many as the budget takes alone."""
CLOSE = 0.97
"""A layout of whole layers and heads alone is compared with others if it costs no less than this part of what it may."""
REFINED = 4
"""How often a width is timed, and found again, before it is taken as it is."""
MULTIPLE, WIDE = 8, 128
"""FFNs of such a width or more lose neurons in multiples, so that their width stays one that fast products like."""


@checked_calls
@dataclass(frozen=True)
class Candidate:
    """One way to spend the budget."""

    cut: Reduction
    parameters: int
    """Of the smaller model."""
    speedup: float | None
    """How many times as fast a forward pass is by what was timed; None where no speed was asked for."""
    loss: float
    """On the tokens that layouts are compared on, in nats."""
    __repr__ = fields_repr


@checked_calls
@dataclass(frozen=True, eq=False)
class Order:
    """What goes first, of each kind."""

    groups: tuple[NeuronGroup, ...]
    everything: NeuronMask
    layers: UnitSet
    order: tuple[int, ...]
    """Layers, the first to go first."""
    heads: UnitSet | None
    """Key-value groups; None where none can go."""
    head_scores: Tensor | None
    neurons: Mapping[str, Neurons]
    """The importance of the neurons of each FFN."""
    __repr__ = fields_repr

    def mask(self, cut: Reduction) -> NeuronMask:
        """Remove what goes first, as much as a cut says.

        Args:
            cut: How much.

        Returns:
            The mask.
        """
        mask = self.layers.without(self.everything, self.order[: cut.layers])
        if self.heads is not None and self.head_scores is not None and cut.heads:
            gone = [
                own[self.head_scores[own].argsort(stable=True)[: cut.heads]]
                for own in map(torch.unique, self.heads.of.values())
            ]
            mask = self.heads.without(mask, torch.cat(gone).tolist())
        kept = dict(mask.kept)
        for group in self.groups:
            if group.kind == "ffn" and cut.neurons:
                worth = self.neurons[group.name].view(group.experts or 1, -1)
                stays = torch.ones_like(worth, dtype=torch.bool)
                stays.scatter_(1, worth.argsort(dim=1, stable=True)[:, : cut.neurons], False)
                kept[group.name] = kept[group.name] & stays.flatten()
        return mask.with_kept(kept)

    def like(self, values: Mapping[str, Neurons], layers: Tensor) -> "Order":
        """Make the order in which the lowest of other values go first.

        Args:
            values: One number per neuron, by group.
            layers: One number per layer.

        Returns:
            The order, of as many of each kind.
        """
        heads = None if self.heads is None else self.heads.sums(values)
        return replace(self, order=tuple(layers.argsort(stable=True).tolist()), head_scores=heads, neurons=values)


@dataclass(frozen=True, eq=False)
class Budget:
    """How much has to go, or may."""

    sizes: Sizes
    prefill: Prefill | None
    goal: float
    """Seconds of a pass, or parameters that are left."""
    at_most: bool
    """Whether that much may go at the most; else at the least."""

    def cost(self, cut: Reduction) -> float:
        """What counts.

        Args:
            cut: What goes.

        Returns:
            Seconds, or parameters.
        """
        return self.sizes.of(cut) if self.prefill is None else self.prefill.of(cut)


def best_layout(scored: ScoredModel, needed: int, prefill: Prefill | None) -> tuple[Order, list[Candidate]]:
    """Spend one budget in several ways, and measure the loss of each.

    Args:
        scored: The model and the text.
        needed: Parameters that have to go for the memory that is asked for.
        prefill: How long passes take, where a speed is asked for.

    Returns:
        What goes first of each kind, and the layouts, the best of which is the first.

    Raises:
        ConfigError: No layout keeps to the budget.
    """
    model, groups, config = scored.model, scored.groups, scored.config
    layers, heads = units_of(model, groups, "layers"), _heads(model, groups)
    budget = budget_of(model, groups, scored.everything, layers, heads, config, needed, prefill)
    order = tuple(one for some in islice(rank(scored, layers).rounds, _deepest(budget, len(layers))) for one in some)
    head_scores = None if heads is None else heads.sums(scored.importance)
    ordered = Order(groups, scored.everything, layers, order, heads, head_scores, scored.importance)

    def measured(cut: Reduction) -> Candidate:
        speedup = None if prefill is None else prefill.of(Reduction()) / prefill.of(cut)
        return Candidate(cut, round(budget.sizes.of(cut)), speedup, scored.loss(ordered.mask(cut)))

    found = [measured(cut) for cut in _cuts(groups, budget, len(order), heads, config)]
    if not found:
        raise ConfigError(
            "The budget must leave room for a layout that takes something out and leaves something of each layer, but none was "
            "found. Ask for less, or for more where nothing would go."
        )
    return ordered, sorted(found, key=lambda layout: layout.loss)


def _deepest(budget: Budget, layers: int) -> int:
    """How many whole layers go when nothing else does; one stays."""
    enough = next((count for count in range(layers) if budget.cost(Reduction(count)) <= budget.goal), layers - 1)
    return max(0, enough - (budget.cost(Reduction(enough)) < (1.0 if budget.at_most else CLOSE) * budget.goal))


def budget_of(
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...],
    everything: NeuronMask,
    layers: UnitSet,
    heads: UnitSet | None,
    config: PruneConfig,
    needed: int,
    prefill: Prefill | None,
) -> Budget:
    """Say how much has to go, or may.

    Args:
        model: The model.
        groups: Its neuron groups.
        everything: A mask that keeps all neurons.
        layers: Its layers.
        heads: Its key-value groups; None where none can go.
        config: The settings.
        needed: Parameters that have to go for the memory that is asked for.
        prefill: How long passes take, where a speed is asked for.

    Returns:
        The budget.
    """
    ffns = [group for group in groups if group.kind == "ffn"]
    without = everything.with_kept(everything.kept | {group.name: ~everything[group.name] for group in ffns})
    neuron = removed_parameters(model, without, groups) / len(layers) / max(1, _width(groups))
    head = 0.0 if heads is None else float(heads.parameters.double().mean())
    sizes = Sizes(model.num_parameters(), len(layers), float(layers.parameters.double().mean()), head, neuron)
    if config.speed is not None and prefill is not None:
        return Budget(sizes, prefill, prefill.of(Reduction()) / config.speed, at_most=False)
    if config.memory is not None:
        return Budget(sizes, None, float(sizes.whole - needed), at_most=False)
    may = config.parameters or config.ratio * float(layers.parameters.sum())
    return Budget(sizes, None, float(sizes.whole - may), at_most=True)


def neurons_for(groups: tuple[NeuronGroup, ...], budget: Budget, cut: Reduction, config: PruneConfig) -> Reduction | None:
    """Find how many neurons have to go, or may, beside layers and heads.

    Args:
        groups: The neuron groups of the model.
        budget: The budget.
        cut: What else goes.
        config: The settings.

    Returns:
        The whole cut; None where no number of neurons keeps to the budget.
    """
    width = _width(groups)
    step = config.round_to or (MULTIPLE if width >= WIDE else 1)
    if budget.prefill is not None:
        # Nothing is known of narrower layers yet: the narrowest, and one in between.
        for number in {max(0, width - step) // step * step, width // 2 // step * step}:
            budget.prefill.measure(replace(cut, neurons=number))
    found = _narrowest(budget, cut, width, step)
    for _ in range(REFINED):
        if found is None or budget.prefill is None or not budget.prefill.measure(found):
            break
        found = _narrowest(budget, cut, width, step)
    return found


def _narrowest(budget: Budget, cut: Reduction, width: int, step: int) -> Reduction | None:
    """The fewest neurons with which a layout costs no more than it may, or the most with which it costs as much as it must."""
    options = [replace(cut, neurons=number) for number in range(0, width, step)]
    if budget.at_most:
        return next((one for one in reversed(options) if budget.cost(one) >= budget.goal), None)
    return next((one for one in options if budget.cost(one) <= budget.goal), None)


def _cuts(
    groups: tuple[NeuronGroup, ...], budget: Budget, deepest: int, units: UnitSet | None, config: PruneConfig
) -> list[Reduction]:
    """The layouts that are compared: some numbers of layers, with and without some heads, and as many neurons as it takes."""
    heads = 0 if units is None else min(len(own.unique()) for own in units.of.values())
    depths = sorted({round(deepest * part / max(1, DEPTHS - 1)) for part in range(DEPTHS)})
    share = 1 - max(0.0, budget.goal) / budget.cost(Reduction())
    some = sorted({0, max(1, min(heads - 1, round(share * heads)))} if heads > 1 else {0})
    tried = (neurons_for(groups, budget, Reduction(layers, own), config) for layers in depths for own in some)
    found = list(dict.fromkeys(cut for cut in tried if cut is not None and cut != Reduction()))
    # Where whole layers or heads alone are more than enough, less of them and some neurons come closer.
    close = [cut for cut in found if cut.neurons or budget.at_most or budget.cost(cut) >= CLOSE * budget.goal]
    return close or found


def _width(groups: tuple[NeuronGroup, ...]) -> int:
    """Neurons of the narrowest FFN, or of one of its experts."""
    return min((group.size // (group.experts or 1) for group in groups if group.kind == "ffn"), default=0)


def _heads(model: PreTrainedModel, groups: tuple[NeuronGroup, ...]) -> UnitSet | None:
    """Key-value groups, where every layer has several."""
    try:
        return units_of(model, groups, "heads")
    except ConfigError:
        return None


def described(layouts: Sequence[Candidate]) -> Iterator[tuple[Any, ...]]:
    """Lay layouts out, for a table.

    Args:
        layouts: What was measured, the best first.

    Yields:
        A row each.
    """
    for number, one in enumerate(layouts):
        speed = "" if one.speedup is None else f"{one.speedup:.2f} times"
        mark = "chosen" if number == 0 else ""
        cut = one.cut
        yield f"{cut.layers}", f"{cut.heads}", f"{cut.neurons:,}", f"{one.parameters:,}", speed, f"{one.loss:.3f}", mark
