"""Another point of a run's frontier: which step it is, and the model as it would be had that one been chosen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.errors import BudgetError, ConfigError, MaskError
from hf_untangle.evaluation.generation import continuations
from hf_untangle.masks.ablation import mean_ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import removed_parameters
from hf_untangle.masks.undo_removal import RemovedWeights, cut_out_, put_back_
from hf_untangle.pruning.by_corpus import by_themselves, metrics_of_each, scores_of_each
from hf_untangle.pruning.controls import Chosen, compare
from hf_untangle.pruning.step import Pair
from hf_untangle.records.provenance import counts
from hf_untangle.records.unlearning import Continuation, History, Scores, Step, UnlearnRecord
from hf_untangle.statistics.activation_statistics import ActivationStatistics


@dataclass(frozen=True, eq=False)
class Moved:
    """A model at another step of its run."""

    mask: NeuronMask
    removed: RemovedWeights
    record: UnlearnRecord
    """The record of the run as if this step had been chosen, measured anew on the test parts."""


def step_at(history: History, strength: int | None, forget_drop: int | float | None, retain_drop: int | float | None) -> int:
    """Find a step of a run.

    Args:
        history: The run.
        strength: The number of the step.
        forget_drop: The weakest step that takes at least this share of forget.
        retain_drop: The step that takes most of forget, and at most this share of any retain corpus.

    Returns:
        Its number.

    Raises:
        ConfigError: Not exactly one of the three is given, or there is no step of that number.
        BudgetError: No step takes so much, or so little.
    """
    given = [one for one in (strength, forget_drop, retain_drop) if one is not None]
    if len(given) != 1:
        raise ConfigError(f"A point of the frontier is one of strength, forget_drop and retain_drop, got {len(given)} of them.")
    if strength is not None:
        if not 1 <= strength <= len(history.steps):
            raise ConfigError(
                f"strength must be the number of a step, from 1 to {len(history.steps)}, got {strength}. `restore` gives "
                "the original."
            )
        return strength
    if forget_drop is not None:
        return _first(history, lambda one: one.forget_drop(history.base) >= forget_drop, f"takes {forget_drop:.1%} of forget")
    most = cast(float, retain_drop)
    inside = [step for step in history.steps if step.scores.worst_retain_drop(history.base) <= most]
    if not inside:
        raise BudgetError(_no_step(history, f"costs at most {most:.1%} of retain"))
    return max(inside, key=lambda step: step.scores.forget_drop(history.base)).number


def move_(  # noqa: PLR0913 (what a result is made of)
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    removed: RemovedWeights | None,
    record: UnlearnRecord,
    step: int,
    *,
    mask: NeuronMask,
    statistics: ActivationStatistics,
    test: Pair,
    groups: tuple[NeuronGroup, ...] | None,
    progress: bool,
) -> Moved:
    """Give a model its removed weights back, and remove what another step of its run removes.

    Args:
        model: The model of a result, changed in place.
        tokenizer: Its tokenizer; None where it writes no text.
        removed: What was removed from it.
        record: Its record.
        step: The number of the step.
        mask: The mask of that step.
        statistics: Statistics of the original model on the retain corpus.
        test: The test parts of both corpora.
        groups: Its neuron groups; found when None.
        progress: Whether to show progress bars.

    Returns:
        Mask, removed weights and record of that step. The caller undoes all of it on failure.

    Raises:
        MaskError: The removed weights were not kept, or the model was more than pruned.
    """
    check_movable(record, removed)
    put_back_(model, cast(RemovedWeights, removed))
    groups, config = groups or neuron_groups(model), record.config
    constants = mean_ablation(statistics) if config.ablation == "mean" else None
    how = {"config": config, "progress": progress}
    comparison = compare(model, groups, Chosen(mask, statistics, constants), test, **how)
    measured = by_themselves(test, {})
    before = metrics_of_each(model, measured, config, progress=progress)
    with masked(model, mask, constants=constants):
        after = metrics_of_each(model, measured, config, progress=progress)
        texts = _continued(model, tokenizer, record)
    changes = {
        "parameters_removed": removed_parameters(model, mask, groups),
        "still_computed": sum(int(group.shares_rows_with_kept(mask[group.name]).sum()) for group in groups),
        "groups": counts(groups, mask),
        "history": record.history.model_copy(update={"chosen": step}),
        "test": comparison.model_copy(update={"by_corpus": scores_of_each(measured, before, after, comparison)}),
        "continuations": texts,
        "attacks": (),
        "metrics": (),
    }
    return Moved(mask, cut_out_(model, mask, groups, constants=constants), record.model_copy(update=changes))


def check_movable(record: UnlearnRecord, removed: RemovedWeights | None) -> None:
    """Refuse a result whose steps are more than masks, or whose removed weights are gone.

    Args:
        record: Its record.
        removed: What was removed from it.

    Raises:
        MaskError: Another step cannot be made of it.
    """
    reasons = {
        "its removed weights were not kept (`keep_removed=True` keeps them)": removed is None,
        f"it was made by {' and '.join(record.methods)}": record.methods != ("prune",),
        "its last step alone was refitted": record.refit is not None,
        "its result does not hold the modes that removed neurons read": record.config.ablation == "mode",
        "it was repaired": bool(record.repairs),
        "its neurons were taken out of the tensors": record.compaction is not None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise MaskError(
                f"Another step must be a mask over the original weights, but of this result {reason}. Run it again."
            )


def _first(history: History, reached: Callable[[Scores], bool], what: str) -> int:
    """The first step of which something is true."""
    for step in history.steps:
        if reached(step.scores):
            return step.number
    raise BudgetError(_no_step(history, what))


def _no_step(history: History, what: str) -> str:
    """What to say where the frontier has no such point."""

    def drops(step: Step) -> str:
        scores, base = step.scores, history.base
        return f"{scores.forget_drop(base):.1%} of forget for {scores.worst_retain_drop(base):.1%} of retain"

    weakest, strongest = history.steps[0], max(history.steps, key=lambda one: one.scores.forget_drop(history.base))
    return (
        f"One of the {len(history.steps)} steps must be asked for, but no step {what}: the first takes {drops(weakest)}, the "
        f"strongest {drops(strongest)}. Ask for another, or run it again with more steps."
    )


def _continued(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, record: UnlearnRecord
) -> tuple[Continuation, ...]:
    """What the model writes now after the prompts of the run."""
    if tokenizer is None or not record.continuations:
        return ()
    after = continuations(model, tokenizer, [one.prompt for one in record.continuations])
    return tuple(one.model_copy(update={"after": text}) for one, text in zip(record.continuations, after, strict=True))
