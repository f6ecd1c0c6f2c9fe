"""When a run ends, and which of its steps is the result."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import BudgetError, StatisticsError
from hf_untangle.evaluation.next_token import relative_drop
from hf_untangle.records.scores import Estimate
from hf_untangle.records.unlearning import Scores, Step

logger = logging.getLogger("hf_untangle")

CLOSE = 0.8
"""A budget in expectation is close where the drop is below or above it with less than this probability."""


def check_known(base: Scores) -> None:
    """Refuse a corpus of which the original model predicts nothing.

    Args:
        base: Scores of the original model.

    Raises:
        StatisticsError: A top-1 accuracy of zero cannot drop.
    """
    members = ((f"retain ({name})", metrics) for name, metrics in base.members)
    for corpus, metrics in (("forget", base.forget), ("retain", base.retain), *members):
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
            f"and {first.worst_perplexity_factor(base):.2f} times{_disruption(first, config)}{_surely(first, base, config)}. "
            "Nothing was removed. Allow a "
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
    """Tell whether a step keeps to the budgets of every retain corpus.

    In expectation, which is the default, the mean over blocks is judged. With a confidence, its upper bound is: the budget then
    holds for other text of the kind with that probability. Steps grow, each is tried only after the one before was inside, and
    what they cost is measured on the same blocks, so that one bound serves for all of them (fixed-sequence testing,
    Angelopoulos et al. 2021, arXiv:2110.01052). Each look at more blocks takes an equal part of the risk (Bonferroni).

    Args:
        scores: Of the model after the step.
        base: Scores of the original model.
        config: The settings, which have budgets of accuracy, of perplexity, and of disruption where that is measured.

    Returns:
        True when none is broken.
    """
    confidence = _confidence(config)
    return all(cost.bound(confidence) <= cost.budget for cost in _costs(scores, base, config))


def is_close(scores: Scores, base: Scores, config: UnlearnConfig) -> bool:
    """Tell whether more blocks could change the verdict: a budget is inside the interval of what was measured.

    Args:
        scores: Of the model after the step.
        base: Scores of the original model.
        config: The settings.

    Returns:
        False where a budget is broken for certain, or all are kept for certain.
    """
    confidence = _confidence(config) or CLOSE
    costs = list(_costs(scores, base, config))
    broken = any(cost.bound(1 - confidence) > cost.budget for cost in costs)
    return not broken and any(cost.bound(confidence) > cost.budget for cost in costs)


@dataclass(frozen=True)
class _Cost:
    """What a step costs one retain corpus in one respect, and what it may."""

    value: float
    estimate: Estimate | None
    """The same with its error, where that is known."""
    budget: float

    def bound(self, confidence: float | None) -> float:
        """What it costs at most with some confidence, or on average."""
        return self.value if self.estimate is None else self.estimate.upper(confidence)


def _costs(scores: Scores, base: Scores, config: UnlearnConfig) -> Iterator[_Cost]:
    """Everything that a budget is for."""
    for before, after, paired in scores.each_retain(base):
        drop, rise, moved = (None,) * 3 if paired is None else (paired.drop, paired.loss_rise, paired.disruption)
        if config.retain_budget < 1:
            yield _Cost(relative_drop(before.top1, after.top1), drop, config.retain_budget)
        if math.isfinite(config.perplexity_budget):
            yield _Cost(after.loss - before.loss, rise, math.log(config.perplexity_budget))
        if config.disruption_budget is not None and scores.disruption is not None:
            yield _Cost(scores.disruption, moved, config.disruption_budget)


def _confidence(config: UnlearnConfig) -> float | None:
    """The confidence of one look, so that all looks together have that of the settings."""
    if config.budget_confidence is None:
        return None
    return 1 - (1 - config.budget_confidence) / (1 + config.evaluation_doublings)


def _disruption(scores: Scores, config: UnlearnConfig) -> str:
    """The end of a sentence on a budget, where there is one of disruption."""
    if config.disruption_budget is None or scores.disruption is None:
        return ""
    return f", and {scores.disruption:.3g} of the {config.disruption_budget:g} nats of disruption"


def _surely(scores: Scores, base: Scores, config: UnlearnConfig) -> str:
    """The end of a sentence on a budget that must be kept with confidence: what accuracy may have lost."""
    if config.budget_confidence is None:
        return ""
    drops = [paired.drop for _, _, paired in scores.each_retain(base) if paired is not None]
    most = max((drop.upper(_confidence(config)) for drop in drops), default=scores.worst_retain_drop(base))
    return f"; with a confidence of {config.budget_confidence:.0%}, up to {most:.1%} of the accuracy"


def _has_budget(config: UnlearnConfig) -> bool:
    """Tell whether any drop would be too large."""
    return config.retain_budget < 1 or math.isfinite(config.perplexity_budget)
