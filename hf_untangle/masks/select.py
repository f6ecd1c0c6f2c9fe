"""Choosing what goes: from scores and a budget to a mask."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.architecture.neurons import Kind, NeuronGroup
from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.statistics.activation_statistics import ActivationStatistics

Scope = Literal["global", "layer", "head"]
"""What competes: all neurons of a kind, those of one layer, or whole attention heads (and single FFN neurons)."""

HEAD_SCORE: dict[str, Callable[[Float[Tensor, "head neuron"]], Float[Tensor, " head"]]] = {
    "mean": lambda scores: scores.mean(-1),
    "median": lambda scores: scores.median(-1).values,
    "max": lambda scores: scores.max(-1).values,
}
"""How the scores of a head's neurons make the score of the head."""


def remove_top(
    mask: NeuronMask,
    scores: dict[str, Float[Tensor, " neuron"]],
    groups: tuple[NeuronGroup, ...],
    fractions: dict[Kind, float],
    *,
    scope: Scope = "global",
    head_score: str = "mean",
) -> NeuronMask:
    """Remove the highest scores that are still there, each kind by its own fraction of the original width.

    Args:
        mask: What is removed already.
        scores: One vector per group; higher goes first.
        groups: The neuron groups of the model.
        fractions: The share of all neurons of a kind to remove now, from 0 to 1; a kind left out keeps its neurons.
        scope: What competes.
        head_score: A key of `HEAD_SCORE`, for whole heads.

    Returns:
        A mask that keeps less. When fewer neurons are left than asked for, all of them go.

    Raises:
        ConfigError: A fraction is not between 0 and 1.
    """
    kept = {name: vector.clone() for name, vector in mask.items()}
    for kind, fraction in fractions.items():
        if not 0 <= fraction <= 1:
            raise ConfigError(f"The {kind} fraction must be between 0 and 1, got {fraction}.")
        members = [group for group in groups if group.kind == kind]
        whole_heads = scope == "head" and kind == "attention"
        for competitors in [[group] for group in members] if scope == "layer" else [members]:
            _remove_from(kept, scores, competitors, fraction, HEAD_SCORE[head_score] if whole_heads else None)
    return mask.with_kept(kept)


@checked_arguments
def random_like(mask: NeuronMask, seed: int) -> NeuronMask:
    """Draw a mask that removes as many neurons of every group, chosen at random: the control for any claim of forgetting.

    Args:
        mask: The mask to match in every layer and kind.
        seed: For the draw.

    Returns:
        A mask of the same size.
    """
    generator = torch.Generator().manual_seed(seed)
    return mask.with_kept({name: kept[torch.randperm(len(kept), generator=generator)] for name, kept in mask.items()})


def top_like(mask: NeuronMask, scores: Mapping[str, Float[Tensor, " neuron"]]) -> NeuronMask:
    """Remove as many neurons of every group as another mask does, those of the highest scores: a control of equal size.

    Args:
        mask: The mask to match in every layer and kind.
        scores: One vector per group.

    Returns:
        A mask of the same size.
    """
    kept = {}
    for name, matched in mask.items():
        kept[name] = torch.ones_like(matched)
        kept[name][scores[name].topk(int((~matched).sum())).indices] = False
    return mask.with_kept(kept)


@checked_arguments
def silent_mask(statistics: ActivationStatistics, groups: tuple[NeuronGroup, ...]) -> NeuronMask:
    """Mask out the neurons that were exactly 0 at every token of a corpus, as a ReLU leaves many: exact compression.

    On that corpus the masked, pruned and compacted models compute what the original does. Elsewhere they need not: a neuron
    that was silent on a thousand tokens may speak at the next. `translation.shallow.constant_neurons` proves it for all
    inputs of a box, where a network is small enough to be read whole.

    Args:
        statistics: Sums over the corpus.
        groups: The neuron groups of the model.

    Returns:
        The mask, which may remove nothing.

    Raises:
        StatisticsError: A group has no statistics.
    """
    if missing := [group.name for group in groups if group.name not in statistics]:
        raise StatisticsError(f"Every group needs statistics, but `{missing[0]}` has none. Collect them on the same groups.")
    everything = NeuronMask.keep_all(groups, statistics.model, revision=statistics.revision)
    return everything.with_kept({group.name: statistics[group.name].absolute > 0 for group in groups})


def _remove_from(
    kept: dict[str, Tensor],
    scores: dict[str, Tensor],
    competitors: list[NeuronGroup],
    fraction: float,
    head_score: Callable[[Tensor], Tensor] | None,
) -> None:
    """Remove the top scores among some groups that compete, writing into `kept`."""
    if not competitors:
        return
    units = [group.heads if head_score and group.heads else group.size for group in competitors]
    score = torch.cat(
        [
            _unit_scores(scores[group.name], kept[group.name], count, head_score)
            for group, count in zip(competitors, units, strict=True)
        ]
    )
    left = int((score > -torch.inf).sum())
    # The epsilon keeps 0.29 of 100 at 29, where the product falls just short of it.
    chosen = score.topk(min(int(fraction * len(score) + 1e-9), left)).indices
    stays = torch.ones(len(score), dtype=torch.bool)
    stays[chosen] = False
    for group, part in zip(competitors, stays.split(units), strict=True):
        kept[group.name] &= part.repeat_interleave(group.size // len(part))


def _unit_scores(scores: Tensor, kept: Tensor, units: int, head_score: Callable[[Tensor], Tensor] | None) -> Tensor:
    """The scores of neurons or heads, minus infinity for those that are gone."""
    if head_score is None:
        return scores.double().masked_fill(~kept, -torch.inf)
    whole = head_score(scores.double().view(units, -1))
    return whole.masked_fill(~kept.view(units, -1).any(-1), -torch.inf)
