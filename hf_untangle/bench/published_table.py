"""The table of a public benchmark: its rows as plain values, for a terminal and as Markdown, and what to read from it."""

from typing import Any

from pydantic import Field
from rich.table import Table

from hf_untangle.bench.question_benchmarks import GOLD, ORIGINAL
from hf_untangle.display import rows_table
from hf_untangle.records.base import Frozen, Seconds
from hf_untangle.reporting.formatting import benchmark_markdown, duration


class PublishedRow(Frozen):
    """One model of the table."""

    name: str
    """`original`, `gold`, or the method that unlearned."""
    model: str
    """The checkpoint that it is, or was made from."""
    columns: dict[str, float | None] = Field(default_factory=dict)
    """The published columns; empty where no step stayed inside the budget."""
    numbers: dict[str, Any] = Field(default_factory=dict)
    """Everything that was measured."""
    seconds: Seconds = 0.0
    """What unlearning and measuring took."""
    note: str = ""
    """Why there are no columns."""


class PublishedBenchRecord(Frozen):
    """All models, and what they were measured by."""

    benchmark: str
    """Its name, a key of `PUBLISHED`."""
    settings: dict[str, Any]
    rows: tuple[PublishedRow, ...]
    versions: dict[str, str]
    device: str
    date: str


def published_table(record: PublishedBenchRecord) -> Table:
    """Lay the results out for a terminal.

    Args:
        record: What was measured.

    Returns:
        A row per model.
    """
    heads = _heads(record)
    return rows_table(heads, (_cells(row, heads) for row in record.rows))


def published_markdown(record: PublishedBenchRecord) -> str:
    """Write the table and what it was measured with.

    Args:
        record: What was measured.

    Returns:
        Markdown.
    """
    heads = _heads(record)
    return benchmark_markdown(record.benchmark, heads, (_cells(row, heads) for row in record.rows), published_notes(record))


def published_notes(record: PublishedBenchRecord) -> list[str]:
    """Say what was measured, and with what.

    Args:
        record: What was measured.

    Returns:
        Sentences.
    """
    asked = record.settings["questions"]
    few = "" if asked is None else f", {asked} questions of each set, so that figures are not those of published tables"
    return [
        *(f"{row.name}: {row.model}." for row in record.rows if row.name in (ORIGINAL, GOLD)),
        f"{record.device}, {record.date}{few}.",
        *(f"{row.name}: {row.note}" for row in record.rows if row.note),
    ]


def _heads(record: PublishedBenchRecord) -> tuple[str, ...]:
    """The columns of a table."""
    return ("model", *record.rows[0].columns, "time")


def _cells(row: PublishedRow, heads: tuple[str, ...]) -> tuple[str, ...]:
    """One row; a dash where there is nothing."""
    values = (row.columns.get(head) for head in heads[1:-1])
    return (row.name, *("-" if one is None else f"{one:.3g}" for one in values), duration(row.seconds))
