"""From rows of a table to documents: which column holds the text, and what must be true of it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from hf_untangle.errors import CorpusError

Row = Mapping[str, Any]
"""One row of a table, by column name."""

Rows = Callable[[], Iterator[Row]]
"""A table that can be read from its beginning as often as needed."""

TEXT_COLUMNS = ("text", "content", "document", "code", "body", "comment_text", "comment", "sentence")
"""Column names that hold the text of a data set, the most usual first."""

SAMPLED_ROWS = 100


def find_column(rows: Rows, column: str | None, name: str) -> str:
    """Find the column that holds the text.

    A column counts as text when its values in the first 100 rows are strings, empty cells aside. The column
    is the one asked for, else the only text column, else the first text column named in `TEXT_COLUMNS`.

    Args:
        rows: The table.
        column: The column asked for, or None to look for it.
        name: What to call the table in an error.

    Returns:
        The name of the column.

    Raises:
        CorpusError: The table has no rows or no such column, the column asked for is not text, or no column
            or several columns could be the text.
    """
    sample = list(islice(rows(), SAMPLED_ROWS))
    if not sample:
        raise CorpusError(f"`{name}` has no rows. A corpus needs at least one document.")
    if column is not None:
        deque(texts_of(lambda: iter(sample), (column,), name), maxlen=0)
        return column
    texts = [candidate for candidate in sample[0] if _holds_text(sample, candidate)]
    likely = texts if len(texts) == 1 else [usual for usual in TEXT_COLUMNS if usual in texts]
    if not likely:
        raise CorpusError(
            f"`{name}` has no column that is clearly the text. "
            f"Its columns are {_listed(sample[0])}; name one that holds strings with `column=`."
        )
    return likely[0]


def texts_of(rows: Rows, columns: tuple[str, ...], name: str) -> Iterator[str]:
    """Read the documents of a table, one a row.

    Args:
        rows: The table.
        columns: The columns that make a document, joined by a newline.
        name: What to call the table in an error.

    Yields:
        The text of each row that has one: rows with an empty cell are skipped. A row that lacks the column
        or holds something else than a string in it is a `CorpusError`.
    """
    for number, row in enumerate(rows()):
        cells = [_cell(row, column, number, name) for column in columns]
        if None not in cells:
            yield "\n".join(cells)


def _cell(row: Row, column: str, number: int, name: str) -> Any:
    """Give the text of one cell, or None for an empty one."""
    if column not in row:
        raise CorpusError(f"`{name}` has no column `{column}`. Its columns are {_listed(row)}.")
    value = row[column]
    if value is None or isinstance(value, str):
        return value
    raise CorpusError(
        f"Documents must be strings, but row {number} of `{name}` holds {type(value).__name__} in "
        f"`{column}`. Name a column of text."
    )


def _holds_text(sample: list[Row], column: str) -> bool:
    """Say whether all filled cells of a column are strings."""
    filled = [row[column] for row in sample if row.get(column) is not None]
    return bool(filled) and all(isinstance(value, str) for value in filled)


def _listed(columns: Iterable[str]) -> str:
    """Write column names for a person."""
    return ", ".join(f"`{column}`" for column in columns)
