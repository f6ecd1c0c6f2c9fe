"""The result on held-out text, beside what it must beat: changes of equal size that are chosen without the forget corpus.

That a capability fell says little when any mask of this size would have taken it: location alone is no forgetting
(arXiv:2505.16252).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.compensation.refit import Refit, refitted
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.importance.observations import Observations
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.masks.ablation import Constants
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like, top_like
from hf_untangle.progress import phase
from hf_untangle.pruning.judging import judge, origin_on
from hf_untangle.pruning.step import Pair
from hf_untangle.records.unlearning import Comparison, Scores
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.weight_norms import weight_norms

RANDOM_MASKS = 3
"""Random masks that a result is compared with at the least, as one draw may be lucky."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a run has chosen."""

    mask: NeuronMask
    """Which neurons stay."""
    retain: ActivationStatistics
    """Statistics of the original model on the retain corpus."""
    constants: Constants | None = None
    """What removed neurons read; zero when None."""


def compare(
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...],
    chosen: Chosen,
    test: Pair,
    *,
    config: UnlearnConfig,
    progress: bool,
    refit: Refit | None = None,
) -> Comparison:
    """Measure the original, the result and its controls on the test parts.

    Args:
        model: The model, which is left as it was.
        groups: Its neuron groups.
        chosen: What is removed.
        test: Held-out tokens not used for selection.
        config: The settings; `controls=0` leaves the controls out.
        progress: Whether to show progress bars.
        refit: New weights of the result, which controls do not get.

    Returns:
        The scores of all of them.
    """

    def scores(mask: NeuronMask, constants: Constants | None = chosen.constants) -> Scores:
        with masked(model, mask, constants=constants):
            return judge(model, test, batch_size=config.batch_size, progress=progress, origin=origin)

    phase("held-out text")
    how = {"batch_size": config.batch_size, "progress": progress}
    origin = origin_on(model, test, **how, disruption=config.disruption_budget is not None)
    before = origin.scores
    after, without = scores(chosen.mask), None
    if refit is not None:
        without = after
        with refitted(model, refit):
            after = scores(chosen.mask, refit.constants)
    if not config.controls:
        return Comparison(before=before, after=after, without_refit=without, controls=())
    return Comparison(
        before=before,
        after=after,
        without_refit=without,
        controls=tuple(scores(random_like(chosen.mask, seed)) for seed in random_seeds(config)),
        magnitude=scores(smallest_weights_like(chosen.mask, model, groups)),
        retain_only=scores(least_used_like(chosen.mask, chosen.retain)),
    )


def random_seeds(config: UnlearnConfig) -> range:
    """The seeds of the random masks that a result is compared with.

    Args:
        config: The settings.

    Returns:
        As many seeds as steps have controls, three at the least; none where they have none.
    """
    return range(config.seed, config.seed + max(RANDOM_MASKS, config.controls)) if config.controls else range(0)


def smallest_weights_like(mask: NeuronMask, model: PreTrainedModel, groups: tuple[NeuronGroup, ...]) -> NeuronMask:
    """Remove as many neurons of every group as a mask does, those with the smallest weights, which no corpus has chosen.

    Args:
        mask: The mask to match.
        model: The original model.
        groups: Its neuron groups.

    Returns:
        A mask of the same size.
    """
    norms = weight_norms(model, groups)
    return top_like(mask, {name: -IMPORTANCE["magnitude"](Observations(weights=one)) for name, one in norms.items()})


def random_update(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Change weights by as much as training did, aimed at nothing: its update in a random order.

    Args:
        before: Original weights, on the CPU.
        after: The same once they were trained.
        generator: Draws the order.

    Returns:
        New weights, in the dtype of the original.
    """
    update = (after.float() - before.float()).flatten()
    shuffled = update[torch.randperm(len(update), generator=generator)].view(before.shape)
    return (before.float() + shuffled).to(before.dtype)


def least_used_like(mask: NeuronMask, retain: ActivationStatistics) -> NeuronMask:
    """Remove as many neurons of every group as a mask does, those that matter least to the retain corpus, maybe to nobody.

    Args:
        mask: The mask to match.
        retain: Statistics of the original model on the retain corpus.

    Returns:
        A mask of the same size, by root mean square.
    """
    return top_like(mask, {name: -IMPORTANCE["rms"](Observations(retain[name])) for name in mask})
