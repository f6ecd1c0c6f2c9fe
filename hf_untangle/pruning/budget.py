"""When a run ends, and which of its steps is the result."""

import logging
import math
from collections.abc import Sequence

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import BudgetError, StatisticsError
from hf_untangle.records.unlearning import Scores, Step

logger = logging.getLogger("hf_untangle")


def check_known(base: Scores) -> None:
    """Refuse a corpus of which the original model predicts nothing.

    Args:
        base: Scores of the original model.

    Raises:
        StatisticsError: A top-1 accuracy of zero cannot drop.
    """
    for corpus, metrics in (("forget", base.forget), ("retain", base.retain)):
        if not metrics.top1:
            raise StatisticsError(
                f"The model must predict some of the {corpus} corpus for a drop to be measured, but its top-1 accuracy on the "
                "validation part is 0. Choose another corpus, or more evaluation_tokens."
            )


def is_over(steps: Sequence[Step], base: Scores, config: UnlearnConfig) -> bool:
    """Tell whether another step is pointless.

    Args:
        steps: The steps so far.
        base: Scores of the original model.
        config: The settings.

    Returns:
        True when the step limit or the forget target is reached, or the budget is broken or used up.
    """
    if not steps:
        return False
    last = steps[-1]
    return (
        len(steps) >= config.steps
        or last.share < 1
        or last.scores.forget_drop(base) >= config.forget_target
        or not is_inside(last.scores, base, config)
    )


def best_step(steps: Sequence[Step], base: Scores, config: UnlearnConfig) -> Step:
    """Find the step with the largest selectivity inside the budget.

    Args:
        steps: All steps.
        base: Scores of the original model.
        config: The settings.

    Returns:
        The step.

    Raises:
        BudgetError: No step is inside, or no such step is selective. Without any budget, as in the preset `paper`, the curve
            is what is asked for: its best step is chosen all the same, with a warning.
    """
    inside = [step for step in steps if is_inside(step.scores, base, config)]
    if not inside:
        first = steps[0].scores
        raise BudgetError(
            f"At least one step must stay inside the budget (a relative retain drop of {config.retain_budget:.1%}, and "
            f"{config.perplexity_budget:g} times the perplexity), but the first one costs {first.worst_retain_drop(base):.1%} "
            f"and {first.worst_perplexity_factor(base):.2f} times{_disruption(first, config)}. Nothing was removed. Allow a "
            "larger retain_budget, or take smaller steps (ffn_fraction, attention_fraction)."
        )
    best = max(inside, key=lambda step: step.scores.selectivity(base))
    if best.scores.selectivity(base) <= 0 and not _has_budget(config):
        logger.warning(
            "No step of the curve takes more from the forget corpus than from the retain corpus: at best %.1f%% and %.1f%%.",
            100 * best.scores.forget_drop(base),
            100 * best.scores.retain_drop(base),
        )
    elif best.scores.selectivity(base) <= 0:
        raise BudgetError(
            f"The forget corpus must lose more than the retain corpus, but at best it lost {best.scores.forget_drop(base):.1%} "
            f"and the other {best.scores.retain_drop(base):.1%}. Nothing was removed. Take larger steps (ffn_fraction, "
            "attention_fraction), more tokens, or corpora that differ more."
        )
    return best


def is_inside(scores: Scores, base: Scores, config: UnlearnConfig) -> bool:
    """Tell whether a step keeps to the retain budget.

    Args:
        scores: Of the model after the step.
        base: Scores of the original model.
        config: The settings, which have budgets of accuracy, of perplexity, and of disruption where that is measured.

    Returns:
        True when none is broken.
    """
    return (
        scores.worst_retain_drop(base) <= config.retain_budget
        and scores.worst_perplexity_factor(base) <= config.perplexity_budget
        and (config.disruption_budget is None or scores.disruption is None or scores.disruption <= config.disruption_budget)
    )


def _disruption(scores: Scores, config: UnlearnConfig) -> str:
    """The end of a sentence on a budget, where there is one of disruption."""
    if config.disruption_budget is None or scores.disruption is None:
        return ""
    return f", and {scores.disruption:.3g} of the {config.disruption_budget:g} nats of disruption"


def _has_budget(config: UnlearnConfig) -> bool:
    """Tell whether any drop would be too large."""
    return config.retain_budget < 1 or math.isfinite(config.perplexity_budget)
