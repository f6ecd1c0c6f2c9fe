"""A compressed model beside the original and beside other choices of equal size: rows, a sentence, a table."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from hf_untangle.evaluation.next_token import NextTokenMetrics, relative_drop
from hf_untangle.records.compression import PruneRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.card_text import short_name

HEADINGS = ["top-1", "drop", "top-10", "perplexity"]
"""The columns of the comparison, after the name of the model."""

Row = tuple[str, ...]


def prune_rows(record: PruneRecord) -> list[Row]:
    """Gather the results on the test part.

    Args:
        record: The run.

    Returns:
        The original, the pruned model, the same without its refit where it has one, the repaired one where it was repaired,
        random masks (their mean) and the smallest weights, as text for `HEADINGS`.
    """
    kept = _choice(record)
    rows = [_row("original", [record.before], None)]
    rows.append(_row(kept if record.refit is None else f"{kept}, refitted", [record.after], record.before))
    rows += [_row(f"{kept} without the refit", [record.without_refit], record.before)] if record.without_refit else []
    rows += [_row("repaired", [record.final], record.before)] if record.repairs else []
    if record.random:
        seeds = len(record.random)
        rows.append(_row("random" if seeds == 1 else f"random (mean of {seeds})", record.random, record.before))
    return [*rows, _row("smallest weights", [record.magnitude], record.before)]


def footprint_rows(record: PruneRecord) -> list[Row]:
    """Gather size and speed.

    Args:
        record: The run.

    Returns:
        What is measured, before, and after.
    """
    before, after = record.footprint_before, record.footprint_after
    speed = after.tokens_per_second / before.tokens_per_second
    return [
        ("parameters", formatting.amount(before.parameters), formatting.amount(after.parameters)),
        ("memory of the weights", _megabytes(before.bytes), _megabytes(after.bytes)),
        ("tokens per second", f"{before.tokens_per_second:,.0f}", f"{after.tokens_per_second:,.0f} ({speed:.2f} times)"),
    ]


def prune_summary(record: PruneRecord) -> str:
    """Say in one sentence what was removed and what it cost.

    Args:
        record: The run.

    Returns:
        The sentence.
    """
    share = formatting.percent(record.parameters_removed / record.footprint_before.parameters)
    perplexities = [formatting.perplexity(metrics.perplexity) for metrics in (record.before, record.final)]
    went = f" ({record.what_went})" if record.what_went else ""
    return (
        f"{short_name(record)} without {share} of its parameters{went}: on held-out {corpus_of(record)} its perplexity goes "
        "from "
        f"{perplexities[0]} to {perplexities[1]}, and its top-1 accuracy "
        f"{formatting.fell(relative_drop(record.before.top1, record.final.top1) if record.before.top1 else float('nan'))}."
    )


def prune_table(record: PruneRecord) -> Table:
    """Lay the results out for a terminal.

    Args:
        record: The run.

    Returns:
        A table; print it with `rich.print`.
    """
    table = Table(box=box.SIMPLE_HEAD, caption="next-token prediction on held-out text; the drop is relative", pad_edge=False)
    for heading in ("", *HEADINGS):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in prune_rows(record):
        table.add_row(*row)
    return table


def corpus_of(record: PruneRecord) -> str:
    """The name of the corpus that neurons were judged by.

    Args:
        record: The run.

    Returns:
        Its short name.
    """
    return record.corpora["train"]["corpus"]


def _choice(record: PruneRecord) -> str:
    """What was chosen, and by what, in a few words."""
    if record.config.unit == "neurons":
        return record.config.importance
    if record.config.unit == "any":
        return f"best of {len(record.layouts)} layouts"
    return f"{record.config.unit} by {record.config.judged_by}"


def _row(name: str, metrics: Sequence[NextTokenMetrics], base: NextTokenMetrics | None) -> Row:
    """One model, or the mean of several."""
    drops = [relative_drop(base.top1, one.top1) for one in metrics] if base and base.top1 else []
    return (
        name,
        formatting.mean([one.top1 for one in metrics], formatting.percent),
        formatting.mean(drops, formatting.drop) if drops else "",
        formatting.mean([one.top10 for one in metrics], formatting.percent),
        formatting.mean([one.perplexity for one in metrics], formatting.perplexity),
    )


def _megabytes(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
