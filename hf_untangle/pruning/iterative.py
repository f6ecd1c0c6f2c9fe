"""Selective pruning, step by step (Pochinkov and Schoots 2024, arXiv:2403.01267).

A step collects statistics of both corpora on the model as it is pruned so far, scores every neuron, adds a fraction of the
original width to the mask, and judges the masked model on held-out blocks. No weight is written to: the mask is tried with
hooks, so that an interrupted run leaves the model exactly as it was.

The published method removes the top scores. With `candidates` above 1, which is our addition, the top scores are candidates
only, and among them those go whose removal is predicted to raise the loss on the forget corpus most and on the retain corpus
least. The prediction is made anew on the pruned model, so it sees what the neurons that are left have come to do.
`benchmarks/RESULTS.md` has what this is worth.
"""

import logging
import time
from dataclasses import dataclass, replace

from transformers import PreTrainedModel

from hf_untangle.architecture.forward import ForwardTokens, forward_tokens
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.masks.ablation import Constants
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like
from hf_untangle.models import name_and_revision
from hf_untangle.progress import lost, phase
from hf_untangle.pruning.budget import best_step, check_known, is_inside, is_over
from hf_untangle.pruning.judging import Judge, Origin
from hf_untangle.pruning.resume import Journal
from hf_untangle.pruning.step import Evidence, Pair, ablation_constants, gather, gather_again, remove_next
from hf_untangle.records.unlearning import History, Scores, Step
from hf_untangle.statistics.activation_statistics import ActivationStatistics

logger = logging.getLogger("hf_untangle")


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
    constants: Constants | None = None
    """What removed neurons read; zero when None."""

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
    origin: Origin | None = None,
    progress: bool = True,
) -> Search:
    """Find the neurons to remove.

    The run ends at the forget target, at the step limit, or with the first step that breaks a retain budget. Of that one the
    part is taken that fits, which bisection finds without another look at the neurons. The result is the step with the
    largest selectivity among those inside the budgets.

    Args:
        model: The model, which is left as it was.
        groups: Its neuron groups.
        train: Tokens that statistics are collected on.
        validation: Tokens that steps are judged on.
        config: The settings.
        origin: What budgets are relative to, where another method has changed the model already; the model itself when None.
        progress: Whether to show progress bars.

    Returns:
        The steps and the chosen mask.

    Raises:
        StatisticsError: The model predicts nothing of one of the corpora, so that nothing could be seen to fall.
        BudgetError: No step stays inside the retain budget.
    """
    phase("looking at the original")
    with forward_tokens(model) as spent:
        judge = Judge(model, validation, config, origin=origin, progress=progress)
        run = _Run(model, groups, train, validation, config, progress, judge)
        return _search(run, judge.origin.scores, spent)


def _search(run: "_Run", base: Scores, spent: ForwardTokens) -> Search:
    """Take steps until the run is over, and choose among them."""
    model, groups, train, config, progress = run.model, run.groups, run.train, run.config, run.progress
    original = gather(model, groups, train, config, progress=progress)
    how = {"batch_size": config.batch_size, "progress": progress}
    run = replace(run, constants=ablation_constants(config.ablation, model, original.retain, train.retain, groups, **how))
    check_known(base)
    journal = Journal.of_run(
        model,
        config=config.model_dump(),
        tokens=[blocks.fingerprint for pair in (train, run.validation) for blocks in pair.all()],
    )
    finished = journal.read(groups)
    if finished:
        logger.info("Going on after step %d of a run that was stopped (%s).", len(finished), journal.folder)
    counted = 0
    while not is_over([step for step, _ in finished], base, config):
        phase(f"step {len(finished) + 1} of {config.steps}")
        try:
            step, mask = run.step(finished[-1][1] if finished else None, len(finished) + 1, original, base)
        except StatisticsError as error:
            if not finished:
                raise
            logger.warning("The run ends with step %d, as the next one broke the model: %s", len(finished), error)
            break
        step = step.model_copy(update={"forward_tokens": spent.count - counted})
        counted = spent.count
        journal.write(step, mask)
        finished.append((step, mask))
        lost(forget=step.scores.forget_drop(base), retain=step.scores.retain_drop(base))
    chosen = best_step([step for step, _ in finished], base, config).number
    steps = tuple(run.with_controls(step, mask) if step.number == chosen else step for step, mask in finished)
    history = History(base=base, steps=steps, chosen=chosen)
    return Search(history, tuple(mask for _, mask in finished), original.forget, original.retain, journal, run.constants)


