"""From rows of a table to documents: which columns hold them, and what must be true of these."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from hf_untangle.data.chat_turns import is_chat
from hf_untangle.data.documents import Content, Document, Side
from hf_untangle.data.endless_streams import sought
from hf_untangle.data.row_formats import ACCEPTED, Row, Shape, chat_column, shape_of
from hf_untangle.errors import CorpusError
from hf_untangle.files.json_text import whole_texts

Rows = Callable[[], Iterator[Row]]
"""A table that can be read from its beginning as often as needed."""

TEXT_COLUMNS = ("text", "content", "document", "code", "body", "comment_text", "comment", "sentence")
"""Column names that hold the text of a data set, the most usual first."""

SAMPLED_ROWS = 100


def find_shape(rows: Rows, column: str | None, group: str | None, name: str) -> Shape:
    """Find out what the rows of a table are, from the first 100 of them.

    A column that was asked for holds texts or chats. Otherwise the rows have one of the shapes of `shape_of`, or a column of
    text: the only one, or the first of them that is in `TEXT_COLUMNS`.

    Args:
        rows: The table.
        column: The column asked for, or None to look for it.
        group: A column whose equal values belong together; it must be there.
        name: What to call the table in an error.

    Returns:
        The shape.

    Raises:
        CorpusError: The table has no rows or no such column, the column asked for holds neither texts nor chats, or the rows
            have no shape that is understood.
    """
    sample = list(islice(rows(), SAMPLED_ROWS))
    if not sample:
        raise CorpusError(f"`{name}` has no rows. A corpus needs at least one document.")
    for wanted in filter(None, (column, group)):
        if wanted not in sample[0]:
            raise CorpusError(f"`{name}` has no column `{wanted}`. Its columns are {_listed(sample[0])}.")
    if column is not None:
        shape = _asked_for(column, sample)
    else:
        shape = shape_of(sample) or text_columns((_text_column(sample, name),))
    # Whatever is wrong with the first rows is said at once, before anything is loaded.
    deque(documents_of(lambda: iter(sample), shape, group, name), maxlen=0)
    return shape


def text_columns(columns: tuple[str, ...]) -> Shape:
    """Make a shape of columns that hold text.

    Args:
        columns: The columns that make a document, joined by a newline.

    Returns:
        The shape.
    """

    def read(row: Row, where: str) -> Iterator[tuple[Content, Side | None]]:
        yield "\n".join(_text(row, column, where) for column in columns), None

    return Shape("text", columns, read)


def documents_of(rows: Rows, shape: Shape, group: str | None, name: str) -> Iterator[str | Document]:
    """Read the documents of a table.

    Args:
        rows: The table.
        shape: What its rows are.
        group: A column whose equal values belong together.
        name: What to call the table in an error.

    Yields:
        The documents of each row that has some: rows with an empty cell are skipped. A row that lacks a column or holds
        something else than its shape says is a `CorpusError`.
    """
    for number, row in sought(enumerate(rows()), lambda pair: _is_filled(pair[1], shape, name), "a row without an empty cell"):
        where = f"row {number} of `{name}`"
        whole = {key: whole_texts(cell) if key in shape.columns else cell for key, cell in row.items()}
        for content, side in shape.read(whole, where):
            if group is None and isinstance(content, str):
                yield content
            else:
                yield Document(content, _key(row, shape, content, group), side)


def filled_rows(rows: Rows, shape: Shape, name: str) -> Iterator[Row]:
    """Read the rows that documents are made of, as they are.

    Args:
        rows: The table.
        shape: What its rows are.
        name: What to call the table in an error.

    Returns:
        The rows without an empty cell in the columns of the shape.
    """
    return sought(rows(), lambda row: _is_filled(row, shape, name), "a row without an empty cell")


def _is_filled(row: Row, shape: Shape, name: str) -> bool:
    """Whether no cell in the columns of a shape is empty."""
    return all(_cell(row, column, name) is not None for column in shape.columns)


def _key(row: Row, shape: Shape, content: Content, group: str | None) -> str:
    """What the part of a document follows from: its group, its prompt where others share that, or all of it."""
    if group is not None and row.get(group) is not None:
        return str(row[group])
    if shape.parted_by:
        return " ".join(str(row[column]) for column in shape.parted_by)
    return content if isinstance(content, str) else content.text()


def _asked_for(column: str, sample: list[Row]) -> Shape:
    """The shape of a column that was named: chats, or text."""
    cells = [row[column] for row in sample if row.get(column) is not None]
    return chat_column(column, sample[0]) if cells and all(map(is_chat, cells)) else text_columns((column,))


def _text_column(sample: list[Row], name: str) -> str:
    """Find the column that holds the text."""
    texts = [candidate for candidate in sample[0] if _holds_text(sample, candidate)]
    if not texts and (lists := [one for one in sample[0] if _holds_lists_of_texts(sample, one)]):
        raise CorpusError(
            f"A document must be one string, but `{lists[0]}` of `{name}` holds lists of strings. Join them, or make a row of "
            "each."
        )
    likely = texts if len(texts) == 1 else [usual for usual in TEXT_COLUMNS if usual in texts]
    if not likely:
        raise CorpusError(
            f"`{name}` has no column that is clearly the text. Its columns are {_listed(sample[0])}; rows are understood when "
            f"they have {ACCEPTED}. Rename columns, or name the one that holds texts or chats: "
            "`untangle.corpus(data, column=...)`, or `FILE:COLUMN` for a file."
        )
    return likely[0]


def _cell(row: Row, column: str, name: str) -> Any:
    """The value of one cell, None for an empty one."""
    if column not in row:
        raise CorpusError(f"`{name}` has no column `{column}`. Its columns are {_listed(row)}.")
    return row[column]


def _text(row: Row, column: str, where: str) -> str:
    """The text of one cell."""
    value = row[column]
    if isinstance(value, str):
        return value
    raise CorpusError(
        f"Documents must be strings, but {where} holds {type(value).__name__} in `{column}`. Name a column of texts, or of "
        "chats (lists of turns with `role` and `content`)."
    )


def _holds_text(sample: list[Row], column: str) -> bool:
    """Say whether all filled cells of a column are strings."""
    filled = [row[column] for row in sample if row.get(column) is not None]
    return bool(filled) and all(isinstance(value, str) for value in filled)


def _holds_lists_of_texts(sample: list[Row], column: str) -> bool:
    """Say whether all filled cells of a column are lists of strings."""
    filled = [row[column] for row in sample if row.get(column) is not None]
    return bool(filled) and all(isinstance(one, list | tuple) and all(isinstance(text, str) for text in one) for one in filled)


def _listed(columns: Iterable[str]) -> str:
    """Write column names for a person."""
    return ", ".join(f"`{column}`" for column in columns)
