"""What attacks brought back, as a table and in sentences: the same in the terminal, on the page and on the card."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from hf_untangle.records.attacks import WHO, AttackOutcome, AttackRecord, Reading, Who
from hf_untangle.reporting import formatting
from hf_untangle.reporting.recovery import (
    base_of,
    by_dose,
    came_back,
    mean_top1,
    recovery_sentences,
    worst_settings,
)
from hf_untangle.reporting.verdicts import verdict_lines


@dataclass(frozen=True)
class AttackRow:
    """One dose of one attack, as text."""

    attack: str
    condition: str
    came_back: str
    """Share of what the model had lost."""
    top1: tuple[str, ...]
    """Top-1 accuracy on the forget corpus, of every model in the order of `attacked`."""


def attacked(record: AttackRecord) -> tuple[Who, ...]:
    """List the models that were attacked.

    Args:
        record: The attacks.

    Returns:
        Their names: the result first.
    """
    there = {reading.model for reading in record.base}
    return tuple(who for who in WHO if who in there)


def attack_rows(record: AttackRecord) -> tuple[AttackRow, ...]:
    """Gather the outcome, a row for each dose. Of the logit lens the inner layer that knows most is shown.

    Args:
        record: The attacks.

    Returns:
        The models as they are first, then every attack in the order in which it was run.
    """
    rows = [_row(record, "none", "as it is", record.base, ())]
    for outcome in record.outcomes:
        base = base_of(record, outcome)
        for condition, readings in _shown(outcome):
            rows.append(_row(record, outcome.attack, condition, readings, base))
    return tuple(rows)


def attack_table(record: AttackRecord) -> Table:
    """Lay the outcome out for a terminal.

    Args:
        record: The attacks.

    Returns:
        A table; print it with `rich.print`.
    """
    caption = f"top-1 on held-out {record.corpus['corpus']}; came back: share of what was lost"
    table = Table(box=box.SIMPLE_HEAD, caption=caption, pad_edge=False)
    for heading in ("attack", "dose", *attacked(record), "came back"):
        table.add_column(heading, justify="left" if heading in ("attack", "dose") else "right")
    for row in attack_rows(record):
        table.add_row(row.attack, row.condition, *row.top1, row.came_back)
    return table


def attack_markdown(record: AttackRecord) -> str:
    """Write the outcome as a Markdown table, with what was found besides below it.

    Args:
        record: The attacks.

    Returns:
        Markdown.
    """
    headings = ("attack", "dose", *attacked(record), "came back")
    rows = ((row.attack, row.condition, *row.top1, row.came_back) for row in attack_rows(record))
    lines = formatting.markdown_table(headings, rows, words=2)
    sentences = [f"- {sentence}" for sentence in attack_sentences(record)]
    return "\n".join([*lines, "", *sentences, *([""] if sentences else []), *verdict_lines(record)]) + "\n"


def attack_sentences(record: AttackRecord) -> tuple[str, ...]:
    """Say what accuracies do not: what was found, what failed, what met its time limit, and how soon half was back.

    Args:
        record: The attacks.

    Returns:
        Sentences, in the order of the attacks.
    """
    found = [sentence for outcome in record.outcomes for sentence in _sentences(record, outcome)]
    return (*_weights_in_words(record), *found)


def _weights_in_words(record: AttackRecord) -> list[str]:
    """Say how the weights differ from the original's, where that was looked at."""
    moved = record.weight_space
    if moved is None:
        return []
    forget, retain = (
        ", ".join(f"{one.loss:.2f}" for one in losses)
        for losses in zip(*((point.forget, point.retain) for point in moved.path), strict=True)
    )
    return [
        f"The weights moved by {formatting.percent(moved.relative_distance)} of their norm, "
        f"{formatting.percent(moved.changed)} of them at all; the update of an output projection has an effective rank of "
        f"{moved.effective_rank:.1f} of {moved.width}, and its {moved.top} largest singular values hold "
        f"{formatting.percent(moved.energy_of_top)} of its energy.",
        f"On the straight line from the original to the unlearned model, the losses at {len(moved.path)} "
        f"points are, on {record.corpus['corpus']} {forget} nats, and on the retain corpus {retain}.",
    ]


def attack_settings(record: AttackRecord) -> str:
    """Say how the attacks were run.

    Args:
        record: The attacks.

    Returns:
        One sentence.
    """
    chosen = record.settings
    return (
        f"{chosen['seeds']} seed{'s' if chosen['seeds'] > 1 else ''}; relearning on {chosen['samples']} blocks of "
        f"{chosen['block_size']} tokens and benign training on the retain corpus, {chosen['steps']} steps of "
        f"{formatting.amount(chosen['step_tokens'])} tokens each; "
        f"{formatting.amount(record.corpus['tokens'])} held-out tokens of {record.corpus['corpus']}; "
        f"{formatting.duration(record.seconds)} on {record.date}."
    )


def _sentences(record: AttackRecord, outcome: AttackOutcome) -> list[str]:
    """What one attack found, and how it ended."""
    sentences = [*outcome.findings, *recovery_sentences(record, outcome)]
    if outcome.stopped:
        sentences.append(f"The attack {outcome.attack} met its time limit after {formatting.duration(outcome.seconds)}.")
    if outcome.error is not None:
        sentences.append(f"The attack {outcome.attack} failed: {' '.join(outcome.error.split())}")
    return sentences


def _shown(outcome: AttackOutcome) -> list[tuple[str, list[Reading]]]:
    """The doses that a table has room for, by their condition."""
    doses = [(readings[0].condition, readings) for _, readings in by_dose(worst_settings(outcome.readings))]
    if outcome.attack != "logit-lens" or len(doses) < 2:
        return doses
    name, readings = max(doses[:-1], key=lambda dose: mean_top1(dose[1], "unlearned"))
    return [(f"{name} of {len(doses) - 1}, the best inner one", readings)]


def _row(record: AttackRecord, attack: str, condition: str, readings: Sequence[Reading], base: Sequence[Reading]) -> AttackRow:
    """Write one dose; without a base nothing can be said to have come back."""
    shares = came_back(base, readings) if base and readings[0].at else []
    top1 = {who: [reading.forget.top1 for reading in readings if reading.model == who] for who in attacked(record)}
    return AttackRow(
        attack,
        condition,
        formatting.mean(shares, formatting.percent) if shares else "",
        tuple(formatting.mean(values, formatting.percent) if values else "" for values in top1.values()),
    )
