"""Selective pruning, step by step (Pochinkov and Schoots 2024, arXiv:2403.01267).

A step collects statistics of both corpora on the model as it is pruned so far, scores every neuron, adds a fraction of the
original width to the mask, and judges the masked model on held-out blocks. No weight is written to: the mask is tried with
hooks, so that an interrupted run leaves the model exactly as it was.
"""

import logging
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.errors import BudgetError, StatisticsError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.importance.functions import IMPORTANCE
from hf_untangle.importance.scores import SCORES
from hf_untangle.masks.apply import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like, remove_top
from hf_untangle.pruning.config import UnlearnConfig
from hf_untangle.pruning.journal import Journal
from hf_untangle.pruning.record import History, Scores, Step
from hf_untangle.statistics.activations import ActivationStatistics
from hf_untangle.statistics.collect import collect

logger = logging.getLogger("hf_untangle")

FAR_OVER = 1.25
"""A run ends at this multiple of its budget: after a step that is a little over, one inside may follow, but hardly later."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Something for the forget corpus, and the same for the retain corpus."""

    forget: TokenBlocks
    retain: TokenBlocks


@dataclass(frozen=True, eq=False)
class Search:
    """What a run found."""

    history: History
    masks: tuple[NeuronMask, ...]
    """The mask of every step."""
    forget: ActivationStatistics
    """Statistics of the original model on the forget corpus."""
    retain: ActivationStatistics
    """The same on the retain corpus."""
    journal: Journal
    """The steps on disk, to be closed once the result needs them no more."""

    @property
    def mask(self) -> NeuronMask:
        """The mask of the chosen step."""
        return self.masks[self.history.chosen - 1]


def search_mask(
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...],
    train: Pair,
    validation: Pair,
    *,
    config: UnlearnConfig,
    progress: bool = True,
) -> Search:
    """Find the neurons to remove.

    The run ends at the forget target, at the step limit, or once the retain corpus has lost well over its budget; its result is
    the step with the largest selectivity among those inside the budget.

    Args:
        model: The model, which is left as it was.
        groups: Its neuron groups.
        train: Tokens that statistics are collected on.
        validation: Tokens that steps are judged on.
        config: The settings.
        progress: Whether to show progress bars.

    Returns:
        The steps and the chosen mask.

    Raises:
        StatisticsError: The model predicts nothing of one of the corpora, so that nothing could be seen to fall.
        BudgetError: No step stays inside the retain budget.
    """
    run = _Run(model, groups, train, validation, config, progress)
    original = run.collect()
    base = run.judge()
    _check_known(base)
    journal = Journal.of_run(
        model,
        config=config.model_dump(),
        tokens=[blocks.fingerprint for pair in (train, validation) for blocks in (pair.forget, pair.retain)],
    )
    finished = journal.read()
    if finished:
        logger.info("Going on after step %d of a run that was stopped (%s).", len(finished), journal.folder)
    bar = tqdm(total=config.steps, initial=len(finished), unit="step", desc="unlearning", disable=not progress)
    with bar:
        while len(finished) < config.steps and not _is_over(finished, base, config):
            step, mask = run.step(finished[-1][1] if finished else None, len(finished) + 1, original)
            journal.write(step, mask)
            finished.append((step, mask))
            bar.set_postfix(forget=f"-{step.scores.forget_drop(base):.1%}", retain=f"-{step.scores.retain_drop(base):.1%}")
            bar.update()
    steps = tuple(step for step, _ in finished)
    history = History(base=base, steps=steps, chosen=_choose(steps, base, config))
    return Search(history, tuple(mask for _, mask in finished), *original, journal)


@dataclass(frozen=True, eq=False)
class _Run:
    """What stays the same over all steps."""

    model: PreTrainedModel
    groups: tuple[NeuronGroup, ...]
    train: Pair
    validation: Pair
    config: UnlearnConfig
    progress: bool

    def step(
        self, before: NeuronMask | None, number: int, original: tuple[ActivationStatistics, ActivationStatistics]
    ) -> tuple[Step, NeuronMask]:
        """Remove the next neurons, and judge what is left."""
        start = time.perf_counter()
        config = self.config
        mask = before or NeuronMask.keep_all(self.groups, str(self.model.name_or_path))
        if before is None or not config.iterative:
            statistics = original
        else:
            with masked(self.model, mask):
                statistics = self.collect()
        scores = neuron_scores(*statistics, self.groups, config)
        mask = remove_top(mask, scores, self.groups, config.fractions(), scope=config.scope, head_score=config.head_score)
        with masked(self.model, mask):
            result = self.judge()
        step = Step(
            number=number,
            removed={kind: mask.removed(kind) for kind in config.fractions()},
            scores=result,
            controls=tuple(self.judge_control(mask, config.seed + index) for index in range(config.controls)),
            seconds=time.perf_counter() - start,
        )
        return step, mask

    def collect(self) -> tuple[ActivationStatistics, ActivationStatistics]:
        """Statistics of the model as it is now, on the forget and on the retain corpus."""
        forget, retain = (
            collect(
                self.model,
                blocks,
                groups=self.groups,
                batch_size=self.config.batch_size,
                roots=self.config.importance == "sqrt",
                progress=self.progress,
            )
            for blocks in (self.train.forget, self.train.retain)
        )
        return forget, retain

    def judge(self) -> Scores:
        """Scores of the model as it is now."""
        return judge(self.model, self.validation, batch_size=self.config.batch_size, progress=self.progress)

    def judge_control(self, mask: NeuronMask, seed: int) -> Scores:
        """Scores of a random mask of the same size."""
        with masked(self.model, random_like(mask, seed)):
            return self.judge()


