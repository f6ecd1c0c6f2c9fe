"""How what this package returns shows itself: in a few lines at a prompt, and as the head of its report in a notebook."""

import html
import io
import reprlib
from collections.abc import Iterable, Sequence, Sized
from dataclasses import fields
from typing import Any, Protocol, runtime_checkable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

LINES = 3
"""Lines of a `repr`."""
WIDTH = 160
"""Characters of each of them."""
ROWS = 40
"""Rows of a table that a notebook shows; `table()` has all of them."""
CELL = "padding: 0.2em 1em 0.2em 0; border-bottom: 1px solid rgba(128, 128, 128, 0.3);"


@runtime_checkable
class Described(Protocol):
    """What says in words what it is; its first paragraph is what a prompt shows."""

    def describe(self) -> str:
        """All that there is to say, in plain text."""
        ...


def short_repr(self: Described) -> str:
    """Say in at most three lines what something is: a `__repr__`.

    Args:
        self: What has `describe`.

    Returns:
        The name of its type, and the first paragraph of its description.
    """
    lines = f"{type(self).__name__}: {_first_paragraph(self)}".splitlines()[:LINES]
    return "\n".join(_printable(line) if len(line) <= WIDTH else f"{_printable(line[: WIDTH - 3])}..." for line in lines)


def fields_repr(self: Any) -> str:
    """Say in one line what a dataclass holds: a `__repr__` for fields that are tensors, models or long collections.

    Args:
        self: A dataclass.

    Returns:
        The name of its type, and its fields: plain values as they are, tensors by their shape, collections by their length, all
        else by its type.
    """
    told = ", ".join(f"{one.name}={_held(getattr(self, one.name))}" for one in fields(self) if one.repr)
    text = _printable(f"{type(self).__name__}({told})")
    return text if len(text) <= LINES * WIDTH else f"{text[: LINES * WIDTH - 4]}...)"


def _held(value: Any) -> str:
    """Say what a field holds."""
    name = type(value).__name__
    if value is None or isinstance(value, bool | int | float | str):
        return reprlib.repr(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{name}{tuple(value.shape)}"
    if isinstance(value, Sized):
        return f"{name} of {len(value):,}"
    return name


def notebook_html(self: Described) -> str:
    """Show something in a notebook: a `_repr_html_`.

    Args:
        self: What has `describe`, and `table` where it has one.

    Returns:
        The name of its type, the first paragraph of its description, and its table.
    """
    table = getattr(self, "table", None)
    return first_screen(type(self).__name__, _first_paragraph(self), table=None if table is None else table())


def first_screen(
    title: str, lead: str, numbers: Iterable[tuple[str, str]] = (), table: Table | Sequence[Table] | None = None
) -> str:
    """Lay out what a reader of a report sees first, as a piece of HTML that needs nothing from elsewhere.

    Args:
        title: The heading.
        lead: What stands under it; line breaks are kept.
        numbers: The numbers that matter most, each with its name.
        table: One table or several.

    Returns:
        The HTML, with all texts escaped. Colors are those of the notebook.
    """
    tables = () if table is None else table if isinstance(table, Sequence) else (table,)
    boxes = "".join(
        f'<div style="margin-right: 2em;"><div style="opacity: 0.7;">{html.escape(name)}</div>'
        f'<div style="font-size: 1.5em;">{html.escape(value)}</div></div>'
        for name, value in numbers
    )
    return (
        f'<div style="max-width: 60em;"><strong>{html.escape(title)}</strong>'
        f'<div style="white-space: pre-wrap; margin: 0.4em 0;">{html.escape(lead)}</div>'
        + (f'<div style="display: flex; flex-wrap: wrap; margin: 0.6em 0;">{boxes}</div>' if boxes else "")
        + "".join(map(table_html, tables))
        + "</div>"
    )


def rows_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, names: int = 1, caption: str | None = None) -> Table:
    """Lay rows of texts out for a terminal and for a notebook, which both show the table by itself.

    Args:
        headings: One a column.
        rows: As many texts each.
        names: How many columns are names, on the left; numbers stand on the right.
        caption: What stands below.

    Returns:
        A table; print it with `rich.print`.
    """
    table = Table(box=box.SIMPLE_HEAD, caption=caption, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < names else "right", no_wrap=True)
    for row in rows:
        # A name may hold square brackets, which a plain string would read as markup.
        table.add_row(*map(Text, row))
    return table


def table_html(table: Table) -> str:
    """Write a table of the terminal as HTML.

    Args:
        table: A table of texts.

    Returns:
        Its first rows, its caption, and how many rows are left out.
    """
    columns = [[_plain(cell) for cell in column.cells] for column in table.columns]
    ends = ["right" if column.justify == "right" else "left" for column in table.columns]
    rows = list(zip(*columns, strict=True))
    heads = _row("th", [_plain(column.header) for column in table.columns], ends)
    body = "".join(_row("td", row, ends) for row in rows[:ROWS])
    left = f"{len(rows) - ROWS:,} more rows: see `table()`" if len(rows) > ROWS else ""
    below = "; ".join(filter(None, [_plain(table.caption or ""), left]))
    return f'<table><thead>{heads}</thead><tbody>{body}</tbody></table><div style="opacity: 0.7;">{html.escape(below)}</div>'


def table_text(table: Table, width: int = 120) -> str:
    """Write a table of the terminal as plain text.

    Args:
        table: A table.
        width: The widest that a line may be.

    Returns:
        Its lines, without colors.
    """
    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")


def _first_paragraph(shown: Described) -> str:
    """Everything before the first empty line."""
    return shown.describe().partition("\n\n")[0]


def _printable(line: str) -> str:
    """A line that cannot command the terminal: names come from files of others."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _row(kind: str, cells: Sequence[str], ends: Sequence[str]) -> str:
    """One row of a table."""
    written = (
        f'<{kind} style="{CELL} text-align: {end};">{html.escape(cell)}</{kind}>' for cell, end in zip(cells, ends, strict=True)
    )
    return f"<tr>{''.join(written)}</tr>"


def _plain(cell: object) -> str:
    """The text of a cell, which is marked up where it is a string."""
    return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)
