"""What a person sees of a result at a prompt and in a notebook: the head of its report."""

from rich.table import Table

from hf_untangle.display import first_screen, table_text
from hf_untangle.records.compression import PruneRecord
from hf_untangle.records.shareable import shareable
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.card_text import removed, title
from hf_untangle.reporting.compression import prune_summary, prune_table
from hf_untangle.reporting.compression_page import prune_numbers, prune_title
from hf_untangle.reporting.page import key_numbers
from hf_untangle.reporting.table import comparison_table, corpus_name, drop_of, summary

AnyRecord = UnlearnRecord | PruneRecord


def result_table(record: AnyRecord) -> Table:
    """Lay the results on the test parts out.

    Args:
        record: The run.

    Returns:
        The original, the changed model and its controls.
    """
    return comparison_table(record) if isinstance(record, UnlearnRecord) else prune_table(record)


def result_text(record: AnyRecord) -> str:
    """Describe a result in plain text.

    Args:
        record: The run.

    Returns:
        Three lines: the outcome, what was removed, and what has been done; then the summary, and the table.
    """
    head = "\n".join((_outcome(record), f"removed {' and '.join(removed(record))}", _done(record)))
    return "\n\n".join((head, _summary(record), table_text(result_table(record))))


def result_html(record: AnyRecord) -> str:
    """Write the first screen of a result's report for a notebook.

    Args:
        record: The run.

    Returns:
        Title, summary, the numbers that matter most, and the table, as HTML that needs nothing from elsewhere.
    """
    record = shareable(record)
    unlearned = isinstance(record, UnlearnRecord)
    heading, numbers = (title(record), key_numbers(record)) if unlearned else (prune_title(record), prune_numbers(record))
    return first_screen(heading, _summary(record), [(name, value) for name, value, _ in numbers], result_table(record))


def _summary(record: AnyRecord) -> str:
    """The sentence that the report begins with."""
    return summary(record) if isinstance(record, UnlearnRecord) else prune_summary(record)


def _outcome(record: AnyRecord) -> str:
    """What the model was, and what became of it."""
    if isinstance(record, PruneRecord):
        before, after = (formatting.perplexity(one.perplexity) for one in (record.before, record.final))
        return f"{prune_title(record)}: perplexity {before} to {after}"
    lost = (
        f"{corpus_name(record, use)} {formatting.fell(drop_of(use, record.final, record.test.before))}"
        for use in ("forget", "retain")
    )
    return f"{title(record)}: top-1 on {' and on '.join(lost)}"


def _done(record: AnyRecord) -> str:
    """How the run went, and what has happened to the result since."""
    parts = [f"{formatting.duration(record.seconds)} on {record.date}"]
    if isinstance(record, UnlearnRecord):
        parts.insert(0, f"step {record.history.chosen} of {len(record.history.steps)}")
    since = (("repaired", record.repairs), ("attacked", getattr(record, "attacks", ())), ("evaluated", record.metrics))
    return ", ".join(
        [*parts, *(what if len(several) == 1 else f"{what} {len(several)} times" for what, several in since if several)]
    )