def judge(model: PreTrainedModel, held_out: Pair, *, batch_size: int, progress: bool) -> Scores:
    """Measure a model on held-out blocks of both corpora.

    Args:
        model: The model, masked or not.
        held_out: The blocks.
        batch_size: Blocks in a forward pass.
        progress: Whether to show progress bars.

    Returns:
        The scores.
    """
    forget, retain = (
        next_token_metrics(model, blocks, batch_size=batch_size, progress=progress)
        for blocks in (held_out.forget, held_out.retain)
    )
    return Scores(forget=forget, retain=retain)


def neuron_scores(
    forget: ActivationStatistics,
    retain: ActivationStatistics,
    groups: tuple[NeuronGroup, ...],
    config: UnlearnConfig,
) -> dict[str, Float[Tensor, " neuron"]]:
    """Score every neuron by the settings' importance, score and epsilon.

    Args:
        forget: Statistics of the forget corpus.
        retain: Statistics of the retain corpus.
        groups: The neuron groups.
        config: The settings.

    Returns:
        One vector a group; minus infinity for neurons that the veto spares.
    """
    importance, score, eps = IMPORTANCE[config.importance], SCORES[config.score], config.eps()
    scores = {}
    for group in groups:
        to_forget, to_retain = importance(forget[group.name]), importance(retain[group.name])
        scores[group.name] = score(to_forget, to_retain, eps[group.kind])
        spared = to_retain.topk(int(config.veto * group.size)).indices
        scores[group.name][spared] = -torch.inf
    return scores


def _check_known(base: Scores) -> None:
    """Refuse a corpus of which the original model predicts nothing."""
    for corpus, metrics in (("forget", base.forget), ("retain", base.retain)):
        if not metrics.top1:
            raise StatisticsError(
                f"The model must predict some of the {corpus} corpus for a drop to be measured, but its top-1 accuracy on the "
                "validation part is 0. Choose another corpus, or more evaluation_tokens."
            )


def _is_over(finished: list[tuple[Step, NeuronMask]], base: Scores, config: UnlearnConfig) -> bool:
    """Tell whether another step is pointless: the target is reached, or the budget is left far behind."""
    if not finished:
        return False
    scores = finished[-1][0].scores
    if scores.forget_drop(base) >= config.forget_target:
        return True
    return (
        scores.retain_drop(base) > FAR_OVER * config.retain_budget
        or _perplexity_factor(scores, base) > FAR_OVER * config.perplexity_budget
    )


def _choose(steps: tuple[Step, ...], base: Scores, config: UnlearnConfig) -> int:
    """The number of the step with the largest selectivity inside the budget."""
    inside = [step for step in steps if _is_inside(step.scores, base, config)]
    if not inside:
        first = steps[0].scores
        raise BudgetError(
            f"At least one step must stay inside the budget (a relative retain drop of {config.retain_budget:.1%}, and "
            f"{config.perplexity_budget:g} times the perplexity), but the first one costs {first.retain_drop(base):.1%} "
            f"and {_perplexity_factor(first, base):.2f} times. Nothing was removed. Allow a larger retain_budget, or take "
            "smaller steps (ffn_fraction, attention_fraction)."
        )
    return max(inside, key=lambda step: step.scores.selectivity(base)).number


def _is_inside(scores: Scores, base: Scores, config: UnlearnConfig) -> bool:
    """Tell whether a step keeps to the retain budget."""
    return scores.retain_drop(base) <= config.retain_budget and _perplexity_factor(scores, base) <= config.perplexity_budget


def _perplexity_factor(scores: Scores, base: Scores) -> float:
    """How many times the retain perplexity is of what it was."""
    return scores.retain.perplexity / base.retain.perplexity
