"""The frontier of a run: what every step took from forget and from retain, with how far either may be off."""

from dataclasses import dataclass

from hf_untangle.records.unlearning import Step, UnlearnRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.table import drop_between


@dataclass(frozen=True)
class FrontierRow:
    """One step of a run, as text."""

    step: str
    removed: str
    """Neurons that are gone."""
    forget: str
    """Relative drop of top-1 with its interval."""
    retain: str
    disruption: str
    """Mean KL to the original in nats; empty where it was not measured."""
    tokens: str
    """Tokens of retain that it was judged on."""
    chosen: bool


def frontier_rows(record: UnlearnRecord) -> tuple[FrontierRow, ...]:
    """Gather the steps of a run as they were judged on the validation parts.

    Args:
        record: The run.

    Returns:
        One row per step, weakest first.
    """
    return tuple(_row(step, record) for step in record.history.steps)


def is_movable(record: UnlearnRecord) -> bool:
    """Tell whether another step can be made the result afterwards, as `UnlearnResult.at_strength` does.

    Args:
        record: The run.

    Returns:
        True for a run of pruning alone, whose steps are masks, as long as nothing else was done to its model.
    """
    masks = record.methods == ("prune",) and record.refit is None and record.config.ablation != "mode"
    return masks and not record.repairs and record.compaction is None


def _row(step: Step, record: UnlearnRecord) -> FrontierRow:
    """One step."""
    scores, base, paired = step.scores, record.history.base, step.scores.retain_paired
    return FrontierRow(
        step=f"{step.number}" if step.share == 1 else f"{step.number} ({formatting.percent(step.share)} of a step)",
        removed=formatting.amount(sum(step.removed.values())),
        forget=drop_between("forget", scores, base),
        retain=drop_between("retain", scores, base),
        disruption="" if scores.disruption is None else f"{scores.disruption:.3f}",
        tokens=formatting.amount(scores.retain.tokens if paired is None else paired.tokens),
        chosen=step.number == record.history.chosen,
    )