@dataclass(frozen=True, eq=False)
class _Attempt:
    """A step that was tried, or a part of it."""

    share: float
    mask: NeuronMask
    scores: Scores


@dataclass(frozen=True, eq=False)
class _Run:
    """What stays the same over all steps."""

    model: PreTrainedModel
    groups: tuple[NeuronGroup, ...]
    train: Pair
    validation: Pair
    config: UnlearnConfig
    progress: bool
    judge: Judge
    """Measures a step beside the original."""
    constants: Constants | None = None
    """What removed neurons read, found on the original model; zero when None."""

    def step(self, before: NeuronMask | None, number: int, original: Evidence, base: Scores) -> tuple[Step, NeuronMask]:
        """Remove the next neurons, and judge what is left."""
        start = time.perf_counter()
        name, revision = name_and_revision(self.model)
        mask = before or NeuronMask.keep_all(self.groups, name, self.config.ablation, revision)
        if before is None or not self.config.iterative:
            evidence = original
        else:
            with masked(self.model, mask, constants=self.constants):
                evidence = gather_again(self.model, self.groups, self.train, self.config, step=number, progress=self.progress)
        taken = self.largest_inside(mask, evidence, base)
        if taken is None:
            raise ConfigError(
                "A step must remove at least one neuron, but ffn_fraction and attention_fraction round to 0 of these: "
                f"{mask.neurons('ffn'):,} in FFNs and {mask.neurons('attention'):,} in attention. Raise them."
            )
        step = Step(
            number=number,
            removed={kind: taken.mask.removed(kind) for kind in self.config.fractions()},
            scores=taken.scores,
            controls=(),
            seconds=time.perf_counter() - start,
            share=taken.share,
        )
        return step, taken.mask

    def largest_inside(self, mask: NeuronMask, evidence: Evidence, base: Scores) -> _Attempt | None:
        """The full step or, where it breaks the budget, the largest part that bisection finds inside.

        Where no part is inside, it is the smallest one that was tried; None where a full step has no neurons.
        """
        beyond = self.attempt(mask, evidence, 1.0)
        if beyond is None or is_inside(beyond.scores, base, self.config):
            return beyond
        within = None
        for _ in range(self.config.bisections):
            middle = self.attempt(mask, evidence, ((within.share if within else 0.0) + beyond.share) / 2)
            if middle is None:
                break
            if is_inside(middle.scores, base, self.config):
                within = middle
            else:
                beyond = middle
        return within or beyond

    def attempt(self, mask: NeuronMask, evidence: Evidence, share: float) -> _Attempt | None:
        """Judge the model after a part of a step; None where no neuron is in it."""
        pruned = remove_next(mask, evidence, self.groups, self.config, share)
        if pruned == mask:
            return None
        return _Attempt(share, pruned, self.judge(lambda: masked(self.model, pruned, constants=self.constants)))

    def with_controls(self, step: Step, mask: NeuronMask) -> Step:
        """The step beside random masks of the same size."""

        def scores(seed: int) -> Scores:
            return self.judge.once(lambda: masked(self.model, random_like(mask, seed), constants=self.constants))

        seeds = range(self.config.seed, self.config.seed + self.config.controls)
        return step.model_copy(update={"controls": tuple(map(scores, seeds))})
