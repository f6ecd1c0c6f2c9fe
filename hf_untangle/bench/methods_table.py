"""The benchmark of methods as a table: in the terminal, in Markdown, and on a page."""

import math
from collections.abc import Callable, Iterable, Iterator
from statistics import fmean, stdev

from rich import box
from rich.table import Table

from hf_untangle.bench.methods_record import Cell, Measured, MethodsBenchRecord
from hf_untangle.configs.attack import Attack
from hf_untangle.reporting import formatting
from hf_untangle.reporting.recovery import base_of, by_dose, came_back, worst_settings

Value = Callable[[Cell], float | None]
"""What a column reads of a cell; None where it was not measured."""


def columns(record: MethodsBenchRecord) -> dict[str, tuple[Value, Callable[[float], str]]]:
    """What the table has of every method.

    Args:
        record: The benchmark.

    Returns:
        The title of each column, what it reads of a cell, and how that is written.
    """
    found: dict[str, tuple[Value, Callable[[float], str]]] = {
        "forget drop": (lambda cell: _drop(cell.forget), formatting.percent),
        "at random": (lambda cell: cell.random_drop, formatting.percent),
        "retain drop": (lambda cell: _drop(cell.retain), formatting.percent),
        "KL retain": (lambda cell: _disruption(cell.retain), _nats),
    }
    for name in dict.fromkeys(name for cell in record.cells for name in cell.also):
        found[f"{name} drop"] = (lambda cell, name=name: _drop(cell.also.get(name)), formatting.percent)
        found[f"KL {name}"] = (lambda cell, name=name: _disruption(cell.also.get(name)), _nats)
    found["relearned"] = (lambda cell: recovered(cell, "relearn"), formatting.percent)
    found["still gone"] = (_still_gone, formatting.percent)
    found["back in 4 or 8 bits"] = (lambda cell: recovered(cell, "quantize"), formatting.percent)
    found["time"] = (lambda cell: cell.seconds, formatting.duration)
    found["peak memory"] = (
        lambda cell: None if cell.peak_bytes is None else cell.peak_bytes / 1e9,
        lambda size: f"{size:.2f} GB",
    )
    return found


def recovered(cell: Cell, attack: Attack) -> float | None:
    """Compute what share of the lost accuracy the worst dose of an attack brought back.

    Args:
        cell: A cell.
        attack: Which attack.

    Returns:
        The share; None where the attack measured nothing.
    """
    if cell.attacks is None:
        return None
    outcome = next((one for one in cell.attacks.outcomes if one.attack == attack and one.readings), None)
    if outcome is None:
        return None
    base = base_of(cell.attacks, outcome)
    doses = (came_back(base, some) for _, some in by_dose(worst_settings(outcome.readings)))
    shares = [fmean(values) for values in doses if values]
    return max(shares, default=None)


def methods_rows(record: MethodsBenchRecord) -> Iterator[tuple[str, ...]]:
    """Write every method as one row: means over seeds, with the sample standard deviation where there are several.

    Args:
        record: The benchmark.

    Yields:
        The method, and its columns as text.
    """
    found = columns(record)
    for method in dict.fromkeys(cell.method for cell in record.cells):
        cells = [cell for cell in record.cells if cell.method == method]
        yield method, *(_mean((value(cell) for cell in cells), write) for value, write in found.values())


def methods_table(record: MethodsBenchRecord) -> Table:
    """Make the table for the terminal.

    Args:
        record: The benchmark.

    Returns:
        A table with one row per method.
    """
    table = Table("method", *columns(record), box=box.SIMPLE)
    for row in methods_rows(record):
        table.add_row(*row)
    return table


def methods_notes(record: MethodsBenchRecord) -> list[str]:
    """Say in sentences how it was measured, and what did not work.

    Args:
        record: The benchmark.

    Returns:
        The sentences.
    """
    settings = record.settings
    notes = [
        f"{record.model}, {record.dtype}, {record.device}, {record.date}. Budgets on validation parts of retain: KL "
        f"{settings['disruption_budget']:g} nats per token, a top-1 drop of {settings['retain_budget']:.1%}, "
        f"{settings['perplexity_budget']:g} times the perplexity. Trials per method: {len(settings['trials'])}. "
        "Everything in the table is measured on test parts.",
        "`at random` is the forget drop of random masks, or of random updates, of the same size. "
        "`relearned` and `back in 4 or 8 bits` are shares of the lost top-1 that came back in the worst dose; `still gone` is "
        "what relearning left of the forget drop.",
    ]
    notes += [f"{cell.method}, seed {cell.seed}: {cell.note}" for cell in record.cells if cell.note]
    for cell in record.cells:
        failed = () if cell.attacks is None else (one for one in cell.attacks.outcomes if one.error)
        notes += [f"{cell.method}, seed {cell.seed}, attack {one.attack}: {one.error}" for one in failed]
    return notes


def methods_markdown(record: MethodsBenchRecord) -> str:
    """Write the table and the notes.

    Args:
        record: The benchmark.

    Returns:
        Markdown.
    """
    headings = ("method", *columns(record))
    return formatting.benchmark_markdown("Methods at equal disruption", headings, methods_rows(record), methods_notes(record))


def _still_gone(cell: Cell) -> float | None:
    """What relearning in its worst dose left of the drop."""
    drop, back = _drop(cell.forget), recovered(cell, "relearn")
    return None if drop is None or back is None else drop * (1 - back)


def _drop(measured: Measured | None) -> float | None:
    """The relative drop, where it was measured."""
    return None if measured is None else measured.drop


def _disruption(measured: Measured | None) -> float | None:
    """The disruption, where it was measured."""
    return None if measured is None else measured.disruption


def _nats(value: float) -> str:
    """Nats per token."""
    return f"{value:.3f}"


def _mean(values: Iterable[float | None], write: Callable[[float], str]) -> str:
    """The mean over seeds, and the spread of several."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "-"
    return write(fmean(known)) + (f" ± {write(stdev(known))}" if len(known) > 1 else "")
